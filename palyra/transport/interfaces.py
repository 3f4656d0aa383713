"""What carriers need from the house, and what the house needs from a carrier."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from palyra.core.frames import GatewayFrame, Hello, JobUpdate, NodeEvent, Wanted, Welcome
from palyra.core.identifiers import DeviceId, Fingerprint
from palyra.core.jobs import Job
from palyra.core.journal import JournalEvent, JournalGap
from palyra.errors import PalyraError
from palyra.wire.pairing import RenewalAsked, Renewed


@attrs.frozen
class Peer:
    """A device that passed the trust gate on this call.  ``address`` is for people."""

    device_id: DeviceId
    fingerprint: Fingerprint
    not_after_ms: int
    address: str
    transport: str


class ICarrier(Interface):
    """One live connection of a node, seen from its session."""

    def wake() -> None:
        """Something waits in ``take_frame``; several calls before it is taken are one."""

    def close(error: PalyraError | None) -> None:
        """End the connection: with the error's status, or normally.  Again: nothing."""


class IGatewaySession(Interface):
    """A node's session, seen from its carrier."""

    extended: bool = Attribute("Whether the node understands more than version 1.")

    def received(event: NodeEvent) -> None:
        """The node said something."""

    def take_frame() -> GatewayFrame | None:
        """Everything that gathered since the last call, None if nothing did."""

    def moved(address: str) -> None:
        """The node speaks from another address now, over the same connection."""

    def ended(reason: str) -> None:
        """The connection is gone; nothing will be taken any more."""


class INodeSession(Interface):
    """A node's end of a session, seen from its carrier."""

    def received(frame: GatewayFrame) -> None:
        """The gateway said something."""

    def take_event() -> NodeEvent | None:
        """Everything that gathered since the last call, None if nothing did."""


class IJobFollowing(Interface):
    """One follower of a job.  It is told to look, and takes what it can carry."""

    finished: bool = Attribute("Whether the final state was taken: nothing follows.")

    def take() -> list[JobUpdate]:
        """What changed since the last call: of a job only its newest state and progress."""

    def close() -> None:
        """Stop following.  Again: nothing."""


class IEventFollowing(Interface):
    """One follower of a device's journal.  It is told to look, and takes what it can carry."""

    def take(limit: int = 256) -> Deferred[list[JournalEvent | JournalGap]]:
        """What comes next, at most ``limit`` (and at most 256): events in their order, or a gap
        alone where the next ones are deleted already.  One call at a time.

        Take until nothing comes; what is committed after such a call began is told by ``wake``,
        once until the next call.  After :meth:`close` nothing comes.
        """

    def close() -> None:
        """Stop following.  Again: nothing."""


class ICallStream(Interface):
    """What a caller has open (SubmitJobs, FollowJob, a QUIC connection), seen from the desk."""

    def close(error: PalyraError) -> None:
        """End the stream with the error's status, within a second.  Again: nothing.

        Answers that wait to be written are dropped where the error says that the peer is no
        longer trusted.
        """


class INodeDesk(Interface):
    """What a paired client may ask of the gateway.  Methods raise, or fail with, PalyraError."""

    def admit(pem: bytes, claimed: str | None, address: str, transport: str) -> Peer:
        """Who speaks; every call and every stream asks this first."""

    def register(peer: Peer, hello: Hello) -> Deferred[Welcome]:
        """RegisterNode."""

    def attach(peer: Peer, first: NodeEvent, carrier: Any) -> Any:
        """Begin a session on ``carrier`` (ICarrier); gives an IGatewaySession."""

    def run(
        peer: Peer, wanted: Wanted, accepted: Callable[[Job], object] | None = None
    ) -> Deferred[Job]:
        """ExecuteCapability and SubmitJobs; fires with the final job.

        ``accepted`` is called with the job as soon as it is on record.  Cancelling the Deferred
        stops the waiting, never the job.
        """

    def follow(peer: Peer, job_id: str, wake: Callable[[], None]) -> Deferred[IJobFollowing]:
        """FollowJob: ``wake`` says that there is something to take; its state is there at once.

        Fails with NotFound for a job of somebody else, with LimitReached where too many follow.
        """

    def follow_events(
        peer: Peer, resume_from: int | None, wake: Callable[[], None]
    ) -> Deferred[IEventFollowing]:
        """node.stream_events: the journal of the caller itself, after the event ``resume_from``;
        None: from the oldest event that is kept.  ``wake`` must not call back into the following.

        Fails with LimitReached where too many follow, with Malformed where there is no such event
        yet: a client that knows a number of an earlier store begins again with None.
        """

    def cancel(peer: Peer, job_id: str) -> Deferred[Job]:
        """CancelJob: ask for the end of a job of one's own; fires with the job as it is then."""

    def opened(peer: Peer, stream: ICallStream, grace_s: float = 0.0) -> None:
        """A stream of calls begins; it is closed when its peer is no longer trusted, and
        ``grace_s`` after the certificate has run out.

        :raises palyra.errors.LimitReached: the device has as many open as it may have.
        """

    def closed(peer: Peer, stream: ICallStream) -> None:
        """The stream has ended.  Of a stream that was refused, or again: nothing."""

    def renew(peer: Peer, asked: RenewalAsked) -> Deferred[Renewed]:
        """RotateDeviceCertificate: the device's next certificate."""

    def revoke_self(peer: Peer, reason: str) -> Deferred[None]:
        """RevokeDevicePairing: a device takes its own trust away, and is removed."""


class IEnrolmentDesk(Interface):
    """What an unpaired peer may ask: pairing, and nothing else."""

    def begin(message: Any, address: str) -> Deferred[Any]:
        """BeginPairingSession: a ``wire.pairing.Begin`` in, a ``Begun`` out."""

    def complete(message: Any, address: str) -> Deferred[Any]:
        """CompletePairingSession."""

    def status(message: Any, address: str) -> Deferred[Any]:
        """GetPairingRequestStatus."""
