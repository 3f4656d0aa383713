"""The text of a systemd unit (systemd.service, systemd.exec), for version 252 and later.

A user's manager can lend no mount namespace without a user namespace, and those are switched off on
many machines: ``standard`` therefore has only what the kernel does for everyone (system call
filters), and in a system unit what root's manager can always do besides.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from palyra.errors import OptionInvalid
from palyra.supervision.accounts import check_name
from palyra.supervision.grace import BEYOND_S
from palyra.supervision.service import NAME, SYSTEM_STATE_ROOT, Manager, Profile, Scope, Service

UNIT = f"{NAME}.service"
STATE_ROOT_KEY = "X-Palyra-StateRoot"
"""By which a unit is known as ours, and for which state root it is; systemd ignores it."""
START_WITHIN_S = 90

_HOMES = tuple(map(Path, ("/home", "/root", "/run/user", "/var/home")))
_TEMPORARY = tuple(map(Path, ("/tmp", "/var/tmp")))
_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CREDENTIAL_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_PLAIN_WORD = re.compile(r"[A-Za-z0-9_./:=@+-]+")

_EVERYWHERE = (
    # The watchdog ends it by SIGABRT, and a core would hold the device's key.
    "LimitCORE=0",
    "NoNewPrivileges=yes",
    "UMask=0077",
    "LockPersonality=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    # Netlink tells of changes of the network.
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
    "SystemCallErrorNumber=EPERM",
)
# Without MemoryDenyWriteExecute, which breaks ffi; control groups stay writable, since each worker
# runs in one of its own; and RemoveIPC would also remove what else its user has.
_STRICT = (
    "RestrictNamespaces=yes",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
    "ProtectSystem=strict",
)
_STRICT_SYSTEM = (
    "KeyringMode=private",
    "PrivateDevices=yes",
    "ProtectClock=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "ProtectProc=invisible",
)


def unit_text(service: Service, *, reads: Iterable[Path] = (), grace_s: float = 10.0) -> str:
    """The unit of ``service``.

    ``reads`` are the places besides the state root that its interpreter needs, ``grace_s`` the
    seconds that running jobs get at a stop.

    :raises OptionInvalid, AccountUnknown: a path, an argument or a name that no unit can hold.
    """
    system = service.scope is Scope.SYSTEM
    edit = f"systemctl {'' if system else '--user '}edit {NAME}"
    sections = {
        "Unit": _unit(service, system),
        "Service": [
            *_process(service, grace_s),
            *_hardening(service, [*reads, Path(service.python)]),
        ],
        "Install": [f"WantedBy={target_of(service.scope)}"],
    }
    head = f"# Written by palyra node install, which replaces it; to change it: {edit}\n"
    return head + "".join(
        f"\n[{name}]\n" + "".join(f"{line}\n" for line in lines) for name, lines in sections.items()
    )


def target_of(scope: Scope) -> str:
    """What the service is started with: the machine, or its user's first session."""
    return "multi-user.target" if scope is Scope.SYSTEM else "default.target"


def state_root_of(text: str) -> Path | None:
    """For which state root :func:`unit_text` wrote ``text``; None where it did not write it."""
    found = re.search(rf"^{STATE_ROOT_KEY}=(.*)$", text, re.MULTILINE)
    try:
        root = json.loads(found[1]) if found else None
    except ValueError:
        return None
    return Path(root) if isinstance(root, str) and root.startswith("/") else None


def profile_of(text: str) -> Profile | None:
    """The profile of a unit that :func:`unit_text` wrote; None of any other."""
    if state_root_of(text) is None:
        return None
    strict = "ProtectSystem=strict" in text.splitlines()
    return Profile.STRICT if strict else Profile.STANDARD


def credentials_of(text: str) -> dict[str, Path]:
    """The credentials of a unit that :func:`unit_text` wrote; none of any other."""
    if state_root_of(text) is None:
        return {}
    found = re.findall(r"^LoadCredential=([^:\n]+):(/.*)$", text, re.MULTILINE)
    return {name: Path(path.replace("%%", "%")) for name, path in found}


def _unit(service: Service, system: bool) -> list[str]:
    root = _path("--state-root", service.state_root)
    paired = _path("--state-root", service.directory / "node-host.json")
    network = ["Wants=network-online.target", "After=network-online.target"]
    return [
        "Description=Palyra node host",
        *([*network, f"RequiresMountsFor={_word(root)}"] if system else []),
        # A device that is not paired has nothing to do, and is not started again and again.
        f"ConditionPathExists={_rest(paired)}",
        "StartLimitIntervalSec=0",
        f"{STATE_ROOT_KEY}={json.dumps(root, ensure_ascii=False)}",
    ]


def _process(service: Service, grace_s: float) -> list[str]:
    python, *arguments = service.command(journal=True)
    words = [_path("python", Path(python)), *(_text("argument", each) for each in arguments)]
    account = service.account if service.scope is Scope.SYSTEM else None
    environment = {**service.environment, "PALYRA_MANAGER": str(Manager.SYSTEMD)}
    return [
        "Type=notify",
        "NotifyAccess=main",
        # The colon: no variables are put in.
        f"ExecStart=:{' '.join(_word(each) for each in words)}",
        "ExecReload=kill -HUP $MAINPID",
        *([f"User={check_name(account.name)}"] if account else []),
        *(_environment(name, value) for name, value in sorted(environment.items())),
        *(_credential(name, path) for name, path in sorted(service.credentials.items())),
        f"SyslogIdentifier={NAME}",
        "WatchdogSec=30",
        f"TimeoutStartSec={START_WITHIN_S}",
        f"TimeoutStopSec={stop_within_s(grace_s)}",
        # Ended by a command it stays away; a host that was revoked runs on, and asks rarely.  No
        # RestartSteps=: systemd counts every failure since somebody started it by hand, and years
        # later one crash would take it away for as long as the last of ten.
        "Restart=on-failure",
        "RestartSec=10",
        # Workers are its children, each in a control group that it makes.
        "KillMode=mixed",
        "Delegate=yes",
        "OOMPolicy=continue",
    ]


def stop_within_s(grace_s: float) -> int:
    """After how many seconds systemd kills a service that was told to stop."""
    return math.ceil(grace_s + BEYOND_S)


def _hardening(service: Service, reads: list[Path]) -> list[str]:
    strict = service.profile is Profile.STRICT
    needed = [*reads, service.state_root]
    # A directory of its own in the place of /tmp would hide what is in there.
    tmp = [] if _any_below(needed, _TEMPORARY) else ["PrivateTmp=yes"]
    if service.scope is Scope.USER:
        if not strict:
            return [*_EVERYWHERE, _HARMLESS_CALLS]
        # Without PrivateUsers= systemd 252 leaves out what needs a namespace, and says nothing.
        own = [*tmp, "PrivateUsers=yes", "ProtectHome=read-only", _writes(service.state_root)]
        return [*_EVERYWHERE, *_STRICT, *own]
    if not strict:
        own = [*tmp, "ProtectSystem=full", _writes(service.state_root)]
        return [*_EVERYWHERE, *_powers(service), _HARMLESS_CALLS, *own]
    home = f"ProtectHome={'read-only' if _any_below(needed, _HOMES) else 'yes'}"
    own = [*tmp, home, _writes(service.state_root), *_STRICT_SYSTEM]
    return [*_EVERYWHERE, *_powers(service), *_STRICT, *own]


_HARMLESS_CALLS = "SystemCallFilter=~@cpu-emulation @module @obsolete @raw-io @reboot @swap"
"""What no user but root may do, and no capability needs."""


def _powers(service: Service) -> list[str]:
    """None of root's; but root's own workers run as other users (``worker.user``), by them."""
    is_root = service.account is None or service.account.uid == 0
    return [] if is_root else ["CapabilityBoundingSet="]


def _writes(state_root: Path) -> str:
    if state_root == SYSTEM_STATE_ROOT:
        return f"StateDirectory={state_root.name}\nStateDirectoryMode=0700"
    # The minus: where it is not there, the node host says so, and better.
    return f"ReadWritePaths={_word('-' + _path('--state-root', state_root))}"


def _any_below(paths: Iterable[Path], directories: Iterable[Path]) -> bool:
    return any(path.is_relative_to(each) for path in paths for each in directories)


def _environment(name: str, value: str) -> str:
    if not _ENVIRONMENT_NAME.fullmatch(name):
        raise OptionInvalid("environment", f"no variable can be called {name[:80]!r}")
    return f"Environment={_word(f'{name}={_text(name, value)}')}"


def _credential(name: str, path: Path) -> str:
    if not _CREDENTIAL_NAME.fullmatch(name):
        raise OptionInvalid("credential", f"no credential can be called {name[:80]!r}")
    return f"LoadCredential={name}:{_rest(_path('credential', path))}"


def _word(text: str) -> str:
    """``text`` as one word of a list: quoted, and with no specifier in it."""
    text = text.replace("%", "%%")
    if _PLAIN_WORD.fullmatch(text.replace("%%", "")):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _rest(path: str) -> str:
    """A path that is the rest of its line, where systemd takes quotes as they are."""
    return path.replace("%", "%%")


def _path(field: str, path: Path) -> str:
    """The absolute ``path``, if a line can end with it: at its end blanks are cut off, and a
    backslash would take in the next line."""
    text = _text(field, str(path))
    if not path.is_absolute() or ".." in path.parts or text[-1] == "\\" or text[-1].isspace():
        raise OptionInvalid(field, f"systemd takes no such path (got {text[:200]!r})")
    return text


def _text(field: str, text: str) -> str:
    """``text``, if a line of what systemd takes for UTF-8 can hold it."""
    if not all(map(_writable, text)):
        problem = f"no control characters, and UTF-8 only (got {text[:200]!a})"
        raise OptionInvalid(field, problem)
    return text


def _writable(character: str) -> bool:
    number = ord(character)
    nothing = number & 0xFFFE == 0xFFFE or 0xFDD0 <= number <= 0xFDEF
    return not nothing and unicodedata.category(character) not in ("Cc", "Cs")
