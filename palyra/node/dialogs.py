"""Mediation in dialogs: a window on the desktop of the person at the device."""

from __future__ import annotations

import getpass
import os
import threading
from collections import deque
from collections.abc import Callable
from typing import TypeVar

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from zope.interface import implementer

from palyra._ownersocket import account_of
from palyra.core.jobs import REFUSED
from palyra.node.dialogprograms import NOT_ANSWERED
from palyra.node.dialogtext import shown
from palyra.node.dialogwindow import CannotShow, Desktop, Window
from palyra.node.elapsed import elapsed_s
from palyra.node.mediation import BUSY, UNAVAILABLE, Answer, IDialogs, Question

MAX_WAITING = 5
"""Questions that may wait for the one on the screen."""
SETTLE_S = 1.0
"""How long after a window was taken back a yes in the next one is a click at that: a gateway may
change what it asks at the moment when somebody answers."""

_FAILED = "the node host's log has the details"
_STOPS = "the node host stops"
_T = TypeVar("_T")
LOOK_AGAIN_S = 10.0
"""How long it is believed that there is a desktop, or none."""


@attrs.define(eq=False)
class _Asked:
    """A question; ``window`` from the moment it is on the screen."""

    question: Question
    answer: Deferred[Answer]
    window: Window | None = None


@implementer(IDialogs)
class DialogMediator:
    """Asks in a window, one question at a time; whatever is no clear yes is a no.

    Every dialog has a thread, which ends when its program has ended: :meth:`stop` sees to both.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        call_from_thread: Callable[..., object],
        elapsed_s: Callable[[], float] = elapsed_s,
        desktop: Desktop | None = None,
        person: Callable[[], str] = lambda: person_here(),
    ) -> None:
        """``call_from_thread(function, *arguments)`` runs it on the reactor; ``elapsed_s`` is the
        clock of :attr:`Question.until_s`; ``person`` is who sits at the device."""
        self._call_from_thread = call_from_thread
        self._elapsed_s = elapsed_s
        self._desktop = desktop or Desktop()
        self._person = person
        self._waiting: deque[_Asked] = deque()
        self._current: _Asked | None = None
        self._settled_at_s = 0.0
        self._threads = 0
        self._looking = False
        self._seen: bool | None = None
        self._seen_at_s = 0.0
        self._stopped = False
        self._stopping: list[Deferred[None]] = []

    # -- is there a desktop -------------------------------------------------------------------

    def available(self) -> bool:
        """Whether a dialog can be shown, as far as is known: False only where a look of a moment
        ago saw that none can.  Never blocks; a look that is too old is taken again, in a thread.

        :meth:`ask` is right in any case: it says ``mediation_unavailable`` in a moment.
        """
        if not (self._looking or self._fresh() or self._stopped):
            self._look()
        return self._seen is not False or not self._fresh()

    def _fresh(self) -> bool:
        return self._seen is not None and self._elapsed_s() - self._seen_at_s < LOOK_AGAIN_S

    def _look(self) -> None:
        if not self._desktop.asks_systemd:
            self._looked(_can_show(self._desktop))
            return
        self._looking = True
        self._in_thread(lambda: _can_show(self._desktop), self._looked, False)

    def _looked(self, seen: bool) -> None:
        self._looking = False
        self._seen, self._seen_at_s = seen, self._elapsed_s()

    # -- questions ----------------------------------------------------------------------------

    def ask(self, question: Question) -> Deferred[Answer]:
        if self._stopped:
            return succeed(_unavailable(_STOPS))
        if self._current is not None and len(self._waiting) >= MAX_WAITING:
            return succeed(Answer.no(BUSY, "The person at the device has other questions."))
        asked = _Asked(question, Deferred(lambda _: self._take_back(asked)))
        self._waiting.append(asked)
        self._next()
        return asked.answer

    def _take_back(self, asked: _Asked) -> None:
        """The next question is shown when the window is gone."""
        if asked.window is not None:
            asked.window.close()
            self._settled_at_s = self._elapsed_s() + SETTLE_S
        elif asked in self._waiting:
            self._waiting.remove(asked)

    def _next(self) -> None:
        while self._current is None and self._waiting:
            asked = self._waiting.popleft()
            left_s = self._left_s(asked.question)
            if left_s is not None and left_s <= 0:
                asked.answer.callback(_unanswered())
                continue
            self._show(asked, left_s)

    def _show(self, asked: _Asked, left_s: float | None) -> None:
        window = Window(self._desktop, shown(asked.question, left_s))
        self._current, asked.window = asked, window
        self._in_thread(lambda: self._answer(window), self._answered, _unavailable(_FAILED))

    def _left_s(self, question: Question) -> float | None:
        return question.until_s - self._elapsed_s() if question.until_s else None

    def _answer(self, window: Window) -> Answer:
        """In a thread: show it, and say what the outcome means."""
        try:
            choice = self._chosen(window)
        except CannotShow as exc:
            return _unavailable(str(exc))
        if choice is None:
            return _unavailable(_STOPS)
        if choice == NOT_ANSWERED:
            return _unanswered()
        by = f"{self._person()} in a dialog"
        return Answer.denied(by) if choice == REFUSED else Answer(choice, by)

    def _chosen(self, window: Window) -> str | None:
        """What is said in it; it is shown again after a yes that came too soon."""
        while True:
            choice = window.show()
            settled = self._elapsed_s() >= self._settled_at_s
            if settled or choice in (None, NOT_ANSWERED, REFUSED):
                return choice

    def _answered(self, answer: Answer) -> None:
        asked, self._current = self._current, None
        assert asked is not None
        if not asked.answer.called:
            asked.answer.callback(answer)
        self._next()

    # -- threads ------------------------------------------------------------------------------

    def _in_thread(self, work: Callable[[], _T], then: Callable[[_T], None], failed: _T) -> None:
        """Do ``work`` in a thread and ``then`` on the reactor; ``failed`` is for what it raises."""

        def thread() -> None:
            outcome = failed
            try:
                outcome = work()
            except Exception:
                self._log.failure("a dialog could not be shown")
            self._call_from_thread(end, outcome)

        def end(outcome: _T) -> None:
            self._threads -= 1
            then(outcome)
            self._check_stopped()

        self._threads += 1
        threading.Thread(target=thread, name="palyra-dialog", daemon=True).start()

    def stop(self) -> Deferred[None]:
        """Close what is on the screen and refuse the rest; fires when no thread is left."""
        stopped: Deferred[None] = Deferred()
        self._stopping.append(stopped)
        self._stopped = True
        waiting, self._waiting = self._waiting, deque()
        for asked in waiting:
            asked.answer.callback(_unavailable(_STOPS))
        if self._current is not None and self._current.window is not None:
            self._current.window.close()
        self._check_stopped()
        return stopped

    def _check_stopped(self) -> None:
        if self._stopped and not self._threads:
            stopping, self._stopping = self._stopping, []
            for each in stopping:
                each.callback(None)


def _can_show(desktop: Desktop) -> bool:
    """Whether a dialog can be shown now.  May block."""
    try:
        desktop.means()
    except CannotShow:
        return False
    return True


def _unavailable(cause: str) -> Answer:
    return Answer.no(UNAVAILABLE, f"No dialog can be shown at the device: {cause}.")


def _unanswered() -> Answer:
    return Answer.no("mediation_timeout", "Nobody at the device answered in time.")


def person_here() -> str:
    """The account that this process runs as, which is whose desktop it is."""
    geteuid = getattr(os, "geteuid", None)
    if geteuid is not None:
        return account_of(geteuid())
    try:
        return getpass.getuser()
    except OSError:
        return "somebody"
