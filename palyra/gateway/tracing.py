"""Spans of jobs: one from submission to the end, and below it one for each attempt."""

from __future__ import annotations

import re

import attrs

from palyra.core.identifiers import AttemptId
from palyra.core.jobs import Job, JobState
from palyra.core.tracing import Facts, Span, SpanKind, Tracer, traceparent
from palyra.gateway.unfinished import Live

_FAILED = frozenset(
    {JobState.FAILED, JobState.TIMED_OUT, JobState.EXPIRED, JobState.OUTCOME_UNKNOWN}
)
_CODE = re.compile(r"[a-z][a-z0-9_.]*", re.ASCII)


@attrs.define(eq=False)
class JobTrace:
    """The spans of one job; it lives as long as the job is unfinished."""

    job: Span
    attempt_id: AttemptId | None = None
    attempt: Span | None = None


class JobTraces:
    """Begins and ends the spans of the jobs in a table of unfinished ones."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def kept(self, live: Live) -> None:
        """A job is taken in, below what the present context is part of.

        One that is taken in again, because its session went meanwhile, goes on as it was begun.
        """
        if live.trace is None:
            call = live.job.call
            facts = {
                "palyra.job_id": call.job_id,
                "palyra.device_id": call.device_id,
                "palyra.capability": call.capability,
            }
            name = f"job {call.capability}"
            live.trace = JobTrace(self._tracer.begin(name, SpanKind.INTERNAL, traceparent(), facts))

    def forgotten(self, live: Live) -> None:
        """A job has ended, on record; one that was not accepted has never been."""
        trace, job = live.trace, live.job
        if trace is None or not job.final:
            return
        live.trace = None
        _end_attempt(trace)
        trace.job.end(_end(job), job.state in _FAILED)

    def sending(self, live: Live) -> str:
        """The newest attempt is sent, maybe again: what the node names as its span's parent."""
        trace: JobTrace | None = live.trace
        attempt = live.job.attempt
        if trace is None or attempt is None:
            return ""
        if trace.attempt is None or trace.attempt_id != attempt.attempt_id:
            _end_attempt(trace)
            facts: Facts = {"palyra.job_id": live.job.call.job_id, "palyra.attempt": attempt.number}
            name = f"dispatch {live.job.call.capability}"
            trace.attempt_id = attempt.attempt_id
            trace.attempt = self._tracer.begin(name, SpanKind.CLIENT, trace.job.traceparent, facts)
        return trace.attempt.traceparent


def _end_attempt(trace: JobTrace) -> None:
    if trace.attempt is not None:
        trace.attempt.end({})
        trace.attempt = None


def _end(job: Job) -> Facts:
    """What became of a job.  A code that is not spelled as one is a capability's own text."""
    facts = {"palyra.state": job.state.value}
    if _CODE.fullmatch(job.error_code):
        facts["palyra.error_code"] = job.error_code
    return facts
