"""The presence board: which devices are online, stale or offline right now."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import cast

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from palyra.core.devices import PresenceState
from palyra.core.identifiers import DeviceId
from palyra.core.presence import (
    HEARTBEAT_MS,
    TIMES,
    VERSION_ONE_TIMES,
    Presence,
    PresenceInputs,
    presence_machine,
    time_passed,
)
from palyra.gateway.wheel import TimerWheel

LINGER_MS = TIMES.linger_ms
HEARD_AGAIN_MS = 500
"""A device that says many things in a moment is heard once: nothing is decided by less."""


class PresenceBoard:
    """One machine for each device that was seen since the start; a heartbeat costs O(1).

    ``elapsed_ms`` is a clock that never runs backwards; ``now_ms`` is the wall clock, for what
    people are shown.
    """

    heartbeat_ms = HEARTBEAT_MS
    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        *,
        elapsed_ms: Callable[[], int],
        now_ms: Callable[[], int],
        silent: Callable[[DeviceId], object],
    ) -> None:
        self._elapsed_ms = elapsed_ms
        self._now_ms = now_ms
        self._silent = silent
        self.watchers: list[Callable[[DeviceId], object]] = []
        """Hear of each device whose state is another one."""
        self._machines: dict[DeviceId, tuple[PresenceInputs, Presence]] = {}
        self._heard: dict[DeviceId, int] = {}
        self._unsaved: set[DeviceId] = set()
        self._wheel = TimerWheel(clock, elapsed_ms, self._due, tick_ms=500)

    def start(self) -> None:
        """Begin to notice silence."""
        self._wheel.start()

    def stop(self) -> None:
        """Stop noticing."""
        self._wheel.stop()

    def registered(self, device_id: DeviceId, *, version_one: bool) -> None:
        """A session of the device began."""
        times = VERSION_ONE_TIMES if version_one else TIMES
        presence = Presence(device_id, times)
        known = self._machines.get(device_id)
        if known is not None:
            presence.state = known[1].state
        machine = presence_machine(presence)
        self._machines[device_id] = (machine, presence)
        machine.registered(self._elapsed_ms())
        self._saw(device_id)
        self._settle(presence)

    def heard(self, device_id: DeviceId) -> None:
        """The device said something on its session."""
        machine, presence = self._machines[device_id]
        now_ms = self._elapsed_ms()
        if presence.state is PresenceState.OFFLINE or (
            presence.state is PresenceState.ONLINE
            and 0 <= now_ms - presence.last_heard_ms < HEARD_AGAIN_MS
        ):
            return
        machine.heard(now_ms)
        self._saw(device_id)

    def closed(self, device_id: DeviceId) -> None:
        """The device's session ended."""
        machine, presence = self._machines[device_id]
        machine.closed(self._elapsed_ms())
        self._settle(presence)

    def expelled(self, device_id: DeviceId) -> None:
        """The device's trust was taken away: it is offline now, not after a while."""
        known = self._machines.get(device_id)
        if known is not None and known[1].state is not PresenceState.OFFLINE:
            machine, presence = known
            machine.closed(self._elapsed_ms())
            machine.gone(self._elapsed_ms())
            self._settle(presence)

    def state(self, device_id: DeviceId) -> PresenceState:
        """How the device is right now."""
        known = self._machines.get(device_id)
        return known[1].state if known is not None else PresenceState.OFFLINE

    def last_heard_ms(self, device_id: DeviceId) -> int | None:
        """When the device was last heard since the start (Unix ms)."""
        return self._heard.get(device_id)

    def take_heard(self) -> dict[DeviceId, int]:
        """What was heard since the last call, for the store."""
        heard = {device_id: self._heard[device_id] for device_id in self._unsaved}
        self._unsaved.clear()
        return heard

    def put_back(self, heard: Mapping[DeviceId, int]) -> None:
        """The store could not keep them: they are due again."""
        self._unsaved.update(heard)

    def _saw(self, device_id: DeviceId) -> None:
        self._heard[device_id] = self._now_ms()
        self._unsaved.add(device_id)

    def _due(self, key: Hashable, now_ms: int) -> None:
        machine, presence = self._machines[cast(DeviceId, key)]
        time_passed(machine, presence, now_ms)
        wants_close = presence.wants_close
        self._settle(presence)
        if wants_close:
            self._silent(presence.device_id)

    def _settle(self, presence: Presence) -> None:
        for event in presence.take_events():
            self._log.info("{device} is {state}", device=event.device_id, state=event.now.value)
            for watcher in self.watchers:
                watcher(event.device_id)
        deadline = presence.next_deadline_ms()
        if deadline is not None:
            self._wheel.set(presence.device_id, deadline)
