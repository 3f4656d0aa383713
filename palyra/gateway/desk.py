"""The desk: what carriers ask, answered by the rooms behind it."""

from __future__ import annotations

from collections.abc import Callable

import attrs
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from palyra.core.devices import INVOKE_OTHERS, ClientKind, Device
from palyra.core.frames import Hello, JobUpdate, NodeEvent, Wanted, Welcome
from palyra.core.identifiers import DeviceId, JobId, parse_ulid
from palyra.core.jobs import Job
from palyra.core.transcript import DeviceProof
from palyra.core.windows import Windows
from palyra.errors import (
    CertificateRefused,
    CertificateSuperseded,
    DeviceOffline,
    LimitReached,
    NotFound,
    PalyraError,
    PolicyDenied,
    RuleDenies,
)
from palyra.gateway.clones import CloneAlarms
from palyra.gateway.dispatch import Dispatcher
from palyra.gateway.enrolment import Enrolment
from palyra.gateway.following import Followers
from palyra.gateway.inventory import Inventory
from palyra.gateway.journal import Journal
from palyra.gateway.nodesession import NodeSession
from palyra.gateway.orders import Order, client, patience_ms
from palyra.gateway.renewals import Renewals
from palyra.gateway.sessions import Sessions
from palyra.gateway.submission import Submission
from palyra.gateway.trust import Revoker
from palyra.gateway.waits import shielded
from palyra.pki.certificates import read_certificate
from palyra.transport.interfaces import (
    ICallStream,
    ICarrier,
    IEnrolmentDesk,
    IEventFollowing,
    IJobFollowing,
    INodeDesk,
    Peer,
)
from palyra.wire.pairing import (
    Begin,
    Completed,
    RenewalAsked,
    Renewed,
    SessionOpened,
    StatusAnswer,
    StatusQuestion,
)

MAX_REFUSALS = 120


def _uncounted(listener: str, reason: str) -> None:
    """Nobody counts who is turned away."""


@implementer(IEnrolmentDesk)
class EnrolmentDesk:
    """What an unpaired peer may ask."""

    def __init__(
        self, enrolment: Enrolment, refused: Callable[[str, str], object] = _uncounted
    ) -> None:
        """``refused`` hears the listener and the reason of each stranger that is turned away."""
        self._enrolment = enrolment
        self._refused = refused

    def begin(self, message: Begin, address: str) -> Deferred[SessionOpened]:
        begun = Deferred.fromCoroutine(self._enrolment.begin(message, address))
        return begun.addErrback(self._count)

    def complete(self, message: DeviceProof, address: str) -> Deferred[Completed]:
        completed = Deferred.fromCoroutine(self._enrolment.complete(message, address))
        return completed.addErrback(self._count)

    def _count(self, failure: Failure) -> Failure:
        if isinstance(failure.value, PalyraError):
            self._refused("enrolment", failure.value.code)
        return failure

    def status(self, message: StatusQuestion, address: str) -> Deferred[StatusAnswer]:
        return Deferred.fromCoroutine(self._enrolment.status(message, address))


@implementer(INodeDesk)
class NodeDesk:
    """What a paired client may ask."""

    def __init__(
        self,
        *,
        now_ms: Callable[[], int],
        inventory: Inventory,
        sessions: Sessions,
        dispatcher: Dispatcher,
        submission: Submission,
        followers: Followers,
        revoker: Revoker,
        renewals: Renewals,
        journal: Journal,
        refused: Callable[[str, str], object] = _uncounted,
    ) -> None:
        """``refused`` hears the transport and the reason of each peer that is turned away."""
        self._now_ms = now_ms
        self._refused = refused
        self._inventory = inventory
        self._sessions = sessions
        self._dispatcher = dispatcher
        self._submission = submission
        self._followers = followers
        self._revoker = revoker
        self._renewals = renewals
        self._journal = journal
        self._refusals = Windows(MAX_REFUSALS, 60_000)
        self.clones = CloneAlarms(now_ms)

    def admit(self, pem: bytes, claimed: str | None, address: str, transport: str) -> Peer:
        try:
            admitted = self._inventory.gate.admit(pem, self._now_ms(), claimed)
        except PalyraError as error:
            self._turned_away(error, pem, address, transport)
            raise
        return Peer(
            device_id=admitted.device_id,
            fingerprint=admitted.fingerprint,
            not_after_ms=admitted.not_after_ms,
            address=address,
            transport=transport,
        )

    def _turned_away(self, error: PalyraError, pem: bytes, address: str, transport: str) -> None:
        reason = error.reason if isinstance(error, CertificateRefused) else error.code
        self._refused(transport, reason)
        if isinstance(error, CertificateSuperseded):
            subject = read_certificate(pem).subject
            self.clones.superseded_used(DeviceId(subject.id), address)

    def register(self, peer: Peer, hello: Hello) -> Deferred[Welcome]:
        device = self._inventory.paired(peer.device_id)
        if device.client_kind is not ClientKind.NODE:
            raise PolicyDenied(device.name, "register as a node", "it was paired as another kind")
        return Deferred.fromCoroutine(self._sessions.register(peer, hello))

    def attach(self, peer: Peer, first: NodeEvent, carrier: ICarrier) -> NodeSession:
        return self._sessions.attach(peer, first, carrier)

    def run(
        self, peer: Peer, wanted: Wanted, accepted: Callable[[Job], object] | None = None
    ) -> Deferred[Job]:
        caller = self._inventory.paired(peer.device_id)
        self._check_target(caller, wanted.device_id)
        self._guard_against_refusals(caller)
        order = Order(
            device_id=wanted.device_id,
            capability=wanted.capability,
            input_json=wanted.input_json,
            requested_by=client(caller.device_id),
            max_payload_bytes=wanted.max_payload_bytes,
            timeout_ms=wanted.timeout_ms,
            ttl_ms=wanted.ttl_ms,
        )
        if wanted.idempotency_key:
            answer = Deferred.fromCoroutine(self._run_once(order, wanted, accepted))
        else:
            answer = self._run(order, caller, accepted)
        answer.addErrback(self._count_refusal, caller)
        return self._sessions.callers.until_expelled(caller.device_id, answer)

    def _run(
        self, order: Order, caller: Device, accepted: Callable[[Job], object] | None
    ) -> Deferred[Job]:
        try:
            return self._dispatcher.run(order, patience_ms, accepted)
        except RuleDenies:  # at once, and not by the Deferred
            self._refusals.add(caller.device_id, self._now_ms())
            raise

    async def _run_once(
        self, order: Order, wanted: Wanted, accepted: Callable[[Job], object] | None
    ) -> Job:
        scope, key = f"{order.requested_by} execute", wanted.idempotency_key
        made = self._submission.to_one(lambda: order, scope, key, attrs.astuple(wanted))
        # Whoever goes away stops waiting; the call that is being made is made.
        job = await shielded(Deferred.fromCoroutine(made))
        if accepted is not None:
            accepted(job)
        return await self._submission.ended(job)

    def _guard_against_refusals(self, caller: Device) -> None:
        """A refusal that a rule or an offline device makes is on record: one client must not fill
        it with them."""
        wait_ms = self._refusals.wait_ms(caller.device_id, self._now_ms())
        if wait_ms:
            what = "calls of one client that were refused, in a minute"
            raise LimitReached(what, MAX_REFUSALS, wait_ms / 1000)

    def _count_refusal(self, failure: Failure, caller: Device) -> Failure:
        if failure.check(DeviceOffline, RuleDenies):
            self._refusals.add(caller.device_id, self._now_ms())
        return failure

    def follow(self, peer: Peer, job_id: str, wake: Callable[[], None]) -> Deferred[IJobFollowing]:
        return Deferred.fromCoroutine(self._follow(peer, job_id, wake))

    async def _follow(self, peer: Peer, job_id: str, wake: Callable[[], None]) -> IJobFollowing:
        job = await self._own_job(peer, job_id)
        following = self._followers.follow(job.call.job_id, wake, client(peer.device_id))
        following.tell(JobUpdate(job, self._dispatcher.progress_of(job.call.job_id)))
        return following

    def cancel(self, peer: Peer, job_id: str) -> Deferred[Job]:
        return Deferred.fromCoroutine(self._cancel(peer, job_id))

    async def _cancel(self, peer: Peer, job_id: str) -> Job:
        job = await self._own_job(peer, job_id)
        return await self._dispatcher.cancel(job.call.job_id, job.call.requested_by)

    async def _own_job(self, peer: Peer, job_id: str) -> Job:
        """A job that this caller asked for; of others it does not even hear that they exist."""
        self._inventory.paired(peer.device_id)
        job = await self._dispatcher.job(JobId(parse_ulid(job_id, "job_id")))
        if job.call.requested_by != client(peer.device_id):
            raise NotFound("job", job_id)
        return job

    def _check_target(self, caller: Device, device_id: DeviceId) -> None:
        """A device may run on itself; others only as a client that was granted it.

        :raises PolicyDenied: it may not.
        """
        if device_id == caller.device_id:
            return
        if caller.client_kind is ClientKind.NODE:
            raise PolicyDenied(caller.name, "run on other devices", "it is a node")
        if INVOKE_OTHERS not in caller.grants:
            raise PolicyDenied(caller.name, "run on other devices", "that was not granted")

    def follow_events(
        self, peer: Peer, resume_from: int | None, wake: Callable[[], None]
    ) -> Deferred[IEventFollowing]:
        device = self._inventory.paired(peer.device_id)
        return self._journal.follow(device.device_id, resume_from, wake)

    def opened(self, peer: Peer, stream: ICallStream, grace_s: float = 0.0) -> None:
        self._sessions.callers.opened(peer, stream, grace_s)

    def closed(self, peer: Peer, stream: ICallStream) -> None:
        self._sessions.callers.closed(peer, stream)

    def renew(self, peer: Peer, asked: RenewalAsked) -> Deferred[Renewed]:
        return Deferred.fromCoroutine(self._renewals.renew(peer, asked))

    def revoke_self(self, peer: Peer, reason: str) -> Deferred[None]:
        device = self._inventory.paired(peer.device_id)
        return Deferred.fromCoroutine(self._revoker.revoke_self(device, reason))
