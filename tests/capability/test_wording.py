"""Text from strangers is shown on one line, without controls."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from palyra.capability.wording import exception_sentence, has_unshown, one_line


@settings(max_examples=100)
@given(st.text())
def test_one_line_is_bounded_and_showable(text: str) -> None:
    """Whatever comes in, one short line without control or bidi characters goes out."""
    shown = one_line(text, 20)
    assert len(shown) <= 20
    assert not has_unshown(shown)


def test_sentence_of_an_exception() -> None:
    """Type and first line; an exception that cannot even be printed is named."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert exception_sentence(ValueError("first\nsecond")) == "ValueError: first"
    assert exception_sentence(KeyError()) == "KeyError"
    assert exception_sentence(Mute()) == "Mute"
    assert len(exception_sentence(ValueError("x" * 999))) < 220
