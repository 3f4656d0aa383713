"""Tests of :mod:`palyra.node.pause`."""

from __future__ import annotations

from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock

from palyra.node.pause import Pause


class Device:
    """A device that sleeps when the test says so."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.slept_s = 0.0
        self.pause = Pause(self.clock, lambda: self.clock.seconds() + self.slept_s)


def test_it_ends_when_it_said() -> None:
    """And says meanwhile how long it goes on."""
    device = Device()
    over = device.pause.wait(10)
    device.clock.advance(4)
    assert device.pause.left_s == 6 and not over.called
    device.clock.advance(6)
    assert over.called and device.pause.left_s is None


def test_it_is_cut_short() -> None:
    """Never made longer, and not at all where nobody waits."""
    device = Device()
    device.pause.shorten(1)
    over = device.pause.wait(10)
    device.pause.shorten(60)
    assert device.pause.left_s == 10
    device.pause.shorten(2)
    device.pause.shorten(5)
    device.clock.advance(2)
    assert over.called


def test_it_goes_on_while_the_machine_sleeps() -> None:
    """A timer does not: that is mended when somebody looks."""
    device = Device()
    over = device.pause.wait(600)
    device.slept_s = 3600
    assert device.pause.left_s == 0
    device.pause.shorten(600)
    device.clock.advance(0)
    assert over.called


def test_it_is_given_up() -> None:
    """No timer is left, and another one may follow."""
    device = Device()
    failed = device.pause.wait(10)
    failed.cancel()
    failed.addErrback(lambda failure: failure.trap(CancelledError))
    assert not device.clock.getDelayedCalls() and device.pause.left_s is None
    over = device.pause.wait(1)
    device.clock.advance(1)
    assert over.called
