"""A device that pairs, and is the witness of its own pairing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

from palyra._reactor import the_reactor
from palyra.core.announcement import Announcement
from palyra.core.devices import AnnouncedCapability, ClientKind
from palyra.errors import PalyraError
from palyra.node.files import HostFile, NodeFiles
from palyra.node.pairing import Pairing
from tests.node.fakes import DEVICE_ID


class Device:
    """One device, with a directory of its own; ``ahead_ms`` is how far its clock is ahead."""

    def __init__(self, root: Path) -> None:
        self.reactor = the_reactor()
        self.root = root
        self.files = NodeFiles(root)
        self.files.make()
        self.ahead_ms = 0
        self.seen: list[tuple[Any, ...]] = []
        self.asked: Deferred[str] = Deferred()
        self.missed: Deferred[str] = Deferred()

    def pairing(self, **given: Any) -> Pairing:
        """A new attempt, as a node host that was started makes it."""
        announced = AnnouncedCapability("echo", True, "d" * 64, "1", "low", False, True, 1_000, "")
        made: dict[str, Any] = {
            "reactor": self.reactor,
            "files": self.files,
            "identity": self.files.identity.open(self.now_ms(), os.urandom, DEVICE_ID),
            "announcement": Announcement("pi", "linux x86_64", "1", (announced,)),
            "client_kind": ClientKind.NODE,
            "witness": self,
            "entropy": os.urandom,
            "now_ms": self.now_ms,
        }
        return Pairing(**{**made, **given})

    def now_ms(self) -> int:
        return int(self.reactor.seconds() * 1000) + self.ahead_ms

    def begin(self, uri: Any, ca_pem: bytes | None = None) -> Deferred[HostFile]:
        """Pair with a line; the failure of what is not awaited is the test's."""
        return Deferred.fromCoroutine(self.pairing().run(uri, ca_pem))

    def kinds(self) -> list[str]:
        return [each[0] for each in self.seen]

    def kept(self) -> set[str]:
        """The names of the files that it has."""
        return {each.name for each in self.root.rglob("*") if each.is_file()}

    def bytes_kept(self) -> Iterator[bytes]:
        """What is in them."""
        return (each.read_bytes() for each in self.root.rglob("*") if each.is_file())

    # -- the witness: a test goes on in the next turn, not in the middle of the pairing ----------

    def gateway_verified(self, address: str, ca_hash: str, matches: bool) -> None:
        self.seen.append(("verified", address, ca_hash, matches))

    def pin_confirmed(self) -> None:
        self.seen.append(("pin",))

    def identity_shown(self, name: str, device_id: str, fingerprint: str) -> None:
        self.seen.append(("identity", name, device_id))

    def waiting(self, request_id: str) -> None:
        self.seen.append(("waiting", request_id))
        asked, self.asked = self.asked, Deferred()
        self.reactor.callLater(0, asked.callback, request_id)

    def approved(self, by: str, name: str) -> None:
        self.seen.append(("approved", by, name))

    def clock_differs(self, by_ms: int) -> None:
        self.seen.append(("clock", by_ms))

    def retrying(self, cause: str) -> None:
        self.seen.append(("retrying", cause))
        missed, self.missed = self.missed, Deferred()
        self.reactor.callLater(0, missed.callback, cause)


async def refused(result: Any) -> BaseException:
    """What a pairing failed with."""
    with pytest.raises((PalyraError, CancelledError)) as caught:
        await result
    return caught.value


async def turn(count: int = 1) -> None:
    """Let the reactor turn."""
    for _ in range(count):
        turned: Deferred[None] = Deferred()
        the_reactor().callLater(0, turned.callback, None)
        await turned


async def until(true: Callable[[], bool]) -> None:
    """Let the reactor turn until something is so; the test's own time limit is the last word."""
    while not true():
        await turn()
