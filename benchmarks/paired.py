"""A gateway whose devices are paired before it starts: their rows and certificates are written
into its state, signed by its own authority.  Pairing a thousand devices one by one says nothing
about jobs."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs
import msgspec
import psutil
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from benchmarks import records
from benchmarks.house import start_gateway
from benchmarks.records import a_certificate, a_device, now_ms
from palyra._files import make_private_dir
from palyra.cli import children
from palyra.cli.children import Child, until
from palyra.cli.client import SOCKET_NAME, Console
from palyra.config.addresses import HostPort
from palyra.config.gateway import GatewaySection
from palyra.core.devices import INVOKE_OTHERS, ClientKind, Device
from palyra.pki.authority import Authority
from palyra.pki.keystore import GatewayIdentity
from palyra.store import opening

CONFIG = """\
[listen]
quic = "127.0.0.1:0"
max_quic_connections = 100_000

[jobs]
max_waiting = 10_000_000
max_waiting_per_device = 1_000_000
max_waiting_per_client = 5_000_000
keep_at_most = 100_000_000
"""
"""Limits that a measurement could come to, out of its way."""
LISTENERS = {"grpc": "nodes", "quic": "quic"}
"""What the gateway calls the listener of a transport."""
CHECKOUT = Path(__file__).resolve().parent.parent
PATIENCE_S = 120.0


class Member(msgspec.Struct, frozen=True):
    """A paired device with its key and certificate (PEM)."""

    device_id: str
    key: bytes
    chain: bytes


class Crowd(msgspec.Struct, frozen=True):
    """What a process needs to be so many nodes of one gateway."""

    address: str
    ca: bytes
    nodes: list[Member]


@attrs.frozen
class Town:
    """A state root whose devices are paired; nothing runs."""

    root: Path
    authority: Authority
    devices: Sequence[Device]
    nodes: Sequence[Member]
    caller: Member

    @property
    def database(self) -> Path:
        """The gateway's store."""
        return self.root / "palyra.sqlite3"

    @property
    def socket_path(self) -> Path:
        """Where the console is served to accounts of this machine."""
        return self.root / SOCKET_NAME

    @property
    def console(self) -> Console:
        """The operator's way in."""
        return Console(self.root, timeout_s=PATIENCE_S)

    def count(self, state: str) -> int:
        """Jobs on record in a state."""
        return records.jobs_on_record(self.database, state)


@attrs.frozen
class Served:
    """A gateway that runs for a town, and who else was started with it."""

    town: Town
    gateway: Child
    listeners: Mapping[str, str]
    """Addresses by name, as the gateway tells them."""
    children: list[Child]

    @property
    def address(self) -> HostPort:
        """Where paired devices call by gRPC."""
        return HostPort.parse(self.listener("grpc"), "nodes")

    def listener(self, transport: str) -> str:
        """HOST:PORT where nodes come in by a transport."""
        return self.listeners[LISTENERS[transport]]

    def cpu_s(self) -> float:
        """CPU seconds, user and system, that the gateway has used."""
        return cpu_s(self.gateway.pid)

    def rss(self) -> int:
        """The gateway's resident memory in bytes."""
        return int(psutil.Process(self.gateway.pid).memory_info().rss)


def cpu_s(pid: int) -> float:
    """CPU seconds, user and system, that a process has used."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


@contextlib.contextmanager
def town(nodes: int) -> Iterator[Town]:
    """A new state root with so many nodes and one caller; TMPDIR says on which disk."""
    with tempfile.TemporaryDirectory(prefix="palyra-benchmark-") as folder:
        root = Path(folder)
        make_private_dir(root)
        (root / "palyra.toml").write_text(CONFIG)
        yield _found(root, nodes)


def _found(root: Path, nodes: int) -> Town:
    database = root / "palyra.sqlite3"
    store = opening.prepare(database, entropy=os.urandom, now_ms=now_ms())
    identity = GatewayIdentity.open(
        root / "identity",
        trust_domain=GatewaySection().trust_domain,
        names=(),
        gateway_id=store.gateway_id,
        now_ms=now_ms(),
        entropy=os.urandom,
    )
    devices = [a_device(f"node-{number:04}", store.gateway_id) for number in range(nodes)]
    grants = frozenset({INVOKE_OTHERS})
    devices.append(a_device("caller", store.gateway_id, ClientKind.CLI, grants))
    members, certificates = [], []
    for device in devices:
        key, der, chain = new_pair(identity.issuing, device.device_id)
        members.append(Member(device.device_id, key, chain))
        certificates.append(a_certificate(device, der, chain))
    records.keep_devices(database, devices, certificates)
    return Town(root, identity.issuing, devices[:-1], members[:-1], members[-1])


def new_pair(authority: Authority, device_id: str) -> tuple[bytes, bytes, bytes]:
    """A key (PEM) and its device certificate (DER, PEM)."""
    key = ec.generate_private_key(ec.SECP256R1())
    issued = authority.issue_device(key.public_key(), device_id, now_ms())
    return key_pem(key), issued.der, issued.pem


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key in clear, for processes of the benchmark."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@contextlib.contextmanager
def served(town: Town) -> Iterator[Served]:
    """Run a gateway on a town; it and whatever was started with it is stopped at the end."""
    with children.interrupted_by_signals(), children.nursery() as running:
        gateway, health = start_gateway(town.root, running)
        yield Served(town, gateway, health.listeners, running)


def start_fleet(served: Served, nodes: Sequence[Member]) -> Child:
    """Let a process be these nodes; returns when all of them hold their streams."""
    crowd = Crowd(str(served.address), served.town.authority.ca_pem, list(nodes))
    return start_own(served.children, "fleet", served.town.root, crowd)


def start_own(running: list[Child], module: str, root: Path, told: msgspec.Struct) -> Child:
    """Start a module of the benchmarks, told on its stdin; returns when it says that it is ready.

    The checkout comes last on its path: what is measured is the installed package.
    """
    run = f"import sys; sys.path.append({str(CHECKOUT)!r})\nimport benchmarks.{module} as own\n"
    command = [sys.executable, "-c", run + "own.main()"]
    text = msgspec.json.encode(told).decode()
    child = children.start(running, module, command, root / f"{module}-{len(running)}", text)
    until(lambda: child.lines() or None, running, f"The {module} was not ready", PATIENCE_S)
    return child
