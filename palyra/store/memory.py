"""The store in memory: for tests, and for a gateway that may forget.

It keeps the same rules as the SQLite store and passes the same contract tests.  Every Deferred it
returns has fired already; what it keeps and what it hands out are copies.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from palyra._files import write_atomic
from palyra.core.approval import Approval
from palyra.core.devices import (
    CertificateRecord,
    CertificateState,
    Device,
    DeviceChange,
    DeviceState,
    Registration,
    Revocation,
)
from palyra.core.fanouts import Fanout, Tally, is_failure
from palyra.core.identifiers import (
    DeviceId,
    Entropy,
    FanoutId,
    Fingerprint,
    JobId,
    RequestId,
    has_prefix,
    new_ulid,
)
from palyra.core.interfaces import IdempotencyKey, IStore, JobQuery, KeyUse, RequestQuery
from palyra.core.jobs import Attempt, Job
from palyra.core.pairing import CodeState, PairingCode, PairingRequest, RequestState
from palyra.errors import (
    AlreadyKept,
    DeviceRevoked,
    NotFound,
    NotRegistered,
    PairingFailed,
    PalyraError,
)
from palyra.store import rules
from palyra.store.joblog import FOUND_AT_MOST
from palyra.store.jobrows import MAX_NOTES
from palyra.store.retention import KEY_LIFE_MS, first_id
from palyra.store.snapshot import FINAL_JOBS, StoreContent, build_snapshot, newest_jobs

P = ParamSpec("P")
T = TypeVar("T")
K = TypeVar("K")


def _fired(
    function: Callable[Concatenate[MemoryStore, P], T],
) -> Callable[Concatenate[MemoryStore, P], Deferred[T]]:
    """The method as a fired Deferred of its result, or of its refusal."""

    @wraps(function)
    def method(self: MemoryStore, /, *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        try:
            return succeed(function(self, *args, **kwargs))
        except PalyraError as error:
            return fail(error)

    return method


@implementer(IStore)
class MemoryStore:
    """Provides IStore on dictionaries.  ``now_ms`` is wall time in Unix milliseconds."""

    imported = False

    def __init__(self, *, now_ms: Callable[[], int], entropy: Entropy = os.urandom) -> None:
        self.gateway_id = new_ulid(now_ms(), entropy)
        self.store_epoch = entropy(16).hex()
        self._now_ms = now_ms
        self._codes: dict[str, PairingCode] = {}
        self._requests: dict[RequestId, PairingRequest] = {}
        self._approvals: dict[str, Approval] = {}
        self._devices: dict[DeviceId, Device] = {}
        self._certificates: dict[Fingerprint, CertificateRecord] = {}
        self._issued: dict[RequestId, Fingerprint] = {}
        self._revocations: dict[tuple[DeviceId, Fingerprint], Revocation] = {}
        self._jobs: dict[JobId, Job] = {}
        self._attempts: dict[str, JobId] = {}
        self._fanouts: dict[FanoutId, Fanout] = {}
        self._keys: dict[tuple[str, str], tuple[KeyUse, int]] = {}

    @_fired
    def close(self) -> None:
        """Nothing to end: there is no thread and no file."""

    @_fired
    def write_snapshot(self, path: Path) -> None:
        """Replace ``node-runtime.v1.json``."""
        now_ms = self._now_ms()
        newest = self._list_jobs()
        final = [job for job in newest if job.final][:FINAL_JOBS]
        content = StoreContent(
            gateway_id=self.gateway_id,
            store_epoch=self.store_epoch,
            codes=self._active(now_ms),
            requests=self._list_requests()[:FINAL_JOBS],
            devices=self._list_devices(),
            certificates=self._certificates_where(lambda each: each.state in rules.LIVE),
            revocations=self._list_revocations(),
            jobs=newest_jobs((job for job in newest if not job.final), final),
        )
        write_atomic(path, build_snapshot(content, now_ms))

    # -- IPairingLog ------------------------------------------------------------------------------

    @_fired
    def add_code(self, code: PairingCode) -> None:
        _add(self._codes, code.code_id, rules.own_code(code))

    @_fired
    def save_code(self, code: PairingCode) -> None:
        kept = self._codes.get(code.code_id)
        if kept is not None and kept.state is CodeState.ACTIVE:
            kept.state, kept.reserved, kept.failed = code.state, code.reserved, code.failed

    @_fired
    def code_by_digest(self, digest: str) -> PairingCode | None:
        found = (code for code in self._codes.values() if digest and code.digest == digest)
        return next(map(rules.own_code, found), None)

    @_fired
    def active_codes(self, now_ms: int) -> list[PairingCode]:
        return self._active(now_ms)

    @_fired
    def open_request(self, request: PairingRequest, approval: Approval) -> None:
        code = self._codes.get(request.code_id)
        if code is None or code.state is not CodeState.ACTIVE:
            raise PairingFailed()
        sessions = {kept.session_digest for kept in self._requests.values()}
        if request.session_digest in sessions or approval.approval_id in self._approvals:
            raise AlreadyKept()
        _add(self._requests, request.request_id, rules.own_request(request))
        self._approvals[approval.approval_id] = attrs.evolve(approval)
        code.state = CodeState.USED

    @_fired
    def request(self, request_id: RequestId) -> PairingRequest | None:
        kept = self._requests.get(request_id)
        return None if kept is None else rules.own_request(kept)

    @_fired
    def request_by_session(self, session_digest: str) -> PairingRequest | None:
        every = self._requests.values()
        found = (each for each in every if each.session_digest == session_digest)
        return next(map(rules.own_request, found), None)

    @_fired
    def requests(self, query: RequestQuery) -> list[PairingRequest]:
        found = [
            each
            for each in self._list_requests()
            if (query.states is None or each.state in query.states)
            and (query.before is None or each.request_id < query.before)
        ]
        return found[: query.limit]

    @_fired
    def close_request(self, request: PairingRequest) -> None:
        kept = self._requests.get(request.request_id)
        self._decide(rules.require_state(kept, request.request_id, RequestState.PENDING), request)

    @_fired
    def approve_request(self, request: PairingRequest, device: Device) -> Revocation | None:
        kept_request = self._requests.get(request.request_id)
        kept_request = rules.require_state(kept_request, request.request_id, RequestState.PENDING)
        kept = self._devices.get(device.device_id)
        if kept is not None:
            rules.refuse_revoked_device(kept)
        key = device.identity_fingerprint
        rules.refuse_revoked_key(
            device, [each for each in self._list_revocations() if each.identity_fingerprint == key]
        )
        revocation = None
        if kept is not None and kept.identity_fingerprint != key:
            code, sentence = rules.identity_changed(kept)
            now_ms = device.paired_at_ms
            revocation = self._revoke_key(kept, request.decided_by, code, now_ms)
            self._end_jobs(kept.device_id, code, sentence, now_ms)
        taken = self._names_of_others(device.device_id)
        self._devices[device.device_id] = rules.paired(kept, device, request, taken)
        self._decide(kept_request, request)
        return revocation

    # -- IDeviceDirectory -------------------------------------------------------------------------

    @_fired
    def devices(self) -> list[Device]:
        return self._list_devices()

    @_fired
    def device(self, device_id: DeviceId) -> Device | None:
        kept = self._devices.get(device_id)
        return None if kept is None else rules.own_device(kept)

    @_fired
    def register(self, registration: Registration) -> Device:
        kept = self._devices.get(registration.device_id)
        over = self._certificates.get(registration.fingerprint)
        now = self._devices[registration.device_id] = rules.registered(kept, over, registration)
        if over is not None and over.state is CertificateState.PENDING:
            self._supersede(now.device_id, CertificateState.CURRENT)
            self._set_state(over, CertificateState.CURRENT)
        return rules.own_device(now)

    @_fired
    def heard(self, times: Mapping[DeviceId, int]) -> None:
        for device_id, at_ms in times.items():
            kept = self._devices.get(device_id)
            if kept is not None and (kept.last_heard_ms is None or kept.last_heard_ms < at_ms):
                self._devices[device_id] = attrs.evolve(kept, last_heard_ms=at_ms)

    @_fired
    def add_certificate(
        self, request: PairingRequest, certificate: CertificateRecord
    ) -> CertificateRecord:
        request_id = request.request_id
        if request_id in self._issued:
            return self._certificates[self._issued[request_id]]
        kept = self._requests.get(request_id)
        kept = rules.require_state(kept, request_id, RequestState.APPROVED)
        rules.refuse_pick_up(kept, self._devices.get(kept.device_id))
        if certificate.fingerprint in self._certificates:
            raise AlreadyKept()
        if certificate.state is CertificateState.PENDING:
            self._supersede(certificate.device_id, CertificateState.PENDING)
        self._certificates[certificate.fingerprint] = certificate
        self._issued[request_id] = certificate.fingerprint
        self._decide(kept, attrs.evolve(kept, state=RequestState.COMPLETED))
        return certificate

    @_fired
    def certificate(self, fingerprint: Fingerprint) -> CertificateRecord | None:
        return self._certificates.get(fingerprint)

    @_fired
    def live_certificates(self) -> list[CertificateRecord]:
        now_ms = self._now_ms()
        return self._certificates_where(
            lambda each: each.state in rules.RECOGNISED and each.not_after_ms > now_ms
        )

    @_fired
    def change(self, change: DeviceChange) -> Device:
        kept = self._devices.get(change.device_id)
        now = rules.changed(kept, change, self._names_of_others(change.device_id))
        self._devices[change.device_id] = now
        return rules.own_device(now)

    @_fired
    def revoke(self, device_id: DeviceId, by: str, reason: str, now_ms: int) -> Revocation:
        kept = rules.revocable(self._devices.get(device_id), device_id)
        if kept.state is DeviceState.REVOKED:
            return self._revocations[device_id, kept.identity_fingerprint]
        revocation = self._revoke_key(kept, by, reason, now_ms)
        self._devices[device_id] = rules.revoked(kept, revocation)
        sentence = rules.device_revoked(kept.name, revocation).sentence
        self._end_jobs(device_id, DeviceRevoked.code, sentence, now_ms)
        return revocation

    @_fired
    def revocations(self) -> list[Revocation]:
        return self._list_revocations()

    # -- IJobLog ----------------------------------------------------------------------------------

    @_fired
    def accept(self, job: Job, key: IdempotencyKey | None = None) -> None:
        job_id = job.call.job_id
        if job_id in self._jobs:
            raise AlreadyKept()
        self._require_session(job)
        self._use(key, job.call.submitted_at_ms, job_id=job_id)
        self._keep_attempt(job)
        self._jobs[job_id] = attrs.evolve(rules.own_job(job), notes=job.notes[:MAX_NOTES])

    @_fired
    def update(self, job: Job) -> None:
        kept = self._jobs.get(job.call.job_id)
        self._require_session(job)
        if kept is None:
            raise NotFound("job", job.call.job_id)
        self._keep_attempt(job)
        notes = kept.notes + job.notes[len(kept.notes) : MAX_NOTES]
        changed = kept if kept.final else rules.own_job(job)
        self._jobs[job.call.job_id] = attrs.evolve(changed, call=kept.call, notes=notes)

    @_fired
    def job(self, job_id: JobId) -> Job | None:
        kept = self._jobs.get(job_id)
        return None if kept is None else rules.own_job(kept)

    @_fired
    def jobs(self, query: JobQuery) -> list[Job]:
        found = [
            each
            for each in self._list_jobs()
            if (query.states is None or each.state in query.states)
            and (query.device_id is None or each.call.device_id == query.device_id)
            and (query.capability is None or each.call.capability == query.capability)
            and (query.requested_by is None or each.call.requested_by == query.requested_by)
            and (query.fanout_id is None or each.call.fanout_id == query.fanout_id)
            and (query.before is None or each.call.job_id < query.before)
        ]
        return found[: query.limit]

    @_fired
    def unfinished(self) -> list[Job]:
        return [job for job in reversed(self._list_jobs()) if not job.final]

    @_fired
    def job_of_attempt(self, attempt_id: str) -> Job | None:
        job_id = self._attempts.get(attempt_id)
        return None if job_id is None else rules.own_job(self._jobs[job_id])

    @_fired
    def find_jobs(self, prefix: str) -> Sequence[JobId]:
        found = sorted((each for each in self._jobs if has_prefix(each, prefix)), reverse=True)
        return found[:FOUND_AT_MOST]

    @_fired
    def key_use(self, scope: str, key: str) -> KeyUse | None:
        kept = self._keys.get((scope, key))
        return None if kept is None else kept[0]

    @_fired
    def forget_jobs(self, before_ms: int, keep: int, limit: int) -> int:
        young_ms = self._now_ms() - KEY_LIFE_MS
        young = [use for use, at_ms in self._keys.values() if at_ms > young_ms]
        keyed = {use.job_id or use.fanout_id for use in young}
        oldest = sorted(self._jobs)
        beyond = frozenset(oldest[: max(0, len(oldest) - keep)])
        old = (each for each in oldest if each < first_id(before_ms) or each in beyond)
        found = [each for each in old if self._may_go(self._jobs[each], keyed)][:limit]
        for job_id in found:
            self._forget(job_id)
        return len(found)

    # -- IFanoutLog -------------------------------------------------------------------------------

    @_fired
    def accept_fanout(
        self, fanout: Fanout, rows: Sequence[Job], key: IdempotencyKey | None = None
    ) -> None:
        ids = {row.call.job_id for row in rows}
        if fanout.fanout_id in self._fanouts or len(ids) < len(rows) or ids & self._jobs.keys():
            raise AlreadyKept()
        self._use(key, fanout.submitted_at_ms, fanout_id=fanout.fanout_id)
        self._fanouts[fanout.fanout_id] = fanout
        self._jobs.update((row.call.job_id, rules.own_job(row)) for row in rows)

    @_fired
    def fanout(self, fanout_id: FanoutId) -> Fanout | None:
        return self._fanouts.get(fanout_id)

    @_fired
    def tally(self, fanout_id: FanoutId) -> Tally:
        rows = [job for job in self._jobs.values() if job.call.fanout_id == fanout_id]
        return Tally(dict(Counter(job.state for job in rows)), sum(map(is_failure, rows)))

    @_fired
    def find_fanouts(self, prefix: str) -> Sequence[FanoutId]:
        found = sorted((each for each in self._fanouts if has_prefix(each, prefix)), reverse=True)
        return found[:FOUND_AT_MOST]

    # -- inside -----------------------------------------------------------------------------------

    def _active(self, now_ms: int) -> list[PairingCode]:
        return [
            rules.own_code(code)
            for _, code in sorted(self._codes.items())
            if code.state is CodeState.ACTIVE and code.expires_at_ms > now_ms
        ]

    def _list_requests(self) -> list[PairingRequest]:
        return [rules.own_request(each) for each in _newest(self._requests)]

    def _list_devices(self) -> list[Device]:
        present = (
            device
            for _, device in sorted(self._devices.items())
            if device.state is not DeviceState.REMOVED
        )
        return [rules.own_device(device) for device in present]

    def _names_of_others(self, device_id: DeviceId) -> frozenset[str]:
        return frozenset(each.name for each in self._list_devices() if each.device_id != device_id)

    def _list_revocations(self) -> list[Revocation]:
        return sorted(self._revocations.values(), key=lambda each: (each.device_id, each.at_ms))

    def _list_jobs(self) -> list[Job]:
        return [rules.own_job(each) for each in _newest(self._jobs)]

    def _certificates_where(
        self, which: Callable[[CertificateRecord], bool]
    ) -> list[CertificateRecord]:
        return [each for _, each in sorted(self._certificates.items()) if which(each)]

    def _decide(self, kept: PairingRequest, decided: PairingRequest) -> None:
        now = attrs.evolve(
            kept,
            state=decided.state,
            decided_by=decided.decided_by,
            decided_at_ms=decided.decided_at_ms,
            reason=decided.reason,
            grants=decided.grants,
        )
        self._requests[kept.request_id] = now
        approval = self._approvals[kept.approval_id]
        self._approvals[kept.approval_id] = rules.decided(approval, now)

    def _revoke_key(self, device: Device, by: str, reason: str, now_ms: int) -> Revocation:
        theirs = self._certificates_where(lambda each: each.device_id == device.device_id)
        revocation = rules.revocation_of(device, theirs, by, reason, now_ms)
        for certificate in theirs:
            self._set_state(certificate, CertificateState.REVOKED)
        self._revocations[device.device_id, device.identity_fingerprint] = revocation
        return revocation

    def _end_jobs(self, device_id: DeviceId, code: str, sentence: str, now_ms: int) -> None:
        for job in self._jobs.values():
            if job.call.device_id == device_id and not job.final:
                rules.end_job(job, code, sentence, now_ms)

    def _supersede(self, device_id: DeviceId, state: CertificateState) -> None:
        for each in self._certificates_where(lambda each: each.device_id == device_id):
            if each.state is state:
                self._set_state(each, CertificateState.SUPERSEDED)

    def _set_state(self, certificate: CertificateRecord, state: CertificateState) -> None:
        changed = attrs.evolve(certificate, state=state)
        self._certificates[certificate.fingerprint] = changed

    def _require_session(self, job: Job) -> None:
        """Refuse an attempt not kept yet whose session does not own dispatch."""
        attempt = job.attempt
        if attempt is None or attempt.attempt_id in self._attempts:
            return
        device = self._devices.get(job.call.device_id)
        if device is None or device.state is not DeviceState.PAIRED or not _owns(device, attempt):
            raise NotRegistered()

    def _use(
        self,
        key: IdempotencyKey | None,
        at_ms: int,
        job_id: JobId | None = None,
        fanout_id: FanoutId | None = None,
    ) -> None:
        if key is not None:
            use = KeyUse(key.digest, job_id, fanout_id)
            _add(self._keys, (key.scope, key.key), (use, at_ms))

    def _may_go(self, job: Job, keyed: Container[str | None]) -> bool:
        call = job.call
        of_keyed = call.fanout_id is not None and call.fanout_id in keyed
        return job.final and call.job_id not in keyed and not of_keyed

    def _forget(self, job_id: JobId) -> None:
        fanout_id = self._jobs.pop(job_id).call.fanout_id
        gone: set[str | None] = {job_id}
        if all(job.call.fanout_id != fanout_id for job in self._jobs.values()):
            gone.add(fanout_id)
        self._fanouts = {key: kept for key, kept in self._fanouts.items() if key not in gone}
        self._attempts = {key: of for key, of in self._attempts.items() if of not in gone}
        self._keys = {
            key: kept
            for key, kept in self._keys.items()
            if (kept[0].job_id or kept[0].fanout_id) not in gone
        }

    def _keep_attempt(self, job: Job) -> None:
        self._require_session(job)
        if job.attempt is not None:
            self._attempts.setdefault(job.attempt.attempt_id, job.call.job_id)


def _owns(device: Device, attempt: Attempt) -> bool:
    return (device.gateway_id, device.session_epoch) == (attempt.gateway_id, attempt.session_epoch)


def _add(kept: dict[K, T], key: K, value: T) -> None:
    if key in kept:
        raise AlreadyKept()
    kept[key] = value


def _newest(kept: Mapping[K, T]) -> Iterator[T]:
    """Values whose keys are ULIDs, newest first."""
    return (kept[key] for key in sorted(kept, key=str, reverse=True))
