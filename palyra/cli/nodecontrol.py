"""``palyra node requests|allow|deny|forget|reload``: the word of the device's owner."""

from __future__ import annotations

from collections.abc import Sequence

import click

from palyra.cli import facts, words
from palyra.cli.facts import Fact
from palyra.cli.nodehost import NodeHost
from palyra.cli.noderoot import node_state_root
from palyra.cli.options import Call, Verb, pass_call
from palyra.cli.present import Screen, json_text
from palyra.cli.tables import Cell, Column, cell
from palyra.core.consents import EXACTLY
from palyra.core.identifiers import short_id
from palyra.node.controlwords import (
    Allow,
    DecidedAnswer,
    Deny,
    Forget,
    ForgottenAnswer,
    Length,
    Reload,
    ReloadedAnswer,
    Remembered,
    RememberedAnswer,
    RememberedItem,
    RequestItem,
    Requests,
    RequestsAnswer,
)

RELOAD_S = 60.0
"""Plugins may be looked at anew, each in a process of its own."""
_COLUMNS = (
    Column("REQUEST"),
    Column("CAPABILITY", cut="middle"),
    Column("RISK"),
    Column("WHO", cut="middle"),
    Column("ARGUMENT", cut="end", floor=12),
    Column("LEFT", right=True),
)
_KEPT = (
    Column("CHOICE"),
    Column("CAPABILITY", cut="middle"),
    Column("FOR", cut="end"),
    Column("HOLDS"),
    Column("BY", cut="end"),
    Column("WHEN"),
    Column("ARGUMENT", cut="end", wide=True),
)


@click.command(cls=Verb)
@click.argument("request", metavar="[ID]", required=False)
@click.option("--remembered", is_flag=True, help="The choices that are remembered instead.")
@pass_call
def requests(call: Call, request: str | None, remembered: bool) -> None:
    """See what a person here is being asked; with an ID all of it."""
    host, screen = _host(call), call.screen
    if remembered:
        if request is not None:
            raise click.UsageError("--remembered lists all choices; it takes no ID")
        choices = host.ask(Remembered(), RememberedAnswer)
        return screen.json(choices.body) if screen.as_json else _show_kept(screen, choices.value)
    answer = host.ask(Requests(request or ""), RequestsAnswer)
    if screen.as_json:
        return screen.json(answer.body)
    if request is None:
        return _show_list(screen, answer.value.requests)
    return _show_one(screen, answer.value.requests[0])


@click.command(cls=Verb)
@click.argument("request", metavar="ID")
@click.option("--once", "choice", flag_value="once", default="once", help="This time (default).")
@click.option(
    "--session", "choice", flag_value="session", help="Until the node host stops, as shown."
)
@click.option("--always", "choice", flag_value="always", help="From now on, as shown.")
@pass_call
def allow(call: Call, request: str, choice: Length) -> None:
    """Say yes: it runs, this time or from now on.

    A longer yes is for what "palyra node requests ID" shows as that, and nothing else.
    """
    _decided(call, Allow(request, choice))


@click.command(cls=Verb)
@click.argument("request", metavar="ID")
@pass_call
def deny(call: Call, request: str) -> None:
    """Say no: the job is rejected."""
    _decided(call, Deny(request))


@click.command(cls=Verb)
@click.argument("choice", metavar="ID")
@pass_call
def forget(call: Call, choice: str) -> None:
    """Forget a remembered choice, and ask again."""
    answer = _host(call).ask(Forget(choice), ForgottenAnswer)
    screen, found = call.screen, answer.value.choice
    if screen.as_json:
        return screen.json(answer.body)
    if not screen.tty:
        return screen.pair("forgotten", found.choice_id)
    about = f"  {short_id(found.choice_id)}  {found.capability}, {found.scope}"
    return screen.parts(("forgotten", "yellow"), (words.escaped(about), ""))


@click.command(cls=Verb)
@pass_call
def reload(call: Call) -> int:
    """Read rules and configuration again, and find plugins again."""
    answer = _host(call).ask(Reload(), ReloadedAnswer, RELOAD_S)
    screen, found = call.screen, answer.value
    if screen.as_json:
        screen.json(answer.body)
        return 1 if found.kept else 0
    noun = "capability" if found.capabilities == 1 else "capabilities"
    counts = f"{words.number(found.capabilities)} {noun}"
    rules = words.counted(found.rules, "rule")
    if screen.tty:
        screen.parts(("reloaded", "green"), (f"  {counts}, {rules}", ""))
    else:
        screen.pair("capabilities", str(found.capabilities))
        screen.pair("rules", str(found.rules))
    for sentence in (*found.kept, *found.faults):
        screen.aside(f"!!  {words.escaped(sentence)}", "yellow")
    return 1 if found.kept else 0


VERBS = (requests, allow, deny, forget, reload)
"""What ``palyra node`` has from here, in the order of use."""


def _host(call: Call) -> NodeHost:
    """That of this device: no other can be asked."""
    return NodeHost(node_state_root(call))


def _decided(call: Call, asked: Allow | Deny) -> None:
    answer = _host(call).ask(asked, DecidedAnswer)
    screen, found = call.screen, answer.value
    if screen.as_json:
        return screen.json(answer.body)
    no = isinstance(asked, Deny)
    if not screen.tty:
        return screen.pair("decision", "denied" if no else found.choice)
    about = f"  {short_id(found.request_id)}  {words.escaped(found.capability)}"
    how_long = "" if no else f", {found.choice}"
    if found.scope:
        how_long += f" for {words.escaped(found.scope)}"
    screen.parts(("denied", "red") if no else ("allowed", "green"), (about + how_long, ""))
    if found.choice in ("session", "always"):
        screen.hint("palyra node requests --remembered")
    return None


# -- how they are shown -------------------------------------------------------------------------


def _show_list(screen: Screen, items: Sequence[RequestItem]) -> None:
    short = words.shortener(each.request_id for each in items)
    if items:
        screen.table(_COLUMNS, [_row(each, short[each.request_id]) for each in items])
    if not screen.tty:
        return
    if items:
        screen.hint(f"palyra node allow {short[items[0].request_id]}")
    else:
        screen.line("Nobody is being asked.")


def _row(item: RequestItem, short: str) -> list[Cell]:
    return [
        cell(short, item.request_id),
        cell(item.capability),
        cell(item.risk, style="red" if item.risk == "high" else ""),
        cell(item.requested_by),
        cell(item.opens or item.argument),
        cell(words.countdown(item.left_ms), str(item.left_ms)),
    ]


def _show_one(screen: Screen, item: RequestItem) -> None:
    """Everything that a yes would allow; nothing of it is cut."""
    red = "red" if item.risk == "high" else ""
    given = [
        Fact("request", short_id(item.request_id), item.request_id),
        Fact("job", words.escaped(short_id(item.job_id)) or words.NOTHING, item.job_id),
        Fact.same("who", words.escaped(item.requested_by)),
        Fact("capability", words.escaped(f"{item.capability}, {item.risk}"), item.capability, red),
        Fact("argument", _argument(item), item.argument),
        Fact.same("opens", words.escaped(item.opens) or words.NOTHING),
        Fact("longer yes", _scope(item), item.scope),
        Fact("left", words.countdown(item.left_ms), str(item.left_ms)),
    ]
    if not screen.tty:
        given.insert(4, Fact.same("risk", item.risk))
    facts.show(screen, given)
    if screen.tty:
        screen.hint(f"palyra node allow {short_id(item.request_id)}")


def _argument(item: RequestItem) -> str:
    text = json_text(item.argument.encode("utf-8", "replace"), 0)
    return text if len(text) <= 60 else json_text(item.argument.encode("utf-8", "replace"), 2)


def _scope(item: RequestItem) -> str:
    if not item.scope:
        return "cannot be given"
    return f"for {words.escaped(item.scope)}"


def _show_kept(screen: Screen, kept: RememberedAnswer) -> None:
    choices = list(reversed(kept.choices))
    short = words.shortener(each.choice_id for each in choices)
    if choices:
        rows = [_kept_row(each, short[each.choice_id], screen.now()) for each in choices]
        screen.table(_KEPT, rows)
    if not screen.tty:
        return
    if choices:
        screen.hint(f"palyra node forget {short[choices[0].choice_id]}")
    else:
        screen.line("No choice is remembered.")


def _kept_row(item: RememberedItem, short: str, now: int) -> list[Cell]:
    at = item.decided_at_unix_ms
    return [
        cell(short, item.choice_id),
        cell(item.capability),
        cell(item.argument if item.scope == EXACTLY else item.scope),
        cell(item.choice),
        cell(item.decided_by),
        cell(words.ago(at, now), words.utc(at)),
        cell(item.argument),
    ]
