"""Processes of the installed package: started, watched, and ended whatever the test did."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import psutil

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
    NodeItem,
    NodeList,
    PairingAnswer,
    PairingItem,
    PairingList,
)
from palyra.errors import GatewayNotRunning, GatewayUnreachable

HOST = "127.0.0.1"
LIMIT_S = 20.0
POLL_S = 0.02
FINAL = frozenset(
    {"succeeded", "failed", "timed_out", "rejected", "cancelled", "expired", "outcome_unknown"}
)
QUICK_NODE = "[node]\nfirst_retry_s = 0.2\nmax_retry_s = 1.0\n"
"""A node host that comes back at once, so that tests do not wait for its politeness."""

T = TypeVar("T")


def eventually(look: Callable[[], T | None], what: str, limit_s: float = LIMIT_S) -> T:
    """What ``look`` gives once that is neither None nor False; the test fails after ``limit_s``."""
    over = time.monotonic() + limit_s
    while True:
        found = look()
        if found is not None and found is not False:
            return found
        if time.monotonic() > over:
            raise AssertionError(f"not within {limit_s:g} s: {what}")
        time.sleep(POLL_S)


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def script(name: str) -> str:
    """A command of the environment that runs these tests."""
    path = Path(sys.executable).with_name(name)
    assert path.exists(), f"{path} is missing: install the package into this environment"
    return str(path)


def environment(plugins: Path | None = None) -> dict[str, str]:
    """The environment of a child: the installed package, no state root of the caller's."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("PALYRA_")}
    env |= {"PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1", "TERM": "dumb", "LC_ALL": "C.UTF-8"}
    env.pop("PYTHONPATH", None)
    if plugins is not None:
        env["PYTHONPATH"] = str(plugins)
    return env


class Ran:
    """A command that ended."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr

    def __repr__(self) -> str:
        return f"exit {self.code}\nstdout: {self.out}\nstderr: {self.err}"


def run(command: Sequence[str], cwd: Path, stdin: str = "", limit_s: float = 60.0) -> Ran:
    """Run a command to its end."""
    return Ran(
        subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            cwd=cwd,
            env=environment(),
            timeout=limit_s,
            check=False,
        )
    )


class Process:
    """A process whose output is kept in a file, so that it never blocks and can always be read."""

    def __init__(
        self, command: Sequence[str], log: Path, stdin: str = "", plugins: Path | None = None
    ) -> None:
        self.log = log
        with log.open("ab") as out:
            self._begins = out.tell()
            self._popen = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=log.parent,
                env=environment(plugins),
                start_new_session=True,
            )
        assert self._popen.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._popen.stdin.write(stdin.encode())
            self._popen.stdin.close()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._popen.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._popen.poll() is None

    def output(self) -> str:
        """All it has printed so far."""
        return self.log.read_text("utf-8", "replace")

    def has_said(self, text: str) -> bool:
        """Whether it has printed ``text``, and not an earlier process with the same log."""
        return text.encode() in self.log.read_bytes()[self._begins :]

    def says(self, text: str, limit_s: float = LIMIT_S) -> str:
        """Wait until it has printed ``text``; that line."""

        def look() -> str | None:
            alive = self.alive
            found = [line for line in self.output().splitlines() if text in line]
            assert found or alive, f"it ended before it said {text!r}:\n{self.output()}"
            return found[-1] if found else None

        return eventually(look, f"{text!r} in {self.log.name}", limit_s)

    def send(self, number: int) -> None:
        """Send a signal."""
        self._popen.send_signal(number)

    def kill(self) -> None:
        """End it as a power cut would: SIGKILL."""
        self.send(signal.SIGKILL)
        self._popen.wait(LIMIT_S)

    def wait(self, limit_s: float = LIMIT_S) -> int:
        """Its exit status, once it has ended."""
        return self._popen.wait(limit_s)

    def terminate(self) -> int:
        """SIGTERM, and its exit status."""
        self.send(signal.SIGTERM)
        return self.wait()

    def close(self) -> None:
        """Make sure that it does not outlive its test."""
        if self.alive:
            self._popen.kill()
            self._popen.wait(LIMIT_S)


class Gateway:
    """A gateway on a state root: the same ports at every start."""

    def __init__(self, house: House, root: Path, config: str) -> None:
        self._house = house
        self.root = root
        self.enrolment = f"{HOST}:{free_port()}"
        self.node_rpc = f"{HOST}:{free_port()}"
        self.process: Process
        self.console = Console(root)
        house.write_config(root, config)

    @property
    def arguments(self) -> list[str]:
        """What ``twistd palyra`` is told."""
        where = ["--state-root", str(self.root), "--enrolment", self.enrolment]
        return ["palyra", *where, "--node-rpc", self.node_rpc]

    def start(self) -> Gateway:
        """Start it in the foreground and wait until it answers."""
        return self.begin().ready()

    def begin(self) -> Gateway:
        """Start it in the foreground."""
        log = self._house.path / f"{self.root.name}.log"
        self.process = self._house.start([script("twistd"), "-n", *self.arguments], log)
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
        return run(command, self._house.path, stdin)

    # -- what operators ask -----------------------------------------------------------------

    def line(self) -> str:
        """A new pairing line."""
        return self.console.post("pairing/requests/code", MintCode(), MintedCode).value.uri

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

    def recorded(self) -> dict[str, list[tuple[Any, ...]]]:
        """Everything in the database, by table."""
        return rows(self.root / "palyra.sqlite3")


def rows(database: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table, read beside the running gateway."""
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as raw:
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
        self.process: Process
        house.write_config(root, QUICK_NODE)

    def start(self, line: str | None = None) -> NodeHost:
        """``palyra node run``, with a pairing line on stdin where one is given."""
        command = [script("palyra"), "node", "run", "--state-root", str(self.root)]
        command += ["--name", self.name, *self.options]
        if line is not None:
            command += ["--pairing-uri", "-"]
        log = self._house.path / f"{self.root.name}.log"
        stdin = "" if line is None else line + "\n"
        self.process = self._house.start(command, log, stdin, self.plugins)
        return self

    def serve(self) -> NodeHost:
        """``twistd -n palyra-node`` on a root that is paired."""
        command = [script("twistd"), "-n", "palyra-node", "--state-root", str(self.root)]
        log = self._house.path / f"{self.root.name}.log"
        self.process = self._house.start(command, log, plugins=self.plugins)
        return self

    @property
    def device_id(self) -> str:
        """The id under which it is paired, or asks to be."""
        file = self.root / "node-host" / "identity" / "device-identity.json"
        return str(json.loads(file.read_text())["device_id"])

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
        self, command: Sequence[str], log: Path, stdin: str = "", plugins: Path | None = None
    ) -> Process:
        """Start a process that ends with this house."""
        process = Process(command, log, stdin, plugins)
        self._processes.append(process)
        return process

    def gateway(self, name: str = "gateway", config: str = "") -> Gateway:
        """A gateway, not started yet."""
        return Gateway(self, self.path / name, config)

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


def processes_of(path: Path) -> list[psutil.Process]:
    """The processes that were told a path below ``path``; ours, since nobody else knows it."""

    def told() -> Iterator[psutil.Process]:
        for each in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if any(word.startswith(str(path)) for word in each.cmdline()):
                    yield each

    return list(told())


@contextlib.contextmanager
def opened() -> Iterator[House]:
    """A house that is closed at the end."""
    house = House()
    try:
        yield house
    finally:
        house.close()


def is_free(address: str) -> bool:
    """Whether nobody listens on HOST:PORT."""
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) != 0
