"""The files of a node host below ``<state root>/node-host``."""

from __future__ import annotations

from pathlib import Path

import msgspec

from palyra._files import make_private_dir, write_atomic
from palyra.errors import StoreCorrupt
from palyra.node.identity import IdentityStore
from palyra.supervision.installed import INSTALLED_FILE
from palyra.supervision.processfile import PROCESS_FILE
from palyra.supervision.service import STDERR_LOG, STDOUT_LOG

SCHEMA_VERSION = 1
POLL_INTERVAL_MS = 500


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
    http_proxy: str = ""
    """What the environment named when it was paired or installed, for a service that has none; it
    may hold a password."""


class NodeFiles:
    """Where everything of a node host is."""

    def __init__(self, state_root: Path) -> None:
        self.state_root = state_root
        self.root = state_root / "node-host"
        self.host_file = self.root / "node-host.json"
        self.attempts = self.root / "attempts.sqlite3"
        self.lock = self.root / "node-host.lock"
        self.descriptors = self.root / "descriptors-cache.json"
        self.policy = self.root / "node-policy.toml"
        self.consents = self.root / "consents.json"
        self.control = self.root / "control.sock"
        self.process = self.root / PROCESS_FILE
        self.installed = self.root / INSTALLED_FILE
        self.last_error = self.root / "last-error.json"
        self.stdout_log = self.root / STDOUT_LOG
        self.stderr_log = self.root / STDERR_LOG
        self.identity = IdentityStore(self.root / "identity")

    def make(self) -> None:
        """Make the directories, private to their owner."""
        make_private_dir(self.root, marks=("node-host.json", "node-host.lock", "identity"))

    def host(self) -> HostFile | None:
        """The pairing with a gateway; None before it.

        :raises StoreCorrupt: the file is damaged; it is left as it is.
        """
        try:
            data = self.host_file.read_bytes()
        except FileNotFoundError:
            return None
        try:
            return msgspec.json.decode(data, type=HostFile)
        except msgspec.MsgspecError as error:
            raise StoreCorrupt(str(self.host_file), str(error)) from error

    def keep_host(self, host: HostFile) -> None:
        """Keep the pairing."""
        encoded = msgspec.json.encode(host)
        write_atomic(self.host_file, msgspec.json.format(encoded, indent=2))

    def keep_routes(self, quic_address: str, last_transport: str) -> None:
        """Keep where the gateway has its QUIC, and which transport carried a session last.

        :raises StoreCorrupt, DiskFull, OSError: it is not possible; the file is as it was.
        """
        host = self.host()
        if host is not None:
            self.keep_host(
                msgspec.structs.replace(
                    host, quic_address=quic_address, last_transport=last_transport
                )
            )
