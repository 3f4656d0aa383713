"""The rooms behind the console, composed: operators, approvals, audit, and what is live."""

from __future__ import annotations

from typing import Any

from palyra.console.routing import Controls
from palyra.gateway.control import Control
from palyra.gateway.meters import Meters


class ConsoleRooms:
    """What the console's routes ask, made of the rooms of :mod:`palyra.gateway.composition`."""

    def __init__(self, *, control: Control, meters: Meters) -> None:
        nothing: Any = None
        self.controls = Controls(
            gateway=control,
            operators=nothing,
            sign_in=nothing,
            approvals=nothing,
            audit=nothing,
            feed=nothing,
            metrics=meters.metrics.exposition,
        )
