"""``palyra approvals``: see what waits for an operator, and decide it."""

from __future__ import annotations

from collections.abc import Sequence

import click

from palyra.cli import completion, facts, pairing, words
from palyra.cli.client import Answer, Console, segment
from palyra.cli.facts import Fact
from palyra.cli.options import Call, VerbGroup, duration, pass_call
from palyra.cli.present import Screen, json_text
from palyra.cli.tables import Cell, Column, cell, state_cell
from palyra.console.models import (
    ApprovalAnswer,
    ApprovalDecision,
    ApprovalItem,
    ApprovalList,
    CallItem,
    CallTargetItem,
)
from palyra.core.approval import ApprovalState
from palyra.core.callapprovals import ONCE, SCOPES, TIMEBOXED
from palyra.core.identifiers import grouped, short_id

PENDING = ApprovalState.PENDING.value
_STATES = [state.value for state in ApprovalState]
_LABEL = len("capability") + facts.GAP
_SHOWN_DIGITS = 8
_COLUMNS = (
    Column("APPROVAL"),
    Column("STATE"),
    Column("WHO", cut="middle"),
    Column("ASKS", cut="end"),
    Column("ON", cut="middle"),
    Column("WAITS"),
    Column("RISK", wide=True),
    Column("DECIDED BY", cut="middle", wide=True),
    Column("REASON", cut="end", wide=True),
)


@click.group(cls=VerbGroup)
def approvals() -> None:
    """See calls and pairing requests that wait for a yes; decide them."""


@approvals.command("list")
@click.option("--state", type=click.Choice(_STATES), help="Only those in this state.")
@click.option("--kind", type=click.Choice(["pairing", "call"]), help="Only this kind.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many.")
@pass_call
def list_(call: Call, state: str | None, kind: str | None, limit: int | None) -> None:
    """List approvals, those that wait first."""
    answer = call.console.get("approvals", ApprovalList, state=state, kind=kind, limit=limit)
    if call.screen.as_json:
        return call.screen.json(answer.body)
    return _show_list(call.screen, answer.value)


@approvals.command()
@click.argument("approval", metavar="ID", shell_complete=completion.approvals)
@pass_call
def show(call: Call, approval: str) -> None:
    """Show everything that a yes would allow."""
    answer = _found(call.console, approval)
    if call.screen.as_json:
        return call.screen.json(answer.body)
    return _show_facts(call.screen, answer.value.approval)


@approvals.command()
@click.argument("approval", metavar="ID", shell_complete=completion.pending_approvals)
@click.option(
    "--scope",
    type=click.Choice(SCOPES),
    help="For how long the yes holds: this call, repeats of it while the browser session of who "
    "asks lasts, or repeats for a time (default: once).",
)
@click.option("--for", "ttl", type=duration, help="Repeats of the call are approved for that long.")
@click.option("--reason", default="", help="Why; it is recorded.")
@pass_call
@click.pass_context
def approve(
    context: click.Context,
    call: Call,
    approval: str,
    scope: str | None,
    ttl: int | None,
    reason: str,
) -> int:
    """Show what is asked, whole, and let it run.  Without a terminal the ID is the consent."""
    scope = _scope(scope, ttl)
    screen, found = call.screen, _found(call.console, approval).value.approval
    if found.pairing is not None:
        decided: int = context.invoke(
            pairing.approve, request=found.pairing.request_id, reason=reason
        )
        return decided
    if not screen.as_json:
        _show_facts(screen, found)
    if found.state != PENDING:
        screen.aside(f"it is {found.state} already")
    elif screen.interactive and not screen.agreed(f"Approve {_about(found)}?"):
        screen.aside("not approved; it still waits")
        return 1
    body = ApprovalDecision(
        "approve", digest=found.digest, reason=reason, scope=scope, scope_ttl_ms=ttl
    )
    _decided(screen, _decide(call.console, found, body))
    return 0


@approvals.command()
@click.argument("approval", metavar="ID", shell_complete=completion.pending_approvals)
@click.option("--reason", default="", help="Why; who asked sees it.")
@pass_call
def reject(call: Call, approval: str, reason: str) -> None:
    """Say no: the jobs that wait for it end as rejected."""
    found = _found(call.console, approval).value.approval
    body = ApprovalDecision("reject", digest=found.digest, reason=reason)
    _decided(call.screen, _decide(call.console, found, body))


def _scope(scope: str | None, ttl: int | None) -> str:
    if ttl is not None and scope not in (None, TIMEBOXED):
        raise click.UsageError("--for goes with --scope timeboxed")
    if scope == TIMEBOXED and ttl is None:
        raise click.UsageError("--scope timeboxed needs --for, as in --for 1h")
    return TIMEBOXED if ttl is not None else scope or ONCE


def _found(console: Console, wanted: str) -> Answer[ApprovalAnswer]:
    return console.get(f"approvals/{segment(wanted)}", ApprovalAnswer)


def _decide(
    console: Console, found: ApprovalItem, body: ApprovalDecision
) -> Answer[ApprovalAnswer]:
    return console.post(f"approvals/{found.approval_id}/decision", body, ApprovalAnswer)


def _decided(screen: Screen, answer: Answer[ApprovalAnswer]) -> None:
    found = answer.value.approval
    # What was let go may have used the yes up already.
    state = "rejected" if found.state == "rejected" else "approved"
    if screen.as_json:
        return screen.json(answer.body)
    if not screen.tty:
        return screen.pair("decision", state)
    screen.parts((state, "green" if state == "approved" else "red"), (f"  {_about(found)}", ""))
    if state == "approved" and found.call is not None:
        one = found.call.targets[0].job_id if len(found.call.targets) == 1 else ""
        screen.hint(f"palyra jobs wait {short_id(one)}" if one else "palyra jobs list")
    return None


# -- how they are shown -------------------------------------------------------------------------


def _show_list(screen: Screen, listed: ApprovalList) -> None:
    ordered = sorted(
        listed.approvals, key=lambda each: (each.state != PENDING, -each.created_at_unix_ms)
    )
    short = words.shortener(each.approval_id for each in ordered)
    if ordered:
        rows = [_row(each, short[each.approval_id], screen.now()) for each in ordered]
        screen.table(_COLUMNS, rows)
    if not screen.tty:
        return
    if not ordered:
        screen.line("Nothing waits for approval.")
    waiting = [each for each in ordered if each.state == PENDING]
    if waiting:
        screen.hint(f"palyra approvals approve {short[waiting[-1].approval_id]}")


def _row(item: ApprovalItem, short: str, now: int) -> list[Cell]:
    left = item.expires_at_unix_ms - now if item.state == PENDING else None
    return [
        cell(short, item.approval_id),
        state_cell(item.state),
        cell(_who(item)),
        cell(item.call.capability if item.call is not None else "to be paired"),
        cell(_on(item)),
        cell("" if left is None else words.countdown(left), words.utc(item.expires_at_unix_ms)),
        cell(item.call.risk if item.call is not None else ""),
        cell(item.decided_by),
        cell(item.reason),
    ]


def _who(item: ApprovalItem) -> str:
    if item.call is not None:
        return item.call.requested_by
    return item.pairing.name if item.pairing is not None else ""


def _on(item: ApprovalItem) -> str:
    targets = item.call.targets if item.call is not None else []
    return (
        targets[0].device_name if len(targets) == 1 else f"{len(targets)} devices" * bool(targets)
    )


def _about(item: ApprovalItem) -> str:
    if item.call is None:
        return words.escaped(_who(item))
    return words.escaped(f"{item.call.capability} on {_on(item)}")


def _show_facts(screen: Screen, item: ApprovalItem) -> None:
    """Everything that is approved; nothing of it is cut."""
    if item.call is None:
        if item.pairing is not None:
            screen.hint(f"palyra pairing approve {short_id(item.pairing.request_id)}")
        return
    call, now = item.call, screen.now()
    if not screen.tty:
        screen.pair("approval", item.approval_id)
    facts.show(
        screen,
        [
            Fact("asks", words.escaped(call.requested_by), call.operator_id),
            Fact.same("capability", words.escaped(f"{call.capability} {call.risk}")),
            Fact("on", "\n".join(map(_target, call.targets)), _raw_targets(call.targets)),
            Fact("input", _input(call), json_text(bytes(call.input_json), -1)),
            Fact("limits", _limits(call), _raw_limits(call)),
            Fact.same("rule", words.escaped(_rule(call))),
            _state(item, now),
            Fact("digest", item.digest[:_SHOWN_DIGITS], item.digest),
        ],
        label=_LABEL,
    )
    if screen.tty and item.state == PENDING and not call.may_decide:
        screen.aside("!! it is not yours to decide", "yellow")


def _target(target: CallTargetItem) -> str:
    """A device, the beginning of its key, and that of the descriptor which is approved."""
    device = f"{target.device_name}  {short_id(target.device_id)}"
    key = grouped(target.identity_fingerprint)
    digest = target.descriptor_digest[:_SHOWN_DIGITS]
    descriptor = f"descriptor {digest}" if digest else "no descriptor: key and name only"
    return words.escaped(f"{device}  key {key}, {descriptor}")


def _raw_targets(targets: Sequence[CallTargetItem]) -> str:
    return ",".join(target.device_id for target in targets)


def _input(call: CallItem) -> str:
    text = json_text(bytes(call.input_json), 0)
    return text if len(text) <= 60 else json_text(bytes(call.input_json), 2)


def _limits(call: CallItem) -> str:
    ttl = "" if call.ttl_ms is None else f", waits {words.span(call.ttl_ms)} for a device"
    size = words.size(call.max_payload_bytes)
    key = f", key {words.escaped(call.idempotency_key)}" if call.idempotency_key else ""
    return f"{words.span(call.timeout_ms)}, {size}{ttl}{key}"


def _raw_limits(call: CallItem) -> str:
    ttl = "-" if call.ttl_ms is None else call.ttl_ms
    return f"{call.timeout_ms} {call.max_payload_bytes} {ttl} {call.idempotency_key or '-'}"


def _rule(call: CallItem) -> str:
    deciders = f"; {' or '.join(call.approvers)} decides" if call.approvers else ""
    eyes = "; another person decides" if call.four_eyes else ""
    scopes = f"; for {' or '.join(call.scopes)}" if call.scopes != [ONCE] else ""
    return f"{call.rule or 'none'}{deciders}{eyes}{scopes}"


def _state(item: ApprovalItem, now: int) -> Fact:
    if item.state == PENDING:
        left = f"{words.countdown(item.expires_at_unix_ms - now)} left"
        return Fact("waits", left, words.utc(item.expires_at_unix_ms))
    reason = f": {words.escaped(item.reason)}" if item.reason else ""
    by = f" by {words.escaped(item.decided_by)}" if item.decided_by else ""
    return Fact("state", f"{item.state}{by}{reason}", item.state)
