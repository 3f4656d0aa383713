"""``python -m palyra.node``: ``twistd palyra-node`` in the foreground, for service managers.

Every platform starts it by the interpreter alone: where scripts are, and whether they open a
window, differs.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import MutableMapping, Sequence
from pathlib import Path

_SETTING = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_ROTATE_BYTES = 1024 * 1024
_KEEP = 3


def twistd_arguments(
    given: Sequence[str],
    *,
    environ: MutableMapping[str, str] = os.environ,
    posix: bool = os.name == "posix",
) -> list[str]:
    """The command line of twistd; ``--logfile FILE`` is its own, ``--set NAME=VALUE`` goes into the
    environment, since not every manager can put it there, and all the rest is the node's.

    The process is its manager's: it stays in the foreground and writes no pidfile, an option that
    twistd has on POSIX only.
    """
    own = ["--nodaemon", "--pidfile="] if posix else ["--nodaemon"]
    rest = list(given)
    while len(rest) > 1 and rest[0] in ("--set", "--logfile"):
        option, value = rest[:2]
        del rest[:2]
        if option == "--logfile":
            own.append(f"--logfile={value}")
            _give_streams(Path(value))
        else:
            name, text = _setting(value)
            environ[name] = text
    return ["twistd", *own, "palyra-node", *rest]


def _setting(value: str) -> tuple[str, str]:
    found = _SETTING.fullmatch(value)
    if found is None:
        from palyra._daemon import refuse
        from palyra.errors import OptionInvalid

        refuse(OptionInvalid("--set", f"must be NAME=VALUE (got {value[:80]!a})"))
    return found[1], found[2]


def _give_streams(log: Path) -> None:
    """Standard streams for an interpreter that has none (pythonw): what libraries print, and what
    it says at its end, goes to a file beside its log."""
    if sys.stderr is not None:
        return
    from palyra.supervision.logfiles import rotate
    from palyra.supervision.service import STDERR_LOG

    path = log.with_name(STDERR_LOG)
    try:
        rotate(path, over_bytes=_ROTATE_BYTES, keep=_KEEP)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    except OSError:
        descriptor = os.open(os.devnull, os.O_WRONLY)
    stream = os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace", buffering=1)
    sys.stdout = sys.__stdout__ = sys.stderr = sys.__stderr__ = stream  # type: ignore[misc]


def main(*, posix: bool = os.name == "posix") -> None:
    """Run it to its end."""
    sys.argv = twistd_arguments(sys.argv[1:], posix=posix)
    from twisted.scripts.twistd import run

    run()


if __name__ == "__main__":
    main()
