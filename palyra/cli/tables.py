"""Tables without borders: padded and cut for a terminal, tab-separated and whole for a script."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from palyra.cli.words import NOTHING, cut_end, cut_middle, escaped

GAP = 2
WIDE = 120

_STYLES = {
    "green": ("online", "trusted", "succeeded", "ok", "approved", "completed", "granted"),
    "yellow": (
        "stale",
        "pending",
        "pending_approval",
        "queued",
        "dispatched",
        "awaiting_local_mediation",
        "warn",
    ),
    "red": ("revoked", "failed", "timed_out", "rejected", "FAIL"),
    "magenta": ("outcome_unknown",),
    "dim": ("offline", "cancelled", "expired", "removed"),
}
_STYLE_OF = {state: style for style, states in _STYLES.items() for state in states}


def style_of(state: str) -> str:
    """The colour that repeats a state; empty where the state has none."""
    return _STYLE_OF.get(state, "")


@attrs.frozen
class Column:
    """``cut`` says where long text may be cut (middle, end or nowhere), ``floor`` how far;
    a ``wide`` column is left out below 120 characters."""

    title: str
    right: bool = False
    cut: str = ""
    floor: int = 8
    wide: bool = False


@attrs.frozen
class Cell:
    """What a terminal shows, and the whole value for scripts."""

    shown: str
    raw: str
    style: str = ""

    @property
    def needs_a_person(self) -> bool:
        """Whether the cell carries the mark for that."""
        return self.shown.startswith("!!")


def cell(shown: str, raw: str | None = None, style: str = "") -> Cell:
    """A cell whose text may come from a device: escaped, ``-`` where there is nothing."""
    text = escaped(shown) or NOTHING
    return Cell(text, text if raw is None else escaped(raw) or NOTHING, style)


def state_cell(state: str) -> Cell:
    """A state as a word, in its colour; an unknown outcome is marked, since it needs a person."""
    mark = "!! " if state == "outcome_unknown" else ""
    return cell(mark + state, state, style_of(state))


Row = Sequence[Cell]


def narrowed(columns: Sequence[Column], rows: Sequence[Row], width: int) -> list[list[Cell]]:
    """The rows with the cells of wide columns left out below 120 characters."""
    keep = [i for i, column in enumerate(columns) if width >= WIDE or not column.wide]
    return [[row[i] for i in keep] for row in rows]


def visible(columns: Sequence[Column], width: int) -> list[Column]:
    """The columns that a terminal of that width shows."""
    return [column for column in columns if width >= WIDE or not column.wide]


def widths(columns: Sequence[Column], rows: Sequence[Row], width: int) -> list[int]:
    """How wide each column is: its longest text, and less for those that may be cut to fit."""
    wanted = [
        max([len(column.title), *(len(row[i].shown) for row in rows)])
        for i, column in enumerate(columns)
    ]
    excess = sum(wanted) + GAP * (len(columns) - 1) - width
    floors = {i: max(c.floor, len(c.title)) for i, c in enumerate(columns) if c.cut}
    while excess > 0:
        spare = [i for i, floor in floors.items() if wanted[i] > floor]
        if not spare:
            break
        wanted[max(spare, key=lambda i: wanted[i])] -= 1
        excess -= 1
    return wanted


def fitted(column: Column, text: str, width: int) -> str:
    """The text of one cell, cut where its column allows it."""
    if column.cut == "middle":
        return cut_middle(text, width)
    return cut_end(text, width) if column.cut else text


def tabbed(rows: Sequence[Row]) -> str:
    """Rows for scripts: every column in the order of 120 characters, whole values, no header."""
    return "".join("\t".join(each.raw for each in row) + "\n" for row in rows)
