"""One life of the gateway: the production's rooms on a simulated clock, disk and network."""

from __future__ import annotations

import functools
from collections.abc import Callable
from random import Random
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.task import LoopingCall

from palyra.config.enrolment import EnrolmentSection
from palyra.config.jobs import JobsSection
from palyra.core.frames import Hello, NodeEvent, Welcome
from palyra.core.identifiers import DeviceId, Fingerprint
from palyra.core.policy import Effect, Rule, Rules
from palyra.core.rates import SourceLedger
from palyra.core.transcript import DeviceProof
from palyra.errors import CertificateRefused, Draining, PairingSessionUnknown, PalyraError
from palyra.gateway.callapprovals import CallApprovals
from palyra.gateway.descriptors import Descriptors
from palyra.gateway.desk import EnrolmentDesk, NodeDesk
from palyra.gateway.dispatch import Dispatcher
from palyra.gateway.enrolment import Enrolment
from palyra.gateway.fanouts import Fanouts
from palyra.gateway.following import Followers
from palyra.gateway.intake import Intake
from palyra.gateway.inventory import Inventory
from palyra.gateway.issuing import Issuer
from palyra.gateway.nodesession import NodeSession
from palyra.gateway.pinwork import PinWork
from palyra.gateway.policing import Policing
from palyra.gateway.presence import PresenceBoard
from palyra.gateway.proofs import Office, Verifier
from palyra.gateway.rejoin import Rejoins
from palyra.gateway.renewals import Renewals
from palyra.gateway.sessions import Sessions
from palyra.gateway.submission import Submission
from palyra.gateway.trust import Revoker
from palyra.pki.certificates import PeerCertificate, read_certificate
from palyra.pki.trust import ChainVerifier, check_dates
from palyra.testing.simulation.clock import HostClock
from palyra.testing.simulation.datagrams import QUIC_ADDRESS
from palyra.testing.simulation.disk import GatewayDisk, StoreOnDisk, at_once
from palyra.testing.simulation.identity import TRUST_DOMAIN, trust
from palyra.testing.simulation.work import PIECES_OVER
from palyra.transport.interfaces import ICarrier, Peer
from palyra.wire.pairing import (
    Begin,
    Completed,
    RenewalAsked,
    Renewed,
    SessionOpened,
    StatusAnswer,
    StatusQuestion,
)

LIMITS = JobsSection(
    timeout_s=20.0, max_waiting=60, max_waiting_per_device=12, in_flight_per_device=6
)
ENROLMENT = EnrolmentSection(rejoin_grace_s=3_660 * 86_400)
RULES = Rules((Rule(rule_id="all", number=1, effect=Effect.ALLOW),))
SHUTDOWN_GRACE_S = 10.0
SAVE_HEARD_S = 10.0
FORGET_EXPIRED_S = 60.0
T = TypeVar("T")
_NOBODY: Any = None
"""Whom nobody asks here: no device pairs."""


class Gateway:
    """Composed as :mod:`palyra.gateway.service` does it, from the store up to the desks."""

    def __init__(
        self,
        *,
        disk: GatewayDisk,
        clock: HostClock,
        random: Random,
        life_ms: int,
        attached: Callable[[DeviceId, Fingerprint], object],
    ) -> None:
        """``life_ms`` is how long certificates live; ``attached`` hears of every new session."""
        self.clock = clock
        self.draining = False
        self._random = random
        self._attached = attached
        self._enrolled: list[Deferred[Any]] = []
        store = self.store = StoreOnDisk(disk, clock)
        self.inventory = Inventory(ChainVerifier([trust().root], TRUST_DOMAIN))
        self.board = PresenceBoard(
            clock,
            elapsed_ms=clock.elapsed_ms,
            now_ms=clock.now_ms,
            silent=lambda device_id: self.sessions.silent(device_id),
        )
        self.descriptors = Descriptors(log=store, inventory=self.inventory)
        self.sessions = Sessions(
            clock=clock,
            elapsed_ms=clock.elapsed_ms,
            directory=store,
            inventory=self.inventory,
            descriptors=self.descriptors,
            board=self.board,
            gateway_id=store.gateway_id,
            store_epoch=store.store_epoch,
            ca_bundle_pem=lambda: trust().ca_bundle_pem.decode(),
            max_in_flight=LIMITS.in_flight_per_device,
            pieces_over=PIECES_OVER,
        )
        self.sessions.quic_address = lambda: str(QUIC_ADDRESS)
        policing = Policing(rules=RULES, now_ms=clock.now_ms, record=store.record)
        self.approvals = CallApprovals(
            clock=clock,
            entropy=random.randbytes,
            store=store,
            inventory=self.inventory,
            policing=policing,
            trust_domain=TRUST_DOMAIN,
        )
        self.intake = Intake(
            clock=clock,
            entropy=random.randbytes,
            inventory=self.inventory,
            board=self.board,
            limits=LIMITS,
            policing=policing,
            known=self.descriptors.of,
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
            approvals=self.approvals,
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
        self._compose_identity(life_ms)
        self._heard = LoopingCall(self._save_heard)
        self._expired = LoopingCall(lambda: self.inventory.forget_expired(clock.now_ms()))
        self._heard.clock = self._expired.clock = clock

    def _compose_identity(self, life_ms: int) -> None:
        clock, store = self.clock, self.store
        issuer = Issuer(trust=trust(), life_ms=life_ms, now_ms=clock.now_ms)
        self.renewals = Renewals(
            now_ms=clock.now_ms,
            directory=store,
            inventory=self.inventory,
            issuer=issuer,
            sessions=self.sessions,
            limits=ENROLMENT,
            changed=lambda: None,
        )
        rejoins = Rejoins(
            directory=store,
            inventory=self.inventory,
            issuer=issuer,
            grace_ms=ENROLMENT.rejoin_grace_s * 1000,
            old_sessions=self.sessions.replaced,
            changed=lambda: None,
        )
        self.enrolment = Enrolment(
            clock=clock,
            elapsed_ms=clock.elapsed_ms,
            office=self._office(),
            pins=PinWork(
                in_thread=_NOBODY, entropy=self._random.randbytes, elapsed_ms=clock.elapsed_ms
            ),
            rejoins=rejoins,
        )
        self._enrolment_desk = EnrolmentDesk(self.enrolment)
        self._desk = NodeDesk(
            now_ms=clock.now_ms,
            inventory=self.inventory,
            sessions=self.sessions,
            dispatcher=self.dispatcher,
            submission=self.submission,
            followers=self.followers,
            revoker=self.revoker,
            renewals=self.renewals,
            journal=_NOBODY,
        )

    def _office(self) -> Office:
        return Office(
            codes=_NOBODY,
            verifier=Verifier(ca_hashes=lambda: trust().ca_hashes, inventory=self.inventory),
            requests=_NOBODY,
            ledger=SourceLedger(),
            limits=ENROLMENT,
            entropy=self._random.randbytes,
            now_ms=self.clock.now_ms,
            elapsed_ms=self.clock.elapsed_ms,
        )

    # -- life -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Load what is durable, then serve."""
        at_once(Deferred.fromCoroutine(self._load()))
        self.store.opened = True
        self.board.start()
        self.enrolment.start()
        self._heard.start(SAVE_HEARD_S, now=False)
        self._expired.start(FORGET_EXPIRED_S, now=False)

    async def _load(self) -> None:
        store = self.store
        self.inventory.load(
            await store.devices(), await store.live_certificates(), await store.revocations()
        )
        await self.descriptors.load()
        unfinished = await store.unfinished()
        self.dispatcher.start(unfinished)
        await self.fanouts.start(unfinished)
        await self.approvals.start(unfinished)

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
        self._expired.stop()
        self.enrolment.stop()
        self.fanouts.stop()
        self.approvals.stop()
        self.dispatcher.stop()
        self.sessions.callers.close_all(Draining())
        self.board.stop()
        await self._save_heard()
        await self.store.close()

    def kill(self) -> None:
        """The process is gone, whatever it was doing."""
        self.clock.kill()
        for answer in self._enrolled:  # only so that no coroutine is left behind
            while not answer.called:
                answer.cancel()

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

    def shakes_hands(self, pem: bytes) -> bool:
        """TLS looks at the dates of a certificate, by this machine's time of day."""
        peer = _read(pem)
        try:
            check_dates(peer.not_before_ms, peer.not_after_ms, self.clock.now_ms())
        except CertificateRefused:
            return False
        return True

    def register(self, device: str, pem: bytes, hello: Hello) -> Deferred[Welcome]:
        """RegisterNode."""
        return maybeDeferred(lambda: self._desk.register(self._admit(device, pem), hello))

    def renew(self, device: str, pem: bytes, asked: RenewalAsked) -> Deferred[Renewed]:
        """RotateDeviceCertificate."""
        return maybeDeferred(lambda: self._desk.renew(self._admit(device, pem), asked))

    def revoke(self, device: str, pem: bytes, reason: str) -> Deferred[None]:
        """RevokeDevicePairing."""
        return maybeDeferred(lambda: self._desk.revoke_self(self._admit(device, pem), reason))

    def attach(self, device: str, pem: bytes, first: NodeEvent, carrier: ICarrier) -> NodeSession:
        """StreamNodeEvents."""
        peer = self._admit(device, pem)
        session = self._desk.attach(peer, first, carrier)
        self._attached(peer.device_id, peer.fingerprint)
        return session

    def begin(self, device: str, message: Begin) -> Deferred[SessionOpened]:
        """BeginPairingSession."""
        return self._enrolling(self._enrolment_desk.begin(message, _address(device)))

    def complete(self, device: str, proof: DeviceProof) -> Deferred[Completed]:
        """CompletePairingSession."""
        return self._enrolling(self._enrolment_desk.complete(proof, _address(device)))

    def status(self, device: str, question: StatusQuestion) -> Deferred[StatusAnswer]:
        """GetPairingRequestStatus: no device waits for an operator, so no session is on record."""
        return fail(PairingSessionUnknown())

    def _enrolling(self, answer: Deferred[T]) -> Deferred[T]:
        self._enrolled = [each for each in self._enrolled if not each.called]
        self._enrolled.append(answer)
        return answer

    def _admit(self, device: str, pem: bytes) -> Peer:
        return self._desk.admit(pem, None, _address(device), "sim")


@functools.lru_cache(maxsize=256)
def _read(pem: bytes) -> PeerCertificate:
    return read_certificate(pem)


def _address(device: str) -> str:
    """Every device has its own."""
    return f"192.0.2.{int(device.removeprefix('dev')) + 1}"
