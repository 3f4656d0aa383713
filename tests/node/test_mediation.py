"""Tests of :mod:`palyra.node.mediation`."""

from __future__ import annotations

from typing import Any

from palyra.node.mediation import MAX_ARGUMENT, Answer, Question, beginning


def question(**given: str) -> Question:
    """The question, with other facts."""
    return Question(
        question_id="01M80NKQCNB8Q2ZNZT9B3FVHD0",
        requested_by=given.get("who", "ana"),
        capability="x.y",
        risk="low",
        argument=given.get("argument", '{"a":1}'),
        opens=given.get("opens", ""),
    )


def test_what_is_asked() -> None:
    """What opens something says what; the rest shows its argument."""
    assert question().asks() == 'asks: {"a":1}'
    assert question(opens="https://example.org").asks() == "asks to open https://example.org"


def test_what_is_shown_cannot_deceive() -> None:
    """Control characters are spelled out."""
    asked = question(who="ana\nbo", argument="\u202e\x1b[2J")
    assert asked.who == "ana\\u000abo"
    assert asked.asks() == "asks: \\u202e\\u001b[2J"


def test_what_is_cut_is_said() -> None:
    """How much of it, and where all of it can be seen; an escape is shown whole or not at all."""
    assert question(argument="a" * MAX_ARGUMENT).asks() == f"asks: {'a' * MAX_ARGUMENT}"
    asked = question(argument="\n" + "a" * (MAX_ARGUMENT + 306))
    shown = f"asks: \\u000a{'a' * (MAX_ARGUMENT - 6)}"
    assert asked.asks() == f"{shown} (+312 characters, palyra node requests B8Q2ZN)"
    assert beginning("\n\n" * 7, 13) == ("\\u000a\\u000a", 12)
    assert beginning("\u202e", 6) == ("\\u202e", 0)


class Counted(str):
    """A text that says how much of it is looked at."""

    looked_at = 0

    def __getitem__(self, where: Any) -> str:
        self.looked_at = max(self.looked_at, where.stop)
        return super().__getitem__(where)

    def isprintable(self) -> bool:
        raise AssertionError("all of it is looked at")


def test_a_long_text_costs_what_is_shown() -> None:
    """A gateway may send millions of characters, and the node host has other things to do."""
    text = Counted("\u202e" * 1_000)
    assert beginning(text, 12) == ("\\u202e" * 2, 998)
    assert text.looked_at == 13


def test_a_denial() -> None:
    """It names who said it."""
    said = Answer.denied("ana at the terminal")
    assert not said.allowed
    assert (said.choice, said.decided_by) == ("no", "ana at the terminal")
    assert (said.code, said.sentence) == ("mediation_denied", "")
