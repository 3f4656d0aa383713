"""Where sessions are tried: a gateway's rooms, node hosts, and what carries between them.

Time is that of clocks which go with the real one while something is waited for, and leap where a
test says so.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from twisted.internet.task import deferLater

from palyra._reactor import event_loop, the_reactor
from palyra.core.frames import JobUpdate
from palyra.core.identifiers import JobId
from palyra.pki.csr import make_csr
from tests.contract.sessionends import Carriers, Connected, NodeEnd, SessionGateway
from tests.contract.sessionhands import CAPABILITIES
from tests.gateway.enrolling import Applicant
from tests.node.awaiting import awaiting_fixture
from tests.transport.serving import AUTHORITY, KEY

PATIENCE_S = 15.0
TURN_S = 0.002
HEARTBEAT_S = 15.0


class Watcher:
    """Is told what the gateway hears of jobs, and what is on record of them."""

    def __init__(self) -> None:
        self.heard = 0
        """How often it was told how far a job is."""
        self.ended: list[JobId] = []
        """What has ended, in that order."""

    def changed(self, update: JobUpdate) -> None:
        self.heard += update.progress is not None
        if update.job.final:
            self.ended.append(update.job.call.job_id)


class Place:
    """A gateway, its nodes and what carries their sessions."""

    def __init__(self, carriers: Carriers) -> None:
        self.carriers = carriers
        self.gateway = SessionGateway()
        self.nodes: list[NodeEnd] = []
        self.watcher = Watcher()
        self.gateway.dispatcher.watchers.append(self.watcher)

    async def open(self) -> None:
        """Serve."""
        await self.carriers.open(self.gateway)
        await turns(3)
        self._tasks = len(all_tasks())

    def node(self, name: str = "pi") -> NodeEnd:
        """A device that has paired; it is not connected."""
        applicant = Applicant(
            seed=len(self.nodes) + 1,
            name=name,
            ca_hash=bytes.fromhex(AUTHORITY.ca_hash),
            capabilities=CAPABILITIES,
        )
        applicant.csr_der = make_csr(KEY, applicant.device_id)
        certificate_pem = applicant.pair(self.gateway).certificate_pem
        made = NodeEnd(self.gateway, self.carriers, self.until, applicant, certificate_pem)
        self.nodes.append(made)
        return made

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until it holds; the clocks go with the real one meanwhile."""
        before = time.monotonic()
        patience = before + PATIENCE_S
        while not condition():
            assert time.monotonic() < patience, "it did not come to pass"
            await turns(1)
            now = time.monotonic()
            self.advance(now - before)
            before = now

    def advance(self, seconds: float) -> None:
        """Let time pass at both ends."""
        self.gateway.clock.advance(seconds)
        for node in self.nodes:
            node.clock.advance(seconds)

    async def beat(self, seconds: float) -> None:
        """Let time leap from heartbeat to heartbeat; each is answered before the next."""
        for _ in range(math.ceil(seconds / HEARTBEAT_S)):
            open_ones = [each for each in self._connections() if not each.over]
            before = [each.heard for each in open_ones]
            self.advance(HEARTBEAT_S)
            for each, heard in zip(open_ones, before, strict=True):
                await self.until(lambda: each.over or each.heard > heard)  # noqa: B023

    def _connections(self) -> list[Connected]:
        return [each for node in self.nodes for each in node.connections]

    async def close(self) -> None:
        """End it all; nothing of it remains."""
        self.carriers.flow()
        open_ones = [each for each in self._connections() if not each.over]
        for each in open_ones:
            each.end()
        for node in self.nodes:
            node.runs.close()
        await self.until(lambda: all(each.over for each in open_ones))
        await self.until(lambda: len(all_tasks()) <= self._tasks)
        await self.carriers.close()
        self.gateway.end()
        left = [call for call in self.gateway.clock.getDelayedCalls() if call.active()]
        for node in self.nodes:
            left += [call for call in node.clock.getDelayedCalls() if call.active()]
        assert not left, f"delayed calls left behind: {left}"


async def turns(count: int, turn_s: float = TURN_S) -> None:
    """Let the reactor turn a few times."""
    for _ in range(count):
        await deferLater(the_reactor(), turn_s)


def all_tasks() -> set[asyncio.Task[Any]]:
    """Every task of the reactor's loop that has not ended."""
    return asyncio.all_tasks(event_loop(the_reactor()))


class OnCarrier:
    """Mixed into a test class whose ``carriers`` gives a new way of carrying sessions."""

    def carriers(self) -> Carriers:
        """A carrier of nothing yet."""
        raise NotImplementedError

    @awaiting_fixture
    async def place(self) -> AsyncIterator[Place]:
        """A gateway that serves over the carrier; whatever is left behind fails the test."""
        made = Place(self.carriers())
        await made.open()
        yield made
        await made.close()
