"""Mediation: a yes or no by the person at the device, before a capability that needs one runs."""

from __future__ import annotations

import attrs
from twisted.internet.defer import Deferred
from zope.interface import Interface

from palyra.core.devices import clean_text
from palyra.core.identifiers import short_id
from palyra.core.jobs import REFUSED

MAX_ARGUMENT = 512
MAX_WHO = 120
BUSY, UNAVAILABLE, DENIED = "mediation_busy", "mediation_unavailable", "mediation_denied"
VOID = "mediation_void"
"""The yes was for something that is another thing by now."""


@attrs.frozen
class Question:
    """What a person is asked.  ``argument`` is the input's JSON, in its one spelling.

    ``question_id``, a ULID, is what it is answered by.  The node host draws it: a gateway that
    could choose it might put another question in the place of the one that a person has read.

    ``scope`` is what a yes for the session, or for always, will be for: part of the argument, in
    words that may be shown.  Empty: such a yes cannot be given.
    """

    question_id: str
    requested_by: str
    capability: str
    risk: str
    argument: str
    scope: str = ""
    until_s: float = 0.0
    """When nobody needs to answer any more, on the host's clock of elapsed time."""
    opens: str = ""
    """The URL or path that will be opened, as the input names it; empty where it is none."""
    job_id: str = ""
    """The job's id; empty where the gateway names none."""

    @property
    def who(self) -> str:
        """Who asks, safe to show."""
        return clean_text(self.requested_by, MAX_WHO)

    def asks(self, limit: int = MAX_ARGUMENT) -> str:
        """``asks to open URL`` or ``asks: ARGUMENT``: safe to show, at most ``limit`` characters
        of it, and what is cut is said, with where all of it can be seen."""
        verb, text = ("asks to open ", self.opens) if self.opens else ("asks: ", self.argument)
        shown, missing = beginning(text, limit)
        if not missing:
            return verb + shown
        see = f"palyra node requests {short_id(self.question_id)}"
        return f"{verb}{shown} (+{missing} characters, {see})"


def beginning(text: str, limit: int) -> tuple[str, int]:
    """As much of ``text`` as fits, safe to show, and how many of its characters are missing.

    No more of it is looked at than is shown: a gateway may send millions of characters.
    """
    shown = ""
    for at, character in enumerate(text[: limit + 1]):
        piece = clean_text(character, None)
        if len(shown) + len(piece) > limit:
            return shown, len(text) - at
        shown += piece
    return shown, 0


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

    @classmethod
    def denied(cls, decided_by: str) -> Answer:
        """A person said no; whoever reports it says where."""
        return cls.no(DENIED, "", decided_by)


class IMediator(Interface):
    """Asks the person at the device."""

    def ask(question: Question) -> Deferred[Answer]:
        """Fires with the answer; cancelling it takes the question back."""


class IDialogs(IMediator):
    """Asks in a window of the person's desktop."""

    def available() -> bool:
        """Whether there is a desktop now; never blocks."""

    def stop() -> Deferred[None]:
        """Close every window and ask nobody any more; fires when that is done."""
