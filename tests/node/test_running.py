"""Tests of :mod:`palyra.node.running`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from palyra.capability.catalogue import Catalogue, Fault
from palyra.capability.outcome import Outcome as RunOutcome
from palyra.capability.outcome import OutcomeKind, succeeded
from palyra.config.nodepolicy import parse_node_policy
from palyra.core.frames import Progress, Waiting
from palyra.core.jobs import MediationAnswer, Outcome, Report, Standing
from palyra.core.nodepolicy import NodePolicy
from palyra.core.tracing import Tracer
from palyra.node.desk import Desk
from palyra.node.mediation import Answer, IMediator
from palyra.node.owner import Owner
from palyra.node.running import Runs
from tests.node.fakes import (
    FACTS,
    NOW_MS,
    FakeMediator,
    FakeRunner,
    FakeSpeaker,
    Turns,
    attempt,
    catalogue,
    dispatch,
)

MEDIATION_S = 120


class Host:
    """Runs over a real memory, a runner that waits for the test, and one session."""

    def __init__(
        self,
        path: Path,
        mediator: IMediator | None = None,
        tracer: Tracer | None = None,
        policy: NodePolicy = NodePolicy(),  # noqa: B008 - frozen
    ) -> None:
        self.turns = Turns()
        self.memory = self.turns.memory(path)
        self.runner = FakeRunner()
        self.clock = Clock()
        self.person = FakeMediator()
        self.speaker = FakeSpeaker()
        self.lines: list[tuple[str, int]] = []
        self.slept_s = 0.0
        self.runs = Runs(
            reactor=self.clock,
            elapsed_s=lambda: time.monotonic() + self.slept_s,
            call_from_thread=lambda call, *args: call(*args),
            catalogue=catalogue(),
            runner=self.runner,
            memory=self.memory,
            owner=Owner("pi", mediator=mediator or self.person, policy=policy),
            facts=FACTS,
            now_ms=lambda: NOW_MS,
            max_waiting=2,
            mediation_timeout_s=MEDIATION_S,
            noticed=lambda line, jobs: self.lines.append((line, jobs)),
            tracer=tracer,
        )
        self.runs.attach(self.speaker)

    @property
    def reports(self) -> list[tuple[str, Outcome, str]]:
        """What was reported."""
        return [(each.attempt_id, each.outcome, each.error_code) for each in self.speaker.reports]

    def end(self, outcome: RunOutcome | None = None, run: int = -1) -> None:
        """End a run of an attempt whose report goes to the disk."""
        self.runner.runs[run].on_done(outcome or succeeded(b'{"done":true}'))
        self.turns.turn()


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Host]]:
    """Makes hosts; what their threads hand over is called at once."""
    made: list[Host] = []

    def new(**given: Any) -> Host:
        made.append(Host(tmp_path / f"attempts-{len(made)}.sqlite3", **given))
        return made[-1]

    yield new
    for host in made:
        host.memory.stop()
        assert not host.clock.getDelayedCalls()


@pytest.fixture
def host(make: Callable[..., Host]) -> Host:
    return make()


def test_an_idempotent_attempt_runs_at_once(host: Host) -> None:
    """From dispatch to report without the disk; each step is noticed."""
    host.runs.dispatched(dispatch(1, "test.look"))
    assert host.runs.count == 1
    host.runner.runs[0].on_done(succeeded(b'{"done":true}'))
    assert host.speaker.reports[0].output_json == b'{"done":true}'
    assert host.reports == [(attempt(1), Outcome.SUCCEEDED, "")]
    assert host.lines[0] == ("job B8Q2ZN test.look started", 1)
    assert host.lines[1][0].startswith("job B8Q2ZN test.look succeeded ")
    assert host.lines[1][1] == host.runs.count == 0


def test_accepted_on_disk_before_the_handler_starts(host: Host) -> None:
    """An attempt with an effect is remembered first."""
    host.runs.dispatched(dispatch())
    assert host.runner.runs == []
    host.turns.turn()
    assert len(host.runner.runs) == 1
    rows = host.memory._file._database.execute(
        "SELECT attempt_id, outcome FROM attempts"
    ).fetchall()
    assert rows == [(attempt(1), None)]


def test_reported_on_disk_before_it_is_sent(host: Host) -> None:
    """And only then told."""
    host.runs.dispatched(dispatch())
    host.turns.turn()
    host.runner.runs[0].on_done(succeeded(b"{}"))
    assert host.reports == []
    host.turns.turn()
    assert host.reports == [(attempt(1), Outcome.SUCCEEDED, "")]
    rows = host.memory._file._database.execute("SELECT outcome FROM attempts").fetchall()
    assert rows == [("succeeded",)]


def test_a_disk_that_takes_nothing_refuses(host: Host) -> None:
    """What cannot be remembered does not run."""
    host.memory._file._database.execute("DROP TABLE attempts")
    host.runs.dispatched(dispatch())
    host.turns.turn()
    assert host.runner.runs == []
    assert host.reports == [(attempt(1), Outcome.REJECTED, "node_storage")]
    assert "cannot keep a record" in host.speaker.reports[0].error
    assert host.runs.count == 0


def test_a_report_that_cannot_be_kept_is_sent_all_the_same(host: Host) -> None:
    """The gateway may still learn how it ended."""
    host.runs.dispatched(dispatch())
    host.turns.turn()
    host.memory._file._database.execute("DROP TABLE attempts")
    host.end()
    assert host.reports == [(attempt(1), Outcome.SUCCEEDED, "")]


def test_an_unknown_capability(host: Host) -> None:
    """A sentence with the device's name."""
    host.runs.dispatched(dispatch(capability="printer.print"))
    assert host.reports == [(attempt(1), Outcome.FAILED, "capability_unknown")]
    assert host.speaker.reports[0].error == "pi has no capability printer.print."


def test_a_capability_that_cannot_be_run(host: Host) -> None:
    """By the owner's wish, or because something is wrong with it: that comes between an
    announcement and the dispatch."""
    faults = [
        Fault("printer.print", "acme", "1", "It is switched off on this device.", by_owner=True),
        Fault("printer.scan", "acme", "1", "No module named 'cups'"),
    ]
    host.runs.catalogue = Catalogue([], faults)
    for number, fault in enumerate(faults):
        host.runs.dispatched(dispatch(number, fault.name))
    assert {code for _, _, code in host.reports} == {"capability_disabled"}
    assert [each.error for each in host.speaker.reports] == [
        "printer.print is switched off on pi.",
        "printer.scan cannot be run on pi: No module named 'cups'",
    ]


def test_a_busy_node_refuses(host: Host) -> None:
    """Nothing of it is remembered: it may come again when there is room."""
    for number in (1, 2, 3):
        host.runs.dispatched(dispatch(number, "test.look"))
    assert host.reports == [(attempt(3), Outcome.REJECTED, "node_busy")]
    assert host.speaker.reports[0].error == "pi is busy (2 of 2)."
    host.runner.runs[0].on_done(succeeded(b"{}"))
    host.runs.dispatched(dispatch(3, "test.look"))
    assert len(host.runner.runs) == 3


@pytest.mark.parametrize("capability", ["test.act", "test.look", "test.ask"])
def test_a_repeated_dispatch_runs_once(host: Host, capability: str) -> None:
    """While it is written, asked about, run, reported, and after that."""
    repeated = dispatch(1, capability)
    host.runs.dispatched(repeated)
    host.runs.dispatched(repeated)
    if capability == "test.ask":
        assert len(host.person.asked) == 1
        host.person.asked[0][1].callback(Answer("once", "ana"))
        host.runs.dispatched(repeated)
    if capability != "test.look":
        host.turns.turn()
    host.runs.dispatched(repeated)
    host.runner.runs[0].on_done(succeeded(b"{}"))
    host.runs.dispatched(repeated)
    if capability != "test.look":
        host.turns.turn()
    host.runs.dispatched(repeated)
    assert len(host.runner.runs) == 1
    assert len(host.speaker.reports) == 1


def test_an_acknowledged_attempt_does_not_run_again(host: Host) -> None:
    """Its id is remembered."""
    host.runs.dispatched(dispatch())
    host.turns.turn()
    host.end()
    host.runs.acknowledged(attempt(1))
    host.turns.turn()
    host.runs.dispatched(dispatch())
    assert len(host.runner.runs) == 1


@pytest.mark.parametrize(
    ("kind", "expected"),
    [(OutcomeKind.FAILED, Outcome.FAILED), (OutcomeKind.TIMED_OUT, Outcome.TIMED_OUT)],
)
def test_the_outcome_of_a_run_is_reported(host: Host, kind: OutcomeKind, expected: Outcome) -> None:
    """With its code, its sentence and whether it stopped."""
    host.runs.dispatched(dispatch())
    host.turns.turn()
    host.end(RunOutcome(kind, b"", "some_code", "A sentence.", stopped=False))
    report = host.speaker.reports[0]
    assert (report.outcome, report.error_code, report.error) == (
        expected,
        "some_code",
        "A sentence.",
    )
    assert not report.stopped


# -- cancel -------------------------------------------------------------------------------------


def test_cancel_before_it_is_written(host: Host) -> None:
    """It never starts, and the record on disk says so."""
    host.runs.dispatched(dispatch())
    host.runs.cancel(attempt(1), "not wanted")
    host.turns.turn()
    host.turns.turn()
    assert host.runner.runs == []
    assert host.reports == [(attempt(1), Outcome.CANCELLED, "cancelled")]
    rows = host.memory._file._database.execute("SELECT outcome FROM attempts").fetchall()
    assert rows == [("cancelled",)]


def test_cancel_while_it_runs(host: Host) -> None:
    """The run is asked to stop; a second cancel is nothing."""
    host.runs.dispatched(dispatch())
    host.turns.turn()
    host.runs.cancel(attempt(1), "not wanted")
    host.runs.cancel(attempt(1), "not wanted")
    host.turns.turn()
    assert host.reports == [(attempt(1), Outcome.CANCELLED, "cancelled")]


def test_cancel_after_its_end(host: Host) -> None:
    """What was reported stays."""
    host.runs.dispatched(dispatch())
    host.turns.turn()
    host.end()
    host.runs.cancel(attempt(1), "not wanted")
    assert host.reports == [(attempt(1), Outcome.SUCCEEDED, "")]
    assert not host.runner.runs[0].cancelled


# -- mediation ----------------------------------------------------------------------------------


def waits(host: Host) -> list[bool]:
    return [each.answered for each in host.speaker.said if isinstance(each, Waiting)]


def test_a_yes(host: Host) -> None:
    """It is asked with the facts, told, and run after the yes."""
    host.runs.dispatched(dispatch(1, "test.ask", input_json=b'{"x":1}'))
    question, answer = host.person.asked[0]
    assert (question.requested_by, question.capability, question.risk) == (
        "ana",
        "test.ask",
        "medium",
    )
    assert question.argument == '{"x":1}'
    assert waits(host) == [False]
    assert host.runs.standings() == {attempt(1): Standing.RUNNING}
    answer.callback(Answer("once", "ana"))
    assert waits(host) == [False, True]
    host.turns.turn()
    host.end()
    assert host.reports == [(attempt(1), Outcome.SUCCEEDED, "")]


def test_a_no(host: Host) -> None:
    """Rejected, with the person's word; nothing ran."""
    host.runs.dispatched(dispatch(1, "test.ask"))
    host.person.asked[0][1].callback(Answer.denied("ana in a dialog"))
    assert host.reports == [(attempt(1), Outcome.REJECTED, "mediation_denied")]
    assert host.speaker.reports[0].error == "The person at pi said no."
    assert host.runner.runs == []
    assert host.lines[-1][1] == 0


def test_who_said_no_is_reported(host: Host) -> None:
    """With the choice, as the gateway will keep it."""
    host.runs.dispatched(dispatch(1, "test.ask"))
    host.person.asked[0][1].callback(Answer.denied("ana at the terminal"))
    assert host.speaker.reports[0].mediation == MediationAnswer("ana at the terminal", "no")


def test_who_said_yes_is_told_at_once_and_reported(host: Host) -> None:
    """In the message that ends the wait, and with the outcome."""
    host.runs.dispatched(dispatch(1, "test.ask"))
    host.person.asked[0][1].callback(Answer("session", "ana in a dialog"))
    said = MediationAnswer("ana in a dialog", "session")
    assert host.speaker.said[-1] == Waiting(attempt(1), True, 0, said)
    host.turns.turn()
    host.end()
    assert host.speaker.reports[0].mediation == said


RULES = """
[[rule]]
id = "never-here"
effect = "deny"
capability = ["test.*"]
input = [{ path = "/host", equals = "internal" }]

[[rule]]
id = "fine"
effect = "allow"
capability = ["test.ask"]
input = [{ path = "/host", equals = "open" }]

[[rule]]
effect = "ask"
capability = ["test.look"]
"""


def test_a_rule_denies(make: Callable[..., Host]) -> None:
    """The owner's rule is named; nobody was asked, and nothing ran."""
    host = make(policy=parse_node_policy(RULES, "f"))
    host.runs.dispatched(dispatch(1, "test.act", input_json=b'{"host":"internal"}'))
    (report,) = host.speaker.reports
    assert (report.outcome, report.error_code) == (Outcome.REJECTED, "device_policy_denied")
    assert report.error == "The owner of pi does not allow this (rule: never-here)."
    assert report.mediation == MediationAnswer("rule never-here", "no")
    assert host.runner.runs == [] and waits(host) == []


def test_a_rule_allows(make: Callable[..., Host]) -> None:
    """It runs at once, and the report says by which rule."""
    host = make(policy=parse_node_policy(RULES, "f"))
    host.runs.dispatched(dispatch(1, "test.ask", input_json=b'{"host":"open"}'))
    assert host.person.asked == [] and waits(host) == []
    host.turns.turn()
    host.end()
    assert host.speaker.reports[0].mediation == MediationAnswer("rule fine", "rule")


def test_a_rule_asks(make: Callable[..., Host]) -> None:
    """Also about what needs no mediation by itself; a new session is told again."""
    host = make(policy=parse_node_policy(RULES, "f"))
    host.runs.dispatched(dispatch(1, "test.look", input_json=b'{"host":"x"}'))
    assert waits(host) == [False]
    again = FakeSpeaker()
    host.runs.attach(again)
    assert [each.answered for each in again.said if isinstance(each, Waiting)] == [False]
    host.person.asked[0][1].callback(Answer("once", "ana"))
    assert len(host.runner.runs) == 1


def test_an_input_that_no_rule_can_judge(make: Callable[..., Host]) -> None:
    """It is no JSON: it fails, whatever the rules say."""
    host = make(policy=parse_node_policy(RULES, "f"))
    host.runs.dispatched(dispatch(1, "test.act", input_json=b"{"))
    assert host.reports == [(attempt(1), Outcome.FAILED, "input_invalid")]


def test_a_mediator_that_breaks(
    host: Host, monkeypatch: pytest.MonkeyPatch, unhandled_failures: object
) -> None:
    """It is a no, and its failure is in the log."""
    monkeypatch.setattr(host.person, "ask", lambda question: 1 / 0)
    host.runs.dispatched(dispatch(1, "test.ask"))
    assert host.reports == [(attempt(1), Outcome.REJECTED, "mediation_unavailable")]


def test_a_question_that_was_slept_over(host: Host) -> None:
    """The person's time is over when the machine wakes up, and no timer needs to run out."""
    host.runs.dispatched(dispatch(1, "test.ask"))
    host.runs.woke()
    host.clock.advance(0)
    assert host.reports == []
    host.slept_s = MEDIATION_S + 1
    host.runs.woke()
    host.clock.advance(0)
    assert host.reports == [(attempt(1), Outcome.REJECTED, "mediation_timeout")]


def test_a_job_goes_on_while_the_machine_sleeps(host: Host) -> None:
    """Its deadline passes, and what is reported of it is all the time that it took."""
    host.runs.dispatched(dispatch(1, remaining_ms=30_000))
    host.turns.turn()
    (run,) = host.runner.runs
    assert run.context.remaining_s() > 20
    host.slept_s = 3600.0
    assert run.context.cancelled and run.context.remaining_s() == 0
    host.end()
    assert host.speaker.reports[0].took_ms >= 3_600_000


def test_no_answer(host: Host) -> None:
    """After the mediation timeout it is a no that says so."""
    host.runs.dispatched(dispatch(1, "test.ask"))
    host.clock.advance(MEDIATION_S)
    assert host.reports == [(attempt(1), Outcome.REJECTED, "mediation_timeout")]
    assert host.speaker.reports[0].error == "Nobody at pi answered in 120 s."


def test_nobody_to_ask(make: Callable[..., Host]) -> None:
    """A host without a terminal says no at once, and nobody said it."""
    host = make(mediator=Desk("pi", mode="auto"))
    host.runs.dispatched(dispatch(1, "test.ask"))
    assert host.reports == [(attempt(1), Outcome.REJECTED, "mediation_unavailable")]
    assert host.speaker.reports[0].mediation is None
    assert waits(host) == []


def test_cancel_while_a_person_is_asked(host: Host) -> None:
    """The question is taken back."""
    host.runs.dispatched(dispatch(1, "test.ask"))
    host.runs.cancel(attempt(1), "not wanted")
    assert host.reports == [(attempt(1), Outcome.CANCELLED, "cancelled")]
    assert host.person.asked[0][1].called


# -- sessions -----------------------------------------------------------------------------------


def test_progress_is_told_while_it_runs(host: Host) -> None:
    """And no more after its end, nor without a session."""
    host.runs.dispatched(dispatch(1, "test.look"))
    context = host.runner.runs[0].context
    context.progress(0.5, "half")
    assert host.speaker.said == [Progress(attempt(1), 0.5, "half")]
    host.runs.detach(host.speaker)
    host.runs._progressed(attempt(1), 0.6, "")
    host.runner.runs[0].on_done(succeeded(b"{}"))
    host.runs._progressed(attempt(1), 0.9, "")
    assert len(host.speaker.said) == 1


def test_a_new_session_gets_what_was_not_acknowledged(host: Host) -> None:
    """Reports that nobody heard, and the ones that were not confirmed; a confirmed one not."""
    for number in (1, 2):
        host.runs.dispatched(dispatch(number, "test.look"))
    host.runner.runs[0].on_done(succeeded(b"{}"))
    host.runs.detach(host.speaker)
    host.runner.runs[1].on_done(succeeded(b"{}"))
    assert len(host.speaker.reports) == 1
    following = FakeSpeaker()
    host.runs.attach(following)
    assert [each.attempt_id for each in following.reports] == [attempt(1), attempt(2)]
    host.runs.acknowledged(attempt(1))
    last = FakeSpeaker()
    host.runs.attach(last)
    assert [each.attempt_id for each in last.reports] == [attempt(2)]


def test_the_old_session_going_does_not_silence_the_new_one(host: Host) -> None:
    """They overlap when a node registers again."""
    following = FakeSpeaker()
    host.runs.attach(following)
    host.runs.detach(host.speaker)
    host.runs.dispatched(dispatch(1, "test.look"))
    host.runner.runs[0].on_done(succeeded(b"{}"))
    assert len(following.reports) == 1


def test_a_new_session_hears_who_is_asked(host: Host) -> None:
    """A question, and a yes, that fell into a break are told again."""
    host.runs.detach(host.speaker)
    host.runs.dispatched(dispatch(1, "test.ask"))
    following = FakeSpeaker()
    host.runs.attach(following)
    assert isinstance(following.said[0], Waiting)
    assert not following.said[0].answered
    assert 100_000 < following.said[0].remaining_ms <= MEDIATION_S * 1000
    host.runs.detach(following)
    host.person.asked[0][1].callback(Answer("once", "ana"))
    host.turns.turn()
    last = FakeSpeaker()
    host.runs.attach(last)
    said = MediationAnswer("ana", "once")
    assert last.said == [Waiting(attempt(1), True, 0, said)]
    host.end()


# -- the end ------------------------------------------------------------------------------------


def test_idle_is_when_the_gateway_has_every_report(host: Host) -> None:
    """A result is not thrown away because the host is about to stop."""
    host.runs.dispatched(dispatch(1, "test.look"))
    idle = host.runs.when_idle()
    host.runner.runs[0].on_done(succeeded(b"{}"))
    assert not idle.called
    host.runs.acknowledged(attempt(1))
    assert idle.called


def test_without_a_session_idle_does_not_wait(host: Host) -> None:
    """Nobody is there to hear the report; it is kept for later."""
    assert host.runs.when_idle().called
    host.runs.dispatched(dispatch(1, "test.look"))
    idle = host.runs.when_idle()
    host.runner.runs[0].on_done(succeeded(b"{}"))
    assert not idle.called
    host.runs.detach(host.speaker)
    assert idle.called


def test_a_closing_host_takes_no_more(host: Host) -> None:
    """A question is taken back, and the report says why; what runs goes on, and a dispatch is not
    answered: the gateway sends it again to the next session."""
    host.runs.dispatched(dispatch(1, "test.ask"))
    host.runs.dispatched(dispatch(2, "test.look"))
    host.runs.close()
    assert host.reports == [(attempt(1), Outcome.REJECTED, "mediation_unavailable")]
    assert host.speaker.reports[0].error == (
        "The node host of pi stopped before anybody had answered."
    )
    host.runs.dispatched(dispatch(3, "test.look"))
    assert host.runs.count == 1
    assert attempt(3) not in host.runs.standings()
    host.runner.runs[0].on_done(succeeded(b"{}"))
    assert len(host.speaker.reports) == 2


def test_a_runner_that_is_closed(host: Host) -> None:
    """The attempt is reported as cancelled, on disk too."""
    host.runner.closed = True
    host.runs.dispatched(dispatch())
    host.turns.turn()
    host.turns.turn()
    assert host.reports == [(attempt(1), Outcome.CANCELLED, "cancelled")]
    rows = host.memory._file._database.execute("SELECT outcome FROM attempts").fetchall()
    assert rows == [("cancelled",)]


def test_a_full_memory_is_busy(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """It refuses rather than forgets."""
    monkeypatch.setattr(host.memory, "is_full", lambda now_ms: True)
    host.runs.dispatched(dispatch())
    assert host.reports == [(attempt(1), Outcome.REJECTED, "node_busy")]


def test_a_report_of_an_earlier_life_is_sent_first(make: Callable[..., Host]) -> None:
    """What the disk holds goes out as soon as there is a session."""
    host = make()
    report = Report(attempt(9), Outcome.SUCCEEDED, b"{}")
    host.turns.wait(host.memory.finished(report, durable=False))
    speaker = FakeSpeaker()
    host.runs.attach(speaker)
    assert speaker.reports == [report]
