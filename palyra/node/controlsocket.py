"""How the device's owner speaks with a node host that runs: one request a connection.

Only the owner of the state root and root may.  Where that is, and how it is known who speaks, is
the matter of :mod:`palyra.supervision.controlpoint`.
"""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import ServerFactory, connectionDone
from twisted.logger import Logger
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

from palyra.core.devices import clean_text
from palyra.errors import Malformed, PalyraError
from palyra.node.controlwords import MAX_ASKED, PATIENCE_S, Answered, Asked, RefusedAnswer
from palyra.node.hostcontrol import HostControl
from palyra.supervision.controlpoint import MAX_GREETING, IControlPoint

MAX_CONNECTIONS = 32
"""As many more may be connected that have not said yet who they are."""
LAST_WORD_S = 1.0
GREETING_S = 2.0
"""For a stranger to say who it is."""
_asked = msgspec.json.Decoder(Asked)


class _Conversation(LineOnlyReceiver):
    """A greeting where one is asked for, one request and its answer."""

    delimiter = b"\n"
    MAX_LENGTH = MAX_ASKED
    factory: _Conversations
    _log = Logger()

    def __init__(self) -> None:
        self._asked = False
        self._said = False
        self._stranger = False
        self._cut = False
        self._patience: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """Cut whoever may not speak before a byte is read, and whoever is one too many."""
        transport: Any = self.transport
        account = self.factory.point.speaker(transport.getHandle())
        self._stranger = self.factory.point.greeted
        if account is None or not self.factory.enter(self, self._stranger):
            self.abort()
            return
        self._account = account
        if self._stranger:
            self.MAX_LENGTH = MAX_GREETING
        self._wait(GREETING_S if self._stranger else PATIENCE_S)

    def lineReceived(self, line: bytes) -> None:
        """The greeting, then the request."""
        if self._asked or self._cut:
            return
        if self._stranger:
            self._greeted(line)
            return
        self._asked = True
        self._stop_waiting()
        answered = maybeDeferred(self._answer, line).addCallback(_line)
        answered.addErrback(lambda failure: _line(self._refused(failure)))
        answered.addCallback(self._say)

    def lineLengthExceeded(self, line: bytes) -> None:
        """A request that is too long, or no line."""
        if self._stranger or self._cut:
            self.abort()
        elif not self._asked:
            self._asked = True
            self._say(_line(_refusal(Malformed("request", f"must be at most {MAX_ASKED} bytes"))))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Whatever it was, nobody waits for the answer any more."""
        self._stop_waiting()
        self.factory.left(self)

    def abort(self) -> None:
        """End it as it is."""
        self._cut = True
        self._stop_waiting()
        transport: Any = self.transport
        transport.abortConnection()

    def hang_up(self) -> None:
        """End it; an answer on its way gets a moment to arrive."""
        if self._said:
            self._wait(LAST_WORD_S)
        else:
            self.abort()

    def _greeted(self, line: bytes) -> None:
        """Nothing that a stranger sends is parsed, and a wrong word gets no answer."""
        self._stranger = False
        if not self.factory.point.greets(line) or not self.factory.enter(self, False):
            self.abort()
            return
        self.MAX_LENGTH = MAX_ASKED
        self._wait()

    def _answer(self, line: bytes) -> Deferred[Answered]:
        try:
            asked = _asked.decode(line)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise Malformed("request", clean_text(str(error), 200)) from error
        return self.factory.control.answer(asked, self._account)

    def _refused(self, failure: Failure) -> RefusedAnswer:
        error = failure.value
        if not isinstance(error, PalyraError):
            self._log.failure("a request of the owner failed", failure)
            error = PalyraError()
        return _refusal(error)

    def _say(self, line: bytes) -> None:
        transport: Any = self.transport
        if transport is not None and self in self.factory.open:
            self._said = True
            transport.write(line)
            transport.loseConnection()
            self._wait()

    def _wait(self, patience_s: float = PATIENCE_S) -> None:
        """Give the other end its time for what comes next."""
        self._stop_waiting()
        self._patience = self.factory.clock.callLater(patience_s, self.abort)

    def _stop_waiting(self) -> None:
        if self._patience is not None and self._patience.active():
            self._patience.cancel()


class _Conversations(ServerFactory):
    """All of them."""

    protocol = _Conversation  # type: ignore[assignment]
    noisy = False

    def __init__(self, clock: Any, control: HostControl, point: IControlPoint) -> None:
        self.clock = clock
        self.control = control
        self.point = point
        self.open: set[_Conversation] = set()
        self._strangers: dict[_Conversation, None] = {}
        self._empty: list[Deferred[None]] = []

    def enter(self, conversation: _Conversation, stranger: bool) -> bool:
        """Whether there is room for it.  Other users can connect as often as they like where a
        greeting is asked for: the stranger that has been silent for longest goes first."""
        self._strangers.pop(conversation, None)
        if stranger:
            if len(self._strangers) >= MAX_CONNECTIONS:
                longest = next(iter(self._strangers))
                del self._strangers[longest]
                longest.abort()
            self._strangers[conversation] = None
        elif len(self.open) >= MAX_CONNECTIONS:
            return False
        else:
            self.open.add(conversation)
        return True

    def left(self, conversation: _Conversation) -> None:
        """One is over."""
        self.open.discard(conversation)
        self._strangers.pop(conversation, None)
        if not self.open and not self._strangers:
            empty, self._empty = self._empty, []
            for each in empty:
                each.callback(None)

    def end(self) -> Deferred[None]:
        """End those that are left; fires when they are gone."""
        if not self.open and not self._strangers:
            return succeed(None)
        gone: Deferred[None] = Deferred()
        self._empty.append(gone)
        for each in [*self.open, *self._strangers]:
            each.hang_up()
        return gone


class ControlSocket:
    """Serves a :class:`HostControl` where its owner can reach it."""

    def __init__(self, reactor: Any, point: IControlPoint, control: HostControl) -> None:
        self._reactor = reactor
        self._point = point
        self._conversations = _Conversations(reactor, control, point)
        self._port: Any = None

    def bind(self) -> None:
        """Listen; the lock of the state root is held.

        :raises PalyraError, OSError: it is not possible.
        """
        self._port = self._point.listen(self._reactor, self._conversations)

    def stop(self) -> Deferred[None]:
        """Stop listening and end what is open; nothing is left that says where it was."""
        if self._port is None:
            return succeed(None)
        port, self._port = self._port, None
        self._point.forget()
        stopped: Deferred[None] = port.stopListening()
        return stopped.addCallback(lambda _: self._conversations.end())


def _line(answer: Answered) -> bytes:
    return msgspec.json.encode(answer) + b"\n"


def _refusal(error: PalyraError) -> RefusedAnswer:
    return RefusedAnswer(
        error=error.sentence,
        code=error.code,
        category=error.category.value,
        retryable=error.retryable,
        hint=error.hint,
    )
