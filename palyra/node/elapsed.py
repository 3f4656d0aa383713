"""The clocks of a node host: time that has passed, and time in which the machine was awake.

A job's run time, a certificate's life and a person's patience go on while a machine sleeps; a
process that did not run then is not to be blamed for it.  Neither clock follows the time of day.

=========  =========================  ===============================
platform   time asleep counts         it does not
=========  =========================  ===============================
Linux      CLOCK_BOOTTIME             CLOCK_MONOTONIC
macOS      CLOCK_MONOTONIC_RAW        CLOCK_UPTIME_RAW
Windows    ``time.monotonic``         QueryUnbiasedInterruptTime
others     unknown: ``time.monotonic`` is both, and a sleep is not seen
=========  =========================  ===============================
"""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import attrs

_WINDOWS_TICKS_PER_S = 10_000_000


@attrs.frozen
class Clocks:
    """Two clocks in seconds, from moments of their own; only differences mean anything."""

    elapsed_s: Callable[[], float]
    """All time that passes."""
    awake_s: Callable[[], float]
    """It stands still while the machine sleeps."""


def clocks_of(platform: str, *, time: Any = time, windll: Any = None) -> Clocks:
    """The clocks of a platform (``sys.platform``), as far as this machine has them.

    ``time`` and ``windll`` are the modules to take them from.
    """
    if platform.startswith("linux"):
        return _pair(time, "CLOCK_BOOTTIME", "CLOCK_MONOTONIC")
    if platform == "darwin":
        return _pair(time, "CLOCK_MONOTONIC_RAW", "CLOCK_UPTIME_RAW")
    if platform == "win32":
        return Clocks(time.monotonic, partial(_unbiased_s, windll or _windll()))
    return _one(time)


def _one(time: Any) -> Clocks:
    return Clocks(time.monotonic, time.monotonic)


def _pair(time: Any, elapsed: str, awake: str) -> Clocks:
    """Two of the system's clocks; a sandbox may refuse to show one."""
    try:
        clocks = [partial(time.clock_gettime, getattr(time, name)) for name in (elapsed, awake)]
        for clock in clocks:
            clock()
    except (AttributeError, OSError):
        return _one(time)
    return Clocks(*clocks)


def _unbiased_s(windll: Any) -> float:
    ticks = ctypes.c_ulonglong()
    windll.kernel32.QueryUnbiasedInterruptTime(ctypes.byref(ticks))
    return ticks.value / _WINDOWS_TICKS_PER_S


def _windll() -> Any:
    return getattr(ctypes, "windll")  # noqa: B009  # it is there on Windows alone


CLOCKS = clocks_of(sys.platform)
"""Those of this machine."""
elapsed_s = CLOCKS.elapsed_s
awake_s = CLOCKS.awake_s
