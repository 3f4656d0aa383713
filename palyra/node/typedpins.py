"""PINs as a person types them on the device: each for one try, three at most, without echo."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TextIO

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadDescriptor
from zope.interface import implementer

from palyra.config.addresses import HostPort
from palyra.core.pin import PinCode
from palyra.errors import Malformed, PairingFailed
from palyra.node.files import HostFile
from palyra.node.pairing import MAX_PINS, Pairing

try:
    import termios
except ImportError:  # Windows
    termios = None  # type: ignore[assignment]

PROMPT = "PIN shown by the gateway:"


async def pair_by_pin(
    pairing: Pairing,
    address: HostPort,
    ca_pem: bytes | None,
    next_pin: Callable[[PairingFailed | None], Awaitable[PinCode | None]],
) -> HostFile:
    """Pair with PINs that a person types, each of which is used once, and at most three.

    ``next_pin`` is asked for each, with how the one before it failed; None ends it there.

    :raises PairingFailed, GatewayNotProven, PalyraError: as :meth:`Pairing.run_pin`.
    """
    failed: PairingFailed | None = None
    for _ in range(MAX_PINS):
        pin = await next_pin(failed)
        if pin is None:
            break
        paired = pairing.run_pin(address, pin, ca_pem)
        del pin
        try:
            return await paired
        except PairingFailed as error:
            failed = error
    assert failed is not None, "there is a first PIN"
    raise failed


def can_ask() -> bool:
    """Whether a terminal can be read beside the reactor's other work; on Windows none can."""
    return termios is not None


@implementer(IReadDescriptor)
class PinPrompt:
    """Asks for a PIN on the terminal while the reactor runs, and can be told to stop asking.

    Only where :func:`can_ask`.
    """

    def __init__(
        self, reactor: Any, *, source: TextIO | None = None, out: TextIO | None = None
    ) -> None:
        self._reactor = reactor
        self._source = source or sys.stdin
        self._out = out or sys.stderr
        self._typed = b""
        self._answer: Deferred[PinCode | None] | None = None
        self._echo = contextlib.ExitStack()

    def ask(self) -> Deferred[PinCode | None]:
        """Fires with what was typed, asked again until it is a PIN; None at the end of input."""
        assert self._answer is None, "one question at a time"
        answer = self._answer = Deferred(lambda _: self._done())
        self._typed = b""
        self._echo.enter_context(_no_echo(self._source))
        self._reactor.addReader(self)
        self._say(PROMPT)
        return answer

    def _read(self, line: bytes) -> None:
        self._say("\n")
        try:
            pin = PinCode.parse(line.decode("utf-8", "replace"))
        except Malformed as error:
            self._say(f"{error.sentence}\n{PROMPT}")
        else:
            self._settle(pin)

    def _settle(self, pin: PinCode | None) -> None:
        answer = self._answer
        if answer is not None:
            self._done()
            answer.callback(pin)

    def _done(self) -> None:
        self._answer, self._typed = None, b""
        self._reactor.removeReader(self)
        self._echo.close()

    def _say(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._out.write(text)
            self._out.flush()

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
            self._settle(None)
        elif b"\n" in self._typed:
            line, _, self._typed = self._typed.partition(b"\n")
            self._read(line)

    def connectionLost(self, reason: Any) -> None:
        self._settle(None)


@contextlib.contextmanager
def _no_echo(source: TextIO) -> Iterator[None]:
    """What is typed is not shown; what was typed before is no answer."""
    before = termios.tcgetattr(source)
    hidden = [*before]
    hidden[3] &= ~termios.ECHO
    termios.tcsetattr(source, termios.TCSAFLUSH, hidden)
    try:
        yield
    finally:
        with contextlib.suppress(termios.error):
            termios.tcsetattr(source, termios.TCSAFLUSH, before)
