"""How many files and connections this process may have open."""

from __future__ import annotations

import sys

_WITHOUT_LIMITS = 8_192
"""Where the system has no such limit (Windows): what a process gets along with."""
_ENOUGH = 1_048_576


def raise_open_files() -> int:
    """Raise the soft limit to what the system allows; the limit from now on.

    Never raises: with less than it could have, a daemon serves fewer connections.
    """
    if sys.platform == "win32":
        return _WITHOUT_LIMITS
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return _ENOUGH if soft == resource.RLIM_INFINITY else soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):
        return soft
    return wanted
