"""``python -m palyra.node``: ``twistd palyra-node`` in the foreground, for service managers.

Every platform starts it by the interpreter alone: where scripts are, and whether they open a
window, differs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


def twistd_arguments(given: Sequence[str]) -> list[str]:
    """The command line of twistd; ``--logfile FILE`` is its own, all the rest is the node's.

    The process is its manager's: it stays in the foreground and writes no pidfile.
    """
    own = ["--nodaemon", "--pidfile="] if os.name == "posix" else []
    rest = list(given)
    if rest[:1] == ["--logfile"]:
        own += [f"--logfile={rest[1]}"]
        del rest[:2]
    return ["twistd", *own, "palyra-node", *rest]


def main() -> None:
    """Run it to its end."""
    sys.argv = twistd_arguments(sys.argv[1:])
    from twisted.scripts.twistd import run

    run()


if __name__ == "__main__":
    main()
