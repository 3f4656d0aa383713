"""The log file of a daemon: rotated, private, and never a reason for it to end."""

from __future__ import annotations

import contextlib

from twisted.python.logfile import LogFile

ROTATE_BYTES = 10 * 1024 * 1024
KEEP_FILES = 5


class SteadyLogFile(LogFile):
    """A rotated log file that gets over a full disk.

    What cannot be written is lost, and said to be before the next line that can: nothing waits for
    it, and no exception of it reaches who logs.  Only the first opening may fail, at a start.
    """

    def __init__(self, name: str, directory: str) -> None:
        self._lost = 0
        super().__init__(
            name,
            directory,
            defaultMode=0o600,
            rotateLength=ROTATE_BYTES,
            maxRotatedFiles=KEEP_FILES,
        )

    def write(self, data: str | bytes) -> None:
        """Write a line; rotate before it where it is time to."""
        try:
            if self._lost:
                self._open_again()
                super().write(f"({self._lost} lines before this one could not be written)\n")
            super().write(data)
            self._lost = 0
        except (OSError, ValueError):  # ValueError: a rotation has closed it and got no further
            self._lost += 1

    def flush(self) -> None:
        """Nothing is kept back."""

    def _open_again(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._file.close()
        self._openFile()
