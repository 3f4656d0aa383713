"""A gateway in a process of its own, and what it has on record."""

from __future__ import annotations

import contextlib
import itertools
import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

import palyra
from palyra.cli.client import Console
from palyra.console.models import (
    Decision,
    Health,
    JobItem,
    JobList,
    MintCode,
    MintedCode,
    NodeAnswer,
    NodeItem,
    NodeList,
    PairingAnswer,
    PairingList,
    Revoke,
    RevokeAnswer,
)
from palyra.errors import GatewayNotRunning, GatewayUnreachable
from palyra.pki.keystore import GatewayIdentity
from tests.adversarial.detour import Detour, addresses
from tests.adversarial.forging import Signer
from tests.integration.processes import HOST, Process, eventually, free_port, script

DATABASE = "palyra.sqlite3"
_RECORDED = {
    "pairing_requests": "request_id, device_id, identity_fingerprint, state, grants",
    "approvals": "approval_id, subject_id, digest, state",
    "devices": "device_id, client_kind, identity_fingerprint, state, session_epoch, grants",
    "certificates": "fingerprint, device_id, csr_digest, state",
    "revocations": "device_id, identity_fingerprint, certificates",
    "pairing_codes": "code_id, method, nameplate, state, reserved, failed",
    "jobs": "job_id, device_id, state",
}


@attrs.frozen
class Record:
    """What counts of a gateway's record, and what its operators are shown of it."""

    tables: dict[str, list[tuple[Any, ...]]]
    requests: list[tuple[str, str]]
    nodes: list[tuple[str, str]]


class Gateway:
    """A gateway under attack: a process of its own, on a state root of its own."""

    def __init__(self, path: Path, config: str = "", files: int = 0) -> None:
        self.path = path
        self._files = files
        self.root = path / "gateway"
        self.root.mkdir(mode=0o700)
        (self.root / "palyra.toml").write_text(config)
        self.enrolment = f"{HOST}:{free_port()}"
        self.node_rpc = f"{HOST}:{free_port()}"
        self.console = Console(self.root)
        self.process: Process
        self._processes: list[Process] = []
        self._detours: dict[str, Detour] = {}

    def start(self) -> Gateway:
        """Start it, again or for the first time, and wait until it answers."""
        listens = ["--enrolment", self.enrolment, "--node-rpc", self.node_rpc]
        listens += ["--console", f"palyra:0:interface={HOST}"]
        self.process = self.run("twistd", "-n", "palyra", *listens, "--state-root", str(self.root))

        def answers() -> bool:
            assert self.process.alive, self.process.output()
            with contextlib.suppress(GatewayNotRunning, GatewayUnreachable):
                return bool(self.console.get("doctor", Health))
            return False

        eventually(answers, "the gateway answers")
        return self

    def run(self, command: str, *arguments: str, stdin: str = "", log: str = "gateway") -> Process:
        """A command of the palyra that these tests import; it ends with this gateway."""
        limited = ["sh", "-c", f'ulimit -n {self._files}; exec "$@"', "sh"] if self._files else []
        process = Process(
            [*limited, script(command), *arguments],
            self.path / f"{log}.log",
            stdin,
            env={"PYTHONPATH": str(Path(palyra.__file__).parents[1])},
        )
        self._processes.append(process)
        return process

    def close(self) -> None:
        """End every process, and take no connection on any way."""
        for process in reversed(self._processes):
            process.close()
        for detour in self._detours.values():
            detour.close()

    # -- ways to it -----------------------------------------------------------------------------

    def via(self, source: str) -> str:
        """An address that leads to the enrolment listener and arrives there from ``source``."""
        if source not in self._detours:
            self._detours[source] = Detour(self.enrolment, itertools.repeat(source))
        return self._detours[source].address

    def by_many_ways(self, first: int = 0) -> Detour:
        """A way on which every connection arrives from another address; the caller closes it."""
        return Detour(self.enrolment, addresses(first))

    # -- what it is -----------------------------------------------------------------------------

    @property
    def ca_pem(self) -> bytes:
        """The CA certificate that devices are told of."""
        return (self.root / "identity" / "ca.pem").read_bytes()

    @property
    def ca_der(self) -> bytes:
        """The same, as it is hashed."""
        return x509.load_pem_x509_certificate(self.ca_pem).public_bytes(Encoding.DER)

    def authority(self) -> Signer:
        """The CA itself, stolen from the state root: its holder can sign anything."""
        with self.opened() as database:
            (row,) = database.execute("SELECT value FROM meta WHERE key = 'gateway_id'").fetchall()
        identity = GatewayIdentity.open(
            self.root / "identity",
            trust_domain="palyra",
            names=(),
            gateway_id=row[0],
            now_ms=int(time.time() * 1000),
            entropy=os.urandom,
        )
        return Signer(identity.issuing.ca_certificate, identity.issuing.ca_key)

    # -- what operators do ----------------------------------------------------------------------

    def mint(self, method: str, source: str = "", ttl_ms: int | None = None) -> MintedCode:
        """A new code."""
        body = MintCode(method=method, source=source, ttl_ms=ttl_ms)
        return self.console.post("pairing/requests/code", body, MintedCode).value

    def pin(self) -> MintedCode:
        """A new PIN."""
        return self.mint("pin")

    def token(self) -> str:
        """The token of a new pairing line."""
        return self.mint("qr").uri.rpartition("&t=")[2]

    def approve(self, request_id: str) -> None:
        """Say yes, even to another identity."""
        body = Decision(accept_new_identity=True)
        self.console.post(f"pairing/requests/{request_id}/approve", body, PairingAnswer)

    def nodes(self) -> list[NodeItem]:
        """The inventory."""
        return self.console.get("nodes", NodeList).value.nodes

    def node(self, device_id: str) -> NodeItem:
        """One device of the inventory."""
        return self.console.get(f"nodes/{device_id}", NodeAnswer).value.node

    def jobs(self, device_id: str) -> list[JobItem]:
        """The newest jobs of a device."""
        listed = self.console.get("jobs", JobList).value.jobs
        return [each for each in listed if each.device_id == device_id]

    def pairing(self) -> PairingList:
        """What ``pairing list`` shows."""
        return self.console.get("pairing/requests", PairingList).value

    def tries(self, source: str) -> int:
        """How many wrong tries of a source the operator is shown."""
        return sum(each.count for each in self.pairing().failed_tries if each.source == source)

    def revoke(self, device_id: str, reason: str = "") -> None:
        """Take a device's trust away."""
        self.console.post(f"devices/{device_id}/revoke", Revoke(reason), RevokeAnswer)

    # -- what it has on record ------------------------------------------------------------------

    @contextlib.contextmanager
    def opened(self, mode: str = "ro") -> Iterator[sqlite3.Connection]:
        """Its database, beside it or while it is stopped."""
        file = f"file:{self.root / DATABASE}?mode={mode}"
        with contextlib.closing(sqlite3.connect(file, uri=True)) as database, database:
            yield database

    def rows(self, table: str, columns: str = "*") -> list[tuple[Any, ...]]:
        """The rows of a table, in order."""
        with self.opened() as database:
            found = database.execute(f'SELECT {columns} FROM "{table}"').fetchall()
        return sorted(found, key=repr)

    def record(self) -> Record:
        """Everything that an attack might have changed."""
        with self.opened() as database:
            tables = {
                table: sorted(database.execute(f"SELECT {columns} FROM {table}").fetchall())
                for table, columns in _RECORDED.items()
            }
        return Record(
            tables,
            sorted((each.request_id, each.state) for each in self.pairing().requests),
            sorted((each.device_id, each.trust) for each in self.nodes()),
        )

    def failures(self, code: MintedCode) -> int:
        """How many wrong guesses are on record against a code."""
        found = self.rows("pairing_codes", "code_id, failed, reserved")
        ((failed, reserved),) = [row[1:] for row in found if row[0] == code.code.code_id]
        assert reserved == 0, "an attempt is still reserved after it was answered"
        return int(failed)

    def state_of(self, code: MintedCode) -> str:
        """active, used, burnt or expired."""
        found = self.rows("pairing_codes", "code_id, state")
        (state,) = [row[1] for row in found if row[0] == code.code.code_id]
        return str(state)

    @contextlib.contextmanager
    def unmoved_but_codes(self) -> Iterator[None]:
        """Codes may come and go in the block; of nothing else is there any trace."""
        before = self.record()
        yield
        after = self.record()
        assert attrs.evolve(after, tables=_codeless(after)) == attrs.evolve(
            before, tables=_codeless(before)
        )

    @contextlib.contextmanager
    def unmoved(self, *, but: MintedCode | None = None, guesses: int | None = 0) -> Iterator[None]:
        """Nothing is recorded or issued in the block, except ``guesses`` against ``but`` (None:
        at most one)."""
        before = self.record()
        yield
        after = self.record()
        if but is not None:
            counted = _failed(after, but) - _failed(before, but)
            expected = (0, 1) if guesses is None else (guesses,)
            assert counted in expected, f"{counted} guesses were counted, not {guesses}"
            before, after = _without(before, but), _without(after, but)
        assert after == before


def _failed(record: Record, code: MintedCode) -> int:
    rows = record.tables["pairing_codes"]
    return int(next(row[-1] for row in rows if row[0] == code.code.code_id))


def _codeless(record: Record) -> dict[str, list[tuple[Any, ...]]]:
    return {table: rows for table, rows in record.tables.items() if table != "pairing_codes"}


def _without(record: Record, code: MintedCode) -> Record:
    kept = [row for row in record.tables["pairing_codes"] if row[0] != code.code.code_id]
    return attrs.evolve(record, tables=record.tables | {"pairing_codes": kept})


@contextlib.contextmanager
def running(config: str = "", files: int = 0) -> Iterator[Gateway]:
    """A gateway that runs, and is gone at the end; it may open so many ``files``, if given."""
    # Not pytest's: a socket path has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="palyra-test-", ignore_cleanup_errors=True) as path:
        gateway = Gateway(Path(path), config, files)
        try:
            yield gateway.start()
        finally:
            gateway.close()
