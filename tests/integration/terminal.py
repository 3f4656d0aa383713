"""A command on a terminal of its own, with a person's keys."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.hiddeninput import type_hidden
from tests.integration import plugin
from tests.integration.house import House
from tests.integration.processes import LIMIT_S, environment, script

_STYLE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
_AS_CONTROLLING = """
import fcntl, os, sys, termios
# Ctrl-C reaches only a process whose controlling terminal this is.
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


class Terminal:
    """A command, and what is on its screen; 100 columns, so that nothing has to be cut."""

    def __init__(self, command: Sequence[str], cwd: Path, plugins: Path | None = None) -> None:
        if plugins is not None:
            command = [plugin.interpreter(plugins), *command]
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 60, 100, 0, 0))
        self._popen = subprocess.Popen(
            [sys.executable, "-c", _AS_CONTROLLING, *command],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=cwd,
            env=environment() | {"TERM": "xterm"},
            start_new_session=True,
        )
        os.close(theirs)
        self._seen = b""

    @property
    def screen(self) -> str:
        """All that was printed, without styles; a redrawn line is there as often as it was."""
        text = _STYLE.sub("", self._seen.decode("utf-8", "replace"))
        return text.replace("\r\n", "\n").replace("\r", "\n")

    def shows(self, text: str, limit_s: float = LIMIT_S) -> None:
        """Wait until a text is on the screen."""
        over = time.monotonic() + limit_s
        while text not in self.screen:
            left_s = over - time.monotonic()
            assert left_s > 0 and self._read(left_s), f"no {text!r} on:\n{self.screen}"

    def type(self, keys: str) -> None:
        """Type something."""
        os.write(self._ours, keys.encode())

    def type_hidden(self, keys: str) -> None:
        """Type what must not be shown."""
        type_hidden(self._ours, keys)

    def end(self) -> int:
        """Its exit status, once it has ended."""
        while self._read(LIMIT_S):
            pass
        return self._popen.wait(LIMIT_S)

    def close(self) -> None:
        """Hang up, whatever it does."""
        if self._popen.poll() is None:
            self._popen.send_signal(signal.SIGKILL)
            self._popen.wait(LIMIT_S)
        with contextlib.suppress(OSError):
            os.close(self._ours)

    def _read(self, limit_s: float) -> bool:
        """Take what comes next; False at the end, or when nothing came."""
        ready, _, _ = select.select([self._ours], [], [], limit_s)
        if not ready:
            return False
        try:
            data = os.read(self._ours, 65_536)
        except OSError:  # Linux says EIO when the other end is closed
            return False
        self._seen += data
        return bool(data)


@contextlib.contextmanager
def on_terminal(house: House, *words: str) -> Iterator[Terminal]:
    """``palyra ...`` on a terminal."""
    terminal = Terminal([script("palyra"), *words], house.path)
    try:
        yield terminal
    finally:
        terminal.close()
