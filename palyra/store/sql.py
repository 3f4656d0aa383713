"""The store on a SQL database: one writer thread, one reader thread."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Self, TypeVar

import attrs
from sqlalchemy import Connection
from twisted.internet.defer import Deferred, gatherResults
from zope.interface import implementer

from palyra._files import write_atomic
from palyra.core.approval import Approval
from palyra.core.callapprovals import CallApproval
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
from palyra.core.interfaces import (
    IdempotencyKey,
    IStore,
    JobQuery,
    KeyUse,
    RequestQuery,
)
from palyra.core.jobs import FINAL, Job
from palyra.core.journal import JournalEntry, JournalPage
from palyra.core.pairing import PairingCode, PairingRequest
from palyra.store import (
    directory,
    fanoutlog,
    joblog,
    journal,
    opening,
    pairinglog,
    removal,
    retention,
    rules,
)
from palyra.store.consolelogs import ConsoleLogs
from palyra.store.jobbatch import FanoutWrite, JobBatch, JobWrite
from palyra.store.snapshot import (
    FINAL_JOBS,
    StoreContent,
    build_snapshot,
    newest_jobs,
)
from palyra.store.threads import (
    CallFromThread,
    CallSoon,
    IDatabase,
    Reader,
    at_once,
)
from palyra.store.writer import Writer

T = TypeVar("T")


@implementer(IStore)
class SqlStore(ConsoleLogs):
    """Provides IStore over a writer and a reader.  Every Deferred fires in the reactor's thread.

    ``imported`` says that this start made the store from a snapshot.  While
    ``unconfirmed_since_ms`` is not None nothing should be served: an operator has yet to confirm
    the revocations made since then.
    """

    def __init__(
        self,
        identity: opening.Identity,
        writer: Writer,
        reader: Reader,
        jobs: JobBatch,
        now_ms: Callable[[], int],
    ) -> None:
        super().__init__(writer, reader, now_ms)
        self.gateway_id = identity.gateway_id
        self.store_epoch = identity.store_epoch
        self.imported = identity.imported
        self.unconfirmed_since_ms = identity.unconfirmed_since_ms
        self._jobs = jobs

    @classmethod
    def over(
        cls,
        to_write: IDatabase,
        to_read: IDatabase,
        identity: opening.Identity,
        *,
        call_from_thread: CallFromThread,
        now_ms: Callable[[], int],
        call_soon: CallSoon = at_once,
        writing: Connection | None = None,
    ) -> Self:
        """Start both threads; ``writing`` is the writer's connection where it is open already.

        What is asked for in one turn of the reactor is handed over together, by ``call_soon``.
        """
        writing = to_write.connect() if writing is None else writing
        try:
            reading = to_read.connect()
        except Exception:
            writing.close()
            raise
        jobs = JobBatch(writing.dialect)
        writer = Writer("palyra-store-writer", to_write, writing, call_from_thread, call_soon)
        reader = Reader("palyra-store-reader", to_read, reading, call_from_thread, call_soon)
        writer.start()
        reader.start()
        return cls(identity, writer, reader, jobs, now_ms)

    def close(self) -> Deferred[None]:
        """Finish what was submitted, checkpoint, end both threads."""
        ended = gatherResults([self._writer.close(), self._reader.close()])
        return ended.addCallback(lambda _: None)

    def measure(self, committed: Callable[[int, float], object]) -> None:
        """Call ``committed`` in the writer's thread after each transaction, with the number of
        operations and the seconds it took."""
        self._writer.measure(committed)

    def write_snapshot(self, path: Path) -> Deferred[None]:
        """Replace ``node-runtime.v1.json``; done in the reader's thread."""
        return self._read(self._write_snapshot, path)

    def confirm(self) -> Deferred[None]:
        return self._write(opening.confirm, self._now_ms()).addCallback(self._confirmed)

    # -- IPairingLog ------------------------------------------------------------------------------

    def add_code(self, code: PairingCode) -> Deferred[None]:
        return self._write(pairinglog.add_code, rules.own_code(code))

    def save_code(self, code: PairingCode) -> Deferred[None]:
        return self._write(pairinglog.save_code, rules.own_code(code))

    def withdraw_code(self, code_id: str, now_ms: int) -> Deferred[bool]:
        return self._write(pairinglog.withdraw_code, code_id, now_ms)

    def code_by_digest(self, digest: str) -> Deferred[PairingCode | None]:
        return self._read(pairinglog.code_by_digest, digest)

    def active_codes(self, now_ms: int) -> Deferred[list[PairingCode]]:
        return self._read(pairinglog.active_codes, now_ms)

    def forget_key(self, request_id: RequestId) -> Deferred[None]:
        return self._write(pairinglog.forget_key, request_id)

    def open_request(self, request: PairingRequest, approval: Approval) -> Deferred[None]:
        return self._write(
            pairinglog.open_request, rules.own_request(request), attrs.evolve(approval)
        )

    def request(self, request_id: RequestId) -> Deferred[PairingRequest | None]:
        return self._read(pairinglog.request, request_id)

    def request_by_session(self, session_digest: str) -> Deferred[PairingRequest | None]:
        return self._read(pairinglog.request_by_session, session_digest)

    def requests(self, query: RequestQuery) -> Deferred[list[PairingRequest]]:
        return self._read(pairinglog.list_requests, query)

    def close_request(self, request: PairingRequest) -> Deferred[None]:
        return self._write(pairinglog.close_request, rules.own_request(request))

    def forget_requests(self, before_ms: int, limit: int) -> Deferred[int]:
        return Deferred.fromCoroutine(self._forget_requests(before_ms, limit))

    def approve_request(self, request: PairingRequest, device: Device) -> Deferred[Approved]:
        return self._write(
            pairinglog.approve_request, rules.own_request(request), rules.own_device(device)
        )

    # -- IDeviceDirectory -------------------------------------------------------------------------

    def devices(self) -> Deferred[list[Device]]:
        return self._read(directory.list_devices)

    def device(self, device_id: DeviceId) -> Deferred[Device | None]:
        return self._read(directory.device, device_id)

    def register(self, registration: Registration) -> Deferred[Device]:
        return self._write(directory.register, registration)

    def offer(self, offering: Offering) -> Deferred[Device]:
        return self._write(directory.offer, offering)

    def heard(self, times: Mapping[DeviceId, int]) -> Deferred[None]:
        return self._write(directory.heard, dict(times))

    def add_certificate(
        self, request: PairingRequest, certificate: CertificateRecord
    ) -> Deferred[CertificateRecord]:
        return self._write(pairinglog.complete_request, request.request_id, certificate)

    def certificate(self, fingerprint: Fingerprint) -> Deferred[CertificateRecord | None]:
        return self._read(directory.certificate, fingerprint)

    def renew(self, renewal: Renewal) -> Deferred[CertificateRecord]:
        return self._write(directory.renew, renewal)

    def order_rotation(self, order: RotationOrder) -> Deferred[list[Device]]:
        return self._write(directory.order_rotation, order)

    def remove(self, device_id: DeviceId, by: str, reason: str, now_ms: int) -> Deferred[Removal]:
        return self._write(removal.remove, device_id, by, reason, now_ms)

    def certificates_of(self, device_id: DeviceId) -> Deferred[list[CertificateRecord]]:
        return self._read(directory.certificates_of, device_id)

    def forget_certificates(self, before_ms: int, limit: int) -> Deferred[int]:
        found = self._read(retention.forgettable_certificates, before_ms, limit)
        return self._forget(found, retention.forget_certificates)

    def live_certificates(self) -> Deferred[list[CertificateRecord]]:
        return self._read(directory.live_certificates, self._now_ms())

    def change(self, change: DeviceChange) -> Deferred[Device]:
        own = attrs.evolve(change, labels=dict(change.labels))
        return self._write(directory.change, own, self._now_ms())

    def revoke(
        self, device_id: DeviceId, by: str, reason: str, now_ms: int
    ) -> Deferred[Revocation]:
        return self._write(directory.revoke, device_id, by, reason, now_ms)

    def revocations(self) -> Deferred[list[Revocation]]:
        return self._read(directory.list_revocations)

    # -- IJobLog ----------------------------------------------------------------------------------

    def accept(
        self, job: Job, key: IdempotencyKey | None = None, approval: CallApproval | None = None
    ) -> Deferred[None]:
        write = JobWrite.of(job, new=True, key=key)
        if approval is not None:
            return self._write(self._jobs.accept_asked, write, attrs.evolve(approval))
        return self._writer.submit_item(self._jobs, write)

    def update(self, job: Job) -> Deferred[None]:
        return self._writer.submit_item(self._jobs, JobWrite.of(job, new=False))

    def job(self, job_id: JobId) -> Deferred[Job | None]:
        return self._read(joblog.job, job_id)

    def jobs(self, query: JobQuery) -> Deferred[list[Job]]:
        return self._read(joblog.list_jobs, query)

    def unfinished(self) -> Deferred[list[Job]]:
        return self._read(joblog.unfinished)

    def job_of_attempt(self, attempt_id: str) -> Deferred[Job | None]:
        return self._read(joblog.job_of_attempt, attempt_id)

    def find_jobs(self, prefix: str) -> Deferred[Sequence[JobId]]:
        return self._read(joblog.find_jobs, prefix)

    def key_use(self, scope: str, key: str) -> Deferred[KeyUse | None]:
        return self._read(joblog.key_use, scope, key)

    def forget_jobs(self, before_ms: int, keep: int, limit: int) -> Deferred[int]:
        found = self._read(retention.forgettable, before_ms, keep, limit, self._now_ms())
        return self._forget(found, retention.forget)

    # -- IFanoutLog -------------------------------------------------------------------------------

    def accept_fanout(
        self,
        fanout: Fanout,
        rows: Sequence[Job],
        key: IdempotencyKey | None = None,
        approval: CallApproval | None = None,
    ) -> Deferred[None]:
        write = FanoutWrite.of(fanout, rows, key)
        own = approval and attrs.evolve(approval)
        return self._write(self._jobs.accept_fanout, write, own)

    def fanout(self, fanout_id: FanoutId) -> Deferred[Fanout | None]:
        return self._read(fanoutlog.fanout, fanout_id)

    def tally(self, fanout_id: FanoutId) -> Deferred[Tally]:
        return self._read(fanoutlog.tally, fanout_id)

    def find_fanouts(self, prefix: str) -> Deferred[Sequence[FanoutId]]:
        return self._read(fanoutlog.find_fanouts, prefix)

    # -- IEventJournal ----------------------------------------------------------------------------

    def journal(self, device_id: DeviceId, after_seq: int, limit: int) -> Deferred[JournalPage]:
        return self._read(journal.page, device_id, after_seq, limit)

    def note(self, entries: Sequence[JournalEntry]) -> Deferred[None]:
        return self._writer.submit_item(journal.note, [*map(journal.line, entries)])

    def watch(self, followed: Collection[DeviceId], grown: Callable[[DeviceId], object]) -> None:
        self._writer.watch(followed, grown)

    # -- inside -----------------------------------------------------------------------------------

    def _confirmed(self, _: None) -> None:
        self.unconfirmed_since_ms = None

    async def _forget_requests(self, before_ms: int, limit: int) -> int:
        """Codes after requests: those may be what referred to them."""
        requests = self._read(retention.forgettable_requests, before_ms, limit)
        forgotten = await self._forget(requests, retention.forget_requests)
        codes = self._read(retention.forgettable_codes, before_ms, limit)
        return forgotten + await self._forget(codes, retention.forget_codes)

    def _write_snapshot(self, connection: Connection, path: Path) -> None:
        now_ms = self._now_ms()
        final = joblog.list_jobs(connection, JobQuery(states=FINAL, limit=FINAL_JOBS))
        content = StoreContent(
            gateway_id=self.gateway_id,
            store_epoch=self.store_epoch,
            codes=pairinglog.active_codes(connection, now_ms),
            requests=pairinglog.list_requests(connection, RequestQuery(limit=FINAL_JOBS)),
            devices=directory.list_devices(connection),
            certificates=directory.usable_certificates(connection),
            revocations=directory.list_revocations(connection),
            jobs=newest_jobs(joblog.list_unfinished(connection), final),
        )
        write_atomic(path, build_snapshot(content, now_ms))
