"""Promises of grants that only old records show, or any order of what is said."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra.core.devices import AnnouncedCapability, Device, DeviceChange, Risk
from palyra.errors import GrantOutdated, Malformed
from palyra.store import grants
from tests.store.samples import ECHO, a_code, a_device, a_request

HEALTH = AnnouncedCapability("system.health")
VERSION = AnnouncedCapability("system.version")


def test_what_an_older_version_did_not_grant_stays_ungranted() -> None:
    """Its records say what a device announced, not what was withheld: both come to the same."""
    old = attrs.evolve(a_device(a_request("lab-7", a_code())), capabilities=(ECHO, HEALTH))
    assert (old.grants, old.withheld) == (frozenset({"echo"}), frozenset())
    now = grants.announced(old, (ECHO, HEALTH, VERSION))
    assert now.grants == {"echo", VERSION.name}
    assert now.withheld == {HEALTH.name}
    granted = grants.regranted(old, DeviceChange(old.device_id, grant=frozenset({HEALTH.name})))
    assert granted.grants == {"echo", HEALTH.name}


NAMES = st.sampled_from(["echo", "system.health", "acme.lamp", "acme.shell"])
OFFERS = st.builds(
    AnnouncedCapability,
    name=NAMES,
    available=st.booleans(),
    risk=st.sampled_from(["low", "medium", "high"]),
    contract=st.sampled_from(["", "A", "B"]),
)
CATALOGS = st.lists(OFFERS, max_size=4, unique_by=lambda each: each.name).map(tuple)
WORDS = st.one_of(
    st.builds(lambda name: {"grant": frozenset({name})}, NAMES),
    st.builds(lambda name: {"withhold": frozenset({name})}, NAMES),
    st.builds(lambda risk: {"grant_risk": risk}, st.sampled_from(Risk)),
)


def of_operator(device: Device, word: dict[str, Any]) -> Device:
    """The device after an operator's word, where that may be said."""
    try:
        return grants.regranted(device, DeviceChange(device.device_id, **word))
    except Malformed:
        return device


def check_announced(before: Device, after: Device) -> None:
    """A grant is for another contract only where it would be given for that by itself."""
    for name in before.contracts.keys() & after.contracts.keys():
        now = after.capability(name)
        if before.contracts[name] != after.contracts[name]:
            assert now is not None and before.grant_risk.covers(now.granted_as)


@given(st.lists(st.one_of(CATALOGS, WORDS), max_size=12))
@settings(max_examples=100, deadline=None)
def test_nothing_runs_under_a_contract_that_nobody_granted(said: list[Any]) -> None:
    """Whatever a device announces in whatever order: what may be run is what its grant was given
    for, and what is not granted is withheld."""
    device = attrs.evolve(a_device(a_request("lab-7", a_code())), grants=frozenset())
    for each in said:
        if isinstance(each, dict):
            device = of_operator(device, each)
        else:
            before, device = device, grants.announced(device, each)
            check_announced(before, device)
        for item in device.capabilities:
            if item.available and item.name in device.grants:
                assert item.contract == device.contracts.get(item.name, "")
        assert device.suspended <= device.withheld
        assert not device.grants & device.withheld


LAMP = AnnouncedCapability("acme.lamp", risk="medium", contract="A")
BROKEN = AnnouncedCapability("acme.lamp", risk="medium", available=False, fault="It is broken.")


def granted(*offered: AnnouncedCapability) -> Device:
    """A device with what it offers, all granted."""
    device = attrs.evolve(a_device(a_request("lab-7", a_code())), capabilities=offered)
    names = frozenset(each.name for each in offered)
    return grants.regranted(device, DeviceChange(device.device_id, grant=names))


def test_what_was_granted_while_it_was_broken_may_not_turn_out_riskier() -> None:
    """Nobody could see what it is; what is as was said of it is what was meant."""
    assert grants.announced(granted(BROKEN), (LAMP,)).contracts == {LAMP.name: "A"}
    risky = attrs.evolve(LAMP, risk="high")
    device = grants.announced(granted(BROKEN), (risky,))
    assert device.suspended == {LAMP.name} and LAMP.name not in device.grants
    for each in (BROKEN, risky, attrs.evolve(risky, contract="")):
        device = grants.announced(device, (each,))
        assert device.suspended == {LAMP.name}
    device = grants.announced(device, (risky,))
    again = grants.regranted(device, DeviceChange(device.device_id, grant=frozenset({LAMP.name})))
    assert again.grants == {LAMP.name, "echo"} and again.contracts == {LAMP.name: "A"}


def test_a_grant_is_for_what_was_shown() -> None:
    """Not for what the device calls so by the time that the operator's word is on record."""
    device = grants.announced(granted(LAMP), (attrs.evolve(LAMP, contract="B"),))
    for seen, now in (("A", device), ("B", attrs.evolve(device, capabilities=()))):
        word = DeviceChange(
            device.device_id, grant=frozenset({LAMP.name}), contracts={LAMP.name: seen}
        )
        with pytest.raises(GrantOutdated):
            grants.regranted(now, word)
    again = grants.regranted(device, attrs.evolve(word, contracts={LAMP.name: "B"}))
    assert again.contracts == {LAMP.name: "B"} and LAMP.name in again.grants


def test_an_older_node_host_keeps_what_is_granted_by_itself() -> None:
    """It names no contracts; where it is put back, the usual capabilities go on, and what was
    granted for a contract waits."""
    echo = attrs.evolve(ECHO, contract="E")
    device = granted(echo, LAMP)
    back = grants.announced(device, (ECHO, attrs.evolve(LAMP, contract="")))
    assert back.grants == {"echo"} and back.suspended == {LAMP.name}
    assert back.contracts == {LAMP.name: "A"}
    assert grants.announced(back, (echo, LAMP)).contracts == device.contracts
