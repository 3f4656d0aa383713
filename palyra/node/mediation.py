"""Mediation: a yes or no by the person at the device, before a capability that needs one runs."""

from __future__ import annotations

import contextlib
import os
import sys
from collections import deque
from collections.abc import Callable
from typing import Any, TextIO

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReadDescriptor
from zope.interface import Interface, implementer

from palyra.core.devices import clean_text
from palyra.core.jobs import ONCE, REFUSED

try:
    import termios
except ImportError:  # Windows
    termios = None  # type: ignore[assignment]

MAX_ASKING = 5
MAX_ARGUMENT = 512


@attrs.frozen
class Question:
    """What a person is asked.  ``argument`` is the input's JSON, as sent.

    ``scope`` is what a yes for the session, or for always, will be for: part of the argument, in
    words that may be shown.  Empty: such a yes cannot be given.
    """

    attempt_id: str
    requested_by: str
    capability: str
    risk: str
    argument: str
    job_id: str = ""
    scope: str = ""
    until_s: float = 0.0
    """When nobody needs to answer any more, on the host's monotonic clock."""


@attrs.frozen
class Answer:
    """A yes (:data:`palyra.core.jobs.CHOICES`), or no with a stable code and a sentence.

    ``decided_by`` is who said it, as the gateway will show it; empty where nobody did.
    """

    choice: str
    decided_by: str = ""
    code: str = ""
    sentence: str = ""

    @property
    def allowed(self) -> bool:
        """Whether it may run."""
        return self.choice != REFUSED

    @classmethod
    def no(cls, code: str, sentence: str, decided_by: str = "") -> Answer:
        """It may not."""
        return cls(REFUSED, decided_by, code, sentence)


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
        return succeed(Answer.no("mediation_unavailable", sentence))


@implementer(IMediator, IReadDescriptor)
class TerminalMediator:
    """Asks on the terminal of a foreground node host, one question at a time; the default is no."""

    def __init__(
        self,
        reactor: Any,
        *,
        source: TextIO | None = None,
        out: TextIO | None = None,
        asking: Callable[[bool], object] = lambda _: None,
    ) -> None:
        """``asking`` is told when the terminal's last line is a question, and when no longer."""
        self._reactor = reactor
        self._source = source or sys.stdin
        self._out = out or sys.stderr
        self._asking = asking
        self._waiting: deque[tuple[Question, Deferred[Answer]]] = deque()
        self._typed = b""

    def ask(self, question: Question) -> Deferred[Answer]:
        if len(self._waiting) >= MAX_ASKING:
            return succeed(
                Answer.no("mediation_busy", "The person at the device has other questions.")
            )
        answer: Deferred[Answer] = Deferred(self._take_back)
        self._waiting.append((question, answer))
        if len(self._waiting) == 1:
            self._asking(True)
            self._reactor.addReader(self)
            self._prompt()
        return answer

    def _prompt(self) -> None:
        self._forget_typed()
        question = self._waiting[0][0]
        who = clean_text(question.requested_by, 120)
        # Escaped whole before it is cut: an escape is longer than its character, and what is cut
        # must be said.
        whole = clean_text(question.argument, None)
        argument = whole[:MAX_ARGUMENT]
        if len(whole) > MAX_ARGUMENT:
            argument += f" (+{len(whole) - MAX_ARGUMENT} characters)"
        about = f"({question.capability}, {question.risk})"
        self._say(f"{who} asks: {argument}  {about}   [n]o  [o]nce: ")

    def _say(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._out.write(text)
            self._out.flush()

    def _forget_typed(self) -> None:
        """What was typed before a question was shown is no answer to it."""
        self._typed = b""
        if termios is not None:
            with contextlib.suppress(termios.error):
                termios.tcflush(self._source, termios.TCIFLUSH)

    def _next(self) -> None:
        if self._waiting:
            self._prompt()
        else:
            self._reactor.removeReader(self)
            self._asking(False)

    def _settle(self, allowed: bool) -> None:
        _, answer = self._waiting.popleft()
        self._next()
        by = "the terminal"
        said_no = Answer.no("mediation_denied", "The person at the device said no.", by)
        answer.callback(Answer(ONCE, by) if allowed else said_no)

    def _take_back(self, answer: Deferred[Answer]) -> None:
        asked = self._waiting[0][1] is answer
        self._waiting = deque(entry for entry in self._waiting if entry[1] is not answer)
        if asked:
            self._say("\n(no answer is needed any more)\n")
            self._next()

    # -- IReadDescriptor --------------------------------------------------------------------------

    def fileno(self) -> int:
        return self._source.fileno()

    def logPrefix(self) -> str:
        return "terminal"

    def doRead(self) -> None:
        # Never a whole line of a text stream: one that does not end would block the reactor.
        try:
            read = os.read(self.fileno(), 1024)
        except OSError:
            read = b""
        self._typed += read
        if not read:
            self._deny_all()
        elif b"\n" in self._typed:
            line = self._typed.partition(b"\n")[0].decode("utf-8", "replace")
            self._settle(line.strip().lower() in ("o", "once", "y", "yes"))

    def connectionLost(self, reason: Any) -> None:
        self._deny_all()

    def _deny_all(self) -> None:
        """The terminal is gone, or says that nothing more will be typed."""
        while self._waiting:
            self._settle(False)
