"""Tests of :mod:`palyra.node.hostcontrol`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, maybeDeferred, succeed

from palyra.core.consents import Scope
from palyra.errors import NotFound
from palyra.node.consents import Consents
from palyra.node.controlwords import (
    Allow,
    Asked,
    CapabilityCount,
    DecidedAnswer,
    Deny,
    Forget,
    ForgottenAnswer,
    Reload,
    ReloadedAnswer,
    Remembered,
    RememberedAnswer,
    RememberedItem,
    RequestItem,
    Requests,
    RequestsAnswer,
    Status,
    StatusAnswer,
    Stop,
    StoppingAnswer,
)
from palyra.node.desk import Desk
from palyra.node.hostcontrol import HostControl
from palyra.node.mediation import Answer, Question
from tests.node.fakes import NOW_MS

JOB = "01M80NKQCNB8Q2ZNZT9B3FVHD0"
OTHER = "01M80NKQCNT6MW3KZT9B3FVHD0"
STATUS = StatusAnswer(
    "online", "pi", JOB, 1, NOW_MS, "quic", "gw:7444", CapabilityCount(5, 1), 0, 0, "x"
)
RELOADED = ReloadedAnswer(5, 2, [], [])


class Controlled:
    """The verbs, over a desk where nobody sits."""

    def __init__(self, path: Path) -> None:
        self.desk = Desk("pi", mode="requests")
        self.consents = Consents.open(
            path / "consents.json",
            now_ms=lambda: NOW_MS,
            entropy=lambda count: b"\x01" * count,
            in_thread=maybeDeferred,
        )
        self.stopped = 0
        self.control = HostControl(
            desk=self.desk,
            consents=self.consents,
            elapsed_s=lambda: 6.0,
            status=lambda: STATUS,
            reload=lambda: succeed(RELOADED),
            stop=self._stop,
        )

    def _stop(self) -> None:
        self.stopped += 1

    def ask(self, argument: str = "{}", scope: str = "exactly this") -> list[Answer]:
        """A question that is open."""
        answers: list[Answer] = []
        question = Question(JOB, "ana", "x.y", "high", argument, scope, 120.0, "/srv/a", OTHER)
        self.desk.ask(question).addCallback(answers.append)
        return answers

    def say(self, asked: Asked) -> Any:
        """What is answered to ``bo``."""
        answered: list[Any] = []
        self.control.answer(asked, "bo").addCallback(answered.append)
        return answered[0]


@pytest.fixture
def host(tmp_path: Path) -> Controlled:
    return Controlled(tmp_path)


def test_how_it_is(host: Controlled) -> None:
    """As the host says."""
    assert host.say(Status()) == STATUS
    assert host.say(Reload()) == RELOADED


def test_what_is_asked(host: Controlled) -> None:
    """The list has the beginning of an argument, one question has all of it."""
    assert host.say(Requests()) == RequestsAnswer([])
    host.ask("a" * 1000)
    item = RequestItem(
        JOB, "x.y", "high", "ana", "a" * 512, 1000, "/srv/a", "exactly this", 114_000, OTHER
    )
    assert host.say(Requests()) == RequestsAnswer([item])
    (whole,) = host.say(Requests("B8Q2")).requests
    assert whole.argument == "a" * 1000
    with pytest.raises(NotFound):
        host.say(Requests("ZZZZ"))


@pytest.mark.parametrize("choice", ["once", "session", "always"])
def test_allow(host: Controlled, choice: Any) -> None:
    """The answer names who gave it, and how."""
    answers = host.ask()
    by = "bo with palyra node allow"
    scope = "" if choice == "once" else "exactly this"
    assert host.say(Allow("b8q2zn", choice)) == DecidedAnswer(JOB, "x.y", choice, by, scope)
    assert answers == [Answer(choice, by)]


def test_deny(host: Controlled) -> None:
    """So does a no."""
    answers = host.ask()
    by = "bo by palyra node deny"
    assert host.say(Deny("B8Q2ZN")) == DecidedAnswer(JOB, "x.y", "no", by)
    assert answers == [Answer.denied(by)]


def test_what_is_remembered(host: Controlled) -> None:
    """And forgotten."""
    kept = host.consents.remember(
        "always", "x.y", "d", Scope("k", "exactly this"), argument="{}", decided_by="ana"
    )
    item = RememberedItem(kept.choice_id, "always", "x.y", "exactly this", "{}", "ana", NOW_MS)
    assert host.say(Remembered()) == RememberedAnswer([item])
    assert host.say(Forget(kept.choice_id)) == ForgottenAnswer(item)
    assert host.say(Remembered()) == RememberedAnswer([])


def test_stop(host: Controlled) -> None:
    """It is told that it is done, and by which process."""
    assert host.say(Stop()) == StoppingAnswer(os.getpid())
    assert host.stopped == 1


def test_a_reload_that_takes_its_time(host: Controlled) -> None:
    """Is answered when it is over."""
    waiting: Deferred[ReloadedAnswer] = Deferred()
    host.control._reload = lambda: waiting
    answered: list[Any] = []
    host.control.answer(Reload(), "bo").addCallback(answered.append)
    assert answered == []
    waiting.callback(RELOADED)
    assert answered == [RELOADED]
