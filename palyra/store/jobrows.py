"""Between jobs and their rows.  Tuples by hand: every job passes here at least twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from palyra.core.fanouts import Fanout
from palyra.core.identifiers import FanoutId, JobId
from palyra.core.interfaces import IdempotencyKey
from palyra.core.jobs import Attempt, Call, Job, JobState, Mediation, Outcome, Report
from palyra.store import tables

_COLUMNS = tuple(column.name for column in tables.jobs.columns)
_CALL, _STATE = _COLUMNS.index("state"), len(_COLUMNS)
CALL_COLUMNS, STATE_COLUMNS = _COLUMNS[:_CALL], _COLUMNS[_CALL:]
ATTEMPT_COLUMNS = tuple(column.name for column in tables.attempts.columns)
INPUT, FANOUT = CALL_COLUMNS.index("input_json"), CALL_COLUMNS.index("fanout_id")
MAX_NOTES = 16
"""Late reports kept for one job; a node that repeats itself cannot fill the disk."""

_mediation = msgspec.json.Decoder(Mediation)
_STATES = {state.value: state for state in JobState}
_VALUES = {state: state.value for state in JobState}


def call_values(call: Call) -> tuple[Any, ...]:
    """The values of CALL_COLUMNS."""
    return (
        call.job_id,
        call.device_id,
        call.device_name,
        call.capability,
        call.input_json,
        call.requested_by,
        call.submitted_at_ms,
        call.run_timeout_ms,
        call.max_payload_bytes,
        call.idempotent,
        call.needs_mediation,
        call.queue_expires_at_ms,
        call.idempotency_key,
        call.fanout_id,
        call.operator_id,
        call.approval_id,
    )


def state_values(job: Job) -> tuple[Any, ...]:
    """The values of STATE_COLUMNS."""
    attempt = job.attempt
    return (
        _VALUES[job.state],
        None if attempt is None else attempt.attempt_id,
        job.attempts,
        job.deadline_ms,
        job.waiting_for,
        job.retry_at_ms,
        job.cancel_requested_at_ms,
        job.cancel_requested_by,
        job.cancel_reason,
        job.finished_at_ms,
        job.output_json,
        job.error_code,
        job.error,
        job.effect_possible,
        job.took_ms,
        None if job.mediation is None else msgspec.json.encode(job.mediation).decode(),
    )


def fanout_values(fanout: Fanout) -> tuple[Any, ...]:
    """The row of a fan-out."""
    return (
        fanout.fanout_id,
        fanout.requested_by,
        fanout.capability,
        fanout.input_json,
        fanout.expression,
        fanout.submitted_at_ms,
        fanout.targets,
        fanout.batch,
        fanout.max_failures,
        fanout.approval_id,
    )


def row_values(job: Job, fanout: Fanout) -> tuple[Any, ...]:
    """The values of both for a row of a fan-out; their common input is kept once, with it."""
    values = call_values(job.call) + state_values(job)
    shared = job.call.fanout_id == fanout.fanout_id and job.call.input_json == fanout.input_json
    return (*values[:INPUT], None, *values[INPUT + 1 :]) if shared else values


def key_values(
    key: IdempotencyKey, job_id: JobId | None, fanout_id: FanoutId | None, at_ms: int
) -> tuple[Any, ...]:
    """The row of an idempotency key."""
    return key.scope, key.key, key.digest, job_id, fanout_id, at_ms


def attempt_values(job_id: JobId, attempt: Attempt) -> tuple[Any, ...]:
    """The values of ATTEMPT_COLUMNS."""
    return (
        attempt.attempt_id,
        job_id,
        attempt.number,
        attempt.gateway_id,
        attempt.session_epoch,
        attempt.memory_id,
        attempt.dispatched_at_ms,
        attempt.deadline_ms,
    )


def job_of(row: Sequence[Any], notes: Sequence[Report], inputs: Mapping[str, bytes]) -> Job:
    """The job of a row: CALL_COLUMNS, STATE_COLUMNS, then the ATTEMPT_COLUMNS of its attempt.

    :param inputs: of fan-outs, by id, for rows without an input of their own.
    """
    call, (state, attempt_id, *rest) = row[:_CALL], row[_CALL:_STATE]
    attempts, deadline_ms, waiting_for, retry_at_ms, *cancel, finished_ms = rest[:8]
    if call[INPUT] is None:
        call = (*call[:INPUT], inputs.get(call[FANOUT], b""), *call[INPUT + 1 :])
    cancelled_ms, cancelled_by, cancel_reason = cancel
    output, code, error, effect_possible, took_ms, mediation = rest[8:]
    return Job(
        call=Call(*call),
        state=_STATES[state],
        attempt=None
        if attempt_id is None
        else _attempt_of(row[_STATE : _STATE + len(ATTEMPT_COLUMNS)]),
        attempts=attempts,
        deadline_ms=deadline_ms,
        waiting_for=waiting_for,
        retry_at_ms=retry_at_ms,
        cancel_requested_at_ms=cancelled_ms,
        cancel_requested_by=cancelled_by,
        cancel_reason=cancel_reason,
        finished_at_ms=finished_ms,
        output_json=output,
        error_code=code,
        error=error,
        effect_possible=effect_possible,
        took_ms=took_ms,
        mediation=None if mediation is None else _mediation.decode(mediation),
        notes=list(notes),
    )


def note_row(job_id: JobId, position: int, note: Report) -> dict[str, Any]:
    """The row of a late report."""
    return {
        "job_id": job_id,
        "position": position,
        "attempt_id": note.attempt_id,
        "outcome": note.outcome.value,
        "output_json": note.output_json,
        "error_code": note.error_code,
        "error": note.error,
        "stopped": note.stopped,
        "took_ms": note.took_ms,
    }


def note_of(row: Sequence[Any]) -> Report:
    """The late report of a row, without its job id and position."""
    attempt_id, outcome, output, code, error, stopped, took_ms = row
    return Report(attempt_id, Outcome(outcome), output, code, error, stopped, took_ms)


def _attempt_of(row: Sequence[Any]) -> Attempt:
    attempt_id, _, *rest = row
    return Attempt(attempt_id, *rest)
