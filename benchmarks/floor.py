"""The floor: the least that a durable job through a broker can cost on this machine.

Caller, broker and worker are three processes with length-prefixed frames over mutual TLS 1.3.  The
broker writes every job and every result into a journal before it passes them on; a thread syncs
whatever has gathered (group commit).  No inventory, no policy, no states, no queries.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import ssl
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import cast

import attrs
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks.http2 import load_pair
from benchmarks.measuring import run
from benchmarks.paired import PATIENCE_S, Served, Town, cpu_s, key_pem, new_pair, start_own
from benchmarks.records import INPUT, now_ms
from palyra.cli.children import Child, until
from palyra.core.identifiers import new_ulid
from palyra.transport.chain import TLS_NAME

LENGTH, NUMBER = 4, 8
HEAD = LENGTH + NUMBER
JOURNAL_BYTES = 16 * 1024 * 1024
"""Written once before the start, then again and again, as SQLite writes its WAL: a file that
grows would cost a second write for its size."""
WORKER = b"worker"


class Papers(msgspec.Struct, frozen=True):
    """What a process of the floor is told: who it is, and where to go or to write."""

    ca: bytes
    key: bytes
    chain: bytes
    port: int = 0
    journal: str = ""


class Framed(asyncio.Protocol):
    """Numbered frames; what is sent in one turn of the loop goes out together."""

    def __init__(self, received: Callable[[Framed, int, bytes], object]) -> None:
        self._received = received
        self._held = b""
        self._out: list[bytes] = []
        self._loop = asyncio.get_running_loop()
        self.lost = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(None)

    def data_received(self, data: bytes) -> None:
        held = self._held + data if self._held else data
        at = 0
        while len(held) - at >= HEAD:
            end = at + HEAD + int.from_bytes(held[at : at + LENGTH], "big")
            if end > len(held):
                break
            number = int.from_bytes(held[at + LENGTH : at + HEAD], "big")
            self._received(self, number, held[at + HEAD : end])
            at = end
        self._held = held[at:]

    def send(self, number: int, payload: bytes) -> None:
        """Send a frame."""
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(_frame(number, payload))

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()

    def _flush(self) -> None:
        self._transport.write(b"".join(self._out))
        self._out.clear()


def _frame(number: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(LENGTH, "big") + number.to_bytes(NUMBER, "big") + payload


# -- the broker -----------------------------------------------------------------------------------


class Journal:
    """Writes down what is kept and then calls back, in groups: as many as came meanwhile."""

    def __init__(self, path: Path, loop: asyncio.AbstractEventLoop) -> None:
        path.write_bytes(bytes(JOURNAL_BYTES))
        self._file = os.open(path, os.O_RDWR)
        os.fsync(self._file)
        self._loop = loop
        self._position = 0
        self._gathered: list[tuple[bytes, Callable[[], object]]] = []
        self._wanted = threading.Event()
        threading.Thread(target=self._write, daemon=True).start()

    def keep(self, entry: bytes, done: Callable[[], object]) -> None:
        """Call ``done`` when the entry is on disk."""
        self._gathered.append((entry, done))
        self._wanted.set()

    def _write(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            group, self._gathered = self._gathered, []
            if group:
                data = b"".join(entry for entry, _ in group)
                if self._position + len(data) > JOURNAL_BYTES:
                    self._position = 0
                os.pwrite(self._file, data, self._position)
                os.fdatasync(self._file)
                self._position += len(data)
                self._loop.call_soon_threadsafe(_call_all, [done for _, done in group])


def _call_all(calls: list[Callable[[], object]]) -> None:
    for call in calls:
        call()


class Broker:
    """Passes jobs of callers to the one worker, and its results back."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._numbers = itertools.count(1)
        self._asked: dict[int, tuple[Framed, int]] = {}
        self._worker: Framed | None = None

    def received(self, peer: Framed, number: int, payload: bytes) -> None:
        """A frame of anybody."""
        if peer is self._worker:
            self._result(number, payload)
        elif payload == WORKER:
            self._worker = peer
            print("ready", flush=True)
        else:
            self._job(peer, number, payload)

    def _job(self, caller: Framed, number: int, payload: bytes) -> None:
        worker, own = self._worker, next(self._numbers)
        assert worker is not None, "nobody calls before it is there"
        self._asked[own] = caller, number
        self._journal.keep(_frame(own, payload), lambda: worker.send(own, payload))

    def _result(self, own: int, payload: bytes) -> None:
        caller, number = self._asked.pop(own)
        self._journal.keep(_frame(own, payload), lambda: caller.send(number, payload))


async def _broke(papers: Papers) -> None:
    loop = asyncio.get_running_loop()
    broker = Broker(Journal(Path(papers.journal), loop))
    tls = _context(papers, ssl.PROTOCOL_TLS_SERVER)
    server = await loop.create_server(
        lambda: Framed(broker.received), "127.0.0.1", papers.port, ssl=tls
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.create_future()


async def _work(papers: Papers) -> None:
    worker = await _connect(papers, lambda peer, number, payload: peer.send(number, payload))
    worker.send(0, WORKER)
    print("ready", flush=True)
    await worker.lost


async def _connect(papers: Papers, received: Callable[[Framed, int, bytes], object]) -> Framed:
    tls = _context(papers, ssl.PROTOCOL_TLS_CLIENT)
    loop = asyncio.get_running_loop()
    _, framed = await loop.create_connection(
        lambda: Framed(received), "127.0.0.1", papers.port, ssl=tls, server_hostname=TLS_NAME
    )
    return framed


def _context(papers: Papers, side: int) -> ssl.SSLContext:
    context = ssl.SSLContext(side)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=papers.ca.decode())
    load_pair(context, papers.key, papers.chain)
    return context


# -- the caller -----------------------------------------------------------------------------------


@attrs.frozen
class Floor:
    """A broker and a worker that run, and what a caller needs."""

    broker: Child
    papers: Papers

    @contextlib.asynccontextmanager
    async def caller(self) -> AsyncIterator[Caller]:
        """A connection of a caller."""
        caller = Caller()
        caller.framed = await _connect(self.papers, caller.received)
        try:
            yield caller
        finally:
            caller.framed.close()

    def cpu_s(self) -> float:
        """CPU seconds that the broker has used."""
        return cpu_s(self.broker.pid)


class Caller:
    """Makes jobs over one connection."""

    framed: Framed

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._loop = asyncio.get_running_loop()

    def job(self) -> asyncio.Future[bytes]:
        """One job; its result when it is there."""
        number = next(self._numbers)
        self._waiting[number] = answer = self._loop.create_future()
        self.framed.send(number, INPUT)
        return answer

    def received(self, peer: Framed, number: int, payload: bytes) -> None:
        """A result."""
        self._waiting.pop(number).set_result(payload)


def start_floor(served: Served) -> Floor:
    """Start broker and worker beside a gateway, on the same disk."""
    town, running = served.town, served.children
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = town.authority.issue_gateway(key.public_key(), "floor", (), now_ms())
    journal = str(town.root / "floor.journal")
    papers = Papers(town.authority.ca_pem, key_pem(key), leaf.pem, journal=journal)
    broker = start_own(running, "floor", town.root, papers)
    port = int(broker.lines()[0])
    start_own(running, "floor", town.root, _peer(town, port))
    until(lambda: len(broker.lines()) > 1 or None, running, "The floor was not ready", PATIENCE_S)
    return Floor(broker, _peer(town, port))


def _peer(town: Town, port: int) -> Papers:
    key, _, chain = new_pair(town.authority, new_ulid(now_ms(), os.urandom))
    return Papers(town.authority.ca_pem, key, chain, port)


def main() -> None:
    """Be the broker, where stdin names a journal, or else the worker."""
    papers = msgspec.json.decode(sys.stdin.buffer.read(), type=Papers)
    run(_broke(papers) if papers.journal else _work(papers))
