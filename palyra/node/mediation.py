"""Mediation: a yes or no by the person at the device, before a capability that needs one runs."""

from __future__ import annotations

import sys
from collections import deque
from typing import Any, TextIO

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReadDescriptor
from zope.interface import Interface, implementer

from palyra.core.devices import clean_text

MAX_ASKING = 5
MAX_ARGUMENT = 512


@attrs.frozen
class Question:
    """What a person is asked.  ``argument`` is the input's JSON, as sent."""

    attempt_id: str
    requested_by: str
    capability: str
    risk: str
    argument: str


@attrs.frozen
class Answer:
    """Yes, or no with a stable code and a sentence."""

    allowed: bool
    code: str = ""
    sentence: str = ""


class IMediator(Interface):
    """Asks the person at the device."""

    def ask(question: Question) -> Deferred[Answer]:
        """Fires with the answer; cancelling it takes the question back."""


@implementer(IMediator)
class Headless:
    """Nobody can be asked: the answer is no, and says why."""

    def __init__(self, name: str) -> None:
        self._name = name

    def ask(self, question: Question) -> Deferred[Answer]:
        sentence = f"Nobody at {self._name} can be asked: its node host has no terminal."
        return succeed(Answer(False, "mediation_unavailable", sentence))


@implementer(IMediator, IReadDescriptor)
class TerminalMediator:
    """Asks on the terminal of a foreground node host, one question at a time; the default is no."""

    def __init__(self, reactor: Any, *, source: TextIO = sys.stdin, out: TextIO = sys.stderr):
        self._reactor = reactor
        self._source = source
        self._out = out
        self._waiting: deque[tuple[Question, Deferred[Answer]]] = deque()
        self._typed = ""

    def ask(self, question: Question) -> Deferred[Answer]:
        if len(self._waiting) >= MAX_ASKING:
            return succeed(
                Answer(False, "mediation_busy", "The person at the device has other questions.")
            )
        answer: Deferred[Answer] = Deferred(self._take_back)
        self._waiting.append((question, answer))
        if len(self._waiting) == 1:
            self._reactor.addReader(self)
            self._prompt()
        return answer

    def _prompt(self) -> None:
        question = self._waiting[0][0]
        who = clean_text(question.requested_by, 120)
        argument = clean_text(question.argument, MAX_ARGUMENT)
        if len(question.argument) > MAX_ARGUMENT:
            argument += f" (+{len(question.argument) - MAX_ARGUMENT} characters)"
        about = f"({question.capability}, {question.risk})"
        self._out.write(f"\n{who} asks: {argument}  {about}   [n]o  [o]nce: ")
        self._out.flush()

    def _settle(self, allowed: bool) -> None:
        _, answer = self._waiting.popleft()
        if self._waiting:
            self._prompt()
        else:
            self._reactor.removeReader(self)
        said_no = Answer(False, "mediation_denied", "The person at the device said no.")
        answer.callback(Answer(True) if allowed else said_no)

    def _take_back(self, answer: Deferred[Answer]) -> None:
        for entry in list(self._waiting):
            if entry[1] is answer:
                first = entry is self._waiting[0]
                self._waiting.remove(entry)
                if first and self._waiting:
                    self._prompt()
        if not self._waiting:
            self._reactor.removeReader(self)

    # -- IReadDescriptor --------------------------------------------------------------------------

    def fileno(self) -> int:
        return self._source.fileno()

    def logPrefix(self) -> str:
        return "terminal"

    def doRead(self) -> None:
        line = self._source.readline()
        if not line:
            self._reactor.removeReader(self)
            while self._waiting:
                self._settle(False)
        elif self._waiting:
            self._settle(line.strip().lower() in ("o", "once", "y", "yes"))

    def connectionLost(self, reason: Any) -> None:
        while self._waiting:
            self._settle(False)
