"""``palyra audit``: what was done, by whom; and whether that record was tampered with."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import BinaryIO, TextIO

import click
import msgspec

from palyra.cli import auditcheck, auditlines
from palyra.cli.client import Console, Query
from palyra.cli.options import Call, VerbGroup, pass_call
from palyra.console.models import AuditItem, AuditList

FOLLOW_S = 1.0
"""How often a following tail asks for what is new."""
_PAGE = 500
_LOOKS = 50
"""Pages that a filtered tail asks for at most: each looks through thousands of rows."""

_who = click.option("--who", metavar="OPERATOR", help="Only what this operator did.")
_action = click.option(
    "--action", metavar="NAME", help="Only this action, or with a dot at its end all such: job."
)
_subject = click.option("--subject", metavar="KIND:ID", help="Only what was done to this.")
_details = click.option(
    "--with-details/--without-details", default=True, help="Whether rows hold their details."
)


@click.group(cls=VerbGroup)
def audit() -> None:
    """See what was done and by whom; check that nobody changed that record."""


@audit.command()
@click.option("-n", "count", type=click.IntRange(1, 10_000), default=20, help="How many (20).")
@click.option("--follow", is_flag=True, help="Go on with what is done from now on.")
@_who
@_action
@_subject
@pass_call
def tail(
    call: Call,
    count: int,
    follow: bool,
    who: str | None,
    action: str | None,
    subject: str | None,
) -> None:
    """Show the newest rows, the oldest of them first."""
    chosen: dict[str, Query] = {"who": who, "action": action, "subject": subject}
    screen, console = call.screen, call.console
    if screen.as_json and not follow:
        return screen.json(console.get("audit", AuditList, 0, limit=count, **chosen).body)
    found, newest = _newest(console, count, chosen)
    shown = auditlines.Tail(screen)
    shown.show(found, chosen=any(chosen.values()))
    while follow:
        for page in _behind(console, newest, chosen):
            shown.show(page, chosen=True)
            newest = page[-1].seq
        time.sleep(FOLLOW_S)
    return None


@audit.command()
@click.option(
    "--anchors",
    type=click.File("r", errors="replace"),
    metavar="FILE|-",
    help="A log that anchors were written to, as: journalctl -u palyra | ... --anchors -",
)
@click.option(
    "--file",
    type=click.File("rb"),
    metavar="EXPORT|-",
    help="Look through an export instead of the gateway's record.",
)
@pass_call
def verify(call: Call, anchors: TextIO | None, file: BinaryIO | None) -> int:
    """Look through the chain for rows that were changed, put in or taken out.

    The gateway need not run: its SQLite record is read then.  Exit code 1 for any fault.
    """
    return auditcheck.verify(call, anchors, file)


@audit.command()
@click.option("--since", type=click.IntRange(min=1), default=1, help="The first row's number.")
@_details
@pass_call
def export(call: Call, since: int, with_details: bool) -> None:
    """Write every row as a line of JSON, the oldest first."""
    encode = msgspec.json.encode
    for page in _behind(call.console, since - 1, {}):
        for row in page:
            kept = row if with_details else msgspec.structs.replace(row, details=None, salt="")
            call.screen.out.write(encode(kept).decode() + "\n")
    call.screen.out.flush()


def _newest(console: Console, count: int, chosen: dict[str, Query]) -> tuple[list[AuditItem], int]:
    """The newest rows, oldest first, and the number behind which nothing was seen yet."""
    top = console.get("audit", AuditList, 0, limit=1).value.rows
    newest = top[0].seq if top else 0
    found: list[AuditItem] = []
    cursor: str | None = None
    for _ in range(_LOOKS):
        left = min(_PAGE, count - len(found))
        answer = console.get("audit", AuditList, 0, limit=left, cursor=cursor, **chosen).value
        found += answer.rows
        cursor = answer.page.next_cursor
        if len(found) >= count or cursor is None:
            break
    return [row for row in reversed(found) if row.seq <= newest], newest


def _behind(console: Console, after: int, chosen: dict[str, Query]) -> Iterator[list[AuditItem]]:
    """Pages of rows behind a number that have rows."""
    cursor: str | None = None
    while True:
        answer = console.get(
            "audit", AuditList, 0, limit=_PAGE, after_seq=after, cursor=cursor, **chosen
        ).value
        if answer.rows:
            yield answer.rows
        cursor = answer.page.next_cursor
        if cursor is None:
            return
