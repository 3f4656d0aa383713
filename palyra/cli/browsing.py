"""Opening a sign-in link in a browser, without telling it to the other accounts of this machine:
the arguments of a process are for everybody, a private file is not."""

from __future__ import annotations

import contextlib
import html
import os
import tempfile
import time
import webbrowser
from collections.abc import Callable, Iterator
from pathlib import Path

PATIENCE_S = 10.0
"""How long a browser may take to read the file."""
AGAIN_S = 1.0
"""Browsers look at a file more than once, as for its kind."""
_STEP_S = 0.1
_PAGE = (
    '<!doctype html><meta charset="utf-8"><meta name="referrer" content="no-referrer">'
    '<meta http-equiv="refresh" content="0; url={link}"><title>Palyra</title>\n'
)


@contextlib.contextmanager
def opened(link: str, sleep: Callable[[float], None] = time.sleep) -> Iterator[bool]:
    """Show ``link`` in a browser; whether one was there.

    The file that leads to it is gone at the end, which waits until the browser has read it, at
    most :data:`PATIENCE_S`.
    """
    with contextlib.ExitStack() as stack:
        try:
            # A directory of mode 0700.
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="palyra-"))
            file = _written(Path(folder) / "login.html", link)
            found = webbrowser.open(file.as_uri())
        except (OSError, webbrowser.Error):
            found = False
        yield found
        if found:
            _wait_until_read(file, sleep)


def _written(file: Path, link: str) -> Path:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="utf-8") as out:
        out.write(_PAGE.format(link=html.escape(link)))
    # A file that was never read: where times are kept by relatime the first reading is, too.
    os.utime(file, ns=(0, file.stat().st_mtime_ns))
    return file


def _wait_until_read(file: Path, sleep: Callable[[float], None]) -> None:
    for _ in range(round(PATIENCE_S / _STEP_S)):
        if file.stat().st_atime_ns:
            return sleep(AGAIN_S)
        sleep(_STEP_S)
    return None
