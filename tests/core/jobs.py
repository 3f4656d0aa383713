"""Jobs, attempts and reports for tests."""

from __future__ import annotations

from palyra.core.identifiers import AttemptId, DeviceId, JobId
from palyra.core.jobs import Attempt, Call, Job, JobState, Outcome, Report


def a_call(idempotent: bool = False, queue_expires_at_ms: int | None = None) -> Call:
    return Call(
        job_id=JobId("01J9ZC5QXG0123456789ABCDEF"),
        device_id=DeviceId("01J9ZC5QXGZZZZZZZZZZZZZZZZ"),
        device_name="anna-laptop",
        capability="echo",
        input_json=b"{}",
        requested_by="anna",
        submitted_at_ms=0,
        run_timeout_ms=1_000,
        max_payload_bytes=65_536,
        idempotent=idempotent,
        queue_expires_at_ms=queue_expires_at_ms,
    )


def attempt_id(number: int) -> AttemptId:
    return AttemptId(f"attempt {number}")


def an_attempt(number: int = 1, now_ms: int = 0) -> Attempt:
    return Attempt(attempt_id(number), number, "gateway", 1, "memory", now_ms, now_ms + 1_000)


def a_report(
    outcome: Outcome, code: str = "", error: str = "", *, number: int = 1, stopped: bool = True
) -> Report:
    output = b"{}" if outcome is Outcome.SUCCEEDED else b""
    return Report(attempt_id(number), outcome, output, code, error, stopped, took_ms=3)


def a_job(state: JobState = JobState.QUEUED, idempotent: bool = False) -> Job:
    """A job in a state; past the queue it has an attempt whose deadline is at 1,000 ms."""
    if state is JobState.QUEUED:
        return Job(a_call(idempotent))
    return Job(a_call(idempotent), state, an_attempt(), attempts=1, deadline_ms=1_000)
