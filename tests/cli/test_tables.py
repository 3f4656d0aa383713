"""Tests of :mod:`palyra.cli.tables`."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from palyra.cli.tables import GAP, Column, cell, fitted, state_cell, style_of, tabbed, widths

COLUMNS = (Column("ID"), Column("NAME", cut="middle"), Column("NOTE", cut="end", wide=True))


def test_colours_repeat_states() -> None:
    """The colours of the states, as agreed."""
    assert [style_of(s) for s in ("online", "stale", "failed", "outcome_unknown", "offline")] == [
        "green",
        "yellow",
        "red",
        "magenta",
        "dim",
    ]
    assert style_of("running") == ""


def test_an_unknown_outcome_is_marked_for_people_only() -> None:
    """Scripts read the state as it is spelled."""
    made = state_cell("outcome_unknown")
    assert (made.shown, made.raw, made.needs_a_person) == (
        "!! outcome_unknown",
        "outcome_unknown",
        True,
    )


def test_tabs_and_ends_of_lines_cannot_break_a_row() -> None:
    """A value with a tab is one value."""
    assert tabbed([[cell("a\tb"), cell("")]]) == "a\\u0009b\t-\n"


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.text(max_size=9), st.text(max_size=60), st.text(max_size=60))),
    st.integers(min_value=45, max_value=200),
)
def test_a_table_fits_where_it_can(values: list[tuple[str, str, str]], width: int) -> None:
    """Columns that may be cut give way until the table fits, and no cell exceeds its column."""
    rows = [[cell("x" * len(a)), cell("y" * len(b)), cell("z" * len(c))] for a, b, c in values]
    found = widths(COLUMNS, rows, width)
    assert sum(found) + GAP * 2 <= width
    for row in rows:
        for column, each, room in zip(COLUMNS, row, found, strict=True):
            assert len(fitted(column, each.shown, room)) <= room
