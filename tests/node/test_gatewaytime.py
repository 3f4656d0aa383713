"""Tests of :mod:`palyra.node.gatewaytime`."""

from __future__ import annotations

from palyra.node.gatewaytime import TELL_MS, GatewayTime
from tests.node.fakes import NOW_MS


class Device:
    """A clock that a person may set."""

    def __init__(self) -> None:
        self.now_ms = NOW_MS
        self.told: list[int] = []
        self.time = GatewayTime(lambda: self.now_ms, self.told.append)


def test_before_the_gateway_was_heard() -> None:
    """There is only this clock; a gateway that does not say changes nothing."""
    device = Device()
    device.time.heard(0)
    assert device.time.now_ms() == NOW_MS
    assert device.told == []


def test_a_clock_that_is_off() -> None:
    """Dates are compared with the gateway's time, whatever this clock says."""
    device = Device()
    device.time.heard(NOW_MS + 86_400_000)
    device.now_ms += 5
    assert device.time.now_ms() == NOW_MS + 86_400_005
    assert device.told == [-86_400_000]


def test_it_is_told_once_a_change() -> None:
    """Not at every session; again when it moved by more than a minute, and after it was right."""
    device = Device()
    for ahead_ms in (TELL_MS, -TELL_MS, 600_000, 610_000, 700_000, 0, 700_000):
        device.time.heard(NOW_MS - ahead_ms)
    assert device.told == [600_000, 700_000, 700_000]
