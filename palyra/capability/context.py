"""What a handler is told about its job: whose device, how long, whether anyone still waits."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Any

import attrs

MAX_PROGRESS_TEXT = 1024
PROGRESS_PER_SECOND = 10
_MIN_GAP_S = 1 / PROGRESS_PER_SECOND

ProgressSink = Callable[[float | None, str], None]
"""Takes a fraction (0 to 1, None where unknown) and a text; called in the handler's thread."""


@attrs.frozen(slots=True)
class DeviceFacts:
    """What a handler may know of the device it runs on; nothing in it is secret."""

    device_id: str
    identity_fingerprint: str
    grpc_url: str
    paired_at_unix_ms: int
    poll_interval_ms: int
    name: str


def no_progress(fraction: float | None, text: str) -> None:
    """The sink of a job whose progress nobody follows."""


class CapabilityContext:
    """Handed to every handler.  Safe to use from any thread; silent once the run has ended.

    ``deadline_s`` is on ``clock``, a monotonic clock in seconds: the run time that the caller
    named, or the capability's ``timeout_s``, from when the job was sent or a person said yes.
    """

    __slots__ = (
        "_cancelled", "_clock", "_ended", "_last", "_lock", "_sink",
        "deadline_s", "device", "job_id", "settings",
    )  # fmt: skip

    def __init__(
        self,
        job_id: str,
        device: DeviceFacts,
        *,
        deadline_s: float,
        clock: Callable[[], float] = time.monotonic,
        on_progress: ProgressSink = no_progress,
        settings: Any = None,
    ) -> None:
        """``settings`` is what the device's owner configured, of the capability's
        ``settings_type``; None where it has none."""
        self.job_id = job_id
        self.settings = settings
        self.device = device
        self.deadline_s = deadline_s
        self._clock = clock
        self._sink = on_progress
        self._lock = threading.Lock()
        self._last = -math.inf
        self._cancelled = False
        self._ended = False

    @property
    def cancelled(self) -> bool:
        """Whether the job was cancelled or ran out of time; a blocking handler looks here."""
        return self._cancelled or self._clock() >= self.deadline_s

    def remaining_s(self) -> float:
        """Seconds until the deadline, never below zero."""
        return max(0.0, self.deadline_s - self._clock())

    def progress(self, fraction: float | None, text: str = "") -> None:
        """Tell whoever follows the job how far it is.

        ``fraction`` is clamped to 0..1 (NaN counts as unknown); ``text`` is cut to 1 KiB of UTF-8.
        Reports that follow the last one by less than a tenth of a second are dropped.
        """
        now = self._clock()
        with self._lock:
            if self._ended or now - self._last < _MIN_GAP_S:
                return
            self._last = now
            self._sink(_clamped(fraction), _bounded(text))

    def _interrupt(self) -> None:
        """Say that nobody wants the answer any more."""
        self._cancelled = True

    def _end(self) -> None:
        """Make late progress of a thread that was given up silent."""
        with self._lock:
            self._ended = True


def _clamped(fraction: float | None) -> float | None:
    if fraction is None or math.isnan(fraction):
        return None
    return min(1.0, max(0.0, float(fraction)))


def _bounded(text: str) -> str:
    raw = text.encode("utf-8", "replace")
    return raw[:MAX_PROGRESS_TEXT].decode("utf-8", "ignore")
