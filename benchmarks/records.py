"""Rows of a store that is measured: devices that are paired, and jobs that have ended."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from palyra.core.devices import (
    AnnouncedCapability,
    CertificateRecord,
    CertificateState,
    ClientKind,
    Device,
)
from palyra.core.identifiers import AttemptId, DeviceId, JobId, new_ulid, sha256_hex
from palyra.core.jobmachine import job_machine
from palyra.core.jobs import Attempt, Call, Job, Outcome, Report
from palyra.store import directory, opening
from palyra.store.jobrows import (
    ATTEMPT_COLUMNS,
    CALL_COLUMNS,
    STATE_COLUMNS,
    attempt_values,
    call_values,
    state_values,
)

ECHO = AnnouncedCapability("echo", idempotent=True)
INPUT = b'{"text":"hello"}'
DAY_MS = 24 * 3_600_000
RUN_MS = 30_000
GROUP = 20_000
"""Jobs in one transaction."""


def now_ms() -> int:
    """Unix milliseconds."""
    return int(time.time() * 1000)


def a_device(
    name: str,
    gateway_id: str,
    kind: ClientKind = ClientKind.NODE,
    grants: frozenset[str] = frozenset({ECHO.name}),
) -> Device:
    """A paired device; a node of them offers ``echo`` and has registered once."""
    device_id = DeviceId(new_ulid(now_ms(), os.urandom))
    return Device(
        device_id=device_id,
        client_kind=kind,
        name=name,
        platform="linux",
        version="",
        identity_public=device_id.encode(),
        identity_fingerprint=sha256_hex(device_id.encode()),
        grants=grants,
        capabilities=(ECHO,) if kind is ClientKind.NODE else (),
        labels={},
        approved_by="benchmark",
        paired_at_ms=now_ms(),
        gateway_id=gateway_id,
        session_epoch=1,
    )


def a_certificate(device: Device, der: bytes = b"", pem: bytes = b"") -> CertificateRecord:
    """The current certificate of a device; one that nobody will show needs no bytes."""
    return CertificateRecord(
        fingerprint=sha256_hex(der or device.device_id.encode()),
        device_id=device.device_id,
        serial=device.device_id,
        pem=pem.decode(),
        csr_digest="",
        not_before_ms=now_ms(),
        not_after_ms=now_ms() + DAY_MS,
        issued_at_ms=now_ms(),
        state=CertificateState.CURRENT,
    )


def keep_devices(
    path: Path, devices: Sequence[Device], certificates: Sequence[CertificateRecord]
) -> None:
    """Write devices and their certificates into a store that nobody has open."""
    connection = opening.connect(path, "BEGIN IMMEDIATE")
    try:
        with connection.begin():
            for device in devices:
                directory.keep_device(connection, device)
            directory.keep_imported(connection, (), certificates, ())
    finally:
        connection.close()


def keep_ended(path: Path, devices: Sequence[Device], count: int, days: int = 0) -> None:
    """Write so many jobs that have succeeded, the oldest of them ``days`` old."""
    connection = opening.connect(path, "BEGIN IMMEDIATE")
    try:
        for start in range(0, count, GROUP):
            numbers = range(start, min(start + GROUP, count))
            with connection.begin():
                rows = list(_rows(devices, numbers, count, days))
                cursor = connection.connection.cursor()
                cursor.executemany(_INSERT_JOB, [job for job, _ in rows])
                cursor.executemany(_INSERT_ATTEMPT, [attempt for _, attempt in rows])
                cursor.close()
    finally:
        connection.close()


def jobs_on_record(path: Path, state: str) -> int:
    """Jobs in a state, counted while the gateway runs: it commits before it tells anybody."""
    database = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)
    with contextlib.closing(database):
        query = "SELECT count(*) FROM jobs WHERE state = ?"
        (count,) = database.execute(query, (state,)).fetchone()
    return int(count)


Row = tuple[Any, ...]
_JOB_COLUMNS = CALL_COLUMNS + STATE_COLUMNS


def _insert(table: str, columns: Sequence[str]) -> str:
    marks = ", ".join("?" * len(columns))
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})"


_INSERT_JOB = _insert("jobs", _JOB_COLUMNS)
_INSERT_ATTEMPT = _insert("attempts", ATTEMPT_COLUMNS)


def _rows(
    devices: Sequence[Device], numbers: range, count: int, days: int
) -> Iterator[tuple[Row, Row]]:
    """The rows of jobs: each is one job of its device with other ids and times."""
    models = [_model(device) for device in devices]
    latest_ms = now_ms() - RUN_MS
    for number in numbers:
        job, attempt = models[number % len(models)]
        at_ms = latest_ms - days * DAY_MS * (count - number) // count
        job_id, attempt_id = new_ulid(at_ms, os.urandom), new_ulid(at_ms, os.urandom)
        job.update(job_id=job_id, attempt_id=attempt_id, submitted_at_ms=at_ms)
        job.update(deadline_ms=None, finished_at_ms=at_ms + 3)
        attempt.update(attempt_id=attempt_id, job_id=job_id, dispatched_at_ms=at_ms)
        yield tuple(job.values()), tuple(attempt.values())


def _model(device: Device) -> tuple[dict[str, Any], dict[str, Any]]:
    job = _ended(device)
    assert job.attempt is not None, "it was dispatched"
    values = call_values(job.call) + state_values(job)
    attempt = attempt_values(job.call.job_id, job.attempt)
    return (
        dict(zip(_JOB_COLUMNS, values, strict=True)),
        dict(zip(ATTEMPT_COLUMNS, attempt, strict=True)),
    )


def _ended(device: Device) -> Job:
    """A job of the device that has succeeded."""
    at_ms = now_ms()
    attempt_id = AttemptId(new_ulid(at_ms, os.urandom))
    call = Call(
        job_id=JobId(new_ulid(at_ms, os.urandom)),
        device_id=device.device_id,
        device_name=device.name,
        capability=ECHO.name,
        input_json=INPUT,
        requested_by="benchmark",
        submitted_at_ms=at_ms,
        run_timeout_ms=RUN_MS,
        max_payload_bytes=65_536,
        idempotent=True,
    )
    job = Job(call)
    machine = job_machine(job)
    machine.dispatched(
        Attempt(attempt_id, 1, device.gateway_id, 1, "memory", at_ms, at_ms + RUN_MS)
    )
    machine.succeeded(Report(attempt_id, Outcome.SUCCEEDED, INPUT), at_ms)
    return job
