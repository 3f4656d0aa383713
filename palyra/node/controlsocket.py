"""``node-host/control.sock``: how the device's owner speaks with a node host that runs.

Only the owner of the state root and root may.  Windows has no such sockets, and the selector loop
that Twisted needs there serves no named pipe: a node host is asked in dialogs there, and ends as
every program does.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import ServerFactory, connectionDone
from twisted.logger import Logger
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

from palyra._ownersocket import AVAILABLE, account_of, listen, may_speak, peer_uid
from palyra.core.devices import clean_text
from palyra.errors import Malformed, PalyraError
from palyra.node.controlwords import MAX_ASKED, PATIENCE_S, Answered, Asked, RefusedAnswer
from palyra.node.hostcontrol import HostControl

MAX_CONNECTIONS = 32
LAST_WORD_S = 1.0
_asked = msgspec.json.Decoder(Asked)


class _Conversation(LineOnlyReceiver):
    """One request and its answer."""

    delimiter = b"\n"
    MAX_LENGTH = MAX_ASKED
    factory: _Conversations
    _log = Logger()

    def __init__(self) -> None:
        self._asked = False
        self._said = False
        self._patience: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """Cut whoever may not speak before a byte is read, and whoever is one too many."""
        transport: Any = self.transport
        uid = peer_uid(transport.getHandle())
        if not may_speak(uid) or len(self.factory.open) >= MAX_CONNECTIONS:
            transport.abortConnection()
            return
        self._account = account_of(os.geteuid() if uid is None else uid)
        self.factory.open.add(self)
        self._wait()

    def lineReceived(self, line: bytes) -> None:
        """The request."""
        if self._asked:
            return
        self._asked = True
        self._stop_waiting()
        answered = maybeDeferred(self._answer, line).addCallback(_line)
        answered.addErrback(lambda failure: _line(self._refused(failure)))
        answered.addCallback(self._say)

    def lineLengthExceeded(self, line: bytes) -> None:
        """A request that is too long, or no line."""
        if not self._asked:
            self._asked = True
            self._say(_line(_refusal(Malformed("request", f"must be at most {MAX_ASKED} bytes"))))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Whatever it was, nobody waits for the answer any more."""
        self._stop_waiting()
        self.factory.left(self)

    def abort(self) -> None:
        """End it as it is."""
        transport: Any = self.transport
        transport.abortConnection()

    def hang_up(self) -> None:
        """End it; an answer on its way gets a moment to arrive."""
        if self._said:
            self._wait(LAST_WORD_S)
        else:
            self.abort()

    def _answer(self, line: bytes) -> Deferred[Answered]:
        try:
            asked = _asked.decode(line)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise Malformed("request", clean_text(str(error), 200)) from error
        return self.factory.control.answer(asked, self._account)

    def _refused(self, failure: Failure) -> RefusedAnswer:
        error = failure.value
        if not isinstance(error, PalyraError):
            self._log.failure("a request on control.sock failed", failure)
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

    def __init__(self, clock: Any, control: HostControl) -> None:
        self.clock = clock
        self.control = control
        self.open: set[_Conversation] = set()
        self._empty: list[Deferred[None]] = []

    def left(self, conversation: _Conversation) -> None:
        """One is over."""
        self.open.discard(conversation)
        if not self.open:
            empty, self._empty = self._empty, []
            for each in empty:
                each.callback(None)

    def end(self) -> Deferred[None]:
        """End those that are left; fires when they are gone."""
        if not self.open:
            return succeed(None)
        gone: Deferred[None] = Deferred()
        self._empty.append(gone)
        for each in list(self.open):
            each.hang_up()
        return gone


class ControlSocket:
    """Serves a :class:`HostControl` on a UNIX socket of mode 0600."""

    _log = Logger()

    def __init__(self, reactor: Any, path: Path, control: HostControl) -> None:
        self._reactor = reactor
        self._path = path
        self._conversations = _Conversations(reactor, control)
        self._port: Any = None

    def bind(self) -> None:
        """Listen.  The lock of the state root is held, so a socket that is there is a dead one.

        :raises SocketPathTooLong: unix(7) allows 107 bytes.
        """
        if AVAILABLE:
            self._port = listen(self._reactor, self._path, self._conversations)
        else:
            self._log.info("this system has no control.sock; questions are asked in dialogs only")

    def stop(self) -> Deferred[None]:
        """Stop listening and end what is open; the socket is removed."""
        if self._port is None:
            return succeed(None)
        port, self._port = self._port, None
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
