"""Tests of :mod:`palyra.node.desk`."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock
from zope.interface import implementer
from zope.interface.verify import verifyObject

from palyra.errors import AmbiguousTarget, Malformed, NotFound
from palyra.node.desk import MAX_OPEN, Desk
from palyra.node.mediation import Answer, IDialogs, IMediator, Question
from tests.conftest import UnhandledFailures
from tests.node.fakes import FakeMediator

JOB = "01M80NKQCNB8Q2ZNZT9B3FVHD0"


def question(question_id: str = JOB, scope: str = "https://example.org") -> Question:
    """A question of that id."""
    return Question(question_id, "ana", "desktop.open_url", "medium", "{}", scope)


@implementer(IDialogs)
class FakeDialogs(FakeMediator):
    """A desktop that is there or not."""

    def __init__(self, here: bool = True) -> None:
        super().__init__()
        self.here = here

    def available(self) -> bool:
        return self.here

    def stop(self) -> Deferred[None]:
        return succeed(None)


class Asked:
    """A desk with both faces, and what became of a question."""

    def __init__(self, mode: Any = "auto", terminal: bool = True, desktop: bool = True) -> None:
        self.terminal = FakeMediator()
        self.dialogs = FakeDialogs(desktop)
        self.desk = Desk(
            "pi",
            mode=mode,
            terminal=self.terminal if terminal else None,
            dialogs=self.dialogs,
        )
        self.answers: list[Answer] = []

    def ask(self, *given: str) -> Deferred[Answer]:
        answer = self.desk.ask(question(*given))
        answer.addCallback(self.answers.append)
        return answer


def test_it_is_a_mediator() -> None:
    """For who asks there is only one."""
    assert verifyObject(IMediator, Asked().desk)
    assert verifyObject(IDialogs, FakeDialogs())


@pytest.mark.parametrize(
    ("mode", "terminal", "desktop", "face"),
    [
        ("auto", True, True, "terminal"),
        ("auto", False, True, "dialog"),
        ("terminal", True, True, "terminal"),
        ("dialog", True, True, "dialog"),
        ("requests", True, True, ""),
    ],
)
def test_where_it_is_asked(mode: str, terminal: bool, desktop: bool, face: str) -> None:
    """Where the owner wants it, or where a person is; and it is open for the control socket."""
    asked = Asked(mode, terminal, desktop)
    asked.ask()
    shown = (len(asked.terminal.asked), len(asked.dialogs.asked))
    assert shown == {"terminal": (1, 0), "dialog": (0, 1), "": (0, 0)}[face]
    assert asked.desk.questions() == [question()]
    asked.desk.answer("B8Q2ZN", "once", "ana with palyra node allow")
    assert asked.answers == [Answer("once", "ana with palyra node allow")]


@pytest.mark.parametrize(
    ("mode", "sentence"),
    [
        ("auto", "Nobody at pi can be asked: it has no terminal and no desktop."),
        ("terminal", "Nobody at pi can be asked: its node host has no terminal."),
        ("dialog", "Nobody at pi can be asked: it has no desktop."),
        ("refuse", "Nobody at pi is asked: its owner refuses what needs a person."),
    ],
)
def test_nobody_is_there(mode: str, sentence: str) -> None:
    """The answer is no, at once, and says why."""
    asked = Asked(mode, terminal=False, desktop=False)
    asked.ask()
    assert asked.answers == [Answer.no("mediation_unavailable", sentence)]
    assert asked.desk.questions() == []


def test_the_first_answer_wins() -> None:
    """And takes the question from the face that still shows it."""
    asked = Asked()
    asked.ask()
    _, shown = asked.terminal.asked[0]
    asked.desk.answer(JOB, "no", "bo by palyra node deny")
    assert asked.answers == [Answer.denied("bo by palyra node deny")]
    assert shown.called and asked.desk.questions() == []
    with pytest.raises(NotFound):
        asked.desk.answer(JOB, "once", "ana")


def test_the_answer_of_a_face() -> None:
    """It is the answer, and the question is closed."""
    asked = Asked()
    asked.ask()
    asked.terminal.asked[0][1].callback(Answer("always", "ana at the terminal"))
    assert asked.answers == [Answer("always", "ana at the terminal")]
    assert asked.desk.questions() == []


def test_a_face_that_breaks(unhandled_failures: UnhandledFailures) -> None:
    """Is a no that points at the log."""
    asked = Asked()
    asked.ask()
    asked.terminal.asked[0][1].errback(ZeroDivisionError())
    asked.terminal.ask = lambda question: 1 / 0  # type: ignore
    asked.ask()
    assert [each.code for each in asked.answers] == ["mediation_unavailable"] * 2
    assert asked.desk.questions() == []


def test_a_question_that_is_taken_back() -> None:
    """It leaves the face and the list; nothing of it can be answered."""
    asked = Asked()
    answer = asked.ask()
    answer.addErrback(lambda failure: failure.trap(CancelledError) and None)
    answer.cancel()
    assert asked.terminal.asked[0][1].called
    assert asked.desk.questions() == [] and asked.answers == []


def test_time_runs_out() -> None:
    """Whoever asks gives it its time; the question goes with it."""
    asked, clock = Asked("requests"), Clock()
    ended: list[str] = []
    answer = asked.ask().addTimeout(120, clock)
    answer.addErrback(lambda failure: ended.append(failure.type.__name__))
    clock.advance(119)
    assert asked.desk.questions()
    clock.advance(1)
    assert ended == ["TimeoutError"] and not asked.desk.questions()


def test_too_many() -> None:
    """More than a person can look through are refused, and so is the same job twice."""
    asked = Asked("requests")
    for number in range(MAX_OPEN):
        asked.ask(f"01M80NKQCN{number:016d}")
    asked.ask(JOB)
    assert [each.code for each in asked.answers] == ["mediation_busy"]
    assert asked.answers[0].sentence == "32 questions wait at pi already."
    asked.desk.answer(f"01M80NKQCN{0:016d}", "no", "ana")
    asked.ask(f"01M80NKQCN{1:016d}")
    assert asked.answers[-1].code == "mediation_busy"


def test_what_may_be_said() -> None:
    """Only what is offered, to one question that is meant."""
    asked = Asked("requests")
    asked.ask(JOB, "")
    for choice in ("session", "always", "rule", "yes"):
        with pytest.raises(Malformed):
            asked.desk.answer(JOB, choice, "ana")
    asked.ask("01M80NKQCNB8Q2ZNZT9B3FVHD1")
    with pytest.raises(AmbiguousTarget):
        asked.desk.answer("B8Q2", "once", "ana")
    with pytest.raises(NotFound):
        asked.desk.find("zz\u202e")
    assert asked.desk.find("b8q2znzt9b3fvhd1").question_id.endswith("HD1")
