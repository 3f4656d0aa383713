"""The desk: every question that is open on this device, and the first answer to each of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import attrs
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from palyra.core.jobs import ALWAYS, FOR_SESSION, ONCE, REFUSED
from palyra.errors import Malformed
from palyra.node.consents import pick
from palyra.node.mediation import BUSY, UNAVAILABLE, Answer, IDialogs, IMediator, Question

MAX_OPEN = 32
SAID = (ONCE, FOR_SESSION, ALWAYS, REFUSED)
"""What a person may say."""
Mode = Literal["auto", "terminal", "dialog", "requests", "refuse"]
_KIND = "open question"
_NOBODY = {
    "auto": "Nobody at {name} can be asked: it has no terminal and no desktop.",
    "terminal": "Nobody at {name} can be asked: its node host has no terminal.",
    "dialog": "Nobody at {name} can be asked: it has no desktop.",
    "refuse": "Nobody at {name} is asked: its owner refuses what needs a person.",
}


@attrs.define(eq=False)
class _Open:
    """A question, who waits for the answer, and the face that shows it."""

    question: Question
    answer: Deferred[Answer]
    shown: Deferred[Answer] | None = None


@implementer(IMediator)
class Desk:
    """Shows each question where a person is, and keeps it for whoever comes by the control socket.

    What takes a question back (a cancel, the end of its time) is the asker's business.
    """

    _log = Logger()

    def __init__(
        self,
        name: str,
        *,
        mode: Mode,
        terminal: IMediator | None = None,
        dialogs: IDialogs | None = None,
    ) -> None:
        """``name`` is the device's."""
        self._name = name
        self._mode = mode
        self._terminal = terminal
        self._dialogs = dialogs
        self._open: dict[str, _Open] = {}

    def ask(self, question: Question) -> Deferred[Answer]:
        face, key = self._face(), question.question_id
        if face is None and self._mode != "requests":
            return succeed(Answer.no(UNAVAILABLE, _NOBODY[self._mode].format(name=self._name)))
        if len(self._open) >= MAX_OPEN or key in self._open:
            sentence = f"{len(self._open)} questions wait at {self._name} already."
            return succeed(Answer.no(BUSY, sentence))
        answer: Deferred[Answer] = Deferred(lambda _: self._take_back(key))
        entry = self._open[key] = _Open(question, answer)
        if face is not None:
            entry.shown = maybeDeferred(face.ask, question)
            entry.shown.addCallbacks(
                lambda said: self._face_said(entry, said),
                lambda failure: self._face_failed(entry, failure),
            )
        return answer

    def questions(self) -> Sequence[Question]:
        """All that are open, oldest first."""
        return [each.question for each in self._open.values()]

    def find(self, wanted: str) -> Question:
        """The open question that an id, or its beginning, means.

        :raises NotFound, AmbiguousTarget: none, or several.
        """
        return pick(wanted, self._open, _KIND).question

    def answer(self, wanted: str, choice: str, decided_by: str) -> Question:
        """Answer one from elsewhere than a face; the question that was answered.

        :raises NotFound, AmbiguousTarget: as :meth:`find`.
        :raises Malformed: that choice is none, or is not offered.
        """
        question = self.find(wanted)
        if choice not in SAID:
            raise Malformed("choice", f"must be {' or '.join(SAID)}")
        if choice in (FOR_SESSION, ALWAYS) and not question.scope:
            raise Malformed("choice", "this question can be answered once only")
        no = choice == REFUSED
        said = Answer.denied(decided_by) if no else Answer(choice, decided_by)
        self._settle(question.question_id, said)
        return question

    def _face(self) -> IMediator | None:
        """Where the person is now; None where there is nobody to be asked."""
        if self._mode in ("auto", "terminal") and self._terminal is not None:
            return self._terminal
        dialogs = self._dialogs if self._mode in ("auto", "dialog") else None
        return dialogs if dialogs is not None and dialogs.available() else None

    def _face_said(self, entry: _Open, answer: Answer) -> None:
        key = entry.question.question_id
        if self._open.get(key) is entry:
            self._settle(key, answer)

    def _face_failed(self, entry: _Open, failure: Failure) -> None:
        if failure.check(CancelledError) is None:
            self._log.failure("a question could not be shown", failure)
            sentence = f"Nobody at {self._name} could be asked; its log has the details."
            self._face_said(entry, Answer.no(UNAVAILABLE, sentence))

    def _settle(self, key: str, answer: Answer) -> None:
        entry = self._open[key]
        self._take_back(key)
        entry.answer.callback(answer)

    def _take_back(self, key: str) -> None:
        """Nobody needs to answer any more."""
        entry = self._open.pop(key)
        if entry.shown is not None:
            entry.shown.cancel()
