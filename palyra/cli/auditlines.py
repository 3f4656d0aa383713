"""How rows of the audit chain are shown, and what a verification found."""

from __future__ import annotations

import json
from collections.abc import Sequence

import msgspec

from palyra.cli import words
from palyra.cli.present import Screen
from palyra.cli.tables import Cell, Column, cell
from palyra.console.models import AuditItem, AuditVerification
from palyra.core.identifiers import is_ulid, short_id

_HASH = 8
_COLUMNS = (
    Column("SEQ", right=True),
    Column("TIME"),
    Column("WHO", cut="middle"),
    Column("WHAT", cut="end", floor=16),
    Column("ON", cut="end", floor=8),
    Column("RESULT", cut="end", floor=14),
    Column("FROM", cut="end", floor=12, wide=True),
    Column("REASON", cut="end", floor=12, wide=True),
    Column("HASH", wide=True),
)
_WITH_ID = ("device", "operator", "code")
"""Subjects that are told by their name and the short form of their id."""


class Tail:
    """A table that grows: its head stands once."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._begun = False

    def show(self, rows: Sequence[AuditItem], *, chosen: bool) -> None:
        """More rows, oldest first."""
        screen = self._screen
        if screen.as_json:
            for row in rows:
                screen.json(msgspec.json.encode(row))
            return
        if not rows:
            if screen.tty and not self._begun and chosen:
                screen.line("Nothing matches.")
            return
        now = screen.now()
        screen.table(_COLUMNS, [_row(row, now) for row in rows], header=not self._begun)
        screen.out.flush()
        self._begun = True


def show_verdict(
    screen: Screen, seen: AuditVerification, notes: Sequence[str], *, outside: bool
) -> None:
    """What a verification found; ``outside``: anchors from elsewhere were compared."""
    if screen.as_json:
        return screen.json(msgspec.json.encode(seen))
    if not screen.tty:
        return _pairs(screen, seen)
    count = words.counted(seen.rows, "row")
    if seen.faults:
        screen.parts(("FAIL", "red"), (f"  {count} looked through", ""))
        for fault in seen.faults:
            screen.line(f"      {words.escaped(fault)}")
    elif seen.rows:
        between = f"{seen.first_seq} to {seen.last_seq}"
        screen.parts(("ok", "green"), (f"    {count} hang together, {between}", ""))
    else:
        screen.parts(("ok", "green"), ("    no rows yet", ""))
    screen.line(_anchored(screen, seen))
    for note in notes:
        screen.line(f"      {words.escaped(note)}")
    if not outside:
        screen.aside("note  these anchors are the gateway's own; compare with those kept elsewhere")
        screen.hint("palyra audit verify --anchors FILE")
    return None


def _anchored(screen: Screen, seen: AuditVerification) -> str:
    left = seen.last_seq - seen.anchored_seq
    newer = f"{words.counted(left, 'newer row')} {'is' if left == 1 else 'are'} not anchored yet"
    rewrite = "whoever owns the database could rewrite " + ("it" if left == 1 else "those")
    if not seen.anchored_seq:
        return f"      no row is anchored yet: {rewrite}"
    at = words.when(seen.anchored_at_unix_ms, screen.now())
    anchored = f"      anchored up to row {seen.anchored_seq} at {at}"
    return f"{anchored}; {newer}: {rewrite}" if left > 0 else anchored


def _pairs(screen: Screen, seen: AuditVerification) -> None:
    screen.pair("chain", seen.chain_id)
    screen.pair("rows", str(seen.rows))
    screen.pair("first", str(seen.first_seq))
    screen.pair("last", str(seen.last_seq))
    screen.pair("anchored", str(seen.anchored_seq))
    screen.pair("anchored_at", words.utc(seen.anchored_at_unix_ms))
    for fault in seen.faults:
        screen.pair("fault", fault)


def _row(row: AuditItem, now: int) -> list[Cell]:
    style = "red" if row.result.startswith("denied") else "green" if row.result == "ok" else ""
    return [
        cell(str(row.seq)),
        cell(words.when(row.at_unix_ms, now), words.utc(row.at_unix_ms)),
        cell(row.who),
        cell(row.action),
        cell(_on(row), row.subject),
        cell(row.result, style=style),
        cell(row.via),
        cell(json.dumps(row.reason, ensure_ascii=False) if row.reason else "", row.reason),
        cell(row.hash[:_HASH], row.hash),
    ]


def _on(row: AuditItem) -> str:
    """``pi T6MW3K``, or the name alone where an id says nothing more."""
    kind, _, identifier = row.subject.partition(":")
    short = short_id(identifier) if kind in _WITH_ID and is_ulid(identifier) else ""
    if not row.subject_name and not short:
        return identifier if kind != "chain" else "chain"
    return " ".join(each for each in (row.subject_name, short) if each)
