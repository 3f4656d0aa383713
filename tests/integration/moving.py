"""Gateways that move to a new CA, which takes half a minute: begun early, looked at later."""

from __future__ import annotations

import attrs

from palyra.console.models import CaAnswer
from tests.integration.house import Gateway, House, NodeHost
from tests.integration.processes import eventually

SWITCH_S = 90.0
"""The gateway looks every 30 s whether a rotation can go on."""
HASTY = "[enrolment]\nrejoin_grace_s = 20\n"


@attrs.frozen
class Move:
    """A gateway that was told to move, a device that is online, and perhaps one that is off."""

    house: House
    gateway: Gateway
    node: NodeHost
    away: NodeHost | None = None

    @classmethod
    def of_all(cls, house: House) -> Move:
        """One that waits until no device is left, and none is."""
        gateway = house.gateway("patient").start()
        return cls(house, gateway, house.node("first").pair(gateway))._begun()

    @classmethod
    def of_some(cls, house: House) -> Move:
        """One that does not wait for the device that is off: its grace is soon over."""
        gateway = house.gateway("hasty", HASTY).start()
        away = house.node("away").pair(gateway)
        away.process.terminate()
        return cls(house, gateway, house.node("second").pair(gateway), away)._begun()

    def _begun(self) -> Move:
        """``palyra ca rotate``."""
        done = self.gateway.cli("ca", "rotate", "--reason", "for a test")
        assert done.code == 0 and "phase\toverlap" in done.out, done
        return self

    def ca(self) -> CaAnswer:
        """How far it is."""
        return self.gateway.console.get("ca", CaAnswer).value

    def left(self, count: int) -> str:
        """Wait until so many devices are left; what ``ca show`` prints then."""

        def look() -> str | None:
            done = self.gateway.cli("ca", "show")
            return done.out if f"left\t{count}\n" in done.out else None

        return eventually(look, f"{count} devices are left")

    def switched(self) -> None:
        """Wait until the listeners show a certificate of the new CA."""
        eventually(lambda: self.ca().phase == "switched", "the listeners are switched", SWITCH_S)
