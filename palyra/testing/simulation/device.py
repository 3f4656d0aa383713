"""A device: its disk and its wall clock, and the lives of the node host on it."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, succeed

from palyra.capability.context import DeviceFacts
from palyra.config.addresses import HostPort
from palyra.config.node import NodeSection
from palyra.core.announcement import Announcement
from palyra.core.frames import Hello, Welcome
from palyra.core.identifiers import DeviceId, Fingerprint
from palyra.errors import PalyraError
from palyra.node.announcing import announcement, greeting
from palyra.node.attempts import AttemptMemory
from palyra.node.connection import Connection
from palyra.node.link import Route
from palyra.node.owner import Owner
from palyra.node.rejoin import Rejoin
from palyra.node.renewal import Renewal
from palyra.node.running import Runs
from palyra.testing.simulation.channel import EnrolmentChannel
from palyra.testing.simulation.clock import EPOCH_S, HostClock, Timeline
from palyra.testing.simulation.datagrams import GRPC_ADDRESS, routes
from palyra.testing.simulation.disk import AttemptDisk, AttemptsOnDisk
from palyra.testing.simulation.identity import IdentityOnDisk, KeptIdentity
from palyra.testing.simulation.network import Link
from palyra.testing.simulation.work import (
    PIECES_OVER,
    Ledger,
    Person,
    SimulatedRunner,
    catalogue,
)

CATALOGUE = catalogue()
CONFIG = NodeSection(max_running=4, max_waiting=12, mediation_timeout_s=30.0, first_retry_s=5.0)
ENROLMENT = HostPort("gateway.sim", 7443)


class NodeHost:
    """One life of a node host, composed as :mod:`palyra.node.service` does it."""

    def __init__(
        self,
        *,
        name: str,
        kept: KeptIdentity,
        disk: AttemptDisk,
        clock: HostClock,
        link: Link,
        random: Random,
        ledger: Ledger,
        say: Callable[[str], None],
    ) -> None:
        self.clock = clock
        self._name = name
        self._say = say
        self._device_id = kept.identity.device_id
        self._link = link
        self._kept = kept
        self._random = random
        self._store = IdentityOnDisk(kept, clock)
        self._ended: Deferred[None] = succeed(None)
        self.memory = AttemptMemory(AttemptsOnDisk(disk, clock))
        self.runs = Runs(
            reactor=clock,
            elapsed_s=clock.elapsed_s,
            call_from_thread=self._from_thread,
            catalogue=CATALOGUE,
            runner=SimulatedRunner(clock, random, ledger, CONFIG.max_running),
            memory=self.memory,
            owner=Owner(name, mediator=Person(clock, random)),
            facts=DeviceFacts(self._device_id, "ab" * 32, str(GRPC_ADDRESS), 0, 500, name),
            now_ms=clock.now_ms,
            max_waiting=CONFIG.max_running + CONFIG.max_waiting,
            mediation_timeout_s=CONFIG.mediation_timeout_s,
            noticed=lambda line, jobs: None,
        )
        self.connection = Connection(
            reactor=clock,
            elapsed_s=clock.elapsed_s,
            routes=routes(link, clock, random),
            jitter=random.uniform,
            identity=self._store,
            hello=self._hello,
            runs=self.runs,
            witness=self,
            first_retry_s=CONFIG.first_retry_s,
            max_retry_s=CONFIG.max_retry_s,
            renewal=self._renewal(),
            rejoin=self._rejoin(),
            pieces_over=PIECES_OVER,
        )

    def _renewal(self) -> Renewal:
        return Renewal(
            reactor=self.clock,
            elapsed_s=self.clock.elapsed_s,
            jitter=self._random.uniform,
            identity=self._kept.identity,
            store=self._store,
            witness=self,
        )

    def _rejoin(self) -> Rejoin:
        return Rejoin(
            reactor=self.clock,
            addresses=[ENROLMENT],
            channel=lambda address, root: EnrolmentChannel(self._link, self.clock),  # type: ignore[arg-type,return-value]
            identity=self._kept.identity,
            store=self._store,
            announcement=self._announcement,
            witness=self,
            entropy=self._random.randbytes,
        )

    def start(self) -> None:
        """Read what is remembered, and connect."""
        self.memory.start()
        self._ended = self.connection.start()

    def stop(self) -> Deferred[None]:
        """Let running jobs end within the grace, then disconnect."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self.runs.close()
        idle = self.runs.when_idle()
        idle.addTimeout(CONFIG.shutdown_grace_s, self.clock, onTimeoutCancel=lambda *_: None)
        await idle
        if not self.clock.dead:  # it may have crashed meanwhile
            self.connection.stop()
            await self._ended
        if not self.clock.dead:
            self.memory.stop()

    def kill(self) -> None:
        """The process is gone, whatever it was doing."""
        self.clock.kill()
        self.connection.stop()
        self._ended.cancel()  # only so that no coroutine is left behind

    # -- ConnectionWitness, RenewalWitness, RejoinWitness -----------------------------------------

    def online(self, welcome: Welcome, route: Route) -> None:
        """Registered."""
        self._say(f"{self._name} online over {route}, session {welcome.session_epoch}")

    def offline(self, error: PalyraError | None, retry_s: float) -> None:
        """Not connected."""
        why = error.sentence if error is not None else "the session ended"
        self._say(f"{self._name} offline for {retry_s:.1f} s: {why}")

    def renewed(self, ends_ms: int) -> None:
        """The next certificate is the current one."""
        self._say(f"{self._name} renewed until {ends_ms / 1000 - EPOCH_S:.0f}")

    def renewal_failed(self, error: PalyraError | None, left_s: float) -> None:
        """A certificate runs out soon."""
        why = error.sentence if error is not None else "a fault here"
        self._say(f"{self._name} cannot renew, {left_s:.0f} s left: {why}")

    def rejoined(self, ends_ms: int) -> None:
        """Back by the identity key."""
        self._say(f"{self._name} rejoined until {ends_ms / 1000 - EPOCH_S:.0f}")

    def usable(self, capabilities: int) -> None:
        """Nobody counts them here."""

    def clock_differs(self, ahead_ms: int) -> None:
        """The gateway's is another one."""

    def identity_shown(self, name: str, device_id: str, fingerprint: Fingerprint) -> None:
        """Nobody compares anything here."""

    def waiting(self, request_id: str) -> None:
        """Nobody waits for an operator here."""

    def retrying(self, cause: str) -> None:
        """Nobody waits for an operator here."""

    def _from_thread(self, act: Any, *arguments: Any) -> None:
        self.clock.soon(0.0002, act, *arguments)

    def _announcement(self) -> Announcement:
        return announcement(CATALOGUE, self._name)

    def _hello(self, store_epoch: str) -> Hello:
        return greeting(
            self._device_id,
            CATALOGUE.announced(),
            memory_id=self.memory.memory_id,
            attempts=self.runs.standings(),
            unix_ms=self.clock.now_ms(),
            store_epoch=store_epoch,
            max_in_flight=CONFIG.max_running + CONFIG.max_waiting,
        )


class SimulatedDevice:
    """What survives every life of a node host, and the life it has now."""

    def __init__(
        self,
        *,
        kept: KeptIdentity,
        timeline: Timeline,
        link: Link,
        disk: AttemptDisk,
        ledger: Ledger,
        say: Callable[[str], None],
    ) -> None:
        self.name = link.name
        self.kept = kept
        self.link = link
        self.disk = disk
        self.wall_offset = disk.random.uniform(-5.0, 5.0)
        self.host: NodeHost | None = None
        self.stopping = False
        self._timeline = timeline
        self._random = disk.random
        self._ledger = ledger
        self._say = say

    @property
    def device_id(self) -> DeviceId:
        """Its id, as long as the world lasts."""
        return self.kept.identity.device_id

    def start(self) -> None:
        """The node host starts."""
        host = self.host = NodeHost(
            name=self.name,
            kept=self.kept,
            disk=self.disk,
            clock=HostClock(self._timeline, lambda: self.wall_offset),
            link=self.link,
            random=self._random,
            ledger=self._ledger,
            say=self._say,
        )
        host.start()

    def crash(self, *, lose_memory: bool, told: bool) -> None:
        """The host dies; what was not on disk is gone, or all of it."""
        host, self.host = self.host, None
        self.stopping = False
        if host is not None:
            host.kill()
            self.link.node_died(told=told)
        if lose_memory:
            self.disk.lose()

    def stop(self) -> None:
        """The host is asked to stop, and does in its own time."""
        host = self.host
        if host is not None and not self.stopping:
            self.stopping = True
            host.stop().addCallback(self._stopped, host)

    def _stopped(self, _: None, host: NodeHost) -> None:
        host.clock.kill()
        if self.host is host:
            self.host, self.stopping = None, False
