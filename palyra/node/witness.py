"""What a connection needs from others: who watches it, and what it offers to a gateway."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.logger import Logger

from palyra.core.devices import AnnouncedCapability
from palyra.core.frames import Welcome
from palyra.errors import PalyraError
from palyra.node.link import Route
from palyra.node.registering import RegistrationWitness


class ConnectionWitness(RegistrationWitness, Protocol):
    """Who watches the connection: a status line, or the log."""

    def online(self, welcome: Welcome, route: Route) -> None:
        """Registered; the gateway can dispatch.  Again after a handover."""

    def offline(self, error: PalyraError | None, retry_s: float) -> None:
        """The session ended, or could not be made; tried again after ``retry_s`` seconds."""

    def clock_differs(self, ahead_ms: int) -> None:
        """This clock is ahead of the gateway's (negative: behind) by more than a minute."""

    def usable(self, capabilities: int) -> None:
        """So many capabilities can be run here now, and were granted."""


class Steadfast(ConnectionWitness):
    """Tells a witness, whose faults are logged and keep no node from its gateway: a terminal may be
    gone, and a disk full."""

    _log = Logger()

    def __init__(self, witness: ConnectionWitness) -> None:
        self._witness = witness

    def online(self, welcome: Welcome, route: Route) -> None:
        self._tell(lambda: self._witness.online(welcome, route))

    def offline(self, error: PalyraError | None, retry_s: float) -> None:
        self._tell(lambda: self._witness.offline(error, retry_s))

    def clock_differs(self, ahead_ms: int) -> None:
        self._tell(lambda: self._witness.clock_differs(ahead_ms))

    def usable(self, capabilities: int) -> None:
        self._tell(lambda: self._witness.usable(capabilities))

    def renewed(self, ends_ms: int) -> None:
        self._tell(lambda: self._witness.renewed(ends_ms))

    def _tell(self, telling: Callable[[], object]) -> None:
        try:
            telling()
        except Exception:
            self._log.failure("who watches the connection could not be told")


class Offers(Protocol):
    """What this node offers, as a gateway is told."""

    def announced(self) -> tuple[AnnouncedCapability, ...]:
        """Every capability."""

    def descriptor(self, digest: str) -> bytes | None:
        """The bytes of one of its descriptors."""
