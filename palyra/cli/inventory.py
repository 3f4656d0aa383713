"""How paired devices are listed and shown."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence

from palyra.cli import facts, words
from palyra.cli.facts import Fact
from palyra.cli.options import USUAL_RISK
from palyra.cli.present import Screen
from palyra.cli.requests import later
from palyra.cli.tables import (
    Cell,
    Column,
    cell,
    narrowed,
    state_cell,
    style_of,
)
from palyra.console.models import CapabilityItem, NodeItem
from palyra.core.identifiers import short_id

EXPIRES_SOON_MS = 4 * 3600 * 1000
"""Devices renew with a third of 24 hours left; with half of that left nobody did."""

CLOCK_DIFFERS_MS = 60_000

TWO_COLUMNS = 100
_PRESENCE = {"online": 0, "stale": 1, "offline": 2}
_APART = {
    "older": "older",
    "newer": "newer",
    "too_old": "more than one minor version older",
    "too_new": "more than one minor version newer",
}
"""How a node's version stands to its gateway's."""
_COLUMNS = (
    Column("ID"),
    Column("NAME", cut="middle"),
    Column("PRESENCE"),
    Column("TRUST"),
    Column("PLATFORM", cut="end"),
    Column("CAPS", right=True),
    Column("JOBS", right=True),
    Column("HEARD"),
    Column("VIA", wide=True),
    Column("CERT", wide=True),
    Column("VERSION", wide=True),
    Column("LABELS", cut="end", wide=True),
)
_CAPABILITIES = (
    Column("CAPABILITY", cut="end", floor=16),
    Column("VERSION"),
    Column("RISK"),
    Column("STATE", cut="end", floor=20),
)


def show_list(
    screen: Screen, nodes: Sequence[NodeItem], waiting: int, more: bool, *, chosen: bool = False
) -> None:
    """The inventory as a table, then the counts; ``chosen``: not all devices were asked for."""
    now = screen.now()
    short = words.shortener(node.device_id for node in nodes)
    rows = {node.device_id: _row(node, short[node.device_id], now) for node in nodes}
    ordered = sorted(nodes, key=lambda node: _order(screen, node, rows[node.device_id]))
    if nodes:
        screen.table(_COLUMNS, [rows[node.device_id] for node in ordered])
    if screen.tty:
        screen.line(_counts(nodes, waiting, chosen))
    if more:
        other = "--limit N shows more" if chosen else "--limit N or --where EXPR"
        screen.aside(f"only the first {words.number(len(nodes))}; {other}")


def show_one(screen: Screen, node: NodeItem, waiting: int = 0, more: bool = False) -> None:
    """Everything known of one device; ``waiting`` jobs wait for it, and ``more``."""
    now = screen.now()
    left = [_presence(node, now), _trust(node, now), _identity(node)]
    right = [
        _certificate(node, now),
        *_rotation(node, now),
        *_clock(node),
        _platform(node),
        _labels(node),
        *_grants(node),
    ]
    if waiting:
        right.append(_waiting(waiting, more))
    if screen.tty:
        screen.parts((words.escaped(node.name), "bold"), (f"  {node.device_id}", ""))
    else:
        screen.pair("name", node.name)
        screen.pair("device", node.device_id)
    if screen.width >= TWO_COLUMNS:
        facts.show_beside(screen, left, right)
    else:
        facts.show(screen, [*left, *right])
    _show_capabilities(screen, node.capabilities)
    _hint(screen, node)


def _row(node: NodeItem, short: str, now: int) -> list[Cell]:
    return [
        cell(short, node.device_id),
        cell(node.name),
        state_cell(node.presence),
        state_cell(node.trust),
        cell(node.platform),
        _capability_count(node.capabilities),
        cell(str(node.jobs_running)),
        cell(words.ago(node.last_heard_unix_ms, now), words.utc(node.last_heard_unix_ms)),
        cell(node.transport),
        expiry(node, now),
        _version(node),
        cell(words.labels(node.labels, 2), words.labels(node.labels)),
    ]


def _order(screen: Screen, node: NodeItem, row: Sequence[Cell]) -> tuple[bool, int, str]:
    """What needs a person first, then by presence and name; only marks that are shown count."""
    (shown,) = narrowed(_COLUMNS, [row], screen.width)
    marked = screen.tty and any(each.needs_a_person for each in shown)
    return not marked, rank(node), node.name


def rank(node: NodeItem) -> int:
    """Online devices before stale ones before those that are away."""
    return _PRESENCE.get(node.presence, len(_PRESENCE))


def _capability_count(capabilities: Sequence[CapabilityItem]) -> Cell:
    faulty = sum(1 for each in capabilities if each.fault)
    whole = len(capabilities)
    return cell(f"{whole - faulty}/{whole}" if faulty else str(whole))


def expiry(node: NodeItem, now: int) -> Cell:
    """How long a certificate is good for yet; marked when a person should look."""
    at = node.certificate_expires_unix_ms
    if at is None:
        return cell("")
    left = at - now
    if left <= 0:
        return cell("!! over", words.utc(at), "red")
    soon = left < EXPIRES_SOON_MS
    return cell(
        f"{'!! ' if soon else ''}{words.age(left)}", words.utc(at), "yellow" if soon else ""
    )


def _version(node: NodeItem) -> Cell:
    """Marked where the node should be brought up to date, or its gateway."""
    if node.version_skew in _APART:
        return cell(f"!! {node.version}", node.version, "yellow")
    return cell(node.version)


def _counts(nodes: Sequence[NodeItem], waiting: int, chosen: bool) -> str:
    if not nodes and chosen:
        return "No device matches."
    if not nodes:
        text = "No devices yet."
        return f"{text} {waiting} waiting for approval." if waiting else text
    by_presence = Counter(node.presence for node in nodes)
    ordered = sorted(by_presence, key=lambda each: _PRESENCE.get(each, len(_PRESENCE)))
    counts = ", ".join(f"{words.number(by_presence[each])} {each}" for each in ordered)
    asking = f"; {words.number(waiting)} waiting for approval" if waiting else ""
    return f"{words.counted(len(nodes), 'device')}: {counts}{asking}"


def _presence(node: NodeItem, now: int) -> Fact:
    shown = words.escaped(node.presence)
    if node.last_heard_unix_ms is not None:
        last = "" if node.presence == "online" else "last "
        shown += f", {last}heard {words.ago(node.last_heard_unix_ms, now)}"
    if node.transport and node.presence != "offline":
        shown += words.escaped(f", {node.transport} from {node.address}")
    heard = words.utc(node.last_heard_unix_ms)
    raw = " ".join((node.presence, heard, node.transport or "-", node.address or "-"))
    return Fact("presence", shown, raw, style_of(node.presence))


def _trust(node: NodeItem, now: int) -> Fact:
    by = f", approved by {node.approved_by}" if node.approved_by else ""
    shown = words.escaped(node.trust + by) + f" {words.when(node.paired_at_unix_ms, now)}"
    raw = f"{node.trust} {node.approved_by or '-'} {words.utc(node.paired_at_unix_ms)}"
    return Fact("trust", shown, raw, style_of(node.trust))


def _identity(node: NodeItem) -> Fact:
    lines = words.fingerprint_lines(words.escaped(node.identity_fingerprint))
    return Fact("identity", "\n".join(lines), node.identity_fingerprint)


def _certificate(node: NodeItem, now: int) -> Fact:
    at = node.certificate_expires_unix_ms
    if at is None:
        return Fact.same("certificate", words.NOTHING)
    left = at - now
    mark = "!! " if left < EXPIRES_SOON_MS else ""
    shown = f"{mark}until {words.when(at, now)} ({words.age(left) if left > 0 else 'over'})"
    return Fact("certificate", shown + _renewal(node, left, now), words.utc(at))


def _renewal(node: NodeItem, left: int, now: int) -> str:
    """When the next certificate is expected; a device with none that is valid has to rejoin."""
    at = node.certificate_renews_unix_ms
    if at is None or left <= 0:
        return ""
    return f", renews in {words.age(at - now)}" if at > now else ", renewal is due"


def _rotation(node: NodeItem, now: int) -> list[Fact]:
    at = node.rotate_asked_unix_ms
    if at is None:
        return []
    by = f" by {words.escaped(node.rotate_asked_by)}" if node.rotate_asked_by else ""
    shown = f"asked{by} {words.ago(at, now)}, not done yet"
    return [Fact("rotation", shown, f"asked {node.rotate_asked_by or '-'} {words.utc(at)}")]


def _clock(node: NodeItem) -> list[Fact]:
    ahead = node.clock_ahead_ms
    if ahead is None or abs(ahead) <= CLOCK_DIFFERS_MS:
        return []
    side = "ahead" if ahead > 0 else "behind"
    return [Fact("clock", f"{words.age(abs(ahead))} {side}", f"{ahead // 1000}s")]


def _grants(node: NodeItem) -> list[Fact]:
    """What is granted of capabilities that come later, where it is not the usual."""
    if node.grant_risk == USUAL_RISK:
        return []
    return [Fact("grants", later(node.grant_risk), node.grant_risk)]


def _platform(node: NodeItem) -> Fact:
    version = f", node {node.version}" if node.version else ""
    if node.version_skew in _APART:
        version += f" ({_APART[node.version_skew]} than the gateway)"
    return Fact.same("platform", words.escaped(f"{node.platform}{version}") or words.NOTHING)


def _labels(node: NodeItem) -> Fact:
    return Fact("labels", words.labels(node.labels, separator=" "), words.labels(node.labels))


def _waiting(count: int, more: bool) -> Fact:
    shown = f"more than {words.counted(count, 'job')}" if more else words.counted(count, "job")
    return Fact("waiting", shown, f"{count}{'+' if more else ''}")


def _show_capabilities(screen: Screen, capabilities: Sequence[CapabilityItem]) -> None:
    if not screen.tty:
        for each in capabilities:
            parts = (each.name, each.version or "-", each.risk or "-", capability_state(each))
            screen.out.write("\t".join(("capability", *map(words.escaped, parts))) + "\n")
    elif capabilities:
        screen.table(_CAPABILITIES, [_capability_row(each) for each in capabilities])


def _hint(screen: Screen, node: NodeItem) -> None:
    """How to grant what has changed, where something has."""
    changed = [each.name for each in node.capabilities if each.changed]
    if changed and screen.tty:
        name = shlex.quote(words.escaped(changed[0]))  # a device's word, copied into a shell
        screen.hint(f"palyra nodes grant {words.escaped(node.name)} {name}")


def _capability_row(each: CapabilityItem) -> list[Cell]:
    state = capability_state(each)
    known = "" if each.fault else each.version
    style = "red" if each.fault else "green" if state.startswith("granted") else "yellow"
    mark = "!! " if each.fault or each.changed else ""
    return [
        cell(each.name),
        cell(known),
        cell("" if each.fault else each.risk),
        cell(mark + state, state, style),
    ]


def capability_state(each: CapabilityItem) -> str:
    """What stands between a capability and its use."""
    if each.fault:
        return f"failed: {each.fault}"
    if not each.available:
        return "switched off on the device"
    if each.changed:
        return "changed since it was granted"
    if not each.granted:
        return "not granted"
    return "granted, asks on device" if each.needs_mediation else "granted"


def called(node: NodeItem) -> str:
    """Name and short id, as people tell devices apart."""
    return f"{words.escaped(node.name)}  {short_id(node.device_id)}"
