"""Which descriptors devices announce, and how many devices each."""

from __future__ import annotations

from collections import Counter

from palyra.core.devices import AnnouncedCapability
from palyra.core.identifiers import DeviceId
from palyra.gateway.inventory import Inventory


class Announced:
    """The digests that the devices of the inventory announce, counted as they change."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory
        self._offered: dict[DeviceId, tuple[AnnouncedCapability, ...]] = {}
        self._counts: Counter[str] = Counter()
        for device in inventory.devices():
            self._changed(device.device_id)
        inventory.watchers.append(self._changed)

    def devices(self, digest: str) -> int:
        """How many devices announce it."""
        return self._counts[digest]

    def _changed(self, device_id: DeviceId) -> None:
        device = self._inventory.device(device_id)
        now = () if device is None else device.capabilities
        was = self._offered.pop(device_id, ())
        if now:
            self._offered[device_id] = now
        if now is was:
            return
        self._counts.update(_digests(now))
        for digest in _digests(was):
            self._counts[digest] -= 1
            if not self._counts[digest]:
                del self._counts[digest]


def _digests(capabilities: tuple[AnnouncedCapability, ...]) -> set[str]:
    return {each.digest for each in capabilities if each.digest}
