"""Tests of :mod:`palyra.node.mediation`."""

from __future__ import annotations

from palyra.node.mediation import MAX_ARGUMENT, Answer, Question


def question(**given: str) -> Question:
    """The question, with other facts."""
    return Question(
        attempt_id="A",
        requested_by=given.get("who", "ana"),
        capability="x.y",
        risk="low",
        argument=given.get("argument", '{"a":1}'),
        job_id=given.get("job_id", "01M80NKQCNB8Q2ZNZT9B3FVHD0"),
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
    """How much of it, as it is shown, and where all of it can be seen."""
    assert question(argument="a" * MAX_ARGUMENT).asks() == f"asks: {'a' * MAX_ARGUMENT}"
    asked = question(argument="\n" + "a" * (MAX_ARGUMENT + 306))
    shown = f"asks: \\u000a{'a' * (MAX_ARGUMENT - 6)}"
    assert asked.asks() == f"{shown} (+312 characters, palyra node requests B8Q2ZN)"


def test_a_question_without_a_job() -> None:
    """A gateway of version 1 names none: the attempt's id answers it."""
    assert question(job_id="").question_id == "A"
    assert question().question_id == "01M80NKQCNB8Q2ZNZT9B3FVHD0"


def test_a_denial() -> None:
    """It names who said it."""
    said = Answer.denied("ana at the terminal")
    assert not said.allowed
    assert (said.choice, said.decided_by) == ("no", "ana at the terminal")
    assert (said.code, said.sentence) == ("mediation_denied", "The person at the device said no.")
