"""Runs the command in a terminal of a known size, as a person sees it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

from tests.hiddeninput import LIMIT_S, type_hidden

_COMMAND = """
import fcntl, signal, sys, termios
from palyra.cli import main
# Tests that a shell runs in the background are started with Ctrl-C ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Ctrl-C reaches only a process whose controlling terminal this is.
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
sys.exit(main())
"""
_STYLE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Terminal:
    """A command that runs in a terminal; what it prints is read while it runs."""

    def __init__(self, root: Path, *args: str, columns: int = 80, lines: int = 40) -> None:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self._ours = ours
        self._process = subprocess.Popen(
            [sys.executable, "-c", _COMMAND, *args, "--state-root", str(root)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm", "PYTHONUTF8": "1"},
            start_new_session=True,
        )
        os.close(theirs)
        self.seen = ""

    def read_until(self, text: str) -> None:
        """Wait for a text on the screen."""
        over = time.monotonic() + LIMIT_S
        while text not in self.seen and self._read(over):
            pass
        assert text in self.seen, self.seen

    def type(self, keys: str) -> None:
        """Type something."""
        os.write(self._ours, keys.encode())

    def type_hidden(self, keys: str) -> None:
        """Type what must not be shown."""
        type_hidden(self._ours, keys)

    def end(self) -> tuple[int, str]:
        """The exit status, and everything that was on the screen, without styles."""
        over = time.monotonic() + LIMIT_S
        while self._read(over):
            pass
        os.close(self._ours)
        status = self._process.wait(30)
        plain = _STYLE.sub("", self.seen).replace("\r\n", "\n")
        return status, "".join(line.rstrip() + "\n" for line in plain.splitlines())

    def _read(self, over: float) -> bool:
        left_s = over - time.monotonic()  # a line that moves says something all the time
        if left_s <= 0 or not select.select([self._ours], [], [], left_s)[0]:
            self._process.kill()
            self._process.wait()
            raise AssertionError(f"nothing more within {LIMIT_S:g} s after: {self.seen}")
        try:
            data = os.read(self._ours, 65536)
        except OSError:
            return False
        self.seen += data.decode("utf-8", "replace")
        return bool(data)


def on_terminal(root: Path, *args: str, columns: int = 80) -> tuple[int, str]:
    """Exit status and screen of a command that asks nothing."""
    return Terminal(root, *args, columns=columns).end()
