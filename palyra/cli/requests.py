"""How pairing requests are listed, and the facts an operator decides on."""

from __future__ import annotations

from collections.abc import Sequence

from palyra.cli import facts, words
from palyra.cli.facts import Fact
from palyra.cli.present import Screen
from palyra.cli.tables import Cell, Column, cell, state_cell
from palyra.console.models import (
    CapabilityItem,
    CodeItem,
    FailedTries,
    PairingItem,
    PairingList,
    SeenBefore,
)
from palyra.core.identifiers import grouped, short_id

PENDING = "pending_approval"
REJOIN = "rejoin"
BURNT = "burnt"
_VALUE_WIDTH = 25
_COLUMNS = (
    Column("REQUEST"),
    Column("STATE"),
    Column("NAME", cut="middle"),
    Column("PLATFORM", cut="end"),
    Column("FROM", cut="end", floor=15),
    Column("WAITS"),
    Column("IDENTITY", wide=True),
    Column("LABELS", cut="end", wide=True),
)


def show_list(screen: Screen, listed: PairingList) -> None:
    """Pairing requests, those that wait first; below, for people, what went wrong of late."""
    ordered = sorted(
        listed.requests, key=lambda each: (each.state != PENDING, -each.created_at_unix_ms)
    )
    short = words.shortener(each.request_id for each in ordered)
    now = screen.now()
    if ordered:
        screen.table(_COLUMNS, [_row(each, short[each.request_id], now) for each in ordered])
    if not screen.tty:
        return
    if not ordered:
        screen.line("Nobody is waiting.")
    for warning in _warnings(listed, now):
        screen.aside(f"!! {warning}", "yellow")
    waiting = [each for each in ordered if each.state == PENDING]
    if waiting:
        screen.hint(f"palyra pairing approve {short[waiting[-1].request_id]}")


def show_facts(screen: Screen, request: PairingItem, tries: Sequence[FailedTries]) -> None:
    """What an operator must see before deciding."""
    now = screen.now()
    left = [
        Fact.same("name", words.escaped(request.name)),
        _device(request),
        Fact.same("platform", words.escaped(request.platform) or words.NOTHING),
        _code(request, tries, now),
    ]
    right = [
        Fact("identity", identity(request), request.identity_fingerprint),
        _seen(request.seen_before, now),
        Fact.same("from", words.escaped(request.source)),
        Fact.same("labels", words.labels(request.labels)),
    ]
    if not screen.tty:
        screen.pair("request", request.request_id)
    facts.show_beside(screen, left, right, label=_LABEL, least=_VALUE_WIDTH)
    shown = _capabilities(request.capabilities, screen.width - _LABEL)
    if screen.tty:
        for i, line in enumerate(shown.split("\n")):
            screen.line(("" if i else "capabilities").ljust(_LABEL) + line)
    else:
        screen.pair("capabilities", ",".join(each.name for each in request.capabilities) or "-")


def show_grants(screen: Screen, names: Sequence[str], up_to: str) -> None:
    """What an approval would grant, where that is not the usual: everything announced, and what
    is of low risk later."""
    now = ",".join(map(words.escaped, names)) or "all announced"
    fact = Fact("grants", f"{now}; {later(up_to)}", f"{now} {up_to}")
    facts.show(screen, [fact], label=_LABEL)


def later(up_to: str) -> str:
    """Up to which risk capabilities are granted that a device announces later."""
    return "later ones not" if up_to == "none" else f"later ones up to {words.escaped(up_to)}"


_LABEL = len("capabilities") + facts.GAP


def identity(request: PairingItem) -> str:
    """The beginning of the key's fingerprint, as the device prints it."""
    return grouped(words.escaped(request.identity_fingerprint))


def called(request: PairingItem) -> str:
    """Name and short id, as people tell devices apart."""
    return f"{words.escaped(request.name)}  {short_id(request.device_id)}"


def _row(request: PairingItem, short: str, now: int) -> list[Cell]:
    pending = request.state == PENDING
    left = words.countdown(request.expires_at_unix_ms - now) if pending else ""
    return [
        cell(short, request.request_id),
        state_cell(request.state),
        cell(request.name),
        cell(request.platform),
        cell(request.source),
        cell(left, words.utc(request.expires_at_unix_ms)),
        cell(identity(request), request.identity_fingerprint),
        cell(words.labels(request.labels, 2), words.labels(request.labels)),
    ]


def _warnings(listed: PairingList, now: int) -> list[str]:
    """Who guesses codes, which are burnt by it, and whether nobody may pair by PIN now."""
    found = [_wrong_tries(each) for each in listed.failed_tries]
    found += [_burnt(each) for each in listed.codes if each.state == BURNT]
    until = listed.pins_paused_until_unix_ms
    if until is not None and until > now:
        found.append(
            f"pairing by PIN is paused until {words.clock(until, now)} after many wrong tries"
        )
    return found


def _burnt(code: CodeItem) -> str:
    return f"{_issued(code.method, code.issued_by)} burnt by {_tries(code.failed)}"


def _wrong_tries(tries: FailedTries) -> str:
    return f"{_tries(tries.count)} from {words.escaped(tries.source)}"


def _tries(count: int) -> str:
    return f"{words.number(count)} wrong {'try' if count == 1 else 'tries'}"


def _issued(method: str, by: str) -> str:
    return f"{words.escaped(method.upper())} by {words.escaped(by)}"


def _device(request: PairingItem) -> Fact:
    kind = words.escaped(request.client_kind)
    return Fact("device", f"{short_id(request.device_id)}  {kind}", request.device_id)


def _code(request: PairingItem, tries: Sequence[FailedTries], now: int) -> Fact:
    if request.method == REJOIN:
        return Fact("code", f"{words.NOTHING}  by its identity key", words.NOTHING)
    by = _issued(request.method, request.issued_by)
    if tries:
        shown = f"{by}, !! {_wrong_tries(tries[0])}"
    else:
        made = words.span(max(0, now - request.issued_at_unix_ms) // 60_000 * 60_000)
        recent = now - request.issued_at_unix_ms < 60_000
        shown = f"{by}, {'just now' if recent else made + ' ago'}"
    return Fact("code", shown, f"{by} {words.utc(request.issued_at_unix_ms)}")


def _seen(seen: SeenBefore, now: int) -> Fact:
    at = words.day(seen.at_unix_ms, now)
    text = {
        "never": "never before",
        "same_key": f"paired {at}, same key{_ran_out(seen, now)}",
        "another_key": f"!! paired {at} with ANOTHER key; approving revokes that one",
        "revoked": f"!! revoked {at}{_by_whom(seen)}{_removed(seen, now)}",
    }.get(seen.kind, f"!! {words.escaped(seen.kind)}")
    return Fact("seen here", text, text.removeprefix("!! "))


def _ran_out(seen: SeenBefore, now: int) -> str:
    at = seen.certificate_ended_unix_ms
    return "" if at is None else f"; its certificate ran out {words.day(at, now)}"


def _by_whom(seen: SeenBefore) -> str:
    reason = f" ({words.escaped(seen.reason)})" if seen.reason else ""
    return (f" by {words.escaped(seen.by)}" if seen.by else "") + reason


def _removed(seen: SeenBefore, now: int) -> str:
    at = seen.removed_at_unix_ms
    return "" if at is None else f", removed {words.day(at, now)}"


def _capabilities(capabilities: Sequence[CapabilityItem], width: int) -> str:
    """Harmless ones together, wrapped; each of the others on a line of its own."""
    lines: list[str] = []
    harmless = [each for each in capabilities if each.risk == "low" and not each.needs_mediation]
    for each in harmless:
        text = words.escaped(f"{each.name} {each.risk}")
        if lines and len(lines[-1]) + facts.GAP + len(text) <= width:
            lines[-1] += "  " + text
        else:
            lines.append(text)
    for each in capabilities:
        if each not in harmless:
            asks = " asks-on-device" if each.needs_mediation else ""
            lines.append(words.escaped(f"{each.name} {each.risk}{asks}"))
    return "\n".join(lines) or words.NOTHING
