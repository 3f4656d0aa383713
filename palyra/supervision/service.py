"""What a service manager is told to run, and what it says of it."""

from __future__ import annotations

import contextlib
import enum
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import attrs

from palyra.errors import ServiceElsewhere, ServiceManagerFailed

NAME = "palyra-node"
"""What the service is called wherever it can have a name."""
LABEL = "org.palyra.node"
"""The same where names are reversed domains."""
MANAGER = "PALYRA_MANAGER"
"""Says in a node host's environment who keeps it running (:class:`Manager`)."""
STDOUT_LOG = "node-host.stdout.log"
STDERR_LOG = "node-host.stderr.log"
SYSTEM_STATE_ROOT = Path("/var/lib/palyra-node")
"""Where a system service keeps its state, unless a state root is named."""
SYSTEM_ACCOUNT = "palyra-node"
"""Whom a system service runs as, unless somebody is named."""


class Manager(enum.StrEnum):
    """Who keeps the node host running."""

    SYSTEMD = "systemd"
    LAUNCHD = "launchd"
    TASK = "task"
    PROCESS = "process"
    """Nobody: a process in the background, which does not start at boot."""


class Scope(enum.StrEnum):
    """Whose service it is: of the user who installed it, or of the machine."""

    USER = "user"
    SYSTEM = "system"


class Profile(enum.StrEnum):
    """How much of the machine the service may touch: ``standard`` works everywhere; ``strict`` lets
    it write its own state only, and needs a kernel that lends namespaces."""

    STANDARD = "standard"
    STRICT = "strict"


@attrs.frozen
class Account:
    """A user of this machine that a service runs as."""

    name: str
    uid: int
    gid: int


def groups_of(account: Account) -> list[int]:
    """All groups that it is in, as a service manager starts it with them."""
    return os.getgrouplist(account.name, account.gid)


@attrs.frozen(kw_only=True)
class Service:
    """A node host, as it is to be run.

    ``account`` is whom a system service runs as; a user's service runs as that user.
    ``environment`` holds no secret: it can be read by others.  ``credentials`` are files whose
    contents the service may read under their names, and nobody else through it.
    """

    state_root: Path
    scope: Scope = Scope.USER
    profile: Profile = Profile.STANDARD
    account: Account | None = None
    environment: Mapping[str, str] = attrs.field(factory=dict)
    credentials: Mapping[str, Path] = attrs.field(factory=dict)
    python: str = sys.executable

    @property
    def directory(self) -> Path:
        """Where the node host keeps everything of its own."""
        return self.state_root / "node-host"

    @property
    def stdout_log(self) -> Path:
        """Its log, where no journal takes it."""
        return self.directory / STDOUT_LOG

    @property
    def stderr_log(self) -> Path:
        """What libraries and a dying interpreter write."""
        return self.directory / STDERR_LOG

    def command(
        self, *, journal: bool, environment: Mapping[str, str] | None = None
    ) -> tuple[str, ...]:
        """The command line: with ``journal`` it logs to standard output, else to its own file.

        ``-P``: a module that somebody puts into the working directory is not imported.
        ``environment`` is what it sets by itself, for managers that can set none.
        """
        given = [("--set", f"{name}={value}") for name, value in (environment or {}).items()]
        own = (*(word for pair in given for word in pair),)
        log = () if journal else ("--logfile", str(self.stdout_log))
        root = ("--state-root", str(self.state_root))
        return (self.python, "-P", "-m", "palyra.node", *own, *log, *root)


@attrs.frozen(kw_only=True)
class ServiceState:
    """How a service is, as its manager says.

    ``pid`` is 0 where it does not run; ``at_boot`` is None where the manager cannot tell.  ``word``
    is the manager's own word for the state, and ``result`` what it says of the last end: both for
    people.
    """

    installed: bool
    running: bool = False
    pid: int = 0
    at_boot: bool | None = None
    word: str = ""
    result: str = ""


def runs_as_root() -> bool:
    """Whether this process is root's."""
    return hasattr(os, "geteuid") and os.geteuid() == 0


def is_same_place(one: Path, other: Path) -> bool:
    """Whether both are the same directory, however it is spelled."""
    return one == other or os.path.realpath(one) == os.path.realpath(other)


def elsewhere(look: Callable[[], object]) -> ServiceElsewhere | None:
    """Where ``look`` finds that the definition is for another state root, that it is; one that is
    nobody's, or cannot be read, is not called somebody else's."""
    try:
        with contextlib.suppress(ServiceManagerFailed, OSError):
            look()
    except ServiceElsewhere as error:
        return error
    return None
