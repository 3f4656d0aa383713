"""Which capabilities of a device are granted, the same for every store.

What was seen once is in ``grants`` or ``withheld``; only what was never seen is granted by itself,
up to the device's ``grant_risk``.  Pure functions, as in :mod:`palyra.store.rules`.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from palyra.core.devices import (
    INVOKE_OTHERS,
    MAX_CAPABILITIES,
    AnnouncedCapability,
    ClientKind,
    Device,
    DeviceChange,
    clean_text,
)
from palyra.errors import Malformed

MAX_SEEN = 4 * MAX_CAPABILITIES
"""Names that are kept of a device.  Once it has shown so many, nothing is granted by itself any
more: a device that invents names can neither fill the store nor make itself forget a no."""


def approved(device: Device, kept: Device | None) -> Device:
    """The device with what was approved: what it announced and was not granted is withheld.

    ``kept``: the device as it was with the same identity key; what was withheld stays so.
    """
    seen = _names(device.capabilities) | (kept.withheld if kept else frozenset())
    return attrs.evolve(device, withheld=seen - device.grants)


def announced(device: Device, capabilities: tuple[AnnouncedCapability, ...]) -> Device:
    """The device after it announced these capabilities."""
    known = _seen(device)
    room = max(0, MAX_SEEN - len(known))
    new = [each for each in capabilities if each.name not in known][:room]
    granted = frozenset(each.name for each in new if _is_given(device, each))
    return attrs.evolve(
        device,
        capabilities=capabilities,
        grants=device.grants | granted,
        withheld=(known | _names(new)) - device.grants - granted,
    )


def regranted(device: Device, change: DeviceChange) -> Device:
    """The device with what an operator grants or withholds; Malformed where that cannot be."""
    for name in sorted(change.grant):
        if problem := _problem(device, change, name):
            raise Malformed("grants", f"{clean_text(name, 64)} {problem}")
    return attrs.evolve(
        device,
        grants=(device.grants | change.grant) - change.withhold,
        withheld=(device.withheld | change.withhold) - change.grant,
        grant_risk=device.grant_risk if change.grant_risk is None else change.grant_risk,
    )


def _problem(device: Device, change: DeviceChange, name: str) -> str:
    if name in change.withhold:
        return "is both granted and withheld"
    if name == INVOKE_OTHERS:
        is_node = device.client_kind is ClientKind.NODE
        return "is for clients of kind cli or desktop" if is_node else ""
    return "" if name in _seen(device) else f"was never announced by {device.name}"


def _is_given(device: Device, item: AnnouncedCapability) -> bool:
    # What a device calls its capability must not give it power over other devices.
    return item.name != INVOKE_OTHERS and device.grant_risk.covers(item.granted_as)


def _seen(device: Device) -> frozenset[str]:
    # Of a device that an older version kept, nothing is in withheld yet.
    return device.grants | device.withheld | _names(device.capabilities)


def _names(capabilities: Sequence[AnnouncedCapability]) -> frozenset[str]:
    return frozenset(each.name for each in capabilities)
