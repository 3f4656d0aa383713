"""Tests of :mod:`palyra.node.patience`."""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from palyra.node.patience import Patience


class Device:
    """A device that sleeps when the test says so, and an answer that is waited for."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.slept_s = 0.0
        self.patience = Patience(self.clock, lambda: self.clock.seconds() + self.slept_s)
        self.waiting: Deferred[str] = Deferred()
        self.patience.limit(self.waiting, 120)
        self.ended: list[object] = []
        self.waiting.addBoth(self._ended)

    def _ended(self, result: str | Failure) -> None:
        self.ended.append(type(result.value) if isinstance(result, Failure) else result)


def test_an_answer_in_time() -> None:
    """Is the answer."""
    device = Device()
    device.waiting.callback("yes")
    assert device.ended == ["yes"] and not device.clock.getDelayedCalls()
    device.patience.look()


def test_no_answer() -> None:
    """Ends at the limit."""
    device = Device()
    device.clock.advance(120)
    assert device.ended == [TimeoutError]


@pytest.mark.parametrize(("slept_s", "ended"), [(100, []), (3600, [TimeoutError])])
def test_an_answer_that_was_slept_over(slept_s: float, ended: list[object]) -> None:
    """It ends when somebody looks, where its time is over by all that passed."""
    device = Device()
    device.clock.advance(10)
    device.slept_s = slept_s
    device.patience.look()
    device.clock.advance(0)
    assert device.ended == ended
    device.waiting.cancel()
    assert not device.clock.getDelayedCalls()


def test_somebody_who_gives_up_is_no_limit() -> None:
    """It is told as what it was."""
    device = Device()
    device.waiting.cancel()
    assert device.ended == [CancelledError] and not device.clock.getDelayedCalls()
