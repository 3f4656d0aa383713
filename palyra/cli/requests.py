"""How pairing requests are listed, and the facts an operator decides on."""

from __future__ import annotations

from collections.abc import Sequence

from palyra.cli import facts, words
from palyra.cli.facts import Fact
from palyra.cli.present import Screen
from palyra.cli.tables import Cell, Column, cell, state_cell
from palyra.console.models import CapabilityItem, FailedTries, PairingItem, SeenBefore
from palyra.core.identifiers import grouped, short_id

PENDING = "pending_approval"
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


def show_list(
    screen: Screen, requests: Sequence[PairingItem], tries: Sequence[FailedTries]
) -> None:
    """Pairing requests, those that wait first; wrong tries beside the result."""
    ordered = sorted(requests, key=lambda each: (each.state != PENDING, -each.created_at_unix_ms))
    short = words.shortener(each.request_id for each in requests)
    if ordered:
        now = screen.now()
        screen.table(_COLUMNS, [_row(each, short[each.request_id], now) for each in ordered])
    elif screen.tty:
        screen.line("Nobody is waiting.")
    for each in tries:
        screen.aside(f"!! {_wrong_tries(each)}", "yellow")
    waiting = [each for each in ordered if each.state == PENDING]
    if waiting and screen.tty:
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


def _wrong_tries(tries: FailedTries) -> str:
    wrong = f"{tries.count} wrong {'try' if tries.count == 1 else 'tries'}"
    return f"{wrong} from {words.escaped(tries.source)}"


def _device(request: PairingItem) -> Fact:
    kind = words.escaped(request.client_kind)
    return Fact("device", f"{short_id(request.device_id)}  {kind}", request.device_id)


def _code(request: PairingItem, tries: Sequence[FailedTries], now: int) -> Fact:
    method = words.escaped(request.method.upper())
    by = f"{method} by {words.escaped(request.issued_by)}"
    if tries:
        shown = f"{by}, !! {_wrong_tries(tries[0])}"
    else:
        made = words.span(max(0, now - request.issued_at_unix_ms) // 60_000 * 60_000)
        recent = now - request.issued_at_unix_ms < 60_000
        shown = f"{by}, {'just now' if recent else made + ' ago'}"
    return Fact("code", shown, f"{by} {words.utc(request.issued_at_unix_ms)}")


def _seen(seen: SeenBefore, now: int) -> Fact:
    at = words.day(seen.at_unix_ms, now)
    by, reason = words.escaped(seen.by), words.escaped(seen.reason)
    text = {
        "never": "never before",
        "same_key": f"paired {at}, same key",
        "another_key": f"!! paired {at} with ANOTHER key; approving revokes that one",
        "revoked": f"!! revoked {at} by {by}{f' ({reason})' if reason else ''}",
    }.get(seen.kind, f"!! {words.escaped(seen.kind)}")
    return Fact("seen here", text, text.removeprefix("!! "))


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
