"""Presence: online, stale and offline by what is heard, and never stuck."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra.core.devices import PresenceState
from palyra.core.events import PresenceChanged
from palyra.core.identifiers import DeviceId
from palyra.core.presence import (
    HEARTBEAT_MS,
    TIMES,
    VERSION_ONE_TIMES,
    Presence,
    PresenceInputs,
    PresenceTimes,
    presence_machine,
    time_passed,
)

from .machines import check_pair, every_pair, input_names

S = PresenceState
DEVICE = DeviceId("01J9ZC5QXG0123456789ABCDEF")
ARGUMENTS: dict[str, tuple[object, ...]] = {
    "registered": (5,),
    "heard": (5,),
    "closed": (5,),
    "fell_silent": (5,),
    "stayed_silent": (),
    "gone": (5,),
}
LEGAL = {
    (S.ONLINE, "registered"): S.ONLINE,
    (S.STALE, "registered"): S.ONLINE,
    (S.OFFLINE, "registered"): S.ONLINE,
    (S.ONLINE, "heard"): S.ONLINE,
    (S.STALE, "heard"): S.ONLINE,
    (S.ONLINE, "closed"): S.ONLINE,
    (S.STALE, "closed"): S.STALE,
    (S.OFFLINE, "closed"): S.OFFLINE,
    (S.ONLINE, "fell_silent"): S.STALE,
    (S.STALE, "stayed_silent"): S.STALE,
    (S.ONLINE, "gone"): S.OFFLINE,
    (S.STALE, "gone"): S.OFFLINE,
}


def online(times: PresenceTimes = TIMES) -> tuple[Presence, PresenceInputs]:
    presence = Presence(DEVICE, times)
    machine = presence_machine(presence)
    machine.registered(0)
    presence.take_events()
    return presence, machine


def test_the_table_is_complete() -> None:
    """Every input of a presence is in the table."""
    assert set(ARGUMENTS) == input_names(PresenceInputs)


@pytest.mark.parametrize(("state", "name"), every_pair(PresenceState, PresenceInputs))
def test_every_pair(state: PresenceState, name: str) -> None:
    """Each input takes a presence where the table says, or is illegal in that state."""
    presence = Presence(DEVICE, state=state)
    check_pair(presence, presence_machine, name, ARGUMENTS[name], LEGAL)
    changed = [(event.was, event.now) for event in presence.take_events()]
    assert changed == ([] if presence.state is state else [(state, presence.state)])


def test_registering_brings_a_device_online() -> None:
    """A device starts offline without a deadline; registering it is told as an event."""
    presence = Presence(DEVICE)
    assert presence.next_deadline_ms() is None
    presence_machine(presence).registered(7)
    assert presence.take_events() == [PresenceChanged(DEVICE, S.OFFLINE, S.ONLINE, 7)]
    assert presence.take_events() == []
    assert presence.next_deadline_ms() == 7 + 25_000


def test_heartbeats_keep_a_device_online() -> None:
    """A heartbeat in time moves the deadline and tells nobody anything."""
    presence, machine = online()
    for now_ms in range(HEARTBEAT_MS, 10 * HEARTBEAT_MS, HEARTBEAT_MS):
        time_passed(machine, presence, now_ms)
        machine.heard(now_ms)
        assert presence.next_deadline_ms() == now_ms + 25_000
    assert presence.take_events() == []


@pytest.mark.parametrize(
    ("times", "stale_ms", "close_ms", "offline_ms"),
    [(TIMES, 25_000, 40_000, 50_000), (VERSION_ONE_TIMES, 60_000, 290_000, 300_000)],
)
def test_silence(times: PresenceTimes, stale_ms: int, close_ms: int, offline_ms: int) -> None:
    """Silence makes a device stale, then its session is to be closed, then it is offline."""
    presence, machine = online(times)
    seen = []
    while (deadline := presence.next_deadline_ms()) is not None:
        time_passed(machine, presence, deadline - 1)
        assert presence.next_deadline_ms() == deadline
        time_passed(machine, presence, deadline)
        seen.append((deadline, presence.state, presence.wants_close))
    assert seen == [
        (stale_ms, S.STALE, False),
        (close_ms, S.STALE, True),
        (offline_ms, S.OFFLINE, True),
    ]
    machine.closed(offline_ms + 1)
    assert not presence.wants_close
    time_passed(machine, presence, offline_ms + 2)
    assert presence.state is S.OFFLINE


def test_a_closed_session_lingers() -> None:
    """A device whose session closed is offline after ten seconds, counted from the first close."""
    presence, machine = online()
    machine.closed(1_000)
    machine.closed(9_000)
    time_passed(machine, presence, 10_999)
    assert presence.state is S.ONLINE
    time_passed(machine, presence, 11_000)
    assert presence.take_events() == [PresenceChanged(DEVICE, S.ONLINE, S.OFFLINE, 11_000)]


def test_coming_back_in_time_is_no_absence() -> None:
    """A device that registers again within the ten seconds never was offline."""
    presence, machine = online()
    machine.closed(1_000)
    machine.registered(10_000)
    time_passed(machine, presence, 11_000)
    assert presence.take_events() == []


def test_a_stale_device_that_is_heard_is_online() -> None:
    """Any message ends staleness, and takes back the wish to close."""
    presence, machine = online()
    time_passed(machine, presence, 45_000)
    assert presence.wants_close
    machine.heard(45_001)
    assert not presence.wants_close
    assert [event.now for event in presence.take_events()] == [S.STALE, S.ONLINE]


@pytest.mark.parametrize("values", [(0, 1, 1), (2, 1, 1), (1, 1, -1)])
def test_times_must_be_in_order(values: tuple[int, int, int]) -> None:
    """A session cannot be closed for silence before it is stale."""
    with pytest.raises(ValueError, match="stale_ms"):
        PresenceTimes(*values)


events = st.tuples(
    st.sampled_from(["registered", "heard", "closed", "wait"]), st.integers(0, 60_000)
)


@settings(max_examples=100)
@given(st.lists(events, max_size=60), st.sampled_from([TIMES, VERSION_ONE_TIMES]))
def test_any_sequence_keeps_the_promises(
    sequence: list[tuple[str, int]], times: PresenceTimes
) -> None:
    """After any events a deadline lies ahead or the device is offline, and events chain up."""
    presence, now_ms, state = Presence(DEVICE, times), 0, S.OFFLINE
    machine = presence_machine(presence)
    for what, wait_ms in sequence:
        now_ms += wait_ms
        time_passed(machine, presence, now_ms)
        if what != "wait" and not (what == "heard" and presence.state is S.OFFLINE):
            getattr(machine, what)(now_ms)
            time_passed(machine, presence, now_ms)
        deadline = presence.next_deadline_ms()
        assert (deadline is None) == (presence.state is S.OFFLINE)
        assert deadline is None or deadline > now_ms
        silent = now_ms - presence.last_heard_ms >= times.stale_ms
        assert not (presence.state is S.ONLINE and silent)
        for event in presence.take_events():
            assert event.was is state
            assert event.now is not state
            state = event.now
        assert state is presence.state
