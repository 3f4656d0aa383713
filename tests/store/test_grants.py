"""Promises of grants that only old records show."""

from __future__ import annotations

import attrs

from palyra.core.devices import AnnouncedCapability, DeviceChange
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
