"""``palyra ca``: the gateway's certificate authority, and the move to a new one."""

from __future__ import annotations

from collections.abc import Sequence

import click

from palyra.cli import facts, inventory, rotating, words
from palyra.cli.client import PAGE_LIMIT
from palyra.cli.facts import Fact
from palyra.cli.options import Call, VerbGroup, pass_call
from palyra.cli.present import Screen
from palyra.cli.tables import Cell, Column, cell, state_cell
from palyra.console.models import CaAnswer, CaItem, NodeItem, RotateCa
from palyra.core.identifiers import grouped

STEADY, OVERLAP, SWITCHED = "steady", "overlap", "switched"
_NOW = {
    OVERLAP: "devices move to the new CA",
    SWITCHED: "the listeners show the new CA",
}
_NEXT = {
    OVERLAP: "the listeners move too",
    SWITCHED: "the old CA is dropped",
}
_BACKUPS = {
    OVERLAP: "back up once the listeners show the new CA: older backups do not fit from then on",
    SWITCHED: "back up again: palyra state backup FILE; older backups do not fit any more",
}
"""A backup from before the switch has no CA that the devices trust which have moved."""
_EARLIER = {OVERLAP: "when no device is left"}
"""What else than its time brings a next step about."""
_CAS = (Column("CA"), Column("ISSUES"), Column("SERVES"), Column("UNTIL"))
_LEFT = (
    Column("ID"),
    Column("NAME", cut="middle"),
    Column("PRESENCE"),
    Column("HEARD"),
    Column("CERT"),
)


@click.group(cls=VerbGroup)
def ca() -> None:
    """See the gateway's CA; move all devices to a new one."""


@ca.command()
@pass_call
def show(call: Call) -> None:
    """Show the CA, and in a rotation which devices are left and when the next step comes."""
    answer = call.console.get("ca", CaAnswer)
    if call.screen.as_json:
        return call.screen.json(answer.body)
    return show_answer(call.screen, answer.value)


@ca.command()
@click.option("--reason", default="", help="Why; it is recorded.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_call
def rotate(call: Call, reason: str, yes: bool) -> int:
    """Make a new CA and move the devices to it as they renew; until then both are trusted.

    It is not for a CA whose key was stolen: then everything has to be paired again.
    """
    screen = call.screen
    if screen.interactive and not yes:
        screen.aside("Devices move to a new CA as they renew; until then both are trusted.")
        if not screen.agreed("Rotate the CA?"):
            screen.aside("not rotated")
            return 1
    answer = call.console.post("ca/rotate", RotateCa(reason), CaAnswer)
    if screen.as_json:
        screen.json(answer.body)
    else:
        show_answer(screen, answer.value)
    return 0


def show_answer(screen: Screen, found: CaAnswer) -> None:
    """The phase, each CA, who is left, and when the next step comes."""
    now = screen.now()
    facts.show(screen, [_phase(found, now), *_next(found, now), *_count(found)])
    left = sorted(found.left, key=lambda node: (-inventory.rank(node), node.name))
    if not screen.tty:
        _pairs(screen, found.cas, left)
    else:
        screen.table(_CAS, [_ca_row(each, now) for each in found.cas])
        if left:
            _show_left(screen, left[:PAGE_LIMIT], found.left_total, now)
    if found.phase in _BACKUPS:
        screen.aside(f"note  {_BACKUPS[found.phase]}")


def _show_left(screen: Screen, left: Sequence[NodeItem], total: int, now: int) -> None:
    short = words.shortener(node.device_id for node in left)
    screen.table(_LEFT, [_left_row(node, short[node.device_id], now) for node in left])
    if len(left) < total:
        screen.aside(f"only {words.number(len(left))} of {words.number(total)}")
    if any(rotating.told(node) for node in left):
        screen.hint("palyra nodes rotate --all")


def _phase(found: CaAnswer, now: int) -> Fact:
    since = found.started_unix_ms
    shown = words.escaped(found.phase)
    if found.phase != STEADY and since is not None:
        shown += f" since {words.when(since, now)}"
    if found.phase in _NOW:
        shown += f": {_NOW[found.phase]}"
    return Fact("phase", shown, found.phase)


def _next(found: CaAnswer, now: int) -> list[Fact]:
    """The next step of a rotation, and when it is taken."""
    if found.phase not in _NEXT:
        return []
    at = found.next_step_unix_ms
    times = [_EARLIER[found.phase]] if found.phase in _EARLIER else []
    times += [] if at is None else [words.when(at, now)]
    shown = f"{' or '.join(times)}: {_NEXT[found.phase]}" if times else _NEXT[found.phase]
    return [Fact("next step", shown, words.utc(at))]


def _count(found: CaAnswer) -> list[Fact]:
    if found.phase == STEADY and not found.left_total:
        return []
    shown = words.counted(found.left_total, "device") if found.left_total else "no device"
    return [Fact("left", shown, str(found.left_total))]


def _ca_row(item: CaItem, now: int) -> list[Cell]:
    return [
        cell(grouped(item.fingerprint)),
        cell("yes" if item.issues else ""),
        cell("yes" if item.serves else ""),
        cell(words.when(item.not_after_unix_ms, now)),
    ]


def _left_row(node: NodeItem, short: str, now: int) -> list[Cell]:
    return [
        cell(short),
        cell(node.name),
        state_cell(node.presence),
        cell(words.ago(node.last_heard_unix_ms, now)),
        inventory.expiry(node, now),
    ]


def _pairs(screen: Screen, cas: Sequence[CaItem], left: Sequence[NodeItem]) -> None:
    """What is more than one, a line each; its first word says what it is."""
    for each in cas:
        uses = ("issues" if each.issues else "-", "serves" if each.serves else "-")
        _tabbed(screen, "ca", each.fingerprint, *uses, words.utc(each.not_after_unix_ms))
    for node in left:
        heard = words.utc(node.last_heard_unix_ms)
        until = words.utc(node.certificate_expires_unix_ms)
        _tabbed(screen, "device", node.device_id, node.name, node.presence, heard, until)


def _tabbed(screen: Screen, *parts: str) -> None:
    screen.out.write("\t".join(map(words.escaped, parts)) + "\n")
