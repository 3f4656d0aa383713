"""Clones: two hosts with one identity, as far as certificates betray them (PROTOCOL: Trust)."""

from __future__ import annotations

from collections.abc import Callable

import attrs
from twisted.logger import Logger

from palyra.core.identifiers import DeviceId

QUIET_MS = 600_000
REMEMBERED_MS = 24 * 3_600_000
MAX_REMEMBERED = 256


@attrs.frozen
class Suspicion:
    """A superseded certificate that somebody still uses: when it was seen last, and from where."""

    device_id: DeviceId
    at_ms: int
    address: str


class CloneAlarms:
    """Who used a superseded certificate of late.

    The device itself moved on to a newer one.  Whoever comes with the older one is a copy of its
    files: the device put back from a backup, or somebody else.
    """

    _log = Logger()

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._seen: dict[DeviceId, Suspicion] = {}

    def superseded_used(self, device_id: DeviceId, address: str) -> None:
        """Somebody was refused for a superseded certificate."""
        now_ms = self._now_ms()
        before = self._seen.pop(device_id, None)
        self._seen[device_id] = Suspicion(device_id, now_ms, address)
        if len(self._seen) > MAX_REMEMBERED:
            del self._seen[next(iter(self._seen))]
        if before is None or not 0 <= now_ms - before.at_ms < QUIET_MS:
            self._log.warn(
                "a superseded certificate of {device} was used from {address}: is there a copy of "
                "the device?",
                device=device_id,
                address=address,
            )

    def lately(self) -> list[Suspicion]:
        """Those of the last day, newest first."""
        since_ms = self._now_ms() - REMEMBERED_MS
        return [each for each in reversed(self._seen.values()) if each.at_ms > since_ms]
