"""Runs: from a dispatch to a report, under the device's own limits and its owner's word."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import attrs
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.logger import Logger
from twisted.python.failure import Failure

from palyra.capability.catalogue import Catalogue, Offer
from palyra.capability.context import CapabilityContext, DeviceFacts
from palyra.capability.outcome import Outcome as RunOutcome
from palyra.capability.outcome import OutcomeKind
from palyra.core.frames import Dispatch, Progress, Waiting
from palyra.core.identifiers import AttemptId, short_id
from palyra.core.jobs import MediationAnswer, Outcome, Report, Standing
from palyra.core.tracing import Facts, Span, SpanKind, Tracer
from palyra.errors import InputInvalid, PalyraError
from palyra.node.attempts import AttemptMemory
from palyra.node.mediation import UNAVAILABLE, Answer
from palyra.node.owner import Owner
from palyra.node.patience import Patience
from palyra.node.runner import Run, Runner

_OUTCOMES = {
    OutcomeKind.SUCCEEDED: Outcome.SUCCEEDED,
    OutcomeKind.FAILED: Outcome.FAILED,
    OutcomeKind.TIMED_OUT: Outcome.TIMED_OUT,
    OutcomeKind.CANCELLED: Outcome.CANCELLED,
}
_FAILURES = frozenset({Outcome.FAILED, Outcome.TIMED_OUT})


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
    offer: Offer
    began_s: float
    run: Run | None = None
    question: Deferred[Answer] | None = None
    asked: bool = False
    """The gateway was told that a person is asked."""
    mediation: MediationAnswer | None = None
    cancelled: bool = False
    span: Span | None = None

    @property
    def durable(self) -> bool:
        """Whether a second run could do harm, so that it must be remembered on disk."""
        return not self.offer.descriptor.idempotent


class Runs:
    """Every attempt of this node host."""

    _log = Logger()

    def __init__(
        self,
        *,
        reactor: Any,
        elapsed_s: Callable[[], float],
        call_from_thread: Callable[..., None],
        catalogue: Catalogue,
        runner: Runner,
        memory: AttemptMemory,
        owner: Owner,
        facts: DeviceFacts,
        now_ms: Callable[[], int],
        max_waiting: int,
        mediation_timeout_s: float,
        noticed: Callable[[str, int], object],
        tracer: Tracer | None = None,
    ) -> None:
        """``elapsed_s`` counts while the machine sleeps, as deadlines do.
        ``call_from_thread(function, *arguments)`` is the way back from a runner's threads;
        ``noticed`` is told in a line what began or ended, and how many attempts there are."""
        self._patience = Patience(reactor, elapsed_s)
        self._elapsed_s = elapsed_s
        self._call_from_thread = call_from_thread
        self.catalogue = catalogue
        self._runner = runner
        self._memory = memory
        self._owner = owner
        self._facts = facts
        self._now_ms = now_ms
        self._max_waiting = max_waiting
        self._mediation_timeout_s = mediation_timeout_s
        self._noticed = noticed
        self._tracer = tracer
        self._running: dict[AttemptId, _Running] = {}
        self._speaker: Speaker | None = None
        self._idle: list[Deferred[None]] = []
        self._closing = False

    # -- sessions ---------------------------------------------------------------------------

    def attach(self, speaker: Speaker) -> None:
        """A session began: send again what was not acknowledged, and who is being asked."""
        self._speaker = speaker
        for report in self._memory.unacknowledged():
            speaker.report(report)
        for running in self._running.values():
            if running.asked:
                self._say_waiting(running)

    def detach(self, speaker: Speaker) -> None:
        """A session ended; reports wait for the next one."""
        if self._speaker is speaker:
            self._speaker = None
            self._check_idle()

    @property
    def count(self) -> int:
        """How many attempts are being worked on."""
        return len(self._running)

    def standings(self) -> dict[str, Standing]:
        """What RegisterNode tells; an attempt that waits for a person counts as running."""
        waiting: dict[str, Standing] = {each: Standing.RUNNING for each in self._running}
        return waiting | self._memory.standings()

    def close(self) -> None:
        """Take no more work, and take back what a person is being asked.

        A dispatch that comes now is not answered: it never started, and the gateway sends it again
        to the next session.
        """
        self._closing = True
        for running in list(self._running.values()):
            if running.question is not None:
                running.question.cancel()

    def woke(self) -> None:
        """The machine was asleep: a person's time may be over.  Runs are seen to where they run."""
        self._patience.look()

    def when_idle(self) -> Deferred[None]:
        """Fires when nothing runs, and a gateway that listens has every report."""
        idle: Deferred[None] = Deferred()
        self._idle.append(idle)
        self._check_idle()
        return idle

    # -- what the gateway says ------------------------------------------------------------------

    def dispatched(self, dispatch: Dispatch) -> None:
        """Work on an attempt, once: a repeated dispatch is answered from memory or not at all."""
        attempt_id = dispatch.attempt_id
        if self._closing or attempt_id in self._running or self._memory.knows(attempt_id):
            return
        offer = self.catalogue.offers.get(dispatch.capability)
        if offer is None:
            self._refuse(dispatch, Outcome.FAILED, *self._not_offered(dispatch.capability))
        elif self._memory.is_full(self._now_ms()) or len(self._running) >= self._max_waiting:
            text = f"{self._facts.name} is busy ({len(self._running)} of {self._max_waiting})."
            self._refuse(dispatch, Outcome.REJECTED, "node_busy", text)
        else:
            self._accept(_Running(dispatch, offer, self._elapsed_s()))

    def _not_offered(self, name: str) -> tuple[str, str]:
        """Code and sentence for a capability that cannot be run here, now."""
        device = self._facts.name
        fault = next((each for each in self.catalogue.faults if each.name == name), None)
        if fault is None:
            return "capability_unknown", f"{device} has no capability {name}."
        if fault.by_owner:
            return "capability_disabled", f"{name} is switched off on {device}."
        return "capability_disabled", f"{name} cannot be run on {device}: {fault.sentence}"

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
        self._check_idle()
        kept.addErrback(lambda failure: self._log.failure("an acknowledgement was lost", failure))

    # -- one attempt ------------------------------------------------------------------------

    def _accept(self, running: _Running) -> None:
        dispatch = running.dispatch
        self._running[dispatch.attempt_id] = running
        until_s = running.began_s + self._mediation_timeout_s
        asking = partial(self._asking, running)
        question = self._owner.decide(dispatch, running.offer, until_s, asking)
        if not question.called:
            running.question = question
            self._patience.limit(question, self._mediation_timeout_s)
            if running.asked:
                self._say_waiting(running)
        question.addCallbacks(
            self._answered, self._unanswered, callbackArgs=(running,), errbackArgs=(running,)
        )

    def _asking(self, running: _Running) -> None:
        """A person is asked, at once or after a look at what it is about."""
        running.asked = True
        if running.question is not None:
            self._say_waiting(running)

    def _answered(self, answer: Answer, running: _Running) -> None:
        running.question = None
        if answer.decided_by:
            running.mediation = MediationAnswer(answer.decided_by, answer.choice)
        if not answer.allowed:
            text = answer.sentence or f"The person at {self._facts.name} said no."
            return self._end(running, Outcome.REJECTED, answer.code, text)
        if running.asked:
            running.began_s = self._elapsed_s()  # the run time starts at the yes
            self._say_waiting(running)
        self._remember(running)

    def _unanswered(self, failure: Failure, running: _Running) -> None:
        running.question = None
        error = failure.value
        if running.cancelled and isinstance(error, CancelledError):
            self._end(running, Outcome.CANCELLED, "cancelled", "Cancelled before it began.")
        elif self._closing and isinstance(error, CancelledError):
            text = f"The node host of {self._facts.name} stopped before anybody had answered."
            self._end(running, Outcome.REJECTED, UNAVAILABLE, text)
        elif isinstance(error, InputInvalid):
            self._end(running, Outcome.FAILED, error.code, error.sentence)
        elif not isinstance(error, TimeoutError):
            self._log.failure("asking for {what} failed", failure, what=running.offer.name)
            text = f"{self._facts.name} could not ask; the log of its node host has the details."
            self._end(running, Outcome.REJECTED, UNAVAILABLE, text)
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
        dispatch = running.dispatch
        if running.cancelled:
            text = f"{dispatch.capability} was cancelled before it began."
            self._end(running, Outcome.CANCELLED, "cancelled", text, durable=running.durable)
            return
        self._notice(running, "started")
        if self._tracer is not None:
            running.span = _span(self._tracer, dispatch)
        limit_s = dispatch.remaining_ms / 1000
        context = CapabilityContext(
            dispatch.job_id or dispatch.attempt_id,
            self._facts,
            deadline_s=running.began_s + limit_s,
            clock=self._elapsed_s,
            on_progress=lambda fraction, text: self._call_from_thread(
                self._progressed, dispatch.attempt_id, fraction, text
            ),
        )
        try:
            running.run = self._runner.start(
                running.offer,
                dispatch.input_json,
                context,
                dispatch.max_payload_bytes,
                lambda outcome: self._call_from_thread(self._ended, running, outcome),
            )
        except RuntimeError:
            text = "The node host is stopping."
            self._end(running, Outcome.CANCELLED, "cancelled", text, durable=running.durable)

    def _ended(self, running: _Running, outcome: RunOutcome) -> None:
        report = Report(
            attempt_id=running.dispatch.attempt_id,
            outcome=_OUTCOMES[outcome.kind],
            output_json=outcome.output,
            error_code=outcome.error_code,
            error=outcome.error_sentence,
            stopped=outcome.stopped,
            took_ms=int((self._elapsed_s() - running.began_s) * 1000),
            mediation=running.mediation,
        )
        self._finish(running, report, durable=running.durable)

    def _end(
        self, running: _Running, outcome: Outcome, code: str, text: str, durable: bool = False
    ) -> None:
        """End an attempt whose handler never started."""
        attempt_id, said = running.dispatch.attempt_id, running.mediation
        report = Report(attempt_id, outcome, b"", code, text, mediation=said)
        self._finish(running, report, durable=durable)

    def _finish(self, running: _Running, report: Report, *, durable: bool) -> None:
        if running.span is not None:
            outcome = report.outcome
            running.span.end({"palyra.outcome": outcome.value}, outcome in _FAILURES)
        kept = self._memory.finished(report, durable=durable)

        def tell(_: object) -> None:
            self._running.pop(report.attempt_id, None)
            if self._speaker is not None:
                self._speaker.report(report)
            self._notice(running, f"{report.outcome.value} {report.took_ms} ms")
            self._check_idle()

        kept.addErrback(
            lambda failure: self._log.failure("a result could not be kept on disk", failure)
        )
        kept.addCallback(tell)

    def _refuse(self, dispatch: Dispatch, outcome: Outcome, code: str, text: str) -> None:
        """Say no to an attempt that was never taken in; nothing of it is remembered."""
        if self._speaker is not None:
            self._speaker.report(Report(dispatch.attempt_id, outcome, b"", code, text))

    def _say_waiting(self, running: _Running) -> None:
        """That a person is asked, and how long that may take, or that there was a yes."""
        if self._speaker is not None:
            left_s = running.began_s + self._mediation_timeout_s - self._elapsed_s()
            about, said = running.dispatch.attempt_id, running.question is None
            left_ms = 0 if said else max(1, int(left_s * 1000))
            self._speaker.waiting(Waiting(about, said, left_ms, running.mediation))

    def _notice(self, running: _Running, what: str) -> None:
        dispatch = running.dispatch
        line = f"job {short_id(dispatch.job_id)} {dispatch.capability} {what}"
        self._noticed(line, len(self._running))

    def _progressed(self, attempt_id: AttemptId, fraction: float | None, text: str) -> None:
        if self._speaker is not None and attempt_id in self._running:
            self._speaker.progress(Progress(attempt_id, fraction, text))

    def _check_idle(self) -> None:
        heard = self._speaker is None or not self._memory.unacknowledged()
        if not self._running and heard:
            idle, self._idle = self._idle, []
            for each in idle:
                each.callback(None)


def _span(tracer: Tracer, dispatch: Dispatch) -> Span:
    facts: Facts = {
        "palyra.job_id": dispatch.job_id,
        "palyra.capability": dispatch.capability,
        "palyra.attempt": dispatch.number,
    }
    name = f"run {dispatch.capability}"
    return tracer.begin(name, SpanKind.SERVER, dispatch.traceparent, facts)
