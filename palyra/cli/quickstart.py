"""``palyra quickstart``: a real gateway and node, each its own process, paired for real."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import click
import msgspec

from palyra._files import make_private_dir
from palyra.cli import children, quickstart_lines, requests
from palyra.cli.children import Child, until
from palyra.cli.client import SOCKET_NAME, Console
from palyra.cli.options import TRANSPORT, Call, Verb, pass_call
from palyra.cli.ports import free_port
from palyra.cli.present import Screen
from palyra.cli.quickstart_lines import Announced, Chosen
from palyra.console.models import (
    Decision,
    Health,
    Invoke,
    InvokeAnswer,
    MintCode,
    MintedCode,
    NodeItem,
    NodeList,
    PairingAnswer,
    PairingItem,
    PairingList,
)
from palyra.errors import PalyraError, StateRootLocked

HOST = "127.0.0.1"
CONSOLE_PORT = 7142
ENROLMENT_PORT = 7443
NODE_PORT = 7444
START_S = 60.0
PAIR_S = 60.0
RUN_MS = 30_000
QUESTIONS = {
    "echo": b'{"text":"hello"}',
    "system.health": b"{}",
    "system.identity": b"{}",
}


class Summary(msgspec.Struct, frozen=True):
    """``palyra quickstart --json``: where everything is and what the node answered."""

    state_root: str
    node_state_root: str
    console_url: str
    console_sock: str
    device_id: str
    results: dict[str, Any]
    timings_ms: dict[str, int]


@attrs.define
class Tour:
    """What quickstart has started and found out so far."""

    screen: Screen
    root: Path
    transport: str | None
    running: list[Child]
    results: dict[str, Any] = attrs.field(factory=dict)
    timings_ms: dict[str, int] = attrs.field(factory=dict)
    failed: int = 0
    console_port: int = 0

    @property
    def console_url(self) -> str:
        """The page, for a browser on this machine."""
        return f"http://localhost:{self.console_port}"

    @property
    def node_root(self) -> Path:
        """The node's state root."""
        return self.root / "node"

    @property
    def console(self) -> Console:
        """The gateway that was started."""
        return Console(self.root)

    def line(self, text: str) -> None:
        """One line of the story; with ``--json`` the story is not told."""
        if not self.screen.as_json:
            mark, rest = text[:2], text[2:]
            self.screen.parts((mark, "green" if mark == "ok" else "red"), (rest, ""))


@click.command(cls=Verb)
@click.option("--once", is_flag=True, help="Stop after the results; exit 0 only if all succeeded.")
@click.option(
    "--transport",
    type=TRANSPORT,
    help="How the node reaches the gateway (default: auto); kept with the pairing if given.",
)
@pass_call
def quickstart(call: Call, once: bool, transport: str | None) -> int:
    """Start a gateway and a node, pair them, ask the node three things, keep both running."""
    root = call.named_root or Path(tempfile.mkdtemp(prefix="palyra-quickstart-"))
    with children.interrupted_by_signals(), children.nursery() as running:
        tour = Tour(call.screen, root, transport, running)
        _prepare(tour)
        _start_gateway(tour)
        node = _pair_node(tour)
        for capability, question in QUESTIONS.items():
            _ask(tour, node, capability, question)
        _tell_where(tour, node)
        return int(tour.failed > 0) if once else _stay(tour)


def _prepare(tour: Tour) -> None:
    """Private directories, and no gateway that uses them already."""
    make_private_dir(tour.root)
    make_private_dir(tour.node_root)
    try:
        health = tour.console.get("doctor", Health).value
    except PalyraError:
        return
    raise StateRootLocked(str(tour.root), health.pid)


def _start_gateway(tour: Tour) -> None:
    begun = time.monotonic()
    console = Chosen("console", CONSOLE_PORT, free_port(HOST, CONSOLE_PORT))
    taken = frozenset({console.port})
    enrolment = Chosen("enrolment", ENROLMENT_PORT, free_port(HOST, ENROLMENT_PORT, but=taken))
    taken |= {enrolment.port}
    nodes = Chosen("nodes", NODE_PORT, free_port(HOST, NODE_PORT, but=taken, udp=True))
    tour.console_port = console.port
    command = children.gateway_command(
        tour.root,
        f"{HOST}:{enrolment.port}",
        f"{HOST}:{nodes.port}",
        f"palyra:{console.port}:interface={HOST}",
    )
    with tour.screen.working("starting a gateway"):
        children.start(tour.running, "gateway", command, tour.root / "gateway")
        until(lambda: _answers(tour), tour.running, "The gateway did not answer", START_S)
    tour.timings_ms["gateway"] = _since(begun)
    tour.line(quickstart_lines.gateway([console, enrolment, nodes]))


def _answers(tour: Tour) -> Health | None:
    try:
        return tour.console.get("doctor", Health).value
    except PalyraError:
        return None


def _pair_node(tour: Tour) -> NodeItem:
    """Mint a code, start a node with it, approve the request whose key the node printed."""
    begun = time.monotonic()
    minted = tour.console.post(
        "pairing/requests/code", MintCode(method="qr", issued_by="quickstart"), MintedCode
    )
    with tour.screen.working("pairing a node"):
        command = children.node_command(tour.node_root, tour.transport)
        line = minted.value.uri + "\n"
        child = children.start(tour.running, "node", command, tour.root / "node-host", line)
        announced = until(
            lambda: quickstart_lines.announced(child.lines()),
            tour.running,
            "The node did not name its key",
            PAIR_S,
        )
        node = until(
            _approved_and_online(tour, announced), tour.running, "The node was not online", PAIR_S
        )
    tour.timings_ms["pairing"] = _since(begun)
    tour.line(quickstart_lines.paired(node))
    return node


def _approved_and_online(tour: Tour, announced: Announced) -> Callable[[], NodeItem | None]:
    """A look at the gateway: approve the node's request once, then find the node online."""
    asked: set[str] = set()

    def look() -> NodeItem | None:
        for request in _waiting(tour, announced):
            if request.request_id not in asked:
                asked.add(request.request_id)
                path = f"pairing/requests/{request.request_id}/approve"
                tour.console.post(path, Decision(reason="quickstart"), PairingAnswer)
        listed = tour.console.get("nodes", NodeList).value.nodes
        ours = [each for each in listed if each.identity_fingerprint == announced.fingerprint]
        return next((each for each in ours if each.presence == "online"), None)

    return look


def _waiting(tour: Tour, announced: Announced) -> list[PairingItem]:
    """The requests that wait and come from the very key that the node printed."""
    answer = tour.console.get("pairing/requests", PairingList, state=requests.PENDING)
    return [
        each for each in answer.value.requests if each.identity_fingerprint == announced.fingerprint
    ]


def _ask(tour: Tour, node: NodeItem, capability: str, question: bytes) -> None:
    begun = time.monotonic()
    body = Invoke(capability, msgspec.Raw(question), wait_ms=RUN_MS)
    try:
        answer = tour.console.post(f"nodes/{node.device_id}/invoke", body, InvokeAnswer, RUN_MS)
    except PalyraError as error:
        tour.failed += 1
        tour.line(quickstart_lines.failed(capability, error.sentence))
        return
    took = _since(begun)
    tour.timings_ms[capability] = took
    if not answer.value.success:
        tour.failed += 1
        why = answer.value.error or f"ended {answer.value.state}"
        tour.line(quickstart_lines.failed(capability, why))
        return
    tour.results[capability] = msgspec.json.decode(answer.value.output_json)
    tour.line(quickstart_lines.answered(capability, tour.results[capability], took))


def _tell_where(tour: Tour, node: NodeItem) -> None:
    socket = str(tour.root / SOCKET_NAME)
    if tour.screen.as_json:
        summary = Summary(
            state_root=str(tour.root),
            node_state_root=str(tour.node_root),
            console_url=tour.console_url,
            console_sock=socket,
            device_id=node.device_id,
            results=tour.results,
            timings_ms=tour.timings_ms,
        )
        tour.screen.json(msgspec.json.encode(summary))
        return
    tour.screen.line(f"console  {tour.console_url}")
    tour.screen.line(f"state    {tour.root}")
    elsewhere = f"export PALYRA_STATE_ROOT={tour.root}; palyra console login"
    tour.screen.hint(f"second terminal: {elsewhere}", "hint     ")


def _stay(tour: Tour) -> int:
    """Until Ctrl-C, or until one of the two goes away."""
    if tour.screen.tty:
        tour.screen.line("Running. Ctrl-C stops both.")
    try:
        while True:
            for child in tour.running:
                child.check()
            time.sleep(0.5)
    except KeyboardInterrupt:
        return 0


def _since(begun: float) -> int:
    return round((time.monotonic() - begun) * 1000)
