"""Desks and sessions that answer what a test tells them to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cryptography import x509
from twisted.internet.defer import Deferred, DeferredQueue, fail, succeed
from zope.interface import implementer

from palyra.core.frames import GatewayFrame, Hello, JobUpdate, NodeEvent, Wanted, Welcome
from palyra.core.handshake import Begun
from palyra.core.identifiers import DeviceId, Fingerprint
from palyra.core.jobs import Job
from palyra.errors import CertificateRefused, PairingFailed, PalyraError
from palyra.transport.interfaces import (
    ICallStream,
    IEnrolmentDesk,
    IEventFollowing,
    IGatewaySession,
    IJobFollowing,
    INodeDesk,
    Peer,
)
from palyra.wire.pairing import RenewalAsked, Renewed, SessionOpened


@implementer(IEnrolmentDesk)
class FakeEnrolment:
    """Answers Begin, at once or when a test says, and refuses the rest."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, str]] = []
        self.refusal: PalyraError | None = None
        self.patient = False
        """Whether Begin waits until a test answers what is in ``waiting``."""
        self.waiting: list[Deferred[Any]] = []
        self.came: DeferredQueue[None] = DeferredQueue()

    def begin(self, message: Any, address: str) -> Deferred[Any]:
        self.asked.append((message, address))
        self.came.put(None)
        if self.refusal is not None:
            return fail(self.refusal)
        if self.patient:
            self.waiting.append(Deferred())
            return self.waiting[-1]
        return succeed(self.opened(message))

    def opened(self, message: Any) -> SessionOpened:
        return SessionOpened(Begun("0" * 32, b"c", b"g"), message.client_kind, 5, 6)

    def complete(self, message: Any, address: str) -> Deferred[Any]:
        self.asked.append((message, address))
        return fail(self.refusal or PairingFailed())

    def status(self, message: Any, address: str) -> Deferred[Any]:
        return fail(PairingFailed())


@implementer(IGatewaySession)
class FakeSession:
    """Keeps what it receives; gives the frames it is told to."""

    def __init__(self, extended: bool, carrier: Any) -> None:
        self.extended = extended
        self.carrier = carrier
        self.received_events: list[NodeEvent] = []
        self.frames: list[GatewayFrame] = []
        self.reasons: list[str] = []
        self.addresses: list[str] = []
        self.over: Deferred[str] = Deferred()
        self.heard: Deferred[NodeEvent] = Deferred()

    def received(self, event: NodeEvent) -> None:
        self.received_events.append(event)
        heard, self.heard = self.heard, Deferred()
        heard.callback(event)

    def take_frame(self) -> GatewayFrame | None:
        return self.frames.pop(0) if self.frames else None

    def moved(self, address: str) -> None:
        self.addresses.append(address)

    def ended(self, reason: str) -> None:
        self.reasons.append(reason)
        if not self.over.called:
            self.over.callback(reason)

    def say(self, frame: GatewayFrame) -> None:
        self.frames.append(frame)
        self.carrier.wake()


@implementer(IJobFollowing)
class FakeFollowing:
    """Gives the updates that a test says."""

    def __init__(self) -> None:
        self.finished = False
        self.gathered: list[JobUpdate] = []
        self.closes = 0
        self.closed: Deferred[None] = Deferred()
        self.wake: Callable[[], None] = lambda: None

    def say(self, *updates: JobUpdate) -> None:
        self.gathered.extend(updates)
        self.wake()

    def take(self) -> list[JobUpdate]:
        taken, self.gathered = self.gathered, []
        self.finished = any(update.job.final for update in taken)
        return taken

    def close(self) -> None:
        self.closes += 1
        if not self.closed.called:
            self.closed.callback(None)


@implementer(INodeDesk)
class FakeDesk:
    """Admits the device of the certificate, and answers what a test tells it to."""

    def __init__(self) -> None:
        self.extended = True
        self.refusal: PalyraError | None = None
        self.answer: Any = None
        self.asked: list[Any] = []
        self.attached: Deferred[FakeSession] = Deferred()
        self.running: list[Deferred[Job]] = []
        self.accepted: list[Any] = []
        self.let_go: list[Wanted] = []
        self.following = FakeFollowing()
        self.follows_when: Deferred[IJobFollowing] | None = None
        self.streams: list[ICallStream] = []
        self.stream_opened: DeferredQueue[ICallStream] = DeferredQueue()
        self.stream_closed: DeferredQueue[ICallStream] = DeferredQueue()

    def admit(self, pem: bytes, claimed: str | None, address: str, transport: str) -> Peer:
        certificate = x509.load_pem_x509_certificate(pem)
        name = certificate.subject.rfc4514_string().removeprefix("CN=")
        if claimed is not None and claimed != name:
            raise CertificateRefused("another device")
        return Peer(DeviceId(name), Fingerprint("f"), 1, address, transport)

    def register(self, peer: Peer, hello: Hello) -> Deferred[Welcome]:
        self.asked.append((peer, hello))
        if self.refusal is not None:
            return fail(self.refusal)
        return succeed(Welcome(peer.device_id, "s", 3, 15_000, 9, "ca", ("echo",), "pi", "0.1"))

    def attach(self, peer: Peer, first: NodeEvent, carrier: Any) -> FakeSession:
        if self.refusal is not None:
            raise self.refusal
        session = FakeSession(self.extended, carrier)
        self.attached.callback(session)
        return session

    def run(
        self, peer: Peer, wanted: Wanted, accepted: Callable[[Job], object] | None = None
    ) -> Deferred[Job]:
        self.asked.append(wanted)
        self.accepted.append(accepted)
        running = self.answer() if callable(self.answer) else self.answer
        if isinstance(running, PalyraError):
            return fail(running)
        if running is not None:
            return succeed(running)
        waiting: Deferred[Job] = Deferred(lambda _: self.let_go.append(wanted))
        self.running.append(waiting)
        return waiting

    def follow(self, peer: Peer, job_id: str, wake: Callable[[], None]) -> Deferred[IJobFollowing]:
        self.asked.append(job_id)
        self.following.wake = wake
        if self.refusal is not None:
            return fail(self.refusal)
        return self.follows_when or succeed(self.following)

    def follow_events(
        self, peer: Peer, resume_from: int | None, wake: Callable[[], None]
    ) -> Deferred[IEventFollowing]:
        self.asked.append(resume_from)
        return fail(self.refusal or AssertionError("no test follows events here"))

    def cancel(self, peer: Peer, job_id: str) -> Deferred[Job]:
        self.asked.append(job_id)
        return fail(self.answer) if isinstance(self.answer, PalyraError) else succeed(self.answer)

    def opened(self, peer: Peer, stream: ICallStream, grace_s: float = 0.0) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.streams.append(stream)
        self.stream_opened.put(stream)

    def closed(self, peer: Peer, stream: ICallStream) -> None:
        if stream in self.streams:
            self.streams.remove(stream)
            self.stream_closed.put(stream)

    def renew(self, peer: Peer, asked: RenewalAsked) -> Deferred[Renewed]:
        self.asked.append((peer, asked))
        return fail(self.answer) if isinstance(self.answer, PalyraError) else succeed(self.answer)

    def revoke_self(self, peer: Peer, reason: str) -> Deferred[None]:
        self.asked.append((peer.device_id, reason))
        return succeed(None)
