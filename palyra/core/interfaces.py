"""What the core's records need from outside: the store, in five small logs.

Every method returns an awaitable (a Deferred in production) that fires after the commit, or fails
with a :class:`palyra.errors.PalyraError` and has then changed nothing.  Values handed in are read
before the method returns; values handed out belong to the caller.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

import attrs
from zope.interface import Interface

from palyra.core.approval import Approval
from palyra.core.approvallog import ICallApprovalLog
from palyra.core.auditlog import IAuditLog
from palyra.core.callapprovals import CallApproval
from palyra.core.descriptorlog import IDescriptorLog
from palyra.core.devices import (
    Approved,
    CertificateRecord,
    Device,
    DeviceChange,
    Offering,
    Registration,
    Removal,
    Renewal,
    Revocation,
    RotationOrder,
)
from palyra.core.fanouts import Fanout, Tally
from palyra.core.identifiers import DeviceId, FanoutId, Fingerprint, JobId, RequestId
from palyra.core.jobs import Job, JobState
from palyra.core.journal import JournalEntry, JournalPage
from palyra.core.operatorlog import IOperatorLog
from palyra.core.pairing import PairingCode, PairingRequest, RequestState
from palyra.core.webhooklog import IWebhookLog


@attrs.frozen
class JobQuery:
    """Which jobs to list, newest first; ``before`` is the job id a page ended with."""

    states: frozenset[JobState] | None = None
    device_id: DeviceId | None = None
    limit: int = 50
    before: JobId | None = None
    capability: str | None = None
    requested_by: str | None = None
    fanout_id: FanoutId | None = None


LISTED_OUTPUT = 1024
"""Bytes of an output that a list of jobs has."""
MAX_KEY = 128
"""Characters of an idempotency key."""


@attrs.frozen
class IdempotencyKey:
    """A key an operator gave to a call: ``scope`` is operator and route, ``digest`` SHA-256 (hex)
    of the canonical request."""

    scope: str
    key: str
    digest: str


@attrs.frozen
class KeyUse:
    """The call a key was used for: its digest, and the job or the fan-out it became."""

    digest: str
    job_id: JobId | None = None
    fanout_id: FanoutId | None = None


@attrs.frozen
class RequestQuery:
    """Which pairing requests to list, newest first."""

    states: frozenset[RequestState] | None = None
    limit: int = 50
    before: RequestId | None = None
    with_key: bool = False
    """Only those that hold a private key made for a version-1 device."""
    device_id: DeviceId | None = None


class IPairingLog(Interface):
    """Codes, pairing requests and their approvals."""

    def add_code(code: PairingCode) -> Awaitable[None]:
        """Keep a new code."""

    def save_code(code: PairingCode) -> Awaitable[None]:
        """Keep a code's counters and state."""

    def withdraw_code(code_id: str, now_ms: int) -> Awaitable[bool]:
        """Take an active code back; False where it was over already."""

    def code_by_digest(digest: str) -> Awaitable[PairingCode | None]:
        """The code whose token has this SHA-256 (hex), in whatever state."""

    def active_codes(now_ms: int) -> Awaitable[list[PairingCode]]:
        """Codes that a device could still use."""

    def forget_key(request_id: RequestId) -> Awaitable[None]:
        """Erase the private key that was made for a version-1 device."""

    def open_request(request: PairingRequest, approval: Approval) -> Awaitable[None]:
        """In one transaction: use up the request's code, if it has one, and keep request and
        approval.

        :raises palyra.errors.PairingFailed: the code is not active any more (a race was lost).
        """

    def request(request_id: RequestId) -> Awaitable[PairingRequest | None]:
        """One pairing request."""

    def request_by_session(session_digest: str) -> Awaitable[PairingRequest | None]:
        """The pairing request that a pairing session opened."""

    def requests(query: RequestQuery) -> Awaitable[list[PairingRequest]]:
        """Pairing requests, newest first."""

    def close_request(request: PairingRequest) -> Awaitable[None]:
        """Keep a request that was rejected or expired, and its approval, in one transaction.

        :raises palyra.errors.ApprovalFinal: it was decided meanwhile.
        """

    def forget_requests(before_ms: int, limit: int) -> Awaitable[int]:
        """Delete requests that were rejected or expired before ``before_ms``, with their approvals,
        and codes that ended before it and that no request refers to; at most ``limit`` of each.
        How many were deleted."""

    def approve_request(request: PairingRequest, device: Device) -> Awaitable[Approved]:
        """In one transaction: keep the approved request, its approval and the device.

        Where the device id was paired with another identity key, that key and its certificates
        are revoked, queued jobs become rejected (``identity_changed``) and dispatched ones
        outcome_unknown.  A tombstone of the key says from then on
        that it was allowed again.

        :raises palyra.errors.ApprovalFinal: it was decided meanwhile.
        """


class IDeviceDirectory(Interface):
    """Devices and their certificates."""

    def devices() -> Awaitable[list[Device]]:
        """Every device that was not removed."""

    def device(device_id: DeviceId) -> Awaitable[Device | None]:
        """One device."""

    def register(registration: Registration) -> Awaitable[Device]:
        """In one transaction: raise session_epoch, keep the facts, make the certificate current.

        :raises palyra.errors.PalyraError: the device is gone, revoked, or the certificate is not
            a live one of that device.
        """

    def offer(offering: Offering) -> Awaitable[Device]:
        """In one transaction: what the device offers from now on, by the rules of a registration.

        :raises palyra.errors.NotRegistered: the session does not own dispatch any more.
        :raises palyra.errors.PalyraError: the device is gone, or revoked.
        """

    def heard(times: Mapping[DeviceId, int]) -> Awaitable[None]:
        """When devices were last heard (Unix ms)."""

    def add_certificate(
        request: PairingRequest, certificate: CertificateRecord
    ) -> Awaitable[CertificateRecord]:
        """In one transaction: complete the request, consume its approval, keep the certificate.

        A request that has its certificate already gets that one back.
        """

    def certificate(fingerprint: Fingerprint) -> Awaitable[CertificateRecord | None]:
        """One certificate."""

    def renew(renewal: Renewal) -> Awaitable[CertificateRecord]:
        """In one transaction: keep a certificate as the device's pending one; an older pending
        one is superseded.

        A CSR that was answered before by a certificate which is live still gets that one back.
        With ``over`` that certificate must be live, and is the device's for as long as the new one
        has not registered; without (a rejoin) every older one is superseded.

        :raises palyra.errors.PalyraError: the device is gone, revoked or has another identity key,
            or ``over`` is not a live certificate of it.
        """

    def order_rotation(order: RotationOrder) -> Awaitable[list[Device]]:
        """In one transaction: note the order with each of these devices that is paired; they as
        they are now.  A registration over a certificate issued at or after the order ends it."""

    def remove(device_id: DeviceId, by: str, reason: str, now_ms: int) -> Awaitable[Removal]:
        """In one transaction: revoke the device if it was not, and delete it with its
        certificates, pairing requests and approvals; its revocations stay as tombstones.

        :raises palyra.errors.NotFound: no such device.
        """

    def certificates_of(device_id: DeviceId) -> Awaitable[list[CertificateRecord]]:
        """Every certificate of a device that is still kept, also those that have ended."""

    def forget_certificates(before_ms: int, limit: int) -> Awaitable[int]:
        """Delete certificates that ended before ``before_ms``, but for the last of each device and
        those of a pairing request that is kept; at most ``limit``.  How many were deleted."""

    def live_certificates() -> Awaitable[list[CertificateRecord]]:
        """Every certificate that is current, pending or superseded, and not past its notAfter."""

    def change(change: DeviceChange) -> Awaitable[Device]:
        """Change name, labels and grants in one transaction; what they are from now on.

        :raises palyra.errors.NotFound: no such device.
        :raises palyra.errors.NameTaken: another device that was not removed has the name.
        :raises palyra.errors.Malformed: it would have more labels than a device may have.
        """

    def revoke(device_id: DeviceId, by: str, reason: str, now_ms: int) -> Awaitable[Revocation]:
        """In one transaction: revoke the device, its key and certificates, end its jobs.

        :raises palyra.errors.NotFound: no such device.
        """

    def revocations() -> Awaitable[list[Revocation]]:
        """Every revocation that still stands."""


class IJobLog(Interface):
    """Jobs and their attempts."""

    def accept(
        job: Job, key: IdempotencyKey | None = None, approval: CallApproval | None = None
    ) -> Awaitable[None]:
        """Keep a new job, with its attempt where it was dispatched at once, and its key; or, not
        dispatched yet, with the approval that it needs, in one transaction.

        :raises palyra.errors.NotRegistered: the attempt's session does not own dispatch any more.
        :raises palyra.errors.AlreadyKept: the key is in use.
        """

    def update(job: Job) -> Awaitable[None]:
        """Keep what became of a job; first final state wins, a later one is an error of the host.

        The first attempt of a job with an ``approval_id`` uses up the job's share of it.

        :raises palyra.errors.NotRegistered: as in :meth:`accept`, for an attempt not kept yet.
        :raises palyra.errors.ApprovalVoid: it needs an approval that was not given, has expired,
            or was used.
        """

    def job(job_id: JobId) -> Awaitable[Job | None]:
        """One job."""

    def jobs(query: JobQuery) -> Awaitable[list[Job]]:
        """Jobs, newest first, as a list shows them: outputs and inputs may have megabytes each.

        ``output_json`` is cut to its first LISTED_OUTPUT bytes, ``input_json`` and ``notes`` are
        empty.  :meth:`job` has all of one.
        """

    def unfinished() -> Awaitable[list[Job]]:
        """Every job that is not final."""

    def job_of_attempt(attempt_id: str) -> Awaitable[Job | None]:
        """The job one of whose attempts has this id."""

    def find_jobs(prefix: str) -> Awaitable[Sequence[JobId]]:
        """Ids whose random part begins with ``prefix`` (upper case), at most ten, newest first.

        Only the newest jobs are looked through: cost must not grow with history.
        """

    def key_use(scope: str, key: str) -> Awaitable[KeyUse | None]:
        """The call an idempotency key was used for."""

    def forget_jobs(before_ms: int, keep: int, limit: int) -> Awaitable[int]:
        """Delete the oldest ended jobs that were submitted before ``before_ms``, or beyond the
        ``keep`` newest, with their attempts, notes, keys and empty fan-outs; at most ``limit`` in
        one transaction.  How many were deleted.

        A job with a key younger than 24 hours stays, and so does every row of a fan-out until its
        last row has ended: what became of them decides whether the others start.
        """


class IFanoutLog(Interface):
    """Fan-outs; their rows are jobs with their ``fanout_id``."""

    def accept_fanout(
        fanout: Fanout,
        rows: Sequence[Job],
        key: IdempotencyKey | None = None,
        approval: CallApproval | None = None,
    ) -> Awaitable[None]:
        """In one transaction: keep a fan-out with all its rows, none of them dispatched yet, and
        the approval that some of them need.

        :raises palyra.errors.AlreadyKept: the key is in use.
        """

    def fanout(fanout_id: FanoutId) -> Awaitable[Fanout | None]:
        """One fan-out."""

    def tally(fanout_id: FanoutId) -> Awaitable[Tally]:
        """What became of its rows so far."""

    def find_fanouts(prefix: str) -> Awaitable[Sequence[FanoutId]]:
        """As :meth:`IJobLog.find_jobs`."""


class IEventJournal(Interface):
    """What happened to each device (:mod:`palyra.core.journal`).

    The other logs write it, each event in the transaction of its fact: what is answered is on it.
    """

    def journal(device_id: DeviceId, after_seq: int, limit: int) -> Awaitable[JournalPage]:
        """The events of a device with numbers above ``after_seq``, at most ``limit``."""

    def note(entries: Sequence[JournalEntry]) -> Awaitable[None]:
        """Keep what happened in nobody's transaction.  Of a device that does not exist: nothing."""

    def watch(followed: Collection[DeviceId], grown: Callable[[DeviceId], object]) -> None:
        """From now on call ``grown`` in the reactor's thread, after the commit, for each device in
        ``followed`` whose journal has grown.

        ``followed`` stays the caller's, who may change it in the reactor's thread at any time; for
        a device that was put into it before a page was read, no later event is missed.  ``grown``
        may be called where nothing is new, and must not ask the store at once.
        """


class IStore(
    IPairingLog,
    IDeviceDirectory,
    IJobLog,
    IFanoutLog,
    IEventJournal,
    IAuditLog,
    IOperatorLog,
    ICallApprovalLog,
    IWebhookLog,
    IDescriptorLog,
):
    """The logs on one store."""

    store_epoch: str
    gateway_id: str
    unconfirmed_since_ms: int | None
    """The age of what the store was restored or imported from, until an operator confirmed that
    the revocations since then are known here; None: nothing is to confirm."""

    def confirm() -> Awaitable[None]:
        """The operator confirmed it."""
