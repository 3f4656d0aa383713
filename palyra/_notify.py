"""What a service tells the service manager that started it: sd_notify(3), sd_watchdog_enabled(3).

A message is one datagram of ``NAME=value`` lines to the socket that ``NOTIFY_SOCKET`` names.  Where
there is none, or nobody takes it, nothing happens: telling must not keep a service from its work.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, MutableMapping

MAX_TEXT = 512
"""Characters of a status line."""
MAX_PATH = 107
"""Bytes of a socket's address on Linux."""
MAX_WATCHDOG_S = 24 * 3600.0
_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class Notifier:
    """Tells the manager.  No call blocks or raises; each says whether the manager was told."""

    def __init__(
        self,
        address: bytes = b"",
        watchdog_s: float | None = None,
        *,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """``address`` is the manager's socket, empty where there is none; ``watchdog_s`` how long
        the manager waits for a sign of life, None where it does not."""
        self._address = address
        self.watchdog_s = watchdog_s if address else None
        self._monotonic_ns = monotonic_ns

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str]) -> Notifier:
        """The one that ``environ`` describes, which forgets it: a child is not to speak for us."""
        where, usec, pid = (environ.pop(name, "") for name in _VARIABLES)
        address = _address(where)
        ours = not pid or pid == str(os.getpid())
        return cls(address, _seconds(usec) if ours else None)

    @property
    def present(self) -> bool:
        """Whether there is a manager to tell."""
        return bool(self._address)

    def ready(self, status: str = "") -> bool:
        """It serves, or serves again after :meth:`reloading`."""
        return self._send("READY=1", *_status(status))

    def status(self, text: str) -> bool:
        """One line for people on how it is."""
        return self._send(*_status(text))

    def reloading(self) -> bool:
        """It reads its configuration again; :meth:`ready` follows."""
        return self._send("RELOADING=1", f"MONOTONIC_USEC={self._monotonic_ns() // 1000}")

    def stopping(self, status: str = "", within_s: float = 0.0) -> bool:
        """It ends, and may be killed only after ``within_s`` seconds, where that is later than the
        manager would."""
        longer = [f"EXTEND_TIMEOUT_USEC={round(within_s * 1e6)}"] if within_s > 0 else []
        return self._send("STOPPING=1", *longer, *_status(status))

    def watchdog(self) -> bool:
        """A sign of life."""
        return self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> bool:
        if not self._address or not lines:
            return False
        with contextlib.suppress(OSError):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                sender.sendto("\n".join(lines).encode("utf-8", "replace"), self._address)
            return True
        return False


def _address(named: str) -> bytes:
    """The socket of a name: a path, or ``@`` and a name in Linux's abstract namespace; empty where
    it is neither, or this platform has no such sockets."""
    address = os.fsencode(named)
    if not hasattr(socket, "AF_UNIX") or address[:1] not in (b"/", b"@") or len(address) > MAX_PATH:
        return b""
    return b"\0" + address[1:] if address.startswith(b"@") else address


def _seconds(usec: str) -> float | None:
    """What ``WATCHDOG_USEC`` says; None where it is no number of microseconds."""
    if not (usec.isascii() and usec.isdigit() and 0 < len(usec) <= 20 and int(usec)):
        return None
    return min(int(usec) / 1e6, MAX_WATCHDOG_S)


def _status(text: str) -> list[str]:
    """``STATUS=`` on one line, for a line break would begin another assignment."""
    shown = " ".join(text.split())[:MAX_TEXT]
    return [f"STATUS={shown}"] if shown else []
