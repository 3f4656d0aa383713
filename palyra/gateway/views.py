"""How the gateway's records look from outside: core values as the console's items."""

from __future__ import annotations

import msgspec

from palyra.console import models
from palyra.core.devices import AnnouncedCapability
from palyra.core.interfaces import LISTED_OUTPUT
from palyra.core.jobmachine import RETRY
from palyra.core.jobs import Job, JobState, Mediation, Report
from palyra.core.pairing import PairingCode
from palyra.gateway.fanouts import FanoutView
from palyra.store.snapshot import redacted

CONTRACT = models.Contract()


def summary(job: Job) -> str:
    """What a list shows of a job's end: its error, else its output, redacted and cut."""
    return redacted(job.error) if job.error else _beginning(job.output_json)


def capability_item(
    item: AnnouncedCapability,
    granted: frozenset[str] | set[str],
    suspended: frozenset[str] = frozenset(),
) -> models.CapabilityItem:
    """One capability of a device."""
    return models.CapabilityItem(
        name=item.name,
        available=item.available,
        granted=item.name in granted,
        version=item.version,
        risk=item.risk,
        needs_mediation=item.needs_mediation,
        idempotent=item.idempotent,
        fault=item.fault,
        digest=item.digest,
        changed=item.name in suspended,
        contract=item.contract,
    )


def code_item(code: PairingCode) -> models.CodeItem:
    """An active code, without the code."""
    return models.CodeItem(
        code_id=code.code_id,
        method=code.method.value,
        issued_by=code.issued_by,
        issued_at_unix_ms=code.issued_at_ms,
        expires_at_unix_ms=code.expires_at_ms,
        labels=dict(code.labels),
        source=code.source,
        failed=code.failed,
        state=code.state.value,
        nameplate=code.nameplate,
    )


def invoke_answer(job: Job) -> models.InvokeAnswer:
    """What became of an invocation."""
    return models.InvokeAnswer(
        contract=CONTRACT,
        device_id=job.call.device_id,
        capability=job.call.capability,
        success=job.state is JobState.SUCCEEDED,
        job_id=job.call.job_id,
        state=job.state.value,
        output_json=raw(job.output_json),
        error=job.error or None,
        error_code=job.error_code or None,
        effect_possible=job.effect_possible,
        took_ms=_took_ms(job),
        approval_id=job.call.approval_id,
        waiting_for=job.waiting_for,
    )


def job_item(job: Job) -> models.JobItem:
    """One job of a list."""
    return models.JobItem(
        job_id=job.call.job_id,
        device_id=job.call.device_id,
        device_name=job.call.device_name,
        capability=job.call.capability,
        state=job.state.value,
        submitted_at_unix_ms=job.call.submitted_at_ms,
        finished_at_unix_ms=job.finished_at_ms,
        took_ms=_took_ms(job),
        requested_by=job.call.requested_by,
        attempts=job.attempts,
        waiting_for=job.waiting_for,
        error_code=job.error_code,
        note=summary(job),
        effect_possible=job.effect_possible,
        fanout_id=job.call.fanout_id,
        queue_expires_unix_ms=job.call.queue_expires_at_ms,
        cancel_requested_unix_ms=job.cancel_requested_at_ms,
        cancelled_by=job.cancel_requested_by,
        cancel_reason=job.cancel_reason,
        retry_at_unix_ms=job.retry_at_ms if job.waiting_for == RETRY else None,
        approval_id=job.call.approval_id,
        mediation=_mediation(job.mediation),
    )


def _mediation(mediation: Mediation | None) -> models.MediationItem | None:
    if mediation is None:
        return None
    return models.MediationItem(
        asked_at_unix_ms=mediation.asked_at_ms,
        decided_at_unix_ms=mediation.decided_at_ms,
        decided_by=mediation.decided_by,
        choice=mediation.choice,
    )


def job_note(report: Report) -> models.JobNote:
    """A report that came too late, as far as it is shown."""
    return models.JobNote(
        attempt_id=report.attempt_id,
        outcome=report.outcome.value,
        error_code=report.error_code,
        error=redacted(report.error),
        took_ms=report.took_ms,
        stopped=report.stopped,
        note=_beginning(report.output_json),
    )


def fanout_item(view: FanoutView) -> models.FanoutItem:
    """A fan-out and its counts."""
    fanout = view.fanout
    return models.FanoutItem(
        fanout_id=fanout.fanout_id,
        capability=fanout.capability,
        expression=fanout.expression,
        requested_by=fanout.requested_by,
        submitted_at_unix_ms=fanout.submitted_at_ms,
        targets=fanout.targets,
        batch=fanout.batch,
        max_failures=fanout.max_failures,
        counts={state.value: number for state, number in view.tally.counts.items() if number},
        finished=view.finished,
        stopped=view.stopped,
        approval_id=fanout.approval_id,
    )


def _beginning(output: bytes | None) -> str:
    """The beginning of an output, redacted; the same whether or not the rest is known."""
    if not output:
        return ""
    text = output[:LISTED_OUTPUT].decode("utf-8", "replace")
    return redacted(text, cut=len(output) >= LISTED_OUTPUT)


def _took_ms(job: Job) -> int | None:
    """From the dispatch to the commit of the result, as callers felt it."""
    if job.finished_at_ms is None or job.attempt is None:
        return None
    return max(0, job.finished_at_ms - job.attempt.dispatched_at_ms)


def raw(data: bytes | None) -> msgspec.Raw:
    """Output as it is embedded: it was checked to be one JSON value when it came."""
    return msgspec.Raw(data) if data else models.NULL
