"""Tests of :mod:`palyra.node.terminal`."""

from __future__ import annotations

import io
import os
import pty
import select
from collections.abc import Iterator

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadDescriptor
from zope.interface.verify import verifyObject

from palyra.core.consents import EXACTLY
from palyra.node.mediation import Answer, IMediator, Question
from palyra.node.terminal import MAX_ASKING, SETTLE_S, TerminalMediator
from tests.node.fakes import PATIENCE_S


class Readers:
    """The part of a reactor that watches descriptors."""

    def __init__(self) -> None:
        self.watched: list[object] = []
        self.now_s = 1_000.0

    def seconds(self) -> float:
        return self.now_s

    def addReader(self, reader: object) -> None:
        assert reader not in self.watched
        self.watched.append(reader)

    def removeReader(self, reader: object) -> None:
        self.watched.remove(reader)


class Terminal:
    """A pseudo-terminal, a person at its other end, and the mediator."""

    def __init__(self, colour: bool = False) -> None:
        self.person, device = pty.openpty()
        self.source = os.fdopen(device, "r")
        self.out = io.StringIO()
        self.readers = Readers()
        self.asking: list[bool] = []
        self.mediator = TerminalMediator(
            self.readers,
            who="ana",
            source=self.source,
            out=self.out,
            asking=self.asking.append,
            colour=colour,
        )
        self.answers: list[Answer] = []

    def ask(self, **given: str) -> Deferred[Answer]:
        facts = {
            "question_id": "A",
            "requested_by": "ana",
            "capability": "desktop.open_url",
            "risk": "medium",
            "argument": '{"url":"https://example.org"}',
            "opens": "https://example.org",
            "scope": "https://example.org",
        }
        answer = self.mediator.ask(Question(**facts | given))
        answer.addCallback(self.answers.append)
        return answer

    def type(self, text: bytes) -> None:
        """Type, and let the mediator read."""
        os.write(self.person, text)
        assert select.select([self.source], [], [], PATIENCE_S)[0], "the terminal hands it over"
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
    """It is one, and is read by the reactor."""
    assert verifyObject(IMediator, terminal.mediator)
    assert verifyObject(IReadDescriptor, terminal.mediator)


@pytest.mark.parametrize(
    ("typed", "choice"),
    [
        (b"o\n", "once"),
        (b" Once \n", "once"),
        (b"s\n", "session"),
        (b"ALWAYS\n", "always"),
        (b"n\n", "no"),
        (b"no\n", "no"),
        (b"\n", "no"),
        (b"y\n", "no"),
        (b"ok\n", "no"),
        (b"\xff\n", "no"),
    ],
)
def test_an_answer(terminal: Terminal, typed: bytes, choice: str) -> None:
    """Only what is offered counts, and who said it is told; the terminal is then left alone."""
    terminal.ask()
    expected = (
        "session and always are for https://example.org\n"
        "ana asks to open https://example.org  (desktop.open_url, medium)"
        "   [n]o  [o]nce  [s]ession  [a]lways: "
    )
    assert terminal.out.getvalue() == expected
    assert terminal.asking == [True]
    terminal.type(typed)
    assert [each.choice for each in terminal.answers] == [choice]
    assert terminal.answers[0].decided_by == "ana at the terminal"
    assert terminal.readers.watched == []
    assert terminal.asking == [True, False]


@pytest.mark.parametrize("typed", [b"s\n", b"always\n"])
def test_what_is_not_offered_is_no(terminal: Terminal, typed: bytes) -> None:
    """A question without a scope can be answered once only."""
    terminal.ask(scope="", opens="")
    assert terminal.out.getvalue() == (
        'ana asks: {"url":"https://example.org"}  (desktop.open_url, medium)   [n]o  [o]nce: '
    )
    terminal.type(typed)
    assert [each.choice for each in terminal.answers] == ["no"]


@pytest.mark.parametrize("opens", ["https://example.org/a", "https://example.org"])
def test_a_scope_that_is_more_than_what_is_shown(terminal: Terminal, opens: str) -> None:
    """What a longer yes would be for is said before it can be given, also where the page that is
    shown looks like it: a yes is for every page there."""
    terminal.ask(opens=opens)
    shown = terminal.out.getvalue()
    assert shown.startswith("session and always are for https://example.org\nana asks to open ")


def test_a_scope_that_is_what_is_shown(terminal: Terminal) -> None:
    """Needs no words."""
    terminal.ask(opens="/srv/report.pdf", scope=EXACTLY)
    assert terminal.out.getvalue().startswith("ana asks to open /srv/report.pdf  (")


@pytest.mark.parametrize(("risk", "red"), [("medium", False), ("high", True)])
def test_high_risk_is_red(risk: str, red: bool) -> None:
    """On a terminal that has colours."""
    for colour in (False, True):
        terminal = Terminal(colour)
        terminal.ask(risk=risk).addErrback(lambda _: None)
        painted = f"(\x1b[31mdesktop.open_url, {risk}\x1b[0m)" in terminal.out.getvalue()
        assert painted == (red and colour)
        assert ("\x1b" in terminal.out.getvalue()) == painted
        terminal.close()


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


def test_a_lost_terminal_is_no(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reactor, or reading it, says that it is gone; nobody is said to have decided."""
    terminal.ask()
    terminal.mediator.connectionLost(None)
    terminal.ask()
    monkeypatch.setattr(os, "read", lambda *_: _raise())
    terminal.type(b"o\n")
    assert [each.code for each in terminal.answers] == ["mediation_unavailable"] * 2
    assert {each.decided_by for each in terminal.answers} == {""}


def test_in_the_background_nobody_is_asked(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever reads or clears a terminal from there is stopped by the system; a question that was
    open when its node host went there ends, and nothing is read."""
    terminal.ask()
    monkeypatch.setattr(os, "tcgetpgrp", lambda _: os.getpgrp() + 1)
    monkeypatch.setattr(os, "read", lambda *_: pytest.fail("it is touched"))
    monkeypatch.setattr("termios.tcflush", lambda *_: pytest.fail("it is touched"))
    terminal.mediator.doRead()
    terminal.ask()
    assert [each.code for each in terminal.answers] == ["mediation_unavailable"] * 2
    assert terminal.readers.watched == [] and terminal.asking == [True, False]


def _raise() -> bytes:
    raise OSError(5, "Input/output error")


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
    assert terminal.out.getvalue().count("asks to open") == 2
    shown = terminal.out.getvalue().partition("(no answer is needed any more)\n")[2]
    assert "\ncy asks to open" in shown and "bo asks" not in shown
    second.addErrback(lambda _: None)
    second.cancel()
    assert terminal.readers.watched == []
    assert terminal.asking == [True, False]


def test_a_yes_is_for_the_question_it_was_typed_at(terminal: Terminal) -> None:
    """A gateway that takes a question back and asks another one at the moment of the answer has
    no yes to that; a no counts at once."""
    first = terminal.ask(requested_by="bo").addErrback(lambda _: None)
    first.cancel()
    terminal.ask(requested_by="cy")
    terminal.type(b"o\n")
    assert terminal.answers == []
    assert terminal.out.getvalue().count("cy asks to open") == 2
    terminal.readers.now_s += SETTLE_S
    terminal.type(b"o\n")
    assert terminal.answers[0].choice == "once"


def test_what_is_gone_is_not_waited_for(terminal: Terminal) -> None:
    """What a question of the same turn of the reactor threw away would be read for ever."""
    terminal.ask()
    terminal.mediator.doRead()
    assert terminal.answers == []


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
    """Control characters are spelled out."""
    terminal.ask(opens="\u202e\x1b[2J", requested_by="ana\nbo")
    shown = terminal.out.getvalue().partition("\n")[2]
    assert "\u202e" not in shown and "\x1b" not in shown and "\n" not in shown
    assert shown.startswith("ana\\u000abo asks to open \\u202e\\u001b[2J")
    terminal.mediator.connectionLost(None)


def test_a_line_without_an_end_is_not_kept(terminal: Terminal) -> None:
    """What is typed is bounded, and what follows it is no answer."""
    terminal.ask()
    for _ in range(20):
        terminal.type(b"x" * 1000 + b"\x04")
    assert len(terminal.mediator._typed) <= 4096
    terminal.type(b"o\n")
    assert [each.choice for each in terminal.answers] == ["no"]
