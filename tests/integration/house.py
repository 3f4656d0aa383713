"""Gateways and node hosts on state roots of their own, and the house that they live in."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from palyra.cli.client import Console
from palyra.console.models import (
    Decision,
    Health,
    Invoke,
    InvokeAnswer,
    JobAnswer,
    JobItem,
    JobList,
    MintCode,
    MintedCode,
    NodeAnswer,
    NodeItem,
    NodeList,
    PairingAnswer,
    PairingItem,
    PairingList,
)
from palyra.errors import GatewayNotRunning, GatewayUnreachable
from palyra.node.identity import ClientFile
from tests.integration.processes import (
    HOST,
    LIMIT_S,
    Process,
    Ran,
    eventually,
    free_port,
    processes_of,
    run,
    script,
)

LONG = pytest.mark.skipif(
    os.environ.get("IDENTITY") != "long", reason="takes minutes: IDENTITY=long"
)
PATIENT = "[enrolment]\nfailed_proofs_per_source = 1000\nopen_sessions_per_source = 1000\n"
"""Every stranger comes from one address; these limits have tests of their own."""
ALL_ALLOWED = '[[policy.rule]]\neffect = "allow"\n'
FINAL = frozenset(
    {"succeeded", "failed", "timed_out", "rejected", "cancelled", "expired", "outcome_unknown"}
)
QUICK_NODE = "[node]\nfirst_retry_s = 0.2\nmax_retry_s = 1.0\n"
"""A node host that comes back at once, so that tests do not wait for its politeness."""


class Gateway:
    """A gateway on a state root: the same ports at every start."""

    def __init__(self, house: House, root: Path, config: str) -> None:
        self._house = house
        self.root = root
        self.enrolment = f"{HOST}:{free_port()}"
        self.node_rpc = f"{HOST}:{free_port()}"
        self.console_port = free_port()
        self.env: Mapping[str, str] = {}
        """What its processes find in their environment besides; a clock, for example."""
        self.process: Process
        self.console = Console(root)
        house.write_config(root, config)

    @property
    def arguments(self) -> list[str]:
        """What ``twistd palyra`` is told."""
        where = ["--state-root", str(self.root), "--enrolment", self.enrolment]
        console = f"palyra:{self.console_port}:interface={HOST}"
        return ["palyra", *where, "--node-rpc", self.node_rpc, "--console", console]

    def start(self) -> Gateway:
        """Start it in the foreground and wait until it answers."""
        return self.begin().ready()

    def begin(self) -> Gateway:
        """Start it in the foreground."""
        log = self._house.path / f"{self.root.name}.log"
        command = [script("twistd"), "-n", *self.arguments]
        self.process = self._house.start(command, log, env=self.env)
        return self

    def ready(self) -> Gateway:
        """Wait until the console answers."""

        def look() -> Health | None:
            assert self.process.alive, self.process.output()
            with contextlib.suppress(GatewayNotRunning, GatewayUnreachable):
                return self.console.get("doctor", Health).value
            return None

        eventually(look, "the gateway answers")
        return self

    def refused(self, *arguments: str, daemon: bool = False) -> Ran:
        """Start it where it must not start; what it said when it gave up."""
        command = [script("twistd"), *(() if daemon else ("-n",)), *self.arguments, *arguments]
        return run(command, self._house.path)

    def cli(self, *arguments: str, stdin: str = "") -> Ran:
        """``palyra ...`` on this gateway, without a terminal."""
        command = [script("palyra"), *arguments, "--state-root", str(self.root)]
        return run(command, self._house.path, stdin, env=self.env)

    # -- what operators ask -----------------------------------------------------------------

    def line(self) -> str:
        """A new pairing line."""
        return self._minted("qr").uri

    def pin(self) -> str:
        """A new PIN."""
        return self._minted("pin").pin

    def _minted(self, method: str) -> MintedCode:
        return self.console.post("pairing/requests/code", MintCode(method), MintedCode).value

    def requests(self) -> list[PairingItem]:
        """Every pairing request."""
        return self.console.get("pairing/requests", PairingList).value.requests

    def approve(self, request_id: str, *, accept_new_identity: bool = False) -> PairingItem:
        """Say yes."""
        body = Decision(accept_new_identity=accept_new_identity)
        path = f"pairing/requests/{request_id}/approve"
        return self.console.post(path, body, PairingAnswer).value.request

    def nodes(self) -> list[NodeItem]:
        """The inventory."""
        return self.console.get("nodes", NodeList).value.nodes

    def node(self, device_id: str) -> NodeItem:
        """One of the inventory."""
        return self.console.get(f"nodes/{device_id}", NodeAnswer).value.node

    def online(self, device_id: str) -> None:
        """Wait until a device is online."""
        eventually(
            lambda: any(n.device_id == device_id and n.presence == "online" for n in self.nodes()),
            f"{device_id} is online",
        )

    def submit(self, device_id: str, capability: str, input_json: bytes = b"null") -> str:
        """Have a job accepted and do not wait for it; its id."""
        body = Invoke(capability, msgspec.Raw(input_json), wait_ms=0)
        answer = self.console.post(f"nodes/{device_id}/invoke", body, InvokeAnswer)
        return answer.value.job_id

    def job(self, job_id: str) -> JobItem:
        """One job as it is now."""
        return self.console.get(f"jobs/{job_id}", JobAnswer).value.job

    def ended(self, job_id: str) -> JobAnswer:
        """A job, once it is final."""

        def look() -> JobAnswer | None:
            answer = self.console.get(f"jobs/{job_id}", JobAnswer, wait_ms=500).value
            return answer if answer.job.state in FINAL else None

        return eventually(look, f"job {job_id} ends")

    def jobs(self) -> list[JobItem]:
        """The newest jobs."""
        return self.console.get("jobs", JobList).value.jobs

    def certificates(self, device_id: str) -> dict[str, str]:
        """The certificates of a device on record (PEM), and the state of each."""
        statement = "SELECT pem, state FROM certificates WHERE device_id = ?"
        with reading(self.root / "palyra.sqlite3") as raw:
            return dict(raw.execute(statement, (device_id,)).fetchall())

    def recorded(self) -> dict[str, list[tuple[Any, ...]]]:
        """Everything in the database, by table."""
        return rows(self.root / "palyra.sqlite3")


@contextlib.contextmanager
def reading(database: Path) -> Iterator[sqlite3.Connection]:
    """A database, read beside the process that has it open."""
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as raw:
        yield raw


def rows(database: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table, read beside the running gateway."""
    with reading(database) as raw:
        found = raw.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return {
            name: sorted(raw.execute(f'SELECT * FROM "{name}"').fetchall(), key=repr)
            for (name,) in found
        }


class NodeHost:
    """A node host on a state root of its own."""

    def __init__(self, house: House, root: Path, name: str, plugins: Path | None) -> None:
        self._house = house
        self.root = root
        self.name = name
        self.plugins = plugins
        self.options: list[str] = []
        self.env: Mapping[str, str] = {}
        self.process: Process
        house.write_config(root, QUICK_NODE)

    def start(self, line: str | None = None) -> NodeHost:
        """``palyra node run``, with a pairing line on stdin where one is given."""
        return self._run() if line is None else self._run("--pairing-uri", "-", stdin=line + "\n")

    def start_with_pin(self, gateway: Gateway, pin: str) -> NodeHost:
        """``palyra node run --gateway``, with a PIN on stdin."""
        options = ["--gateway", gateway.enrolment, "--pairing-code-stdin"]
        return self._run(*options, stdin=pin + "\n")

    def _run(self, *options: str, stdin: str = "") -> NodeHost:
        command = [script("palyra"), "node", "run", "--state-root", str(self.root)]
        command += ["--name", self.name, *self.options, *options]
        log = self._house.path / f"{self.root.name}.log"
        self.process = self._house.start(command, log, stdin, self.plugins, self.env)
        return self

    def serve(self) -> NodeHost:
        """``twistd -n palyra-node`` on a root that is paired."""
        command = [script("twistd"), "-n", "palyra-node", "--state-root", str(self.root)]
        log = self._house.path / f"{self.root.name}.log"
        self.process = self._house.start(command, log, plugins=self.plugins, env=self.env)
        return self

    @property
    def device_id(self) -> str:
        """The id under which it is paired, or asks to be."""
        file = self.root / "node-host" / "identity" / "device-identity.json"
        return str(json.loads(file.read_text())["device_id"])

    @property
    def client(self) -> ClientFile:
        """What it keeps of its certificates."""
        file = self.root / "node-host" / "identity" / "node-mtls-client.json"
        return msgspec.json.decode(file.read_bytes(), type=ClientFile)

    def asks(self) -> str:
        """Wait until it waits for an operator; the id of its request."""
        return self.process.says("waiting\t").split("\t")[1]

    def pair(self, gateway: Gateway) -> NodeHost:
        """Pair for real and wait until it is online."""
        self.start(gateway.line())
        gateway.approve(self.asks())
        gateway.online(self.device_id)
        return self


class House:
    """A directory, and everything that runs in it."""

    def __init__(self) -> None:
        # Not pytest's: a socket path has at most 107 bytes.
        self.path = Path(tempfile.mkdtemp(prefix="palyra-test-"))
        self._processes: list[Process] = []

    def start(
        self,
        command: Sequence[str],
        log: Path,
        stdin: str = "",
        plugins: Path | None = None,
        env: Mapping[str, str] = {},
    ) -> Process:
        """Start a process that ends with this house."""
        process = Process(command, log, stdin, plugins, env)
        self._processes.append(process)
        return process

    def gateway(self, name: str = "gateway", config: str = "", rules: str = ALL_ALLOWED) -> Gateway:
        """A gateway, not started yet; unless told otherwise nothing it runs is asked."""
        return Gateway(self, self.path / name, f"{config}\n{rules}")

    def node(self, name: str = "node", plugins: Path | None = None) -> NodeHost:
        """A node host, not started yet."""
        return NodeHost(self, self.path / name, name, plugins)

    def write_config(self, root: Path, text: str) -> None:
        """``palyra.toml`` of a state root, which is made."""
        root.mkdir(mode=0o700, exist_ok=True)
        (root / "palyra.toml").write_text(text)

    def close(self) -> None:
        """End every process, daemons too, and remove the directory."""
        for process in reversed(self._processes):
            process.close()
        for daemon in processes_of(self.path):
            with contextlib.suppress(psutil.NoSuchProcess):
                daemon.kill()
                daemon.wait(LIMIT_S)
        shutil.rmtree(self.path, ignore_errors=True)


@contextlib.contextmanager
def opened() -> Iterator[House]:
    """A house that is closed at the end."""
    house = House()
    try:
        yield house
    finally:
        house.close()
