"""Tests of :mod:`palyra.node.mediation`."""

from __future__ import annotations

import io
import os
import pty
from collections.abc import Iterator

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadDescriptor
from zope.interface.verify import verifyObject

from palyra.node.mediation import (
    MAX_ARGUMENT,
    MAX_ASKING,
    Answer,
    Headless,
    IMediator,
    Question,
    TerminalMediator,
)


class Readers:
    """The part of a reactor that watches descriptors."""

    def __init__(self) -> None:
        self.watched: list[object] = []

    def addReader(self, reader: object) -> None:
        assert reader not in self.watched
        self.watched.append(reader)

    def removeReader(self, reader: object) -> None:
        self.watched.remove(reader)


class Terminal:
    """A pseudo-terminal, a person at its other end, and the mediator."""

    def __init__(self) -> None:
        self.person, device = pty.openpty()
        self.source = os.fdopen(device, "r")
        self.out = io.StringIO()
        self.readers = Readers()
        self.asking: list[bool] = []
        self.mediator = TerminalMediator(
            self.readers, source=self.source, out=self.out, asking=self.asking.append
        )
        self.answers: list[Answer] = []

    def ask(self, **given: str) -> Deferred[Answer]:
        facts = {
            "attempt_id": "A",
            "requested_by": "ana",
            "capability": "desktop.open_url",
            "risk": "medium",
            "argument": '{"url":"https://example.org"}',
        }
        answer = self.mediator.ask(Question(**facts | given))
        answer.addCallback(self.answers.append)
        return answer

    def type(self, text: bytes) -> None:
        """Type, and let the mediator read."""
        os.write(self.person, text)
        self.mediator.doRead()

    def close(self) -> None:
        self.source.close()
        os.close(self.person)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal()
    yield made
    made.close()


def test_it_is_a_mediator(terminal: Terminal) -> None:
    """Both are; and the terminal is read by the reactor."""
    assert verifyObject(IMediator, terminal.mediator)
    assert verifyObject(IReadDescriptor, terminal.mediator)
    assert verifyObject(IMediator, Headless("pi"))


def test_nobody_is_there() -> None:
    """The answer is no, at once, and says why."""
    answers: list[Answer] = []
    Headless("pi").ask(Question("A", "ana", "x", "low", "")).addCallback(answers.append)
    assert not answers[0].allowed
    assert answers[0].sentence == "Nobody at pi can be asked: its node host has no terminal."


@pytest.mark.parametrize(
    ("typed", "allowed"),
    [
        (b"o\n", True),
        (b" Once \n", True),
        (b"y\n", True),
        (b"n\n", False),
        (b"\n", False),
        (b"ok\n", False),
        (b"\xff\n", False),
    ],
)
def test_an_answer(terminal: Terminal, typed: bytes, allowed: bool) -> None:
    """Only a clear yes is one; the terminal is then left alone."""
    terminal.ask()
    expected = (
        'ana asks: {"url":"https://example.org"}  (desktop.open_url, medium)   [n]o  [o]nce: '
    )
    assert terminal.out.getvalue() == expected
    assert terminal.asking == [True]
    terminal.type(typed)
    assert [each.allowed for each in terminal.answers] == [allowed]
    assert terminal.readers.watched == []
    assert terminal.asking == [True, False]


def test_half_a_line_is_no_answer(terminal: Terminal) -> None:
    """Ctrl-D in the middle of a line hands it over unfinished; reading it must not block."""
    terminal.ask()
    terminal.type(b"o\x04")
    assert terminal.answers == []
    terminal.type(b"nce\n")
    assert terminal.answers[0].allowed


def test_the_end_of_input_is_no(terminal: Terminal) -> None:
    """To every question."""
    terminal.ask()
    terminal.ask()
    terminal.type(b"\x04")
    assert [each.allowed for each in terminal.answers] == [False, False]
    assert terminal.readers.watched == []


def test_a_lost_terminal_is_no(terminal: Terminal) -> None:
    """The reactor says that the descriptor is gone."""
    terminal.ask()
    terminal.mediator.connectionLost(None)
    assert [each.code for each in terminal.answers] == ["mediation_denied"]


def test_what_was_typed_before_is_no_answer(terminal: Terminal) -> None:
    """A yes to a question that was not seen yet does not count."""
    os.write(terminal.person, b"o\n")
    terminal.ask()
    terminal.ask()
    terminal.type(b"o\no\n")
    assert [each.allowed for each in terminal.answers] == [True]
    terminal.type(b"n\n")
    assert [each.allowed for each in terminal.answers] == [True, False]


def test_one_question_at_a_time(terminal: Terminal) -> None:
    """The next is shown after the answer to the first; too many are refused."""
    for number in range(MAX_ASKING):
        terminal.ask(requested_by=f"p{number}")
    terminal.ask()
    assert terminal.answers.pop().code == "mediation_busy"
    assert "p1" not in terminal.out.getvalue()
    terminal.type(b"n\n")
    assert "p1 asks" in terminal.out.getvalue()
    terminal.mediator.connectionLost(None)
    assert len(terminal.answers) == MAX_ASKING


def test_a_question_that_is_taken_back(terminal: Terminal) -> None:
    """The person is told, and the next answer is for the next question."""
    first = terminal.ask(requested_by="bo")
    second = terminal.ask(requested_by="cy")
    first.addErrback(lambda _: None)
    first.cancel()
    assert terminal.out.getvalue().count("asks:") == 2
    assert "(no answer is needed any more)\ncy asks:" in terminal.out.getvalue()
    second.addErrback(lambda _: None)
    second.cancel()
    assert terminal.readers.watched == []
    assert terminal.asking == [True, False]


def test_a_waiting_question_that_is_taken_back(terminal: Terminal) -> None:
    """The one on the screen stays there."""
    terminal.ask(requested_by="bo")
    second = terminal.ask(requested_by="cy").addErrback(lambda _: None)
    second.cancel()
    assert "no answer is needed" not in terminal.out.getvalue()
    terminal.type(b"o\n")
    assert [each.allowed for each in terminal.answers if each] == [True]
    assert terminal.readers.watched == []


def test_what_is_shown_cannot_deceive(terminal: Terminal) -> None:
    """Control characters are spelled out, and how much of that is cut is told."""
    terminal.ask(argument="\u202e\x1b[2J" + "a" * 600, requested_by="ana\nbo")
    shown = terminal.out.getvalue()
    assert "\u202e" not in shown and "\x1b" not in shown and "\n" not in shown
    assert "\\u202e\\u001b[2J" in shown
    assert f"(+{615 - MAX_ARGUMENT} characters)" in shown
    terminal.mediator.connectionLost(None)
