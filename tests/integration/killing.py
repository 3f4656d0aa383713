"""A gateway and a node host that are killed again and again, and an account of every job."""

from __future__ import annotations

import contextlib
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import attrs
import msgspec

from palyra.console.models import (
    CancelJob,
    FanoutAnswer,
    Invoke,
    InvokeAnswer,
    JobAnswer,
    JobItem,
    JobList,
    SubmitJobs,
)
from tests.integration import errands
from tests.integration.errands import ASKED, REPEATABLE, Errand, counted
from tests.integration.house import FINAL, Gateway, House, NodeHost
from tests.integration.processes import Process, eventually, script
from tests.integration.relay import DOWN, Relay
from tests.integration.terminal import Terminal

NODE = """[node]
first_retry_s = 0.2
max_retry_s = 0.5
max_running = 4
max_waiting = 2
"""
IN_FLIGHT = 6
"""What the node takes at once: running and waiting."""

_LOCK = """
import sqlite3, sys, time
store = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=10)
store.execute("BEGIN IMMEDIATE")
print("held", flush=True)
time.sleep(60)
"""


@attrs.define
class Entry:
    """A job that the gateway has accepted, and what must be true of it."""

    job_id: str
    may_end: Collection[str] = FINAL
    ended: str = ""

    def faults(self, job: JobItem | None, effects: int) -> list[str]:
        """What is wrong with what is listed of it, and with how often it took effect."""
        if job is None:
            return [f"{self.job_id} was accepted and is not listed"]
        found = effect_faults(job, effects)
        if job.state not in self.may_end:
            found.append(f"{self.job_id} is {job.state}, not {' or '.join(self.may_end)}")
        if self.ended and job.state != self.ended:
            found.append(f"{self.job_id} was {self.ended} and became {job.state}")
        self.ended = job.state
        return found


def effect_faults(job: JobItem, effects: int) -> list[str]:
    """Whether a job's state and the number of its effects go together."""
    least = 1 if job.state == "succeeded" else 0
    none = job.state in ("cancelled", "rejected", "expired") and not job.effect_possible
    most = 0 if none else effects if job.capability == REPEATABLE else 1
    if least <= effects <= most:
        return []
    return [f"{job.job_id} ({job.capability}) is {job.state} and took effect {effects} times"]


class Pair:
    """A gateway, a node host, and the wire between them."""

    def __init__(self, house: House) -> None:
        self.path = house.path
        self.gateway: Gateway = house.gateway().start()
        self.relay = Relay(self.gateway.node_rpc)
        plugins = errands.install(house.path / "plugins")
        self.node: NodeHost = house.node(plugins=plugins)
        house.write_config(self.node.root, NODE)
        self.node.options = ["--grpc-url", self.relay.address, "--transport", "grpc"]
        self.node.pair(self.gateway).process.terminate()
        self.asker: NodeHost = house.node("asker", plugins)
        self.asker.pair(self.gateway).process.terminate()
        self.begun, self.effects = self.path / "begun", self.path / "effects"
        self.ledger: dict[str, Entry] = {}
        self._calls: dict[str, tuple[Invoke, str | None]] = {}
        self._fanouts: dict[str, tuple[SubmitJobs, str]] = {}
        self._locker: subprocess.Popen[bytes] | None = None
        before = self.relay.passed(DOWN)
        self.ready()
        self.registration_bytes = self.relay.passed(DOWN) - before

    # -- both processes -----------------------------------------------------------------------

    def processes(self, victim: str) -> list[Process]:
        """Who ``gateway``, ``node`` or ``both`` is."""
        both: dict[str, Gateway | NodeHost] = {"gateway": self.gateway, "node": self.node}
        return [each.process for name, each in both.items() if victim in (name, "both")]

    def kill(self, victim: str) -> None:
        """SIGKILL, at the same moment where it is both."""
        processes = self.processes(victim)
        for process in processes:
            process.send(signal.SIGKILL)
        for process in processes:
            process.wait()

    def restart(self) -> None:
        """Let go of everything that was held, and start what is dead."""
        self.unlock()
        for process in self.processes("both"):
            if process.alive:
                process.send(signal.SIGCONT)
        self.relay.mend()
        if not self.gateway.process.alive:
            self.gateway.begin()
        if not self.node.process.alive:
            self.node.serve()

    def ready(self) -> None:
        """Both run, and the node is online."""
        self.restart()
        self.gateway.ready()
        eventually(lambda: self.node.process.has_said("online "), "the node is online")
        self.gateway.online(self.node.device_id)

    def close(self) -> None:
        """End what the house does not know of."""
        self.unlock()
        self.relay.close()

    def starting(self, victim: str) -> bool:
        """Whether a process that was started again lives and does not serve yet."""
        signs = ("ready; pair", "online as")
        processes = zip(self.processes("both"), signs, strict=True)
        started = [each for each in processes if each[0] in self.processes(victim)]
        return all(process.alive and not process.has_said(sign) for process, sign in started)

    def person(self) -> Terminal:
        """A second node host, on the terminal of a person who can be asked."""
        command = [script("palyra"), "node", "run", "--state-root", str(self.asker.root)]
        terminal = Terminal(command, self.path, self.asker.plugins)
        try:
            terminal.shows("online  asker")
        except BaseException:
            terminal.close()
            raise
        return terminal

    def story(self) -> str:
        """The end of what both have logged."""
        logs = [self.gateway.process.output(), self.node.process.output()]
        return "\n\n".join("\n".join(log.splitlines()[-40:]) for log in logs)

    # -- jobs -----------------------------------------------------------------------------------

    def errand(self, gate: Path | None, late: bool = False) -> msgspec.Raw:
        """The input of a call."""
        waits_for = "" if gate is None else str(gate)
        errand = Errand(str(self.begun), str(self.effects), waits_for, late)
        return msgspec.Raw(msgspec.json.encode(errand))

    def call(
        self, capability: str, gate: Path | None, late: bool = False, ttl_ms: int | None = None
    ) -> Invoke:
        """A call of one of the node's capabilities, with an idempotency key of its own."""
        key, errand = f"call-{len(self._calls)}", self.errand(gate, late)
        call = Invoke(capability, errand, wait_ms=0, ttl_ms=ttl_ms, idempotency_key=key)
        self._calls[key] = (call, None)
        return call

    def submit(self, call: Invoke) -> str:
        """Have a call accepted: from the answer on its job is in the ledger; its id."""
        node = self.asker if call.capability == ASKED else self.node
        path = f"nodes/{node.device_id}/invoke"
        job_id = self.gateway.console.post(path, call, InvokeAnswer).value.job_id
        _, known = self._calls[call.idempotency_key]
        assert job_id == (known or job_id), f"{call.idempotency_key} was {known}, now is {job_id}"
        self._calls[call.idempotency_key] = (call, job_id)
        self.ledger.setdefault(job_id, Entry(job_id))
        return job_id

    def fan_out(self, order: SubmitJobs) -> dict[str, str]:
        """Have a fan-out accepted: every row is in the ledger; job ids by device."""
        answer = self.gateway.console.post("jobs", order, FanoutAnswer).value
        known = self._fanouts.setdefault(order.idempotency_key, (order, answer.fanout.fanout_id))
        assert answer.fanout.fanout_id == known[1], "its key made a second fan-out"
        for row in answer.rows:
            self.ledger.setdefault(row.job_id, Entry(row.job_id))
        return {row.device_id: row.job_id for row in answer.rows}

    def repeat(self, newest: int) -> None:
        """Submit again what was never answered, and the newest calls: no call makes two jobs."""
        calls = list(self._calls.values())
        for index, (call, job_id) in enumerate(calls):
            if job_id is None or index >= len(calls) - newest:
                self.submit(call)
        for order, _ in list(self._fanouts.values())[-1:]:
            self.fan_out(order)

    def cancel(self, job_id: str) -> None:
        """Ask for the end of a job."""
        self.gateway.console.post(f"jobs/{job_id}/cancel", CancelJob(), JobAnswer)

    def has_begun(self, job_id: str) -> bool:
        """Whether a handler has begun with it."""
        return job_id in counted(self.begun)

    # -- what is on disk --------------------------------------------------------------------------

    def committed(self, job_id: str) -> str:
        """The state of a job as it is on the gateway's disk; empty where it is not there."""
        statement = "SELECT state FROM jobs WHERE job_id = ?"
        found = _read(self.gateway.root / "palyra.sqlite3", statement, job_id)
        return str(found[0][0]) if found else ""

    def keeps_result(self, job_id: str) -> bool:
        """Whether the node has the result of a job on its disk, for the gateway to acknowledge."""
        statement = "SELECT attempt_id FROM jobs WHERE job_id = ?"
        ((attempt_id,),) = _read(self.gateway.root / "palyra.sqlite3", statement, job_id)
        statement = "SELECT outcome FROM attempts WHERE attempt_id = ? AND NOT acknowledged"
        database = self.node.root / "node-host" / "attempts.sqlite3"
        found = _read_copy(database, statement, attempt_id)
        return bool(found) and found[0][0] is not None

    def lock(self) -> None:
        """Keep the gateway from committing anything."""
        database = str(self.gateway.root / "palyra.sqlite3")
        command = [sys.executable, "-S", "-c", _LOCK, database]
        self._locker = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self._locker.stdout is not None
        assert self._locker.stdout.readline() == b"held\n"

    def unlock(self) -> None:
        """Let it commit again.  Closed in good order the lock would tidy the gateway's files."""
        locker, self._locker = self._locker, None
        if locker is not None:
            locker.kill()
            locker.communicate()

    # -- the account ------------------------------------------------------------------------------

    def ended(self) -> None:
        """Wait until every accepted job is final."""
        for entry in self.ledger.values():
            if not entry.ended:
                self.gateway.ended(entry.job_id)

    def account(self) -> list[str]:
        """Whatever is wrong with any job of this gateway's whole life."""
        listed = {job.job_id: job for job in self._listed()}
        effects = counted(self.effects)
        faults = [f"{job_id} took effect unrecorded" for job_id in effects if job_id not in listed]
        faults += [f"{job_id}: nobody asked for it" for job_id in listed.keys() - self.ledger]
        for job_id, entry in self.ledger.items():
            faults += entry.faults(listed.get(job_id), effects[job_id])
        for order, fanout_id in self._fanouts.values():
            faults += self._fanout_faults(fanout_id, len(order.targets))
        return faults

    def _fanout_faults(self, fanout_id: str, targets: int) -> Iterator[str]:
        """Whether a fan-out has ended, with a row for every target."""
        answer = self.gateway.console.get(f"fanouts/{fanout_id}", FanoutAnswer).value
        fanout = answer.fanout
        if not fanout.finished or not targets == len(answer.rows) == sum(fanout.counts.values()):
            yield f"the fan-out {fanout_id} is {fanout}"

    def _listed(self) -> Iterator[JobItem]:
        """``jobs list``, to its end."""
        for answer in self.gateway.console.pages("jobs", JobList, None):
            yield from answer.value.jobs


def _read_copy(database: Path, statement: str, *values: str) -> list[tuple[Any, ...]]:
    """Ask a copy of a database whose process lets nobody else in; nothing where it was changed
    while it was copied."""
    with tempfile.TemporaryDirectory() as directory:
        for suffix in ("", "-wal"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copy(f"{database}{suffix}", directory)
        try:
            return _read(Path(directory, database.name), statement, *values)
        except sqlite3.DatabaseError:
            return []


def _read(database: Path, statement: str, *values: str) -> list[tuple[Any, ...]]:
    """Ask a database beside the process that has it open."""
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as raw:
        return raw.execute(statement, values).fetchall()
