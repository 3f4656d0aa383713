"""Values to keep: made from a name, so that equal names make equal values."""

from __future__ import annotations

import hashlib
from typing import Any

import attrs

from palyra.core.approval import Approval
from palyra.core.devices import (
    AnnouncedCapability,
    CertificateRecord,
    ClientKind,
    Device,
    Registration,
    Renewal,
)
from palyra.core.fanouts import Fanout
from palyra.core.identifiers import (
    AttemptId,
    DeviceId,
    FanoutId,
    Fingerprint,
    JobId,
    RequestId,
    new_ulid,
    sha256_hex,
)
from palyra.core.jobmachine import job_machine
from palyra.core.jobs import Attempt, Call, Job, Outcome, Report
from palyra.core.pairing import CodeMethod, PairingCode, PairingRequest, RequestState

NOW_MS = 1_800_000_000_000
DAY_MS = 24 * 3_600_000
ECHO = AnnouncedCapability("echo", version="1.0")


def ulid(name: str, at_ms: int = NOW_MS) -> str:
    """The ULID that belongs to a name."""
    return new_ulid(at_ms, lambda size: hashlib.sha256(name.encode()).digest()[:size])


def a_code(name: str = "code", **changes: Any) -> PairingCode:
    """An active QR code."""
    code = PairingCode(
        code_id=ulid(name),
        method=CodeMethod.QR,
        digest=sha256_hex(name.encode()),
        issued_by="operator:ana",
        issued_at_ms=NOW_MS,
        expires_at_ms=NOW_MS + 600_000,
        labels={"room": "lab"},
    )
    return attrs.evolve(code, **changes)


def a_request(name: str, code: PairingCode, /, **changes: Any) -> PairingRequest:
    """A pending pairing request of a device called ``name``, opened with ``code``."""
    public = hashlib.sha256(f"key of {name}".encode()).digest()
    request = PairingRequest(
        request_id=RequestId(ulid(f"request {name} {code.code_id}")),
        session_digest=sha256_hex(f"session {name} {code.code_id}".encode()),
        device_id=DeviceId(ulid(name)),
        client_kind=ClientKind.NODE,
        name=name,
        platform="linux",
        version="0.1",
        source="192.0.2.7",
        identity_public=public,
        csr_der=b"csr of " + name.encode(),
        capabilities=(ECHO,),
        transcript_hash=sha256_hex(b"transcript"),
        digest=sha256_hex(f"digest {name}".encode()),
        code_id=code.code_id,
        method=code.method,
        issued_by=code.issued_by,
        issued_at_ms=code.issued_at_ms,
        labels=code.labels,
        approval_id=ulid(f"approval {name} {code.code_id}"),
        created_at_ms=NOW_MS,
        expires_at_ms=NOW_MS + 600_000,
        identity_fingerprint=sha256_hex(public),
    )
    return attrs.evolve(request, **changes)


def an_approval(request: PairingRequest) -> Approval:
    """The pending approval of a request."""
    return Approval(
        approval_id=request.approval_id,
        kind="pairing",
        subject_id=request.request_id,
        digest=request.digest,
        created_at_ms=request.created_at_ms,
        expires_at_ms=request.expires_at_ms,
    )


def approved(request: PairingRequest) -> PairingRequest:
    """The request after an operator's yes."""
    return attrs.evolve(
        request,
        state=RequestState.APPROVED,
        decided_by="operator:ana",
        decided_at_ms=NOW_MS + 5,
        reason="mine",
        grants=frozenset({"echo"}),
    )


def a_device(request: PairingRequest) -> Device:
    """The device that an approval of the request makes."""
    return Device(
        device_id=request.device_id,
        client_kind=request.client_kind,
        name=request.name,
        platform=request.platform,
        version=request.version,
        identity_public=request.identity_public,
        identity_fingerprint=request.identity_fingerprint,
        grants=frozenset({"echo"}),
        capabilities=request.capabilities,
        labels=request.labels,
        approved_by="operator:ana",
        paired_at_ms=NOW_MS + 5,
    )


def a_certificate(request: PairingRequest, name: str = "", **changes: Any) -> CertificateRecord:
    """A pending certificate for a request."""
    certificate = CertificateRecord(
        fingerprint=sha256_hex(f"certificate {request.request_id} {name}".encode()),
        device_id=request.device_id,
        serial="0a1b",
        pem="-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        csr_digest=sha256_hex(request.csr_der),
        not_before_ms=NOW_MS,
        not_after_ms=NOW_MS + DAY_MS,
        issued_at_ms=NOW_MS,
    )
    return attrs.evolve(certificate, **changes)


def a_renewal(
    request: PairingRequest, name: str, over: Fingerprint | None, **changes: Any
) -> Renewal:
    """The renewal of a device's certificate by one called ``name``, with a CSR of its own."""
    changes = {"csr_digest": sha256_hex(f"csr {name}".encode()), **changes}
    certificate = a_certificate(request, name, **changes)
    return Renewal(certificate, request.identity_fingerprint, over)


def a_registration(device_id: DeviceId, fingerprint: Fingerprint, **changes: Any) -> Registration:
    """A registration with gateway G."""
    registration = Registration(
        device_id=device_id,
        fingerprint=fingerprint,
        platform="linux 6",
        version="0.2",
        capabilities=(ECHO, AnnouncedCapability("system.health", available=False)),
        gateway_id="G",
        memory_id="M",
        transport="grpc",
        address="192.0.2.7",
        at_ms=NOW_MS + 10,
    )
    return attrs.evolve(registration, **changes)


def a_job(name: str, device_id: DeviceId, at_ms: int = NOW_MS, **changes: Any) -> Job:
    """A queued job."""
    call = Call(
        job_id=JobId(ulid(name, at_ms)),
        device_id=device_id,
        device_name="lab-7",
        capability="echo",
        input_json=b'{"text":"hi"}',
        requested_by="operator:ana",
        submitted_at_ms=at_ms,
        run_timeout_ms=30_000,
        max_payload_bytes=65_536,
    )
    return Job(attrs.evolve(call, **changes))


def a_fanout(
    *device_ids: DeviceId, name: str = "fan-out", at_ms: int = NOW_MS
) -> tuple[Fanout, list[Job]]:
    """A fan-out with a queued row for each device."""
    fanout = Fanout(
        fanout_id=FanoutId(ulid(name, at_ms)),
        requested_by="operator:ana",
        capability="echo",
        input_json=b'{"text":"hello all"}',
        expression="room=lab",
        submitted_at_ms=at_ms,
        targets=len(device_ids),
        batch=2,
        max_failures=1,
    )
    changes = {"input_json": fanout.input_json, "fanout_id": fanout.fanout_id}
    rows = [
        a_job(f"{name} {number}", device_id, at_ms, **changes)
        for number, device_id in enumerate(device_ids)
    ]
    return fanout, rows


def dispatch(job: Job, epoch: int = 1, gateway_id: str = "G") -> Job:
    """The job after one more dispatch."""
    number = job.attempts + 1
    attempt = Attempt(
        attempt_id=AttemptId(ulid(f"attempt {number} of {job.call.job_id}")),
        number=number,
        gateway_id=gateway_id,
        session_epoch=epoch,
        memory_id="M",
        dispatched_at_ms=NOW_MS + 20,
        deadline_ms=NOW_MS + 30_020,
    )
    job_machine(job).dispatched(attempt)
    return job


def report(job: Job, outcome: Outcome = Outcome.SUCCEEDED, **changes: Any) -> Report:
    """A report on the job's attempt."""
    assert job.attempt is not None
    made = Report(job.attempt.attempt_id, outcome, b'{"echo":"hi"}', took_ms=4)
    return attrs.evolve(made, **changes)


def succeed(job: Job) -> Job:
    """The job after its node reported an output."""
    job_machine(job).succeeded(report(job), NOW_MS + 30)
    return job
