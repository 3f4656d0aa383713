"""What ``systemctl show`` says of a service, in our words."""

from __future__ import annotations

from palyra.errors import ServiceManagerFailed
from palyra.supervision.service import ServiceState
from palyra.supervision.systemdunit import UNIT

PROPERTIES = (
    "LoadState", "ActiveState", "SubState", "UnitFileState", "MainPID", "Result", "ExecMainStatus",
)  # fmt: skip

_AT_BOOT = {
    "enabled": True, "enabled-runtime": True, "alias": True, "static": False, "indirect": False,
    "disabled": False, "linked": False, "linked-runtime": False, "masked": False,
    "masked-runtime": False,
}  # fmt: skip
_RESULTS = {
    "success": "",
    "core-dump": "it crashed",
    "exec-condition": "a condition of its unit does not hold",
    "oom-kill": "it was ended since the machine had no memory left",
    "protocol": "it ended before it was ready",
    "resources": "the machine had no room for it",
    "start-limit-hit": "it was started too often",
    "timeout": "it did not start or stop in time",
    "watchdog": "it hung, and was ended by the watchdog",
}
_BEFORE_EXEC = {
    200: "its working directory cannot be entered",
    203: "its interpreter cannot be run",
    217: "there is no such user, or no user namespace; the profile standard needs none",
    226: "this machine lends it no namespace; the profile standard needs none",
    228: "this kernel has no system call filter",
    238: "its state directory cannot be made",
    243: "its credentials cannot be read",
}
"""systemd's own exit codes, of what it does in the new process before the service begins."""


def parse_state(text: str) -> ServiceState:
    """The state in ``text``: a line ``NAME=value`` for each of :data:`PROPERTIES`.

    :raises ServiceManagerFailed: it is not that.
    """
    found = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    pid, status = found.get("MainPID", ""), found.get("ExecMainStatus", "")
    if not found.keys() >= set(PROPERTIES) or not _number(pid) or not _number(status):
        said = f"an answer that cannot be read ({text[:80]!a})"
        raise ServiceManagerFailed(f"systemctl show {UNIT}", said)
    return ServiceState(
        installed=found["LoadState"] != "not-found",
        running=pid != "0",
        pid=int(pid),
        at_boot=_AT_BOOT.get(found["UnitFileState"]),
        word=_word(found["LoadState"], found["SubState"]),
        result=_result(found["Result"], int(status)),
    )


def _number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 10


def _word(load: str, sub: str) -> str:
    word = sub if load in ("loaded", "not-found") else load
    return word[:40] if word.isprintable() else ascii(word[:40])


def _result(result: str, status: int) -> str:
    if result == "exit-code":
        return _BEFORE_EXEC.get(status, f"it ended with code {status}")
    if result == "signal":
        return f"it was ended by signal {status}"
    return _RESULTS.get(result, f"systemd says {result[:40]!a}")
