"""A device: its disk and its wall clock, and the lives of the node host on it."""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet.defer import Deferred, succeed

from palyra.capability.context import DeviceFacts
from palyra.config.addresses import HostPort
from palyra.config.node import NodeSection
from palyra.core.frames import Hello, Welcome
from palyra.core.identifiers import DeviceId
from palyra.errors import PalyraError
from palyra.node.attempts import AttemptMemory
from palyra.node.connection import Connection
from palyra.node.identity import ClientFile, Credential
from palyra.node.running import Runs
from palyra.node.service import MAX_IN_FLIGHT, announcement
from palyra.testing.simulation.clock import EPOCH_S, HostClock, Timeline
from palyra.testing.simulation.disk import AttemptDisk, AttemptsOnDisk
from palyra.testing.simulation.network import Channel, Link
from palyra.testing.simulation.work import Ledger, Person, SimulatedRunner, registry

REGISTRY = registry()
CONFIG = NodeSection(max_running=4, max_waiting=12, mediation_timeout_s=30.0, first_retry_s=5.0)
ADDRESS = HostPort("gateway.sim", 7444)
FOR_EVER_MS = int((EPOCH_S + 3_000 * 86_400) * 1000)


class _Identity:
    """A certificate that outlives the simulation."""

    def client(self) -> ClientFile:
        return ClientFile(1, "the CA", Credential("certificate", "key", FOR_EVER_MS))


class NodeHost:
    """One life of a node host, composed as :mod:`palyra.node.service` does it."""

    def __init__(
        self,
        *,
        name: str,
        device_id: DeviceId,
        disk: AttemptDisk,
        clock: HostClock,
        link: Link,
        random: Random,
        ledger: Ledger,
    ) -> None:
        self.clock = clock
        self._name = name
        self._device_id = device_id
        self._ended: Deferred[None] = succeed(None)
        self.memory = AttemptMemory(AttemptsOnDisk(disk, clock))
        self.runs = Runs(
            reactor=clock,
            elapsed_s=clock.elapsed_s,
            call_from_thread=self._from_thread,
            registry=REGISTRY,
            runner=SimulatedRunner(clock, random, ledger, CONFIG.max_running),
            memory=self.memory,
            mediator=Person(clock, random),
            facts=DeviceFacts(device_id, "ab" * 32, str(ADDRESS), 0, 500, name),
            now_ms=clock.now_ms,
            max_waiting=CONFIG.max_running + CONFIG.max_waiting,
            mediation_timeout_s=CONFIG.mediation_timeout_s,
            noticed=lambda line, jobs: None,
        )
        self.connection = Connection(
            reactor=clock,
            elapsed_s=clock.elapsed_s,
            address=ADDRESS,
            channel=lambda address, ca, identity: Channel(link, clock),
            jitter=random.uniform,
            identity=_Identity(),  # type: ignore[arg-type]
            hello=self._hello,
            runs=self.runs,
            witness=self,
            first_retry_s=CONFIG.first_retry_s,
            max_retry_s=CONFIG.max_retry_s,
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

    # -- ConnectionWitness ------------------------------------------------------------------------

    def online(self, welcome: Welcome, address: HostPort) -> None:
        """Registered."""

    def offline(self, error: PalyraError | None, retry_s: float) -> None:
        """Not connected."""

    def renewed(self, ends_ms: int) -> None:
        """Not here: the certificate outlives the simulation."""

    def clock_differs(self, ahead_ms: int) -> None:
        """The gateway's is another one."""

    def _from_thread(self, act: Any, *arguments: Any) -> None:
        self.clock.soon(0.0002, act, *arguments)

    def _hello(self, store_epoch: str) -> Hello:
        said = announcement(REGISTRY, self._name)
        return Hello(
            device_id=self._device_id,
            platform=said.platform,
            capabilities=said.capabilities,
            version=said.version,
            memory_id=self.memory.memory_id,
            store_epoch=store_epoch,
            max_in_flight=min(MAX_IN_FLIGHT, CONFIG.max_running + CONFIG.max_waiting),
            attempts=self.runs.standings(),
            extended=True,
        )


class SimulatedDevice:
    """What survives every life of a node host, and the life it has now."""

    def __init__(
        self,
        *,
        name: str,
        device_id: DeviceId,
        timeline: Timeline,
        link: Link,
        random: Random,
        ledger: Ledger,
    ) -> None:
        self.name = name
        self.device_id = device_id
        self.link = link
        self.disk = AttemptDisk(random)
        self.wall_offset = random.uniform(-5.0, 5.0)
        self.host: NodeHost | None = None
        self.stopping = False
        self._timeline = timeline
        self._random = random
        self._ledger = ledger

    def start(self) -> None:
        """The node host starts."""
        host = self.host = NodeHost(
            name=self.name,
            device_id=self.device_id,
            disk=self.disk,
            clock=HostClock(self._timeline, lambda: self.wall_offset),
            link=self.link,
            random=self._random,
            ledger=self._ledger,
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
