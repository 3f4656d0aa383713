"""What the store in memory keeps, and what more than one of its logs asks of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

import attrs
from twisted.internet.defer import Deferred, fail, succeed

from palyra.core.approval import Approval
from palyra.core.audit import (
    GENESIS,
    SALT_BYTES,
    AuditEntry,
    AuditRow,
    Chain,
    Line,
    acting,
    line_of,
)
from palyra.core.audithead import Head, HeadKind
from palyra.core.callapprovals import CallApproval
from palyra.core.devices import CertificateRecord, CertificateState, Device, Revocation
from palyra.core.fanouts import Fanout
from palyra.core.identifiers import (
    DeviceId,
    FanoutId,
    Fingerprint,
    JobId,
    RequestId,
    new_ulid,
)
from palyra.core.interfaces import IdempotencyKey, KeyUse
from palyra.core.jobs import Job
from palyra.core.journal import JournalEntry, JournalEvent, pruned_below
from palyra.core.operators import Invitation, Operator, OperatorCertificate
from palyra.core.pairing import PairingCode, PairingRequest
from palyra.core.webhooks import Message
from palyra.errors import AlreadyKept, PalyraError
from palyra.store import audited, facts, revocation, rules

P = ParamSpec("P")
R = TypeVar("R", bound="Records")
T = TypeVar("T")
K = TypeVar("K")


def fired(function: Callable[Concatenate[R, P], T]) -> Callable[Concatenate[R, P], Deferred[T]]:
    """The method as a fired Deferred of its result, or of its refusal."""

    @wraps(function)
    def method(self: R, /, *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        try:
            result = function(self, *args, **kwargs)
        except PalyraError as error:
            return fail(error)
        self._tell_grown()
        return succeed(result)

    return method


class Records:
    """The dictionaries.  ``now_ms`` is wall time in Unix milliseconds."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._codes: dict[str, PairingCode] = {}
        self._requests: dict[RequestId, PairingRequest] = {}
        self._approvals: dict[str, Approval] = {}
        self._calls: dict[str, CallApproval] = {}
        self._devices: dict[DeviceId, Device] = {}
        self._certificates: dict[Fingerprint, CertificateRecord] = {}
        self._issued: dict[RequestId, Fingerprint] = {}
        self._revocations: dict[tuple[DeviceId, Fingerprint], Revocation] = {}
        self._jobs: dict[JobId, Job] = {}
        self._attempts: dict[str, JobId] = {}
        self._fanouts: dict[FanoutId, Fanout] = {}
        self._keys: dict[tuple[str, str], tuple[KeyUse, int]] = {}
        self._journals: dict[DeviceId, list[JournalEvent]] = {}
        self._chain = Chain(new_ulid(now_ms(), os.urandom))
        self._rows: list[AuditRow] = []
        self._heads: dict[tuple[str, int, HeadKind], Head] = {}
        self._operators: dict[str, Operator] = {}
        self._operator_certificates: dict[Fingerprint, OperatorCertificate] = {}
        self._invitations: dict[str, Invitation] = {}
        self._webhooks: dict[str, Message] = {}
        self._descriptors: dict[str, tuple[bytes, int]] = {}
        self._audit(audited.started(now_ms(), None, "a new store"))
        self._grown: set[DeviceId] = set()
        self._followed: Collection[DeviceId] = ()
        self._tell: Callable[[DeviceId], object]

    def _list_devices(self) -> list[Device]:
        return [rules.own_device(device) for _, device in sorted(self._devices.items())]

    def _names_of_others(self, device_id: DeviceId) -> frozenset[str]:
        return frozenset(each.name for each in self._list_devices() if each.device_id != device_id)

    def _list_revocations(self) -> list[Revocation]:
        return sorted(self._revocations.values(), key=lambda each: (each.device_id, each.at_ms))

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
            grant_risk=decided.grant_risk,
        )
        self._requests[kept.request_id] = now
        approval = self._approvals[kept.approval_id]
        self._approvals[kept.approval_id] = rules.decided(approval, now)

    def _revoke_key(self, device: Device, by: str, reason: str, now_ms: int) -> Revocation:
        theirs = self._certificates_where(lambda each: each.device_id == device.device_id)
        earlier = self._revocations.get((device.device_id, device.identity_fingerprint))
        made = revocation.revocation_of(device, theirs, earlier, by, reason, now_ms)
        for certificate in theirs:
            self._set_state(certificate, CertificateState.REVOKED)
        self._keep_revocation(made)
        return made

    def _keep_revocation(self, kept: Revocation) -> None:
        self._revocations[kept.device_id, kept.identity_fingerprint] = kept

    def _end_jobs(self, device_id: DeviceId, code: str, sentence: str, now_ms: int) -> None:
        for job in self._jobs.values():
            if job.call.device_id == device_id and not job.final:
                ended = rules.end_job(job, code, sentence, now_ms)
                self._note(facts.job_ended(ended))
                self._link([audited.job_ended(ended)])

    def _set_state(self, certificate: CertificateRecord, state: CertificateState) -> None:
        changed = attrs.evolve(certificate, state=state)
        self._certificates[certificate.fingerprint] = changed

    def _note(self, entry: JournalEntry) -> None:
        device_id = entry.device_id
        if device_id not in self._devices:
            return
        events = self._journals.setdefault(device_id, [])
        seq = events[-1].seq + 1 if events else 1
        details = dict(entry.details)
        events.append(JournalEvent(device_id, seq, entry.at_ms, entry.kind, details))
        below = pruned_below(seq)
        events[:] = (each for each in events if each.seq >= below)
        self._grown.add(device_id)

    def _audit(self, *entries: AuditEntry | None) -> None:
        """Write entries to the audit chain; None is nothing."""
        for entry in entries:
            if entry is not None:
                self._link([line_of(entry, os.urandom(SALT_BYTES), acting())])

    def _link(self, lines: Iterable[Line]) -> None:
        for line in lines:
            before = self._rows[-1] if self._rows else None
            seq, prev = (before.seq + 1, before.hash) if before else (1, GENESIS)
            hashed = self._chain.hash(seq, prev, line)
            self._rows.append(AuditRow(self._chain.chain_id, seq, line, hashed))

    def _erase(self, device_id: DeviceId) -> None:
        """Erase the details of the audit rows about a device."""
        about = audited.subject_of(device_id)
        for at, row in enumerate(self._rows):
            if row.line.subject == about:
                erased = row.line._replace(salt=None, details=None)
                self._rows[at] = attrs.evolve(row, line=erased)

    def _tell_grown(self) -> None:
        grown, self._grown = self._grown, set()
        for device_id in grown:
            if device_id in self._followed:
                self._tell(device_id)

    def _use(
        self,
        key: IdempotencyKey | None,
        at_ms: int,
        job_id: JobId | None = None,
        fanout_id: FanoutId | None = None,
    ) -> None:
        if key is not None:
            use = KeyUse(key.digest, job_id, fanout_id)
            add(self._keys, (key.scope, key.key), (use, at_ms))


def add(kept: dict[K, T], key: K, value: T) -> None:
    """Keep a value under a key that is new."""
    if key in kept:
        raise AlreadyKept()
    kept[key] = value


def newest(kept: Mapping[K, T]) -> Iterator[T]:
    """Values whose keys are ULIDs, newest first."""
    return (kept[key] for key in sorted(kept, key=str, reverse=True))
