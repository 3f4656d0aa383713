"""Tests of :mod:`palyra.node.elapsed`."""

from __future__ import annotations

import ctypes
import time
from types import SimpleNamespace
from typing import Any

import pytest

from palyra.node.elapsed import CLOCKS, clocks_of


class FakeTime(SimpleNamespace):
    """A ``time`` module whose clocks are named, and say who they are."""

    def clock_gettime(self, clock: float) -> float:
        if clock < 0:
            raise OSError(1, "Operation not permitted")
        return clock

    def monotonic(self) -> float:
        return 1.0


class FakeKernel:
    """``kernel32`` of a machine that was awake for 42 seconds."""

    def QueryUnbiasedInterruptTime(self, into: Any) -> int:
        ctypes.cast(into, ctypes.POINTER(ctypes.c_ulonglong))[0] = 420_000_000
        return 1


@pytest.mark.parametrize(
    ("platform", "given", "elapsed_s", "awake_s"),
    [
        ("linux", {"CLOCK_BOOTTIME": 9.0, "CLOCK_MONOTONIC": 4.0}, 9.0, 4.0),
        ("linux", {"CLOCK_MONOTONIC": 4.0}, 1.0, 1.0),
        ("linux", {"CLOCK_BOOTTIME": -1.0, "CLOCK_MONOTONIC": 4.0}, 1.0, 1.0),
        ("darwin", {"CLOCK_MONOTONIC_RAW": 9.0, "CLOCK_UPTIME_RAW": 4.0}, 9.0, 4.0),
        ("darwin", {"CLOCK_UPTIME_RAW": 4.0}, 1.0, 1.0),
        ("win32", {}, 1.0, 42.0),
        ("freebsd14", {"CLOCK_MONOTONIC": 4.0}, 1.0, 1.0),
    ],
)
def test_every_platform_has_its_clocks(
    platform: str, given: dict[str, float], elapsed_s: float, awake_s: float
) -> None:
    """Where one of two is missing or forbidden both are the same one."""
    windll = SimpleNamespace(kernel32=FakeKernel())
    clocks = clocks_of(platform, time=FakeTime(**given), windll=windll)
    assert (clocks.elapsed_s(), clocks.awake_s()) == (elapsed_s, awake_s)


def test_those_of_this_machine_go_forward() -> None:
    """And as fast as time does, while nobody sleeps."""
    before_s, awake_s, now_s = CLOCKS.elapsed_s(), CLOCKS.awake_s(), time.monotonic()
    while time.monotonic() <= now_s:
        pass
    assert CLOCKS.elapsed_s() > before_s and CLOCKS.awake_s() > awake_s
