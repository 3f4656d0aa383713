"""The terminal of a foreground node host: where the person who sits there is asked."""

from __future__ import annotations

import contextlib
import os
import select
import sys
from collections import deque
from collections.abc import Callable
from typing import Any, TextIO

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReadDescriptor
from zope.interface import implementer

from palyra.core.consents import EXACTLY
from palyra.core.jobs import ALWAYS, FOR_SESSION, ONCE, REFUSED
from palyra.node.mediation import BUSY, UNAVAILABLE, Answer, IMediator, Question

try:
    import termios
except ImportError:  # Windows
    termios = None  # type: ignore[assignment]

MAX_ASKING = 32
SETTLE_S = 1.0
"""How long after a question was taken back a yes is one to that: a gateway may change what it asks
at the moment when somebody answers."""
_MAX_TYPED = 4096
_RED, _PLAIN = "\x1b[31m", "\x1b[0m"
_ONCE_ONLY = {"n": REFUSED, "o": ONCE}
_WITH_SCOPE = _ONCE_ONLY | {"s": FOR_SESSION, "a": ALWAYS}


@implementer(IMediator, IReadDescriptor)
class TerminalMediator:
    """Asks one question at a time; whatever is typed that was not offered is a no."""

    def __init__(
        self,
        reactor: Any,
        *,
        who: str,
        source: TextIO | None = None,
        out: TextIO | None = None,
        asking: Callable[[bool], object] = lambda _: None,
        colour: bool = False,
    ) -> None:
        """``who`` is whose terminal it is; ``asking`` is told when the terminal's last line is a
        question, and when no longer."""
        self._reactor = reactor
        self._by = f"{who} at the terminal"
        self._source = source or sys.stdin
        self._out = out or sys.stderr
        self._asking = asking
        self._colour = colour
        self._waiting: deque[tuple[Question, Deferred[Answer]]] = deque()
        self._typed = b""
        self._settled_at_s = 0.0

    def ask(self, question: Question) -> Deferred[Answer]:
        if len(self._waiting) >= MAX_ASKING:
            return succeed(Answer.no(BUSY, "The person at the device has other questions."))
        if self._in_background():
            sentence = "The node host runs in the background of its terminal."
            return succeed(Answer.no(UNAVAILABLE, sentence))
        answer: Deferred[Answer] = Deferred(self._take_back)
        self._waiting.append((question, answer))
        if len(self._waiting) == 1:
            self._asking(True)
            self._reactor.addReader(self)
            self._prompt()
        return answer

    def _in_background(self) -> bool:
        """Whether the terminal is somebody else's now: to touch it would stop this process."""
        with contextlib.suppress(OSError, AttributeError):
            return os.tcgetpgrp(self._source.fileno()) != os.getpgrp()
        return False

    def _prompt(self) -> None:
        self._forget_typed()
        question = self._waiting[0][0]
        about = f"{question.capability}, {question.risk}"
        if self._colour and question.risk == "high":
            about = f"{_RED}{about}{_PLAIN}"
        letters = "[n]o  [o]nce"
        if question.scope:
            letters += "  [s]ession  [a]lways"
            # What is shown whole is what such a yes is for; where it is for more, that is said.
            if question.scope != EXACTLY:
                self._say(f"session and always are for {question.scope}\n")
        self._say(f"{question.who} {question.asks()}  ({about})   {letters}: ")

    def _say(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._out.write(text)
            self._out.flush()

    def _forget_typed(self) -> None:
        """What was typed before a question was shown is no answer to it."""
        self._typed = b""
        if termios is not None and not self._in_background():
            with contextlib.suppress(termios.error):
                termios.tcflush(self._source, termios.TCIFLUSH)

    def _next(self) -> None:
        if self._waiting:
            self._prompt()
        else:
            self._reactor.removeReader(self)
            self._asking(False)

    def _settle(self, said: Answer) -> None:
        _, answer = self._waiting.popleft()
        self._next()
        answer.callback(said)

    def _take_back(self, answer: Deferred[Answer]) -> None:
        asked = self._waiting[0][1] is answer
        self._waiting = deque(entry for entry in self._waiting if entry[1] is not answer)
        if asked:
            self._say("\n(no answer is needed any more)\n")
            self._settled_at_s = self._reactor.seconds() + SETTLE_S
            self._next()

    # -- IReadDescriptor --------------------------------------------------------------------------

    def fileno(self) -> int:
        return self._source.fileno()

    def logPrefix(self) -> str:
        return "terminal"

    def doRead(self) -> None:
        if self._in_background():
            return self.connectionLost(None)
        # Never a whole line of a text stream: one that does not end would block the reactor.
        # Nor what a question of this turn has thrown away since the reactor saw it.
        try:
            if not select.select([self], [], [], 0)[0]:
                return
            read = os.read(self.fileno(), 1024)
        except OSError:
            self.connectionLost(None)
            return
        self._typed = (self._typed + read)[-_MAX_TYPED:]
        if not read:  # Ctrl-D: nothing more will be typed
            while self._waiting:
                self._settle(Answer.denied(self._by))
        elif b"\n" in self._typed:
            line = self._typed.partition(b"\n")[0].decode("utf-8", "replace")
            choice = _chosen(line, self._waiting[0][0])
            no = choice == REFUSED
            if not no and self._reactor.seconds() < self._settled_at_s:
                self._say("(too soon: another question is asked now)\n")
                return self._prompt()
            self._settle(Answer.denied(self._by) if no else Answer(choice, self._by))

    def connectionLost(self, reason: Any) -> None:
        """The terminal is gone, or somebody else's, and nobody has said anything."""
        if not self._waiting:
            return
        self._reactor.removeReader(self)
        self._asking(False)
        waiting, self._waiting = self._waiting, deque()
        for _, answer in waiting:
            answer.callback(Answer.no(UNAVAILABLE, "The terminal of the node host is gone."))


def _chosen(line: str, question: Question) -> str:
    """What a typed line chooses of what was offered: its letter, or the whole word."""
    offered = _WITH_SCOPE if question.scope else _ONCE_ONLY
    word = line.strip().lower()
    return word if word in offered.values() else offered.get(word, REFUSED)
