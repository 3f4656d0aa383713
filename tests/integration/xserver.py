"""An X server of the test's own, and a person at its keyboard."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

MISSING = [name for name in ("Xvfb", "xdotool", "zenity") if shutil.which(name) is None]
"""Programs that these tests need and this machine does not have."""

_PATIENCE_S = 60.0


@attrs.frozen
class Screen:
    """A display, by its name, and whatever environment programs need there."""

    display: str
    home: Path

    def environ(self) -> dict[str, str]:
        """Of programs that show something: nothing of the desktop of whoever runs the tests."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "XDG_RUNTIME_DIR": str(self.home),
            "DISPLAY": self.display,
            "NO_AT_BRIDGE": "1",
            "GTK_A11Y": "none",
        }

    def xdotool(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run it; a window that is not there is an exit code."""
        return subprocess.run(
            ["xdotool", *arguments], env=self.environ(), capture_output=True, text=True, timeout=30
        )

    def window(self, title: str) -> str:
        """The id of the visible window whose title matches ``title``, as soon as there is one."""
        until = time.monotonic() + _PATIENCE_S
        while time.monotonic() < until:
            found = self.xdotool("search", "--onlyvisible", "--name", title).stdout.split()
            if found:
                return found[-1]
            time.sleep(0.05)
        raise AssertionError(f"no window {title!r}")

    def press(self, window: str, *keys: str) -> None:
        """Press keys, one after the other, as a person would whose keyboard is on ``window``."""
        until = time.monotonic() + _PATIENCE_S
        while self.xdotool("getwindowfocus").stdout.strip() != window:
            assert time.monotonic() < until
            self.xdotool("windowfocus", window)
        for key in keys:
            assert self.xdotool("key", key).returncode == 0

    def is_open(self, window: str) -> bool:
        """Whether that window is still there."""
        return self.xdotool("getwindowname", window).returncode == 0


@contextmanager
def screen(home: Path) -> Iterator[Screen]:
    """A server on a display number that it found free itself; it ends with the block."""
    read, write = os.pipe()
    server = subprocess.Popen(
        [
            "Xvfb", "-displayfd", str(write), "-screen", "0", "1024x768x24",
            "-nolisten", "tcp", "-noreset",
        ],
        pass_fds=(write,), stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(write)
    try:
        with os.fdopen(read) as number:
            yield Screen(f":{number.readline().strip()}", home)
    finally:
        server.kill()
        server.wait()
