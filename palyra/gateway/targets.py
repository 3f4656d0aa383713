"""Targets: which devices a call or a list is for."""

from __future__ import annotations

import math
import re

from palyra.core.devices import Device, DeviceState
from palyra.core.selection import Facts, parse
from palyra.errors import Malformed
from palyra.gateway.inventory import Inventory
from palyra.gateway.presence import PresenceBoard

_BATCH = re.compile(r"([0-9]{1,9})(%?)\Z", re.ASCII)


class Targets:
    """Chooses devices by name or by expression."""

    def __init__(self, inventory: Inventory, board: PresenceBoard) -> None:
        self._inventory = inventory
        self._board = board

    def matching(self, expression: str, field: str = "where") -> list[Device]:
        """The paired devices that an expression matches, by name.

        :raises ExpressionInvalid: it is none.
        """
        matches = parse(expression, field).matches
        found = [
            device
            for device in self._inventory.devices()
            if device.state is DeviceState.PAIRED
            and matches(Facts.of(device, self._board.state(device.device_id)))
        ]
        return sorted(found, key=lambda device: device.name)

    def chosen(self, named: tuple[str, ...], where: str) -> tuple[tuple[Device, ...], str]:
        """The devices of a call, and the canonical expression where they were chosen by one.

        :raises Malformed: neither names nor an expression, or both.
        :raises NotFound, AmbiguousTarget: a name is not one device's.
        """
        if bool(named) == bool(where):
            raise Malformed("targets", "name the devices, or give an expression in where")
        if where:
            return tuple(self.matching(where)), str(parse(where, "where"))
        found = {device.device_id: device for device in map(self._inventory.resolve, named)}
        return tuple(found.values()), ""


def batch_of(text: str, targets: int) -> int | None:
    """How many of ``targets`` devices run at a time: ``text`` is a number or a percentage.

    A percentage is of the targets and at least one device.  Empty: all of them (None).

    :raises Malformed: it is neither.
    """
    if not text:
        return None
    given = _BATCH.match(text)
    number = int(given[1]) if given else 0
    if given is None or number < 1 or (given[2] and number > 100):
        raise Malformed("batch", f"must be a number of devices or 1% to 100% (got {text[:20]!r})")
    return math.ceil(targets * number / 100) if given[2] else number
