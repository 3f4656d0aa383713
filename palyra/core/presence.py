"""Presence: a device is online, stale or offline by what is heard of its session.

Times are milliseconds of one clock that never runs backwards; they are never stored.
"""

from __future__ import annotations

from typing import Protocol

import attrs
from automat import TypeMachineBuilder

from palyra.core.devices import PresenceState
from palyra.core.events import PresenceChanged
from palyra.core.identifiers import DeviceId

HEARTBEAT_MS = 15_000


@attrs.frozen
class PresenceTimes:
    """How long silence means what.  Defaults are those of a session of our own kind."""

    stale_ms: int = 25_000
    """A device not heard for so long is stale."""
    close_ms: int = 40_000
    """A session not heard for so long is closed by either side."""
    linger_ms: int = 10_000
    """A device whose session closed is offline after so long, unless it registers again."""

    def __attrs_post_init__(self) -> None:
        if not 0 < self.stale_ms <= self.close_ms or self.linger_ms < 0:
            raise ValueError("needs 0 < stale_ms <= close_ms and linger_ms >= 0")


TIMES = PresenceTimes()
VERSION_ONE_TIMES = PresenceTimes(stale_ms=60_000, close_ms=290_000, linger_ms=10_000)
"""A version-1 node that is silent is stale after 60 s and offline after 5 min."""


@attrs.define
class Presence:
    """What is known of one device's session that owns dispatch; created offline."""

    device_id: DeviceId
    times: PresenceTimes = TIMES
    state: PresenceState = PresenceState.OFFLINE
    last_heard_ms: int = 0
    closed_at_ms: int | None = None
    wants_close: bool = False
    """The host must close the session and then tell the machine that it closed."""
    events: list[PresenceChanged] = attrs.Factory(list)

    def take_events(self) -> list[PresenceChanged]:
        """What changed since this was last asked."""
        events, self.events = self.events, []
        return events

    def next_deadline_ms(self) -> int | None:
        """When :func:`time_passed` must be called next; None for a device that is offline.

        Hearing a device only moves this later, so a host may keep the timer it has and look again
        when that fires.
        """
        if self.state is PresenceState.OFFLINE:
            return None
        end = self._end_ms()
        if self.state is PresenceState.STALE:
            return end
        return min(end, self.last_heard_ms + self.times.stale_ms)

    def _end_ms(self) -> int:
        if self.closed_at_ms is None:
            return self.last_heard_ms + self.times.close_ms
        return self.closed_at_ms + self.times.linger_ms


class PresenceInputs(Protocol):
    """What happens to a device's presence."""

    def registered(self, now_ms: int) -> None:
        """RegisterNode succeeded: this session owns dispatch now."""

    def heard(self, now_ms: int) -> None:
        """Anything arrived over that session."""

    def closed(self, now_ms: int) -> None:
        """That session ended, whoever ended it."""

    def fell_silent(self, now_ms: int) -> None:
        """Nothing was heard for ``stale_ms``."""

    def stayed_silent(self) -> None:
        """Nothing was heard for ``close_ms``: the session counts as closed from that moment."""

    def gone(self, now_ms: int) -> None:
        """The session closed ``linger_ms`` ago and none came after it."""


_builder = TypeMachineBuilder(PresenceInputs, Presence)
_online = _builder.state("online")
_stale = _builder.state("stale")
_offline = _builder.state("offline")
_STATES = {
    PresenceState.ONLINE: _online,
    PresenceState.STALE: _stale,
    PresenceState.OFFLINE: _offline,
}


@_online.upon(PresenceInputs.registered).to(_online)
@_stale.upon(PresenceInputs.registered).to(_online)
@_offline.upon(PresenceInputs.registered).to(_online)
@_online.upon(PresenceInputs.heard).to(_online)
@_stale.upon(PresenceInputs.heard).to(_online)
def _hear(_: PresenceInputs, presence: Presence, now_ms: int) -> None:
    presence.last_heard_ms = now_ms
    presence.closed_at_ms = None
    presence.wants_close = False
    _become(presence, PresenceState.ONLINE, now_ms)


@_online.upon(PresenceInputs.closed).loop()
@_stale.upon(PresenceInputs.closed).loop()
@_offline.upon(PresenceInputs.closed).loop()
def _close(_: PresenceInputs, presence: Presence, now_ms: int) -> None:
    presence.wants_close = False
    if presence.closed_at_ms is None:
        presence.closed_at_ms = now_ms


@_online.upon(PresenceInputs.fell_silent).to(_stale)
def _fade(_: PresenceInputs, presence: Presence, now_ms: int) -> None:
    _become(presence, PresenceState.STALE, now_ms)


@_stale.upon(PresenceInputs.stayed_silent).loop()
def _ask_to_close(_: PresenceInputs, presence: Presence) -> None:
    presence.wants_close = True
    presence.closed_at_ms = presence.last_heard_ms + presence.times.close_ms


@_online.upon(PresenceInputs.gone).to(_offline)
@_stale.upon(PresenceInputs.gone).to(_offline)
def _leave(_: PresenceInputs, presence: Presence, now_ms: int) -> None:
    _become(presence, PresenceState.OFFLINE, now_ms)


_machine = _builder.build()


def presence_machine(presence: Presence) -> PresenceInputs:
    """The machine of a device's presence, in the state that is in; hosts keep it.

    Hearing a device that is offline raises ``automat.NoTransition``: it must register first.
    """
    return _machine(presence, _STATES[presence.state])


def time_passed(machine: PresenceInputs, presence: Presence, now_ms: int) -> None:
    """Tell the machine what the passing of time means; nothing where no deadline has passed."""
    times = presence.times
    if presence.state is PresenceState.OFFLINE:
        return
    silence_ms = now_ms - presence.last_heard_ms
    if presence.state is PresenceState.ONLINE and silence_ms >= times.stale_ms:
        machine.fell_silent(now_ms)
    if presence.closed_at_ms is None and silence_ms >= times.close_ms:
        machine.stayed_silent()
    if presence.closed_at_ms is not None and now_ms >= presence.closed_at_ms + times.linger_ms:
        machine.gone(now_ms)


def _become(presence: Presence, state: PresenceState, now_ms: int) -> None:
    if presence.state is not state:
        presence.events.append(PresenceChanged(presence.device_id, presence.state, state, now_ms))
        presence.state = state
