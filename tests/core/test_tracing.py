"""Tests of :mod:`palyra.core.tracing`."""

from __future__ import annotations

import contextvars

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra.core.tracing import MAX_TRACEPARENT, checked_traceparent, traceparent, under

GOOD = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_traceparent_is_taken_as_it_is() -> None:
    """The example of the specification, and one of a later version that has the same form."""
    assert checked_traceparent(GOOD) == GOOD
    assert checked_traceparent("01" + GOOD[2:]) == "01" + GOOD[2:]
    assert len(GOOD) == MAX_TRACEPARENT


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        GOOD.upper(),
        "ff" + GOOD[2:],
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01",
        GOOD + "-more",
        GOOD + "\n",
        " " + GOOD,
        GOOD.replace("b", "٣"),
        "x" * 10_000,
    ],
)
def test_anything_else_is_nothing(text: str) -> None:
    """Zeroes, another alphabet, what is too long: there is no trace then, and no error."""
    assert checked_traceparent(text) == ""


@given(st.text(max_size=80))
@settings(max_examples=100)
def test_nothing_else_gets_through(text: str) -> None:
    """What comes out is what went in, or nothing."""
    assert checked_traceparent(text) in ("", text)


def test_a_context_ends() -> None:
    """What is begun under a span is part of it, also later; what comes after is not."""
    assert traceparent() == ""
    with under(GOOD):
        begun = contextvars.copy_context()
        assert traceparent() == GOOD
    assert traceparent() == ""
    assert begun.run(traceparent) == GOOD
