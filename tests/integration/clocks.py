"""Clocks that a test moves: the time of day of child processes, under libfaketime.

Only the time of day is moved, as an administrator or a dead battery does; elapsed time stays real.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

INSTALL = "moving the clocks of other processes needs Linux and: pip install libfaketime"
_IN_PACKAGE = "vendor/libfaketime/src/libfaketime.so.1"


def available() -> bool:
    """Whether clocks can be moved here: the library is installed, and made for this machine."""
    library = _library()
    if library is None:
        return False
    said = subprocess.run(
        [sys.executable, "-S", "-c", "import time; print(time.time())"],
        env={"LD_PRELOAD": str(library), "FAKETIME": "-1000d"},
        capture_output=True,
        check=False,
    )
    return said.returncode == 0 and float(said.stdout) < time.time() - 86_400


def _library() -> Path | None:
    """What is loaded into a child, where it is installed."""
    found = importlib.util.find_spec("libfaketime")
    if found is None or found.origin is None or sys.platform != "linux":
        return None
    path = Path(found.origin).parent / _IN_PACKAGE
    return path if path.exists() else None


class Clock:
    """The time of day of every process that was started with its environment."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._ahead_s = 0
        self.move()

    def move(self, *, days: int = 0, hours: int = 0, minutes: int = 0) -> None:
        """Move it on, or back, from where it is; running processes see that at once."""
        self._ahead_s += (days * 24 + hours) * 3_600 + minutes * 60
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{self._ahead_s:+d}")
        os.replace(fresh, self._file)

    @property
    def env(self) -> Mapping[str, str]:
        """What a process must find in its environment."""
        library = _library()
        assert library is not None, INSTALL
        return {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }
