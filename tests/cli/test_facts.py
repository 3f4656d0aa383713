"""Tests of :mod:`palyra.cli.facts`."""

from __future__ import annotations

from palyra.cli.facts import Fact, show, show_beside
from tests.cli.things import screen, shown


def facts(*values: str) -> list[Fact]:
    return [Fact.same(f"key{i}", value) for i, value in enumerate(values)]


def test_one_a_line() -> None:
    """Keys are padded; further lines of a value stand below its first."""
    made = screen()
    show(made, facts("a", "b\nc"))
    assert shown(made) == "key0  a\nkey1  b\n      c\n"


def test_only_the_state_is_coloured() -> None:
    """Colour repeats the word; what needs a person is yellow."""
    made = screen(colour=True)
    show(made, [Fact("state", "timed_out, late  !! effect possible", "timed_out", "red")])
    assert shown(made) == (
        "state  \x1b[31mtimed_out\x1b[0m, late  \x1b[33m!! effect possible\x1b[0m\n"
    )


def test_scripts_get_the_raw_value() -> None:
    """Tabs between key and value."""
    made = screen(tty=False)
    show(made, [Fact("key", "short", "whole")])
    assert shown(made) == "key\twhole\n"


def test_more_on_the_right_than_on_the_left() -> None:
    """The rest of the longer column stands in the first one's place."""
    made = screen(40)
    show_beside(made, facts("a"), facts("b", "c"))
    assert shown(made) == "key0  a  key0  b\nkey1  c\n"


def test_too_narrow_for_two() -> None:
    """Nothing is cut: what does not fit beside goes below."""
    made = screen(20)
    show_beside(made, facts("a" * 12), facts("b" * 12))
    assert shown(made) == "key0  aaaaaaaaaaaa\nkey0  bbbbbbbbbbbb\n"
