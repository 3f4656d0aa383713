"""What a person, or a program, sees of ``palyra node run``."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from typing import Any, TextIO, TypeGuard

from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from palyra.core.devices import clean_text
from palyra.core.frames import Welcome
from palyra.core.identifiers import Fingerprint, grouped, short_id
from palyra.errors import GatewayUnreachable, PalyraError, PinMismatch, PinNotChecked
from palyra.node.identity import IdentityStore
from palyra.node.link import Route
from palyra.node.rejoin import is_final
from palyra.node.watcher import Watcher, skew

APPROVAL_S = 600
MAX_TEXT = 512


class Screen:
    """A live last line on a terminal, plain lines otherwise.

    Output that nobody reads any more (a closed pipe) is dropped: it must not end a node host.
    """

    def __init__(self, out: TextIO) -> None:
        self._out: TextIO | None = out
        self._tty = out.isatty()
        self._live = ""
        self._held = False

    @property
    def tty(self) -> bool:
        """Whether a person looks at it."""
        return self._tty

    def step(self, label: str, text: str, *fields: str) -> None:
        """One thing that is done now: ``ok  label  text``, or ``label<TAB>fields``."""
        if self._tty:
            self._line(f"ok  {label:<9}  {text}")
        else:
            self._line("\t".join((label, *(fields or (text,)))))

    def note(self, text: str) -> None:
        """A line that is neither done nor live."""
        self._line(text)

    def live(self, text: str) -> None:
        """Replace the last line; without a terminal, a line when it changed."""
        if text == self._live:
            return
        self._live = text
        if not self._tty:
            self._line(text)
        elif not self._held:
            self._write(f"\r\x1b[K{self._clipped()}")

    def hold(self, held: bool) -> None:
        """Leave the last line alone while a person types an answer there."""
        self._held = held
        if self._tty and self._live:
            self._write("\r\x1b[K" if held else self._clipped())

    def end(self) -> None:
        """Leave the cursor on a new line."""
        if self._tty and self._live:
            self._write("\n")
            self._live = ""

    def _line(self, text: str) -> None:
        if self._tty and self._live and not self._held:
            self._write(f"\r\x1b[K{text}\n{self._clipped()}")
        else:
            self._write(("\n" if self._held else "") + text + "\n")

    def _clipped(self) -> str:
        """The live line, shorter than the terminal is wide: one that wraps cannot be redrawn."""
        width = 80
        if self._out is not None:
            with contextlib.suppress(OSError, ValueError):
                width = os.get_terminal_size(self._out.fileno()).columns or width
        return self._live if len(self._live) < width else self._live[: width - 2] + "~"

    def _write(self, text: str) -> None:
        if self._out is None:
            return
        try:
            self._out.write(self._shown(text))
            self._out.flush()
        except (OSError, ValueError):
            self._out = None

    def _shown(self, text: str) -> str:
        """As far as the terminal has letters for it."""
        encoding = getattr(self._out, "encoding", None) or "utf-8"
        return text.encode(encoding, "backslashreplace").decode(encoding)


class PairingScreen:
    """Shows a pairing (the Witness of :class:`palyra.node.pairing.Pairing`)."""

    def __init__(self, screen: Screen, clock: Any) -> None:
        self._screen = screen
        self._ends_s = 0.0
        self._seconds = clock.seconds
        self._countdown = _every_second(self._tick, clock)

    def gateway_verified(self, address: str, ca_hash: str, matches: bool) -> None:
        text = f"{address}  CA {grouped(ca_hash)}{' matches the line' if matches else ''}"
        self._screen.step("gateway", text, address, ca_hash)

    def pin_confirmed(self) -> None:
        self._screen.step("PIN", "confirmed by both sides")

    def pin_failed(self, warning: str) -> None:
        """A PIN was used up, and a person may type another one."""
        self._screen.note(f"!!  {warning}")

    def identity_shown(self, name: str, device_id: str, fingerprint: Fingerprint) -> None:
        text = f"{name}  {short_id(device_id)}  {grouped(fingerprint)}"
        self._screen.step("identity", text, name, short_id(device_id), fingerprint)

    def waiting(self, request_id: str) -> None:
        if self._screen.tty:
            self._ends_s = self._seconds() + APPROVAL_S
            _start(self._countdown)
        else:
            self._screen.note(f"waiting\t{request_id}")

    def approved(self, by: str, name: str) -> None:
        self.stop()
        by, name = clean_text(by, MAX_TEXT), clean_text(name, MAX_TEXT)
        self._screen.step("approved", f"by {by} as {name}", by, name)

    def clock_differs(self, by_ms: int) -> None:
        side = "ahead of" if by_ms > 0 else "behind"
        minutes = max(1, round(abs(by_ms) / 60_000))
        self._screen.note(f"!!  This clock is {minutes} min {side} the gateway's.")

    def retrying(self, cause: str) -> None:
        self._screen.note(f"!!  {clean_text(cause, MAX_TEXT)} Asking again.")

    def stop(self) -> None:
        """Stop counting down."""
        if self._countdown.running:
            self._countdown.stop()
            self._screen.live("")

    def _tick(self) -> None:
        left = max(0, round(self._ends_s - self._seconds()))
        self._screen.live(
            f"..  waiting for an operator to approve, {left // 60}:{left % 60:02} left"
        )


class ServingScreen(Watcher):
    """Shows a node host that serves: one live line, or a line a change."""

    _log = Logger()

    def __init__(
        self,
        screen: Screen,
        identity: IdentityStore,
        clock: Any,
        final: Callable[[PalyraError], object],
    ) -> None:
        """``final`` is called with a refusal that no waiting heals."""
        self._screen = screen
        self._identity = identity
        self._final = final
        self._jobs = 0
        self._usable = 0
        self._online = ""
        self._cause = ""
        self._expires_ms = 0
        self._retry_at_s = 0.0
        self._seconds = clock.seconds
        self._redraw = _every_second(self._show, clock)

    def online(self, welcome: Welcome, route: Route) -> None:
        super().online(welcome, route)
        client = self._identity.client()
        self._expires_ms = client.current.cert_expires_at_unix_ms if client.current else 0
        name = clean_text(welcome.device_name, MAX_TEXT)
        self._online = f"online  {name}  {route}"
        self._cause = ""
        self._changed()

    def offline(self, error: PalyraError | None, retry_s: float) -> None:
        super().offline(error, retry_s)
        if error is not None and is_final(error):
            self._final(error)
            return
        self._retry_at_s = self._seconds() + retry_s
        cause = clean_text(_cause(error), MAX_TEXT)
        if self._screen.tty or self._online or cause != self._cause:
            news = cause != self._cause
            self._online, self._cause = "", cause
            self._changed()
            if news and _wants_hint(error):
                self._screen.note(f"hint  {error.hint}")

    def renewal_failed(self, error: PalyraError | None, left_s: float) -> None:
        super().renewal_failed(error, left_s)
        cause = error.sentence if error is not None else "A fault of this device; see its log."
        text = f"!!  The certificate could not be renewed, {_life(left_s)} left. {cause}"
        self._screen.note(clean_text(text, MAX_TEXT))

    def identity_shown(self, name: str, device_id: str, fingerprint: Fingerprint) -> None:
        super().identity_shown(name, device_id, fingerprint)
        text = f"{name}  {short_id(device_id)}  {grouped(fingerprint)}"
        self._screen.step("identity", text, name, short_id(device_id), fingerprint)

    def waiting(self, request_id: str) -> None:
        super().waiting(request_id)
        self._online = self._cause = ""
        if self._screen.tty:
            self._screen.live("..  waiting for an operator to approve")
        else:
            self._screen.note(f"waiting\t{request_id}")

    def retrying(self, cause: str) -> None:
        super().retrying(cause)
        self._screen.note(f"!!  {clean_text(cause, MAX_TEXT)} Asking again.")

    def rejoined(self, ends_ms: int) -> None:
        super().rejoined(ends_ms)
        if self._screen.tty:
            self._screen.live("")
        self._screen.step("rejoined", "by identity key")

    def clock_differs(self, ahead_ms: int) -> None:
        super().clock_differs(ahead_ms)
        self._screen.note(f"!!  {skew(ahead_ms)}")

    def usable(self, capabilities: int) -> None:
        changed, self._usable = capabilities != self._usable, capabilities
        if changed and self._online and self._screen.tty:
            self._show()

    def fell_back(self, line: str) -> None:
        super().fell_back(line)
        self._screen.note(f"!!  {clean_text(line, MAX_TEXT)}")

    def noticed(self, line: str, jobs: int) -> None:
        super().noticed(line, jobs)
        self._jobs = jobs
        if not self._screen.tty or line.startswith("stopping"):
            self._screen.note(clean_text(line, MAX_TEXT))
        else:
            self._show()

    def stop(self) -> None:
        """Redraw no more."""
        if self._redraw.running:
            self._redraw.stop()

    def _changed(self) -> None:
        """Show it now; on a terminal, again each second from here on."""
        if self._screen.tty and not self._redraw.running:
            _start(self._redraw)
        else:
            self._show()

    def _show(self) -> None:
        if self._online:
            life = _life(self._expires_ms / 1000 - time.time())
            text = f"{self._online}  cert {life}  {_count(self._usable, 'capability')}"
            self._screen.live(f"{text}  {_count(self._jobs, 'job')}" if self._screen.tty else text)
        elif self._cause:
            left_s = max(1, round(self._retry_at_s - self._seconds()))
            self._screen.live(f"offline  retry in {left_s}s  ({self._cause})")


def _cause(error: PalyraError | None) -> str:
    if error is None:
        return "the gateway closed the session"
    if isinstance(error, GatewayUnreachable):
        return f"{error.where} {error.cause.removeprefix('connection ')}"
    return error.sentence.removesuffix(".")


def _wants_hint(error: PalyraError | None) -> TypeGuard[PalyraError]:
    """Whether it is the choice of a transport, and not the gateway, that may be at fault."""
    if isinstance(error, GatewayUnreachable):
        return error.unreached and bool(error.transport)
    return isinstance(error, (PinMismatch, PinNotChecked))


def _count(number: int, what: str) -> str:
    plural = what[:-1] + "ies" if what.endswith("y") else what + "s"
    return f"{number} {what if number == 1 else plural}"


def _life(left_s: float) -> str:
    """``24h``, or minutes in the last two hours."""
    if left_s >= 7_200:
        return f"{round(left_s / 3_600)}h"
    return f"{max(0, round(left_s / 60))}m"


def _every_second(act: Callable[[], object], clock: Any) -> LoopingCall:
    call = LoopingCall(act)
    call.clock = clock
    return call


def _start(call: LoopingCall) -> None:
    if not call.running:
        running = call.start(1.0)
        running.addErrback(lambda failure: Logger().failure("the screen is not redrawn", failure))
