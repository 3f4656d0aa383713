"""``palyra operators``: who may administer the gateway."""

from __future__ import annotations

from pathlib import Path

import click

from palyra.afar.contexts import Contexts
from palyra.cli import accepting, completion, words
from palyra.cli.client import PAGE_LIMIT, segment
from palyra.cli.options import Call, VerbGroup, pass_call
from palyra.cli.present import Screen
from palyra.cli.tables import Cell, Column, Row, cell, state_cell
from palyra.console.models import (
    ChangeRole,
    InvitationItem,
    InvitedOperator,
    InviteOperator,
    OperatorAnswer,
    OperatorItem,
    OperatorList,
    RevokedOperator,
    RevokeOperator,
)

ROLE = click.Choice(["viewer", "operator", "approver", "admin"])
_LABEL = 9
_SOON_MS = 3 * 86_400_000
_COLUMNS = (
    Column("NAME", cut="middle"),
    Column("ROLE"),
    Column("STATE"),
    Column("CERT"),
    Column("PAGE", right=True),
    Column("BY"),
    Column("OWNER", wide=True),
)


@click.group(cls=VerbGroup)
def operators() -> None:
    """Invite operators, see them, give them roles, revoke them."""


@operators.command()
@click.argument("name", metavar="NAME")
@click.option(
    "--role",
    type=ROLE,
    default="viewer",
    show_default=True,
    help="viewer sees; operator also runs; approver sees and approves; admin does everything.",
)
@click.option("--owner", default="", metavar="NAME", help="Who answers for it: it is a program.")
@pass_call
def invite(call: Call, name: str, role: str, owner: str) -> None:
    """Make an invitation, good for one person or program and 24 hours.  It is shown once."""
    answer = call.console.post(
        "operators/invite", InviteOperator(name, role, owner), InvitedOperator
    )
    if call.screen.as_json:
        return call.screen.json(answer.body)
    return show_invited(call.screen, answer.value)


@operators.command()
@click.argument("source", metavar="[-|@FILE]", default="-")
@click.option("--name", default="", help="What to call this gateway here (default: its host).")
@click.option(
    "--ca-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Roots (PEM) of a console that shows a certificate of another CA than the gateway's.",
)
@pass_call
def accept(call: Call, source: str, name: str, ca_file: Path | None) -> None:
    """Accept an invitation on this machine: - asks for it or reads stdin, @FILE reads a file."""
    line = accepting.read_line(source, interactive=call.screen.interactive)
    with call.screen.working("making a key"):
        accepted = accepting.accept(line, Contexts.of_user(), name, ca_file)
    if call.screen.as_json:
        return call.screen.json(accepted.answer.body)
    return accepting.show(call.screen, accepted)


@operators.command("list")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many.")
@pass_call
def list_(call: Call, limit: int | None) -> None:
    """List operators, those who may sign in first, and open invitations."""
    screen = call.screen
    if screen.as_json:
        return screen.json(call.console.get("operators", OperatorList, limit=limit).body)
    found: list[OperatorItem] = []
    invitations: list[InvitationItem] = []
    for answer in call.console.pages("operators", OperatorList, limit or PAGE_LIMIT):
        found += answer.value.operators
        invitations += answer.value.invitations
    return show_list(screen, found, invitations)


@operators.command()
@click.argument("name", metavar="NAME", shell_complete=completion.operators)
@click.argument("role", type=ROLE, metavar="ROLE")
@pass_call
def role(call: Call, name: str, role: str) -> None:
    """Give an operator another role; it counts at once, also for what is open."""
    path = f"operators/{segment(name)}/role"
    answer = call.console.post(path, ChangeRole(role), OperatorAnswer)
    if call.screen.as_json:
        return call.screen.json(answer.body)
    made = answer.value.operator
    return call.screen.line(f"{words.escaped(made.name)} is {words.escaped(made.role)}")


@operators.command()
@click.argument("name", metavar="NAME", shell_complete=completion.operators)
@click.option("--reason", default="", help="Why; it is recorded.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_call
def revoke(call: Call, name: str, reason: str, yes: bool) -> int:
    """End an operator's certificates, browser sessions and links within a second."""
    screen = call.screen
    if screen.interactive and not yes:
        screen.aside(f"Ends everything that {words.escaped(name)} has open here; for good.")
        screen.aside("Programs that they answer for end with them.")
        if not screen.agreed(f"Revoke operator {words.escaped(name)}?"):
            screen.aside("not revoked")
            return 1
    path = f"operators/{segment(name)}/revoke"
    answer = call.console.post(path, RevokeOperator(reason), RevokedOperator)
    if screen.as_json:
        screen.json(answer.body)
    else:
        for each in (answer.value.operator, *answer.value.programs):
            screen.line(f"{words.escaped(each.name)} revoked")
    return 0


def show_invited(screen: Screen, invited: InvitedOperator) -> None:
    """The invitation, until when it is good, and what comes next."""
    made = invited.invitation
    if not screen.tty:
        screen.pair("uri", invited.uri)
        return screen.pair("expires", words.utc(made.expires_at_unix_ms))
    screen.line("invited".ljust(_LABEL) + f"{words.escaped(made.name)} as {made.role}")
    screen.line(" " * _LABEL + invited.uri)
    span = words.span(made.expires_at_unix_ms - made.created_at_unix_ms)
    until = words.clock(made.expires_at_unix_ms, screen.now())
    screen.line("valid".ljust(_LABEL) + f"{span} (until {until}), once")
    screen.hint("on their machine: palyra operators accept -", "hint".ljust(_LABEL))
    if invited.uri.startswith("palyra://localhost:"):
        screen.aside("note".ljust(_LABEL) + "only this machine can reach localhost")
    return None


def show_list(screen: Screen, found: list[OperatorItem], invitations: list[InvitationItem]) -> None:
    """One row an operator, then one an invitation."""
    now = screen.now()
    rows: list[Row] = [_row(each, now) for each in found]
    rows += [_invitation_row(each, now) for each in invitations]
    if screen.tty and not rows:
        screen.aside("no operators: on this machine the owner of the state root is admin")
        return screen.hint("palyra operators invite NAME --role admin")
    return screen.table(_COLUMNS, rows)


def _row(item: OperatorItem, now: int) -> list[Cell]:
    until = item.certificate_expires_unix_ms
    left = "" if until is None else words.age(max(0, until - now))
    style = "yellow" if until is not None and until - now < _SOON_MS else ""
    return [
        cell(item.name),
        cell(item.role),
        state_cell(item.state),
        cell(left, words.utc(until), style),
        cell(str(item.sessions)),
        cell(item.created_by),
        cell(item.owner),
    ]


def _invitation_row(item: InvitationItem, now: int) -> list[Cell]:
    left = words.age(max(0, item.expires_at_unix_ms - now))
    return [
        cell(item.name),
        cell(item.role),
        cell("invited", style="yellow"),
        cell(left, words.utc(item.expires_at_unix_ms)),
        cell(""),
        cell(item.invited_by),
        cell(item.owner),
    ]
