"""One life of the gateway: the production's rooms on a simulated clock, disk and network."""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.task import LoopingCall

from palyra.config.jobs import JobsSection
from palyra.core.frames import Hello, NodeEvent, Welcome
from palyra.core.identifiers import DeviceId
from palyra.errors import Draining, NotFound, PalyraError
from palyra.gateway.dispatch import Dispatcher
from palyra.gateway.fanouts import Fanouts
from palyra.gateway.following import Followers
from palyra.gateway.intake import Intake
from palyra.gateway.inventory import Inventory
from palyra.gateway.presence import PresenceBoard
from palyra.gateway.sessions import NodeSession, Sessions
from palyra.gateway.submission import Submission
from palyra.gateway.trust import Revoker
from palyra.pki.trust import ChainVerifier
from palyra.testing.simulation.clock import HostClock
from palyra.testing.simulation.disk import GatewayDisk, StoreOnDisk, at_once
from palyra.transport.interfaces import ICarrier, Peer

LIMITS = JobsSection(
    timeout_s=20.0, max_waiting=60, max_waiting_per_device=12, in_flight_per_device=6
)
SHUTDOWN_GRACE_S = 10.0
SAVE_HEARD_S = 10.0


class Gateway:
    """Composed as :mod:`palyra.gateway.service` does it, from the store up to the desks."""

    def __init__(
        self, *, disk: GatewayDisk, clock: HostClock, random: Random, devices: dict[str, DeviceId]
    ) -> None:
        self.clock = clock
        self.draining = False
        self._random = random
        self._devices = devices
        store = self.store = StoreOnDisk(disk, clock)
        self.inventory = Inventory(ChainVerifier([], "palyra.sim"))
        self.board = PresenceBoard(
            clock,
            elapsed_ms=clock.elapsed_ms,
            now_ms=clock.now_ms,
            silent=lambda device_id: self.sessions.silent(device_id),
        )
        self.sessions = Sessions(
            clock=clock,
            directory=store,
            inventory=self.inventory,
            board=self.board,
            gateway_id=store.gateway_id,
            store_epoch=store.store_epoch,
            ca_bundle_pem=lambda: "the CA",
            max_in_flight=LIMITS.in_flight_per_device,
        )
        self.intake = Intake(
            clock=clock,
            entropy=random.randbytes,
            inventory=self.inventory,
            board=self.board,
            limits=LIMITS,
        )
        self.dispatcher = Dispatcher(
            clock=clock,
            entropy=random.randbytes,
            log=store,
            intake=self.intake,
            sessions=self.sessions,
            gateway_id=store.gateway_id,
            limits=LIMITS,
            changed=lambda: None,
            elapsed_ms=clock.elapsed_ms,
        )
        self.fanouts = Fanouts(
            clock=clock,
            entropy=random.randbytes,
            store=store,
            intake=self.intake,
            dispatcher=self.dispatcher,
            limits=LIMITS,
        )
        self.submission = Submission(store=store, dispatcher=self.dispatcher, fanouts=self.fanouts)
        self.followers = Followers(LIMITS.max_followers)
        self.dispatcher.watchers.append(self.followers)
        self.revoker = Revoker(
            now_ms=clock.now_ms,
            directory=store,
            inventory=self.inventory,
            sessions=self.sessions,
            dispatcher=self.dispatcher,
            snapshot=lambda: clock.sleep(0.01),
            published=lambda: None,
        )
        self._heard = LoopingCall(self._save_heard)
        self._heard.clock = clock

    # -- life -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Load what is durable, then serve."""
        at_once(Deferred.fromCoroutine(self._load()))
        self.store.opened = True
        self.board.start()
        self._heard.start(SAVE_HEARD_S, now=False)

    async def _load(self) -> None:
        store = self.store
        self.inventory.load(
            await store.devices(), await store.live_certificates(), await store.revocations()
        )
        unfinished = await store.unfinished()
        self.dispatcher.start(unfinished)
        await self.fanouts.start(unfinished)

    def stop(self) -> Deferred[None]:
        """Drain, then close; fires when the process would end."""
        self.draining = True
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self.dispatcher.drain()
        self.sessions.drain_all("the gateway is stopping", 2_000)
        idle = self.dispatcher.when_idle()
        idle.addTimeout(SHUTDOWN_GRACE_S, self.clock, onTimeoutCancel=lambda *_: None)
        await idle
        self._heard.stop()
        self.fanouts.stop()
        self.dispatcher.stop()
        self.sessions.callers.close_all(Draining())
        self.board.stop()
        await self._save_heard()
        await self.store.close()

    def _save_heard(self) -> Deferred[None]:
        heard = self.board.take_heard()
        if not heard:
            return succeed(None)
        kept: Deferred[None] = self.store.heard(heard)

        def put_back(failure: Any) -> None:
            failure.trap(PalyraError)
            self.board.put_back(heard)

        return kept.addErrback(put_back)

    # -- what the network brings ------------------------------------------------------------------

    def register(self, device: str, hello: Hello) -> Deferred[Welcome]:
        """RegisterNode."""

        def registered() -> Deferred[Welcome]:
            peer = self._peer(device)
            return Deferred.fromCoroutine(self.sessions.register(peer, hello))

        return maybeDeferred(registered)

    def attach(self, device: str, first: NodeEvent, carrier: ICarrier) -> NodeSession:
        """StreamNodeEvents."""
        return self.sessions.attach(self._peer(device), first, carrier)

    def _peer(self, device: str) -> Peer:
        """The device, admitted by its certificate.

        :raises PalyraError: it was revoked, or is not known.
        """
        device_id = self._devices[device]
        self.inventory.revoked.check_device(device_id)
        self.inventory.paired(device_id)
        certificate = self.inventory.newest_certificate(device_id)
        if certificate is None:
            raise NotFound("certificate", device)
        return Peer(
            device_id, certificate.fingerprint, certificate.not_after_ms, "192.0.2.7", "sim"
        )
