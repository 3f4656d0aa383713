"""A house to measure: a gateway and a node host as real processes, and a paired caller."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure

from palyra._files import make_private_dir
from palyra._reactor import require_asyncio_reactor, the_reactor
from palyra.cli import children
from palyra.cli.children import Child, until
from palyra.cli.client import Console
from palyra.console.models import (
    Decision,
    Health,
    MintCode,
    MintedCode,
    NodeItem,
    NodeList,
    PairingAnswer,
    PairingList,
)
from palyra.core.announcement import Announcement
from palyra.core.devices import INVOKE_OTHERS, ClientKind
from palyra.core.identifiers import Fingerprint
from palyra.core.pairing_uri import PairingUri
from palyra.errors import PalyraError
from palyra.node.files import HostFile, NodeFiles
from palyra.node.pairing import Pairing

ANY_PORT = "127.0.0.1:0"
PATIENCE_S = 60.0
T = TypeVar("T")


@attrs.frozen
class House:
    """What runs: the gateway's root, the two processes, and the node as the gateway lists it."""

    root: Path
    gateway: Child
    node_host: Child
    node: NodeItem

    @property
    def console(self) -> Console:
        """The operator's way in."""
        return Console(self.root)

    @property
    def database(self) -> Path:
        """The gateway's store."""
        return self.root / "palyra.sqlite3"


@attrs.frozen
class Credentials:
    """What a caller needs to call: where, under which CA, as whom (PEM)."""

    address: str
    ca: bytes
    key: bytes = attrs.field(repr=False)
    chain: bytes


@contextlib.contextmanager
def running_house() -> Iterator[House]:
    """Start ``twistd -n palyra`` and ``palyra node run``, pair the node; stop both at the end.

    The state is in a temporary directory; TMPDIR says on which disk.
    """
    with (
        tempfile.TemporaryDirectory(prefix="palyra-benchmark-") as root,
        children.interrupted_by_signals(),
        children.nursery() as running,
    ):
        yield _start(Path(root), running)


def _start(root: Path, running: list[Child]) -> House:
    make_private_dir(root)
    gateway, _ = start_gateway(root, running)
    node_host, node = start_node_host(root, running)
    return House(root, gateway, node_host, node)


def start_node_host(root: Path, running: list[Child]) -> tuple[Child, NodeItem]:
    """Start ``palyra node run`` and pair it: the first node of this gateway that is online."""
    console = Console(root)
    node_root = root / "node"
    make_private_dir(node_root)
    line = _pairing_line(console) + "\n"
    command = children.node_command(node_root, "grpc")
    node_host = children.start(running, "node", command, root / "node-host", line)
    until(lambda: _approved(console), running, "The node did not ask to pair", PATIENCE_S)
    node = until(lambda: _online(console), running, "The node was not online", PATIENCE_S)
    return node_host, node


def start_gateway(root: Path, running: list[Child]) -> tuple[Child, Health]:
    """Start ``twistd -n palyra`` on a state root; the gateway, and what it says of itself."""
    console = Console(root)
    command = children.gateway_command(root, ANY_PORT, ANY_PORT)
    gateway = children.start(running, "gateway", command, root / "gateway")
    health = until(lambda: _health(console), running, "The gateway did not answer", PATIENCE_S)
    return gateway, health


def _health(console: Console) -> Health | None:
    with contextlib.suppress(PalyraError):
        return console.get("doctor", Health).value
    return None


def _pairing_line(console: Console) -> str:
    minted = console.post(
        "pairing/requests/code", MintCode(method="qr", issued_by="benchmark"), MintedCode
    )
    return minted.value.uri


def _approved(console: Console) -> bool | None:
    """Approve the one request that waits; True when that is done."""
    waiting = console.get("pairing/requests", PairingList, state="pending_approval").value
    for request in waiting.requests:
        _approve(console, request.request_id, None)
        return True
    return None


def _approve(console: Console, request_id: str, grants: list[str] | None) -> None:
    decision = Decision(reason="benchmark", grants=grants)
    console.post(f"pairing/requests/{request_id}/approve", decision, PairingAnswer)


def _online(console: Console) -> NodeItem | None:
    nodes = console.get("nodes", NodeList).value.nodes
    return next((node for node in nodes if node.presence == "online"), None)


# -- the caller -----------------------------------------------------------------------------------


class _Operator:
    """Watches the caller's pairing (its Witness) and approves it through the console."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.approval: Deferred[None] | None = None

    def waiting(self, request_id: str) -> None:
        grants = [INVOKE_OTHERS]
        self.approval = deferToThread(_approve, self._console, request_id, grants)

    def gateway_verified(self, address: str, ca_hash: str, matches: bool) -> None:
        """Nobody looks."""

    def pin_confirmed(self) -> None:
        """It pairs by a pairing line."""

    def identity_shown(self, name: str, device_id: str, fingerprint: Fingerprint) -> None:
        """Nobody looks."""

    def approved(self, by: str, name: str) -> None:
        """Nobody looks."""

    def clock_differs(self, by_ms: int) -> None:
        """Both clocks are this machine's."""

    def retrying(self, cause: str) -> None:
        """It is asked again."""


async def paired_caller(house: House) -> Credentials:
    """Pair this process as a ``cli`` client that may run capabilities on other devices."""
    files = NodeFiles(house.root / "caller")
    files.make()
    operator = _Operator(house.console)
    pairing = Pairing(
        reactor=the_reactor(),
        files=files,
        identity=files.identity.open(_now_ms(), os.urandom),
        announcement=Announcement("caller", "benchmark"),
        client_kind=ClientKind.CLI,
        witness=operator,
        entropy=os.urandom,
        now_ms=_now_ms,
    )
    host = await pairing.run(PairingUri.parse(_pairing_line(house.console)))
    assert operator.approval is not None, "it was approved"
    await operator.approval
    return _credentials(files, host)


def _credentials(files: NodeFiles, host: HostFile) -> Credentials:
    client = files.identity.client()
    assert client.current is not None, "pairing ends with a certificate"
    return Credentials(
        address=host.grpc_url,
        ca=client.ca_bundle_pem.encode(),
        key=client.current.private_key_pem.encode(),
        chain=client.current.certificate_pem.encode(),
    )


def run_in_reactor(main: Callable[[], Coroutine[Deferred[Any], Any, T]]) -> T:
    """Run a coroutine that awaits Deferreds to its end, in the one reactor of this process."""
    require_asyncio_reactor()
    reactor = the_reactor()
    results: list[T] = []
    failures: list[Failure] = []

    def begin() -> None:
        done = Deferred.fromCoroutine(main())
        done.addCallbacks(results.append, failures.append)
        done.addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(begin)
    reactor.run(installSignalHandlers=False)
    if failures:
        failures[0].raiseException()
    return results[0]


def _now_ms() -> int:
    return int(time.time() * 1000)
