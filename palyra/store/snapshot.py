"""``node-runtime.v1.json``: a readable picture of the store, and what it is imported as.

The document holds what a lost database costs most: devices with their identity keys, certificates,
grants and labels, revocations, and what became of jobs.  It holds no session id, no code, no
digest of one, and neither inputs nor outputs of jobs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal

import attrs
import msgspec

from palyra.core.devices import CertificateRecord, Device, Revocation, RevokedCertificate
from palyra.core.identifiers import DeviceId, FanoutId, Fingerprint, JobId
from palyra.core.jobs import Attempt, Call, Job, JobState
from palyra.core.pairing import PairingCode, PairingRequest
from palyra.errors import StoreCorrupt

SNAPSHOT_NAME = "node-runtime.v1.json"
FINAL_JOBS = 1_000
SUMMARY_LENGTH = 240

_PEM = re.compile(r"-----BEGIN [^-]+-----.*?(-----END [^-]+-----|\Z)", re.DOTALL)
_NAMED = re.compile(
    r"(?is)\b([\w-]*(?:password|passwd|secret|token|authorization|api[_-]?key|credential)[\w-]*)"
    r"([\"']?\s*[:=]\s*)(?:bearer\s+|basic\s+)?"
    # A quotation that was cut has no end.
    r"(\"(?:[^\"\\]|\\.)*(?:\"|\\?\Z)|'(?:[^'\\]|\\.)*(?:'|\\?\Z)|[^\s,;&]+)"
)
_LONG = re.compile(r"[A-Za-z0-9+/_=-]{32,}")
_CUT_WORD = re.compile(r"[A-Za-z0-9+/_=\ufffd-]+\Z")
"""What may be the beginning of something longer."""
_LOOKED_AT = 16 * SUMMARY_LENGTH


class CodeEntry(msgspec.Struct, frozen=True):
    """An active pairing code, without the code."""

    code_id: str
    method: str
    issued_by: str
    issued_at_ms: int
    expires_at_ms: int
    labels: dict[str, str]
    source: str
    failed: int
    nameplate: int | None = None


class RequestEntry(msgspec.Struct, frozen=True):
    """A pairing request, without its session."""

    request_id: str
    device_id: str
    client_kind: str
    name: str
    platform: str
    version: str
    source: str
    identity_fingerprint: str
    approval_id: str
    created_at_ms: int
    expires_at_ms: int
    state: str
    decided_by: str
    decided_at_ms: int | None
    reason: str


class RevocationEntry(msgspec.Struct, frozen=True):
    """A revocation, or the tombstone of a device that was removed.

    Older versions wrote a pair of fingerprint and notAfter in place of a certificate.
    """

    device_id: DeviceId
    identity_fingerprint: Fingerprint
    certificates: list[RevokedCertificate | tuple[Fingerprint, int]]
    at_ms: int
    by: str
    reason: str
    device_name: str = ""
    removed_at_ms: int | None = None
    removed_by: str = ""
    allowed_at_ms: int | None = None


class JobEntry(msgspec.Struct, frozen=True):
    """A job, with a summary in place of what went in and came out."""

    job_id: JobId
    device_id: DeviceId
    device_name: str
    capability: str
    requested_by: str
    submitted_at_ms: int
    run_timeout_ms: int
    max_payload_bytes: int
    state: JobState
    attempts: int
    attempt: Attempt | None
    finished_at_ms: int | None
    error_code: str
    summary: str
    effect_possible: bool
    took_ms: int | None
    queue_expires_at_ms: int | None = None
    retry_at_ms: int | None = None
    fanout_id: FanoutId | None = None
    cancel_requested_at_ms: int | None = None
    cancel_requested_by: str = ""
    cancel_reason: str = ""


class Document(msgspec.Struct, frozen=True):
    """The whole file.  Times are Unix milliseconds, bytes are base64."""

    schema_version: Literal[1]
    generated_at_ms: int
    gateway_id: str
    store_epoch: str
    pairing_codes: list[CodeEntry]
    pairing_requests: list[RequestEntry]
    nodes: list[Device]
    certificates: list[CertificateRecord]
    revocations: list[RevocationEntry]
    capability_requests: list[JobEntry]


@attrs.frozen
class StoreContent:
    """What a store holds, as far as the document shows it."""

    gateway_id: str
    store_epoch: str
    codes: Sequence[PairingCode]
    requests: Sequence[PairingRequest]
    devices: Sequence[Device]
    certificates: Sequence[CertificateRecord]
    revocations: Sequence[Revocation]
    jobs: Sequence[Job]
    """Every unfinished job and the newest FINAL_JOBS final ones."""


@attrs.frozen
class ImportedState:
    """What a new store takes over from a document; codes and pairing sessions are void."""

    gateway_id: str
    generated_at_ms: int
    devices: tuple[Device, ...]
    certificates: tuple[CertificateRecord, ...]
    revocations: tuple[Revocation, ...]
    jobs: tuple[Job, ...]


_decoder = msgspec.json.Decoder(Document)


def build_snapshot(content: StoreContent, now_ms: int) -> bytes:
    """The document, as the bytes of the file."""
    document = Document(
        schema_version=1,
        generated_at_ms=now_ms,
        gateway_id=content.gateway_id,
        store_epoch=content.store_epoch,
        pairing_codes=[_code_entry(code) for code in content.codes],
        pairing_requests=[_request_entry(request) for request in content.requests],
        nodes=list(content.devices),
        certificates=list(content.certificates),
        revocations=[_revocation_entry(each) for each in content.revocations],
        capability_requests=[_job_entry(job) for job in content.jobs],
    )
    encoded = msgspec.json.encode(document, order="deterministic")
    return msgspec.json.format(encoded, indent=1) + b"\n"


def import_snapshot(document: bytes, *, now_ms: int, file: str = SNAPSHOT_NAME) -> ImportedState:
    """What a document is imported as; StoreCorrupt, naming ``file``, where it is damaged.

    A job that was not final may have been sent, and may have ended, after the document was
    written: it becomes outcome_unknown.
    """
    try:
        read = _decoder.decode(document)
        _check_references(read)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise StoreCorrupt(file, str(error)) from error
    return ImportedState(
        gateway_id=read.gateway_id,
        generated_at_ms=read.generated_at_ms,
        devices=tuple(read.nodes),
        certificates=tuple(read.certificates),
        revocations=tuple(_revocation(entry) for entry in read.revocations),
        jobs=tuple(_imported_job(entry, now_ms) for entry in read.capability_requests),
    )


def redacted(text: str, cut: bool = False) -> str:
    """Text of a peer without what looks like a secret, cut at SUMMARY_LENGTH characters.

    ``cut``: it is the beginning of a longer text; nothing is shown that redaction of the whole
    would hide.
    """
    # Cut early too: the expressions are for sentences, not for megabytes.
    cut = cut or len(text) > _LOOKED_AT
    shown = _PEM.sub("[redacted]", text[:_LOOKED_AT])
    shown = _NAMED.sub(r"\1\2[redacted]", shown)
    shown = _LONG.sub("[redacted]", shown)
    if cut:
        shown = _CUT_WORD.sub("", shown) + "…"
    return shown if len(shown) <= SUMMARY_LENGTH else shown[: SUMMARY_LENGTH - 1] + "…"


def _check_references(document: Document) -> None:
    """Refuse what no store could have written: it would break half-way through the import."""
    nodes = [device.device_id for device in document.nodes]
    known = frozenset(nodes)
    _check_unique("nodes", nodes)
    _check_unique("certificates", [each.fingerprint for each in document.certificates])
    _check_unique(
        "revocations",
        [(each.device_id, each.identity_fingerprint) for each in document.revocations],
    )
    _check_unique("capability_requests", [each.job_id for each in document.capability_requests])
    attempts = [each.attempt for each in document.capability_requests if each.attempt]
    _check_unique("attempts", [attempt.attempt_id for attempt in attempts])
    for certificate in document.certificates:
        if certificate.device_id not in known:
            raise ValueError(f"a certificate of {certificate.device_id}, which is not in nodes")


def _check_unique(what: str, keys: Sequence[object]) -> None:
    if len(set(keys)) != len(keys):
        raise ValueError(f"{what} has an entry twice")


def _code_entry(code: PairingCode) -> CodeEntry:
    return CodeEntry(
        code_id=code.code_id,
        method=code.method.value,
        issued_by=code.issued_by,
        issued_at_ms=code.issued_at_ms,
        expires_at_ms=code.expires_at_ms,
        labels=dict(code.labels),
        source=code.source,
        failed=code.failed,
        nameplate=code.nameplate,
    )


def _request_entry(request: PairingRequest) -> RequestEntry:
    return RequestEntry(
        request_id=request.request_id,
        device_id=request.device_id,
        client_kind=request.client_kind.value,
        name=request.name,
        platform=request.platform,
        version=request.version,
        source=request.source,
        identity_fingerprint=request.identity_fingerprint,
        approval_id=request.approval_id,
        created_at_ms=request.created_at_ms,
        expires_at_ms=request.expires_at_ms,
        state=request.state.value,
        decided_by=request.decided_by,
        decided_at_ms=request.decided_at_ms,
        reason=request.reason,
    )


def _revocation_entry(revocation: Revocation) -> RevocationEntry:
    return RevocationEntry(
        device_id=revocation.device_id,
        identity_fingerprint=revocation.identity_fingerprint,
        certificates=[*revocation.certificates],
        at_ms=revocation.at_ms,
        by=revocation.by,
        reason=revocation.reason,
        device_name=revocation.device_name,
        removed_at_ms=revocation.removed_at_ms,
        removed_by=revocation.removed_by,
        allowed_at_ms=revocation.allowed_at_ms,
    )


def _revocation(entry: RevocationEntry) -> Revocation:
    values = msgspec.structs.asdict(entry)
    values["certificates"] = tuple(
        each if isinstance(each, RevokedCertificate) else RevokedCertificate(*each)
        for each in entry.certificates
    )
    return Revocation(**values)


def _job_entry(job: Job) -> JobEntry:
    call = job.call
    return JobEntry(
        job_id=call.job_id,
        device_id=call.device_id,
        device_name=call.device_name,
        capability=call.capability,
        requested_by=call.requested_by,
        submitted_at_ms=call.submitted_at_ms,
        run_timeout_ms=call.run_timeout_ms,
        max_payload_bytes=call.max_payload_bytes,
        state=job.state,
        attempts=job.attempts,
        attempt=job.attempt,
        finished_at_ms=job.finished_at_ms,
        error_code=job.error_code,
        summary=redacted(job.error),
        effect_possible=job.effect_possible,
        took_ms=job.took_ms,
        queue_expires_at_ms=call.queue_expires_at_ms,
        retry_at_ms=job.retry_at_ms,
        fanout_id=call.fanout_id,
        cancel_requested_at_ms=job.cancel_requested_at_ms,
        cancel_requested_by=job.cancel_requested_by,
        cancel_reason=redacted(job.cancel_reason),
    )


def _imported_job(entry: JobEntry, now_ms: int) -> Job:
    call = Call(
        job_id=entry.job_id,
        device_id=entry.device_id,
        device_name=entry.device_name,
        capability=entry.capability,
        input_json=b"",
        requested_by=entry.requested_by,
        submitted_at_ms=entry.submitted_at_ms,
        run_timeout_ms=entry.run_timeout_ms,
        max_payload_bytes=entry.max_payload_bytes,
        queue_expires_at_ms=entry.queue_expires_at_ms,
        fanout_id=entry.fanout_id,
    )
    job = Job(
        call=call,
        state=entry.state,
        attempt=entry.attempt,
        attempts=entry.attempts,
        cancel_requested_at_ms=entry.cancel_requested_at_ms,
        cancel_requested_by=entry.cancel_requested_by,
        cancel_reason=entry.cancel_reason,
        finished_at_ms=entry.finished_at_ms,
        error_code=entry.error_code,
        error=entry.summary,
        effect_possible=entry.effect_possible,
        took_ms=entry.took_ms,
    )
    return job if job.final and job.finished_at_ms is not None else _unknown(job, now_ms)


def _unknown(job: Job, now_ms: int) -> Job:
    """The machine knows no such step for a queued job: only a lost store makes it necessary."""
    job.state = JobState.OUTCOME_UNKNOWN
    job.finished_at_ms = now_ms
    job.effect_possible = True
    job.error_code = "outcome_unknown"
    job.error = (
        "Outcome unknown: the gateway's database was lost while it waited or ran, so it may have "
        f"taken effect; check {job.call.device_name} before repeating."
    )
    return job


def newest_jobs(unfinished: Iterable[Job], final: Iterable[Job]) -> list[Job]:
    """The jobs of a document, newest first."""
    return sorted((*unfinished, *final), key=lambda job: job.call.job_id, reverse=True)
