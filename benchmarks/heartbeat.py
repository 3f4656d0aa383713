"""What a heartbeat costs the gateway, by how many jobs its store holds.

Driven in this process: the gateway's own objects on a store of its own, without the network.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVar

import attrs
import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from zope.interface import implementer

from benchmarks import records
from benchmarks.records import DAY_MS, a_certificate, a_device, now_ms
from palyra.config.jobs import JobsSection
from palyra.core.devices import Device
from palyra.core.frames import HEARTBEAT, STARTED, Hello, NodeEvent
from palyra.core.identifiers import new_ulid, sha256_hex
from palyra.errors import PalyraError
from palyra.gateway.callapprovals import CallApprovals
from palyra.gateway.descriptors import Descriptors
from palyra.gateway.dispatch import Dispatcher
from palyra.gateway.intake import Intake
from palyra.gateway.inventory import Inventory
from palyra.gateway.nodesession import NodeSession
from palyra.gateway.policing import Policing
from palyra.gateway.presence import PresenceBoard
from palyra.gateway.sessions import Sessions
from palyra.pki.trust import ChainVerifier
from palyra.store import opening
from palyra.store.sqlite import SqliteStore
from palyra.transport.interfaces import ICarrier, Peer
from palyra.wire import session as wire
from palyra.wire.service import messages

DEVICES = 100
BEATS = 20_000
FLUSHES = 50
T = TypeVar("T")


class HeartbeatCost(msgspec.Struct, frozen=True):
    """CPU microseconds of one heartbeat, and of writing down when a device was last heard."""

    records: int
    heartbeat_us: float
    flush_us_per_device: float


class Turns:
    """Stands in for the reactor's thread: makes the calls that the store's threads hand over."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()

    def call_from_thread(self, call: Callable[[], None]) -> None:
        """``reactor.callFromThread``."""
        self._calls.put(call)

    def wait(self, awaited: Deferred[T]) -> T:
        """The result of a Deferred, making calls until it is there."""
        results: list[T] = []
        awaited.addCallback(results.append)
        while not results:
            if awaited.called and not awaited.paused:
                failure: object = awaited.result
                raise RuntimeError(f"it failed: {failure}")
            self._calls.get(timeout=60)()
        return results[0]


@implementer(ICarrier)
class _Wire:
    """A carrier that takes a session's frames as soon as they are there."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._woken = False

    def wake(self) -> None:
        self._woken = True

    def close(self, error: PalyraError | None) -> None:
        """Nothing is connected."""

    def carry(self, session: NodeSession, data: bytes) -> bytes:
        """What the gateway does for one message of a node, from bytes to bytes."""
        message = messages.NodeEventRequest.FromString(data)
        session.received(wire.read_event(message))
        self._woken = False
        frame = session.take_frame()
        assert frame is not None, "a heartbeat is answered"
        now_ms = self._now_ms()
        answer = wire.write_frame(frame, new_ulid(now_ms, os.urandom), now_ms)
        return answer.SerializeToString()


@attrs.frozen
class Gateway:
    """The part of a gateway that heartbeats pass through."""

    turns: Turns
    store: SqliteStore
    board: PresenceBoard
    sessions: list[tuple[_Wire, NodeSession, bytes]]


def measure(records: int) -> HeartbeatCost:
    """The cost of a heartbeat with so many jobs in the store."""
    with tempfile.TemporaryDirectory(prefix="palyra-benchmark-") as root:
        path = Path(root) / "palyra.sqlite3"
        devices = _fill(path, records)
        gateway = _open(path, devices)
        try:
            beat_us = _beats(gateway)
            flush_us = _flushes(gateway)
        finally:
            gateway.turns.wait(gateway.store.close())
    return HeartbeatCost(records, round(beat_us, 2), round(flush_us, 2))


def _beats(gateway: Gateway) -> float:
    rounds = BEATS // len(gateway.sessions)
    best_s = float("inf")
    for _ in range(5):
        began_s = time.process_time()
        for _ in range(rounds // 5):
            for carrier, session, data in gateway.sessions:
                carrier.carry(session, data)
        best_s = min(best_s, time.process_time() - began_s)
    return best_s / (rounds // 5 * len(gateway.sessions)) * 1e6


def _flushes(gateway: Gateway) -> float:
    """CPU of both threads: the one that asks and the one that writes."""
    used_s = 0.0
    for _ in range(FLUSHES):
        for carrier, session, data in gateway.sessions:
            carrier.carry(session, data)
        began_s = time.process_time()
        gateway.turns.wait(gateway.store.heard(gateway.board.take_heard()))
        used_s += time.process_time() - began_s
    return used_s / FLUSHES / len(gateway.sessions) * 1e6


# -- the gateway that is measured -----------------------------------------------------------------


def _open(path: Path, devices: list[Device]) -> Gateway:
    turns = Turns()
    store = SqliteStore.open(path, call_from_thread=turns.call_from_thread, now_ms=now_ms)
    clock = Clock()
    clock.advance(time.time())
    inventory = Inventory(ChainVerifier((), "palyra"))
    certificates = turns.wait(store.live_certificates())
    inventory.load(devices, certificates, ())
    board = PresenceBoard(
        clock, elapsed_ms=_elapsed_ms, now_ms=now_ms, silent=lambda device_id: None
    )
    descriptors = Descriptors(log=store, inventory=inventory)
    sessions = Sessions(
        clock=clock,
        elapsed_ms=_elapsed_ms,
        directory=store,
        inventory=inventory,
        board=board,
        gateway_id=store.gateway_id,
        store_epoch=store.store_epoch,
        ca_bundle_pem=lambda: "",
        max_in_flight=64,
        descriptors=descriptors,
    )
    policing = Policing(now_ms=now_ms, record=store.record)
    dispatcher = Dispatcher(
        clock=clock,
        entropy=os.urandom,
        log=store,
        intake=Intake(
            clock=clock,
            entropy=os.urandom,
            inventory=inventory,
            board=board,
            limits=JobsSection(),
            policing=policing,
            known=descriptors.of,
        ),
        sessions=sessions,
        gateway_id=store.gateway_id,
        limits=JobsSection(),
        changed=lambda: None,
        elapsed_ms=lambda: time.monotonic_ns() // 1_000_000,
        approvals=CallApprovals(
            clock=clock,
            entropy=os.urandom,
            store=store,
            inventory=inventory,
            policing=policing,
            trust_domain="palyra.bench",
        ),
    )
    unfinished = turns.wait(store.unfinished())
    dispatcher.start(unfinished)
    attached = [_attached(sessions, turns, device) for device in devices]
    return Gateway(turns, store, board, attached)


def _attached(sessions: Sessions, turns: Turns, device: Device) -> tuple[_Wire, NodeSession, bytes]:
    """A session of a device, as registering and opening a stream make it."""
    device_id = device.device_id
    peer = Peer(device_id, sha256_hex(device_id.encode()), now_ms() + DAY_MS, "127.0.0.1", "grpc")
    hello = Hello(device_id, "linux", (), memory_id="memory", max_in_flight=64, extended=True)
    welcome = turns.wait(Deferred.fromCoroutine(sessions.register(peer, hello)))
    carrier = _Wire(now_ms)
    session = sessions.attach(peer, NodeEvent(STARTED, welcome.session_epoch), carrier)
    beat = wire.write_event(NodeEvent(HEARTBEAT, welcome.session_epoch), device_id)
    return carrier, session, beat.SerializeToString()


# -- its store ------------------------------------------------------------------------------------


def _fill(path: Path, count: int) -> list[Device]:
    """A store with devices and so many jobs that have ended."""
    identity = opening.prepare(path, entropy=os.urandom, now_ms=now_ms())
    devices = [a_device(f"device-{number}", identity.gateway_id) for number in range(DEVICES)]
    records.keep_devices(path, devices, [a_certificate(device) for device in devices])
    records.keep_ended(path, devices, count)
    return devices


def _elapsed_ms() -> int:
    return int(time.monotonic() * 1000)
