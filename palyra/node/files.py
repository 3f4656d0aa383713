"""The files of a node host below ``<state root>/node-host``."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

from palyra._files import make_private_dir, sweep_temporaries
from palyra._versioned import VersionedFile, state_of_another
from palyra.node.identity import IdentityStore
from palyra.supervision.controlpoint import SOCKET_FILE, TOKEN_FILE
from palyra.supervision.installed import INSTALLED_FILE
from palyra.supervision.processfile import PROCESS_FILE
from palyra.supervision.service import STDERR_LOG, STDOUT_LOG

SCHEMA_VERSION = 1
POLL_INTERVAL_MS = 500


class KeptRoute(msgspec.Struct, frozen=True):
    """What is learnt of the routes to one gateway: where its QUIC is, and how it was reached last;
    each may be empty."""

    quic_address: str = ""
    last_transport: str = ""


class HostFile(msgspec.Struct, frozen=True):
    """``node-host.json``: which gateway this node host belongs to."""

    schema_version: int
    grpc_url: str
    device_id: str
    poll_interval_ms: int
    identity_store_dir: str
    installed_at_unix_ms: int
    paired_at_unix_ms: int
    name: str = ""
    approved_by: str = ""
    enrolment_address: str = ""
    transport: str = ""
    """What was asked for at pairing: grpc, quic or auto; empty: as the configuration says."""
    quic_address: str = ""
    last_transport: str = ""
    gateway_urls: tuple[str, ...] = ()
    """Where the gateways of one CA serve nodes, in the order in which they are tried; empty:
    ``grpc_url`` alone."""
    other_routes: dict[str, KeptRoute] = {}
    """What is learnt of the routes to the gateways after the first, by address."""
    http_proxy: str = ""
    """What the environment named when it was paired or installed, for a service that has none; it
    may hold a password."""
    no_proxy: str = ""
    """What it named besides as reached without one."""

    def __repr__(self) -> str:
        return f"<HostFile {self.device_id} of {self.grpc_url}>"


class NodeFiles:
    """Where everything of a node host is."""

    def __init__(self, state_root: Path) -> None:
        self.state_root = state_root
        self.root = state_root / "node-host"
        self.host_file = self.root / "node-host.json"
        self._host = VersionedFile(self.host_file, HostFile, SCHEMA_VERSION)
        self.attempts = self.root / "attempts.sqlite3"
        self.lock = self.root / "node-host.lock"
        self.descriptors = self.root / "descriptors-cache.json"
        self.policy = self.root / "node-policy.toml"
        self.consents = self.root / "consents.json"
        self.control = self.root / SOCKET_FILE
        self.control_token = self.root / TOKEN_FILE
        self.process = self.root / PROCESS_FILE
        self.installed = self.root / INSTALLED_FILE
        self.last_error = self.root / "last-error.json"
        self.stdout_log = self.root / STDOUT_LOG
        self.stderr_log = self.root / STDERR_LOG
        self.identity = IdentityStore(self.root / "identity")

    def make(self) -> None:
        """Make the directories, private to their owner.

        :raises DirectoryNotPrivate: it is open to others, and not ours to close.
        :raises StateOfAnother: it is another user's.
        """
        try:
            make_private_dir(self.root, marks=("node-host.json", "node-host.lock", "identity"))
        except PermissionError as error:
            refused = state_of_another(self.root)
            if not os.path.exists(self.root):
                refused.remedy = "use --state-root DIR"
            raise refused from error

    def check_mine(self) -> None:
        """Refuse to use what is another user's, also as root: the files that were written then
        would be closed to their owner, and a link of his would say where.

        :raises StateOfAnother: naming him.
        """
        if os.name != "posix":
            return
        try:
            owners = {self.root.lstat().st_uid, self.root.stat().st_uid}
        except (FileNotFoundError, NotADirectoryError):
            return
        except PermissionError as error:
            raise state_of_another(self.root) from error
        if owners != {os.geteuid()}:
            raise state_of_another(self.root)

    def sweep(self) -> None:
        """Remove what crashes in writing left.  The state root's lock is held."""
        for each in (
            self.host_file,
            self.consents,
            self.descriptors,
            self.control_token,
            self.process,
            self.last_error,
        ):
            with contextlib.suppress(OSError):
                sweep_temporaries(each)

    def host(self) -> HostFile | None:
        """The pairing with a gateway; None before it.

        :raises StoreCorrupt, FileTooNew: the file cannot be used; it is left as it is.
        :raises StateOfAnother, StoreUnavailable: it cannot be read.
        """
        return self._host.read()

    def keep_host(self, host: HostFile) -> None:
        """Keep the pairing."""
        self._host.write(host)
