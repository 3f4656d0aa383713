"""The context: remaining time, and progress that is bounded whatever a handler does."""

from __future__ import annotations

import pytest

from palyra.capability import CapabilityContext, DeviceFacts
from palyra.capability.context import MAX_PROGRESS_TEXT

DEVICE = DeviceFacts("d", "f", "u", 0, 0, "pi")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Heard(list[tuple[float | None, str]]):
    def __call__(self, fraction: float | None, text: str) -> None:
        self.append((fraction, text))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def context(clock: Clock, heard: Heard) -> CapabilityContext:
    return CapabilityContext("j", DEVICE, deadline_s=110.0, clock=clock, on_progress=heard)


def test_remaining_never_negative(context: CapabilityContext, clock: Clock) -> None:
    """remaining_s counts down to zero and stays there."""
    assert context.remaining_s() == 10.0
    clock.now = 200.0
    assert context.remaining_s() == 0.0


def test_progress_rate(context: CapabilityContext, clock: Clock, heard: Heard) -> None:
    """At most ten reports a second reach the follower."""
    for _ in range(1000):
        context.progress(0.5)
        clock.now += 0.01
    assert 90 <= len(heard) <= 100


def test_progress_text_is_cut_between_characters(context: CapabilityContext, heard: Heard) -> None:
    """A text is at most 1 KiB of UTF-8 and stays valid."""
    context.progress(None, "x" + "é" * MAX_PROGRESS_TEXT)
    text = heard[0][1]
    assert len(text.encode()) <= MAX_PROGRESS_TEXT
    assert set(text[1:]) == {"é"}


@pytest.mark.parametrize(
    ("given", "told"), [(2.0, 1.0), (-1, 0.0), (float("nan"), None), (None, None), (0.25, 0.25)]
)
def test_fraction_is_clamped(
    context: CapabilityContext, heard: Heard, given: float | None, told: float | None
) -> None:
    """A follower sees a fraction of 0 to 1 or none."""
    context.progress(given)
    assert heard == [(told, "")]


def test_silent_after_the_end(context: CapabilityContext, heard: Heard) -> None:
    """A handler that was given up cannot report progress of a finished job."""
    context._end()
    context.progress(0.5)
    assert heard == []


def test_the_end_of_time_is_seen_without_being_told(
    clock: Clock, context: CapabilityContext
) -> None:
    """A blocking handler, on whose loop no timer runs, sees that its time is over."""
    clock.now = 109.9
    assert not context.cancelled
    clock.now = 110.0
    assert context.cancelled
