"""What the device's owner may ask of a node host, whoever carries the words."""

from __future__ import annotations

import os
from collections.abc import Callable

from twisted.internet.defer import Deferred, succeed

from palyra.core.jobs import ALWAYS, FOR_SESSION, REFUSED
from palyra.node.consents import Choice, Consents
from palyra.node.controlwords import (
    Allow,
    Answered,
    Asked,
    DecidedAnswer,
    Deny,
    Forget,
    ForgottenAnswer,
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
from palyra.node.mediation import MAX_ARGUMENT, Question


class HostControl:
    """The verbs of ``control.sock``."""

    def __init__(
        self,
        *,
        desk: Desk,
        consents: Consents,
        elapsed_s: Callable[[], float],
        status: Callable[[], StatusAnswer],
        reload: Callable[[], Deferred[ReloadedAnswer]],
        stop: Callable[[], object],
    ) -> None:
        """``reload`` never fails for what is in a file: it keeps the old and says so."""
        self._desk = desk
        self._consents = consents
        self._elapsed_s = elapsed_s
        self._status = status
        self._reload = reload
        self._stop = stop

    def answer(self, asked: Asked, account: str) -> Deferred[Answered]:
        """Do it; ``account`` is the local user who asks.

        :raises PalyraError: it was not done.
        """
        match asked:
            case Status():
                return succeed(self._status())
            case Requests(id=wanted):
                return succeed(self._requests(wanted))
            case Remembered():
                choices = [remembered_item(each) for each in self._consents.remembered()]
                return succeed(RememberedAnswer(choices))
            case Allow(id=wanted, choice=choice):
                return succeed(self._decide(wanted, choice, f"{account} with palyra node allow"))
            case Deny(id=wanted):
                return succeed(self._decide(wanted, REFUSED, f"{account} by palyra node deny"))
            case Forget(id=wanted):
                return succeed(ForgottenAnswer(remembered_item(self._consents.forget(wanted))))
            case Stop():
                self._stop()
                return succeed(StoppingAnswer(os.getpid()))
        reloaded: Deferred[Answered] = Deferred()
        self._reload().addCallbacks(reloaded.callback, reloaded.errback)
        return reloaded

    def _requests(self, wanted: str) -> RequestsAnswer:
        if wanted:
            return RequestsAnswer([self._item(self._desk.find(wanted), None)])
        return RequestsAnswer([self._item(each, MAX_ARGUMENT) for each in self._desk.questions()])

    def _item(self, question: Question, limit: int | None) -> RequestItem:
        return RequestItem(
            request_id=question.question_id,
            capability=question.capability,
            risk=question.risk,
            requested_by=question.requested_by,
            argument=question.argument[:limit],
            argument_length=len(question.argument),
            opens=question.opens[:limit],
            scope=question.scope,
            left_ms=max(0, int((question.until_s - self._elapsed_s()) * 1000)),
            job_id=question.job_id,
        )

    def _decide(self, wanted: str, choice: str, by: str) -> DecidedAnswer:
        question = self._desk.answer(wanted, choice, by)
        scope = question.scope if choice in (FOR_SESSION, ALWAYS) else ""
        return DecidedAnswer(question.question_id, question.capability, choice, by, scope)


def remembered_item(choice: Choice) -> RememberedItem:
    """A remembered choice as it is shown."""
    return RememberedItem(
        choice_id=choice.choice_id,
        choice=choice.choice,
        capability=choice.capability,
        scope=choice.shown,
        argument=choice.argument,
        decided_by=choice.decided_by,
        decided_at_unix_ms=choice.decided_at_unix_ms,
    )
