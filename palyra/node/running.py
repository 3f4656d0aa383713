"""Runs: from a dispatch to a report, under the device's own limits and its owner's word."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from palyra.capability.context import CapabilityContext, DeviceFacts
from palyra.capability.outcome import Outcome as RunOutcome
from palyra.capability.outcome import OutcomeKind
from palyra.capability.registry import Registered, Registry
from palyra.capability.runner import Run, ThreadRunner
from palyra.core.frames import Dispatch, Progress, Waiting
from palyra.core.identifiers import AttemptId
from palyra.core.jobs import Outcome, Report
from palyra.errors import PalyraError
from palyra.node.attempts import AttemptMemory
from palyra.node.mediation import Answer, IMediator, Question
from palyra.transport.asyncbridge import call_from_thread

_OUTCOMES = {
    OutcomeKind.SUCCEEDED: Outcome.SUCCEEDED,
    OutcomeKind.FAILED: Outcome.FAILED,
    OutcomeKind.TIMED_OUT: Outcome.TIMED_OUT,
    OutcomeKind.CANCELLED: Outcome.CANCELLED,
}


class Speaker(Protocol):
    """A session, as runs use it."""

    def report(self, report: Report) -> None:
        """Send a report."""

    def progress(self, progress: Progress) -> None:
        """Send how far an attempt is."""

    def waiting(self, waiting: Waiting) -> None:
        """Send that a person is asked, or said yes."""


@attrs.define(eq=False)
class _Running:
    """One attempt that is being worked on here."""

    dispatch: Dispatch
    registered: Registered
    began_s: float
    run: Run | None = None
    question: Deferred[Answer] | None = None
    cancelled: bool = False

    @property
    def durable(self) -> bool:
        """Whether a second run could do harm, so that it must be remembered on disk."""
        return not self.registered.capability.idempotent


class Runs:
    """Every attempt of this node host."""

    _log = Logger()

    def __init__(
        self,
        *,
        reactor: Any,
        registry: Registry,
        runner: ThreadRunner,
        memory: AttemptMemory,
        mediator: IMediator,
        facts: DeviceFacts,
        now_ms: Callable[[], int],
        max_waiting: int,
        mediation_timeout_s: float,
        noticed: Callable[[str], object],
    ) -> None:
        self._reactor = reactor
        self._registry = registry
        self._runner = runner
        self._memory = memory
        self._mediator = mediator
        self._facts = facts
        self._now_ms = now_ms
        self._max_waiting = max_waiting
        self._mediation_timeout_s = mediation_timeout_s
        self._noticed = noticed
        self._running: dict[AttemptId, _Running] = {}
        self._speaker: Speaker | None = None
        self._idle: list[Deferred[None]] = []

    # -- sessions ---------------------------------------------------------------------------

    def attach(self, speaker: Speaker) -> None:
        """A session began: send again what was not acknowledged."""
        self._speaker = speaker
        for report in self._memory.unacknowledged():
            speaker.report(report)

    def detach(self, speaker: Speaker) -> None:
        """A session ended; reports wait for the next one."""
        if self._speaker is speaker:
            self._speaker = None

    @property
    def count(self) -> int:
        """How many attempts are being worked on."""
        return len(self._running)

    def when_idle(self) -> Deferred[None]:
        """Fires when nothing runs any more."""
        idle: Deferred[None] = Deferred()
        self._idle.append(idle)
        self._check_idle()
        return idle

    # -- what the gateway says ------------------------------------------------------------------

    def dispatched(self, dispatch: Dispatch) -> None:
        """Work on an attempt, once: a repeated dispatch is answered from memory or not at all."""
        if self._memory.knows(dispatch.attempt_id):
            return
        registered = self._registry.capabilities.get(dispatch.capability)
        if registered is None:
            text = f"{self._facts.name} has no capability {dispatch.capability}."
            self._refuse(dispatch, Outcome.FAILED, "capability_unknown", text)
        elif self._memory.full or len(self._running) >= self._max_waiting:
            text = f"{self._facts.name} is busy ({len(self._running)} of {self._max_waiting})."
            self._refuse(dispatch, Outcome.REJECTED, "node_busy", text)
        else:
            self._accept(_Running(dispatch, registered, time.monotonic()))

    def cancel(self, attempt_id: AttemptId, reason: str) -> None:
        """Stop an attempt; its report tells what became of it."""
        running = self._running.get(attempt_id)
        if running is None or running.cancelled:
            return
        running.cancelled = True
        if running.question is not None:
            running.question.cancel()
        elif running.run is not None:
            running.run.cancel()

    def acknowledged(self, attempt_id: AttemptId) -> None:
        """The gateway has committed a report."""
        kept = self._memory.acknowledged(attempt_id, self._now_ms())
        kept.addErrback(lambda failure: self._log.failure("an acknowledgement was lost", failure))

    # -- one attempt ------------------------------------------------------------------------

    def _accept(self, running: _Running) -> None:
        dispatch = running.dispatch
        self._running[dispatch.attempt_id] = running
        capability = running.registered.capability
        if capability.needs_mediation:
            self._ask(running)
        else:
            self._remember(running)

    def _ask(self, running: _Running) -> None:
        dispatch, capability = running.dispatch, running.registered.capability
        timeout_ms = int(self._mediation_timeout_s * 1000)
        self._say_waiting(Waiting(dispatch.attempt_id, False, timeout_ms))
        question = Question(
            attempt_id=dispatch.attempt_id,
            requested_by=dispatch.requested_by,
            capability=dispatch.capability,
            risk=capability.risk.value,
            argument=dispatch.input_json.decode("utf-8", "replace"),
        )
        running.question = self._mediator.ask(question)
        running.question.addTimeout(self._mediation_timeout_s, self._reactor)
        running.question.addCallbacks(
            self._answered, self._unanswered, callbackArgs=(running,), errbackArgs=(running,)
        )

    def _answered(self, answer: Answer, running: _Running) -> None:
        running.question = None
        if answer.allowed:
            self._say_waiting(Waiting(running.dispatch.attempt_id, True, 0))
            self._remember(running)
        else:
            self._end(running, Outcome.REJECTED, answer.code, answer.sentence)

    def _unanswered(self, failure: Failure, running: _Running) -> None:
        running.question = None
        if running.cancelled and failure.check(CancelledError):
            self._end(running, Outcome.CANCELLED, "cancelled", "Cancelled before it began.")
        else:
            text = f"Nobody at {self._facts.name} answered in {self._mediation_timeout_s:g} s."
            self._end(running, Outcome.REJECTED, "mediation_timeout", text)

    def _remember(self, running: _Running) -> None:
        accepted = self._memory.accepted(
            running.dispatch.attempt_id,
            durable=running.durable,
            now_ms=self._now_ms(),
            remaining_ms=running.dispatch.remaining_ms,
        )
        accepted.addCallbacks(
            self._begin, self._forgetful, callbackArgs=(running,), errbackArgs=(running,)
        )

    def _forgetful(self, failure: Failure, running: _Running) -> None:
        """It cannot be remembered, so it must not run."""
        cause = failure.value.sentence if isinstance(failure.value, PalyraError) else "disk error"
        text = f"{self._facts.name} cannot keep a record: {cause}"
        self._end(running, Outcome.REJECTED, "node_storage", text, durable=False)

    def _begin(self, _: None, running: _Running) -> None:
        dispatch, capability = running.dispatch, running.registered.capability
        self._noticed(f"job {dispatch.job_id} {dispatch.capability} started")
        limit_s = min(dispatch.remaining_ms / 1000, max(capability.timeout_s, 0.001))
        context = CapabilityContext(
            dispatch.job_id or dispatch.attempt_id,
            self._facts,
            deadline_s=time.monotonic() + limit_s,
            on_progress=lambda fraction, text: call_from_thread(
                self._progressed, dispatch.attempt_id, fraction, text
            ),
        )
        try:
            running.run = self._runner.start(
                capability,
                dispatch.input_json,
                context,
                dispatch.max_payload_bytes,
                lambda outcome: call_from_thread(self._ended, running, outcome),
            )
        except RuntimeError:
            self._end(running, Outcome.CANCELLED, "cancelled", "The node host is stopping.")
            return
        if running.cancelled:
            running.run.cancel()

    def _ended(self, running: _Running, outcome: RunOutcome) -> None:
        report = Report(
            attempt_id=running.dispatch.attempt_id,
            outcome=_OUTCOMES[outcome.kind],
            output_json=outcome.output,
            error_code=outcome.error_code,
            error=outcome.error_sentence,
            stopped=outcome.stopped,
            took_ms=int((time.monotonic() - running.began_s) * 1000),
        )
        self._finish(running, report, durable=running.durable)

    def _end(
        self, running: _Running, outcome: Outcome, code: str, text: str, durable: bool = False
    ) -> None:
        """End an attempt whose handler never started."""
        report = Report(running.dispatch.attempt_id, outcome, b"", code, text)
        self._finish(running, report, durable=durable)

    def _finish(self, running: _Running, report: Report, *, durable: bool) -> None:
        kept = self._memory.finished(report, durable=durable)

        def tell(_: object) -> None:
            self._running.pop(report.attempt_id, None)
            dispatch = running.dispatch
            self._noticed(
                f"job {dispatch.job_id} {dispatch.capability} {report.outcome.value}"
                f" {report.took_ms} ms"
            )
            if self._speaker is not None:
                self._speaker.report(report)
            self._check_idle()

        kept.addErrback(
            lambda failure: self._log.failure("a result could not be kept on disk", failure)
        )
        kept.addCallback(tell)

    def _refuse(self, dispatch: Dispatch, outcome: Outcome, code: str, text: str) -> None:
        """Say no to an attempt that was never taken in; nothing of it is remembered."""
        if self._speaker is not None:
            self._speaker.report(Report(dispatch.attempt_id, outcome, b"", code, text))

    def _say_waiting(self, waiting: Waiting) -> None:
        if self._speaker is not None:
            self._speaker.waiting(waiting)

    def _progressed(self, attempt_id: AttemptId, fraction: float | None, text: str) -> None:
        if self._speaker is not None and attempt_id in self._running:
            self._speaker.progress(Progress(attempt_id, fraction, text))

    def _check_idle(self) -> None:
        if not self._running:
            idle, self._idle = self._idle, []
            for each in idle:
                each.callback(None)
