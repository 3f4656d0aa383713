"""Which capabilities of a device are granted, the same for every store.

What was seen once is in ``grants`` or ``withheld``; only what was never seen is granted by itself,
up to the device's ``grant_risk``.  A grant is for a contract: where the device offers another one
under that name, the grant is suspended until the old one is back or an operator grants the new one.
A grant of what named no contract is for the first one that comes, as long as its risk is no higher
than what was known when it was given.
Pure functions, as in :mod:`palyra.store.rules`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
from palyra.errors import GrantOutdated, Malformed

MAX_SEEN = 4 * MAX_CAPABILITIES
"""Names that are kept of a device.  Once it has shown so many, nothing is granted by itself any
more: a device that invents names can neither fill the store nor make itself forget a no."""


def approved(device: Device, kept: Device | None) -> Device:
    """The device with what was approved: what it announced and was not granted is withheld.

    ``kept``: the device as it was with the same identity key; what was withheld stays so.
    """
    seen = _names(device.capabilities) | (kept.withheld if kept else frozenset())
    away = device.grants - _names(device.capabilities)
    before = kept.contracts if kept else {}
    bound = {name: each for name, each in before.items() if each and name in away}
    said = _contracts(device.capabilities, device.grants)
    return attrs.evolve(device, withheld=seen - device.grants, contracts=bound | said)


def announced(device: Device, capabilities: tuple[AnnouncedCapability, ...]) -> Device:
    """The device after it announced these capabilities."""
    known = _seen(device)
    room = max(0, MAX_SEEN - len(known))
    new = [each for each in capabilities if each.name not in known][:room]
    granted = frozenset(each.name for each in new if _is_given(device, each))
    judged = _judged(device, capabilities)
    grants = (device.grants | granted | judged.restored) - judged.suspended
    contracts = {**device.contracts, **judged.bound, **_contracts(new, granted)}
    return attrs.evolve(
        device,
        capabilities=capabilities,
        grants=grants,
        withheld=(known | _names(new)) - grants,
        contracts={name: each for name, each in contracts.items() if each or name not in grants},
    )


def regranted(device: Device, change: DeviceChange) -> Device:
    """The device with what an operator grants or withholds.

    Malformed where that cannot be, GrantOutdated where the operator saw something else.
    """
    for name in sorted(change.grant):
        if problem := _problem(device, change, name):
            raise Malformed("grants", f"{clean_text(name, 64)} {problem}")
        offered = device.capability(name)
        now = "" if offered is None else offered.contract
        if change.contracts.get(name, now) != now:
            raise GrantOutdated(device.name, name)
    decided = change.grant | change.withhold
    bound = {name: each for name, each in device.contracts.items() if name not in decided}
    return attrs.evolve(
        device,
        grants=(device.grants | change.grant) - change.withhold,
        contracts=bound | _contracts(device.capabilities, change.grant),
        withheld=(device.withheld | change.withhold) - change.grant,
        grant_risk=device.grant_risk if change.grant_risk is None else change.grant_risk,
    )


def turned(before: Device, after: Device) -> tuple[list[str], list[str]]:
    """Names whose grants an announcement suspended, and names whose grants it restored."""
    suspended = after.suspended - before.suspended
    restored = before.suspended & after.grants
    return sorted(suspended), sorted(restored)


@attrs.frozen
class _Judged:
    """What an announcement does to the grants that were given before it."""

    suspended: frozenset[str]
    restored: frozenset[str]
    bound: Mapping[str, str]
    """Contracts that grants are for from now on; empty where a grant is for none."""


def _judged(device: Device, capabilities: Sequence[AnnouncedCapability]) -> _Judged:
    suspended, restored, bound = set(), set(), {}
    for each in capabilities:
        contract = device.contracts.get(each.name, "")
        if not each.available or each.name == INVOKE_OTHERS:
            continue  # nothing can be run under that name; it is judged when it can be
        if each.name not in device.grants:
            if contract and each.contract == contract:
                restored.add(each.name)
        elif each.contract == contract:
            continue
        elif _is_given(device, each) or not (contract or _is_riskier(device, each)):
            bound[each.name] = each.contract
        else:
            suspended.add(each.name)
            bound[each.name] = contract
    return _Judged(frozenset(suspended), frozenset(restored), bound)


def _is_riskier(device: Device, item: AnnouncedCapability) -> bool:
    """Whether it may do more than what the device said of it when it was heard of last."""
    last = device.capability(item.name)
    return last is not None and not last.granted_as.covers(item.granted_as)


def _contracts(
    capabilities: Sequence[AnnouncedCapability], granted: frozenset[str]
) -> dict[str, str]:
    """The contracts that grants are for, of what is announced and says one."""
    said = (each for each in capabilities if each.name in granted and each.name != INVOKE_OTHERS)
    return {each.name: each.contract for each in said if each.contract}


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
