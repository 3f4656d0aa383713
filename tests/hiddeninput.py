"""Typing what a terminal must not show."""

from __future__ import annotations

import os
import termios
import time

LIMIT_S = 60.0
_POLL_S = 0.005


def type_hidden(terminal: int, keys: str) -> None:
    """Type once the command has switched the echo off.

    A prompt stands on the screen a moment earlier; what is typed before is shown, and thrown away.
    """
    over = time.monotonic() + LIMIT_S
    while termios.tcgetattr(terminal)[3] & termios.ECHO:
        assert time.monotonic() < over, "the echo stays on"
        time.sleep(_POLL_S)
    os.write(terminal, keys.encode())
