"""Reports of nodes: what may be taken from them, and those that come when all is decided."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import attrs
from twisted.logger import Logger

from palyra.core.interfaces import IJobLog
from palyra.core.jobmachine import job_machine, report_to
from palyra.core.jobs import Call, Job, Outcome, Report
from palyra.errors import OutputInvalid, PalyraError, PayloadTooLarge
from palyra.gateway.nodesession import NodeSession
from palyra.gateway.orders import json_fault
from palyra.gateway.waits import deferred

MAX_LATE_REPORTS = 1_024


class LateReports:
    """Reports on jobs that are final, or that nobody here knows: they become notes, or nothing.

    They are looked up one after the other for each session: a node that invents reports keeps
    itself waiting, and not the store.
    """

    _log = Logger()

    def __init__(self, log: IJobLog, now_ms: Callable[[], int]) -> None:
        self._store = log
        self._now_ms = now_ms
        self._waiting: dict[NodeSession, deque[Report]] = {}

    def take(self, session: NodeSession, report: Report) -> None:
        """Keep a report as a note on its job, and acknowledge it, soon."""
        waiting = self._waiting.get(session)
        if waiting is None:
            self._waiting[session] = deque()
            self._look_up(session, report)
        elif len(waiting) < MAX_LATE_REPORTS:
            waiting.append(report)  # one beyond that is sent again by the node's next session

    def _look_up(self, session: NodeSession, report: Report) -> None:
        found = deferred(self._store.job_of_attempt(report.attempt_id))
        found.addCallback(self._note, session, report)
        found.addErrback(lambda failure: self._log.failure("a late report was not kept", failure))
        found.addCallback(lambda _: self._next(session))

    def _next(self, session: NodeSession) -> None:
        waiting = self._waiting[session]
        if waiting and session.live:
            self._look_up(session, waiting.popleft())
        else:
            del self._waiting[session]

    def _note(self, job: Job | None, session: NodeSession, report: Report) -> Any:
        if job is None or job.call.device_id != session.device_id:
            session.acknowledge(report.attempt_id)  # nothing here could ever want it
            return None
        report = checked(report, job.call)
        if is_repetition(job, report) or not job.final:
            session.acknowledge(report.attempt_id)
            return None
        report_to(job_machine(job), job, report, self._now_ms())
        noted = deferred(self._store.update(job))
        return noted.addCallback(lambda _: session.acknowledge(report.attempt_id))


def is_repetition(job: Job, report: Report) -> bool:
    """Whether the report says what the job was ended by, or what was noted already."""
    if any(note.attempt_id == report.attempt_id for note in job.notes):
        return True
    same = job.attempt is not None and job.attempt.attempt_id == report.attempt_id
    # With equal outcomes only the output tells an attempt's report from an earlier attempt's.
    return (
        same
        and job.state.value == report.outcome.value
        and (job.output_json or b"") == report.output_json
    )


def checked(report: Report, call: Call) -> Report:
    """The report, or a failure in its place where its output is not what may be passed on.

    What a device sends ends up inside the JSON that operators read: it must be one JSON value.
    """
    refusal: PalyraError
    if len(report.output_json) > call.max_payload_bytes:
        refusal = PayloadTooLarge("output", len(report.output_json), call.max_payload_bytes)
    elif report.outcome is Outcome.SUCCEEDED and (fault := json_fault(report.output_json)):
        refusal = OutputInvalid(call.capability, "output", fault)
    else:
        return report
    return attrs.evolve(
        report,
        outcome=Outcome.FAILED,
        output_json=b"",
        error_code=refusal.code,
        error=refusal.sentence,
    )
