"""The property list by which launchd knows a node host: launchd.plist(5)."""

from __future__ import annotations

import plistlib
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from xml.parsers.expat import ExpatError

from palyra.errors import OptionInvalid
from palyra.supervision.grace import BEYOND_S
from palyra.supervision.service import LABEL, MANAGER, Manager, Scope, Service

RESTART_S = 30
"""At least so long from one start to the next, also of a host that ends at each."""
MAX_BYTES = 64 * 1024
_UMASK = 0o077


def plist_of(service: Service, *, grace_s: float = 10.0) -> bytes:
    """An agent of a user, or a daemon that runs as the service's account; ``grace_s`` are the
    seconds that running jobs get at a stop.

    Started at sign-in or boot, and again after every end but a clean one: SIGTERM is not clean to
    launchd, so stopping means taking the job out of it.  What is logged goes to the node host's
    own file; launchd writes the rest of what is said into the other.

    :raises OptionInvalid: a path or a value that no property list can hold.
    """
    stderr = str(service.stderr_log)
    entries: dict[str, object] = {
        "Label": LABEL,
        "ProgramArguments": list(service.command(journal=False)),
        "EnvironmentVariables": {**service.environment, MANAGER: Manager.LAUNCHD.value},
        "WorkingDirectory": str(service.state_root),
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": RESTART_S,
        "ExitTimeOut": stop_within_s(grace_s),
        "ProcessType": "Standard",
        "StandardOutPath": stderr,
        "StandardErrorPath": stderr,
        "Umask": _UMASK,
    }
    if service.scope is Scope.SYSTEM and service.account is not None:
        entries["UserName"] = service.account.name
    _check(entries)
    return plistlib.dumps(entries, sort_keys=False)


def stop_within_s(grace_s: float) -> int:
    """After how many seconds launchd kills one that was told to end."""
    return int(grace_s + BEYOND_S)


def state_root_in(data: bytes) -> Path | None:
    """Which state root a property list of ours is for; None where it is not one."""
    if len(data) > MAX_BYTES:
        return None
    try:
        entries = plistlib.loads(data)
    except (plistlib.InvalidFileException, ExpatError, ValueError, LookupError, TypeError,
            AttributeError, OverflowError, RecursionError):  # fmt: skip
        return None
    arguments = entries.get("ProgramArguments") if isinstance(entries, dict) else None
    if not isinstance(arguments, list) or "--state-root" not in arguments[:-1]:
        return None
    named = arguments[arguments.index("--state-root") + 1]
    return Path(named) if isinstance(named, str) else None


def _check(entries: object) -> None:
    """XML has no control characters, and launchd reads UTF-8."""
    for each in _texts(entries):
        if any(unicodedata.category(letter) in ("Cc", "Cs", "Cn") for letter in each):
            problem = f"no control characters, and UTF-8 only (got {each[:200]!a})"
            raise OptionInvalid("--state-root", problem)


def _texts(value: object) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for key, each in value.items():
                yield from _texts(key)
                yield from _texts(each)
        case list():
            for each in value:
                yield from _texts(each)
