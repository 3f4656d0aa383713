"""Disks: what is durable, when it becomes so, and what a crash leaves of it.

The gateway's is a :class:`~palyra.store.memory.MemoryStore` behind a writer with group commit; a
node host's is a list of attempts behind a writer of single statements.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable
from random import Random
from typing import Any

import attrs
from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure
from zope.interface import implementer

from palyra.core.callapprovals import CallApproval
from palyra.core.identifiers import AttemptId, DeviceId
from palyra.core.interfaces import IStore
from palyra.core.jobs import Job, Report
from palyra.errors import DiskFull, Draining, PalyraError, StoreUnavailable
from palyra.node.attemptfile import IAttemptFile, KeptAttempt
from palyra.store.memory import MemoryStore
from palyra.store.rules import own_job
from palyra.testing.simulation.clock import HostClock

_Write = tuple[Callable[..., None], tuple[Any, ...]]
WRITES = frozenset(
    {
        "accept",
        "accept_fanout",
        "add_certificate",
        "add_code",
        "approve_request",
        "change",
        "close_call",
        "close_request",
        "confirm",
        "decide_call",
        "forget_calls",
        "forget_certificates",
        "forget_descriptors",
        "forget_jobs",
        "forget_key",
        "forget_requests",
        "heard",
        "keep_descriptors",
        "note",
        "offer",
        "open_request",
        "order_rotation",
        "register",
        "remove",
        "renew",
        "revoke",
        "save_code",
        "update",
        "withdraw_code",
    }
)


@attrs.define
class Disk:
    """How a disk behaves: how long it takes, and whether it takes anything at all."""

    random: Random
    write_s: float = 0.003
    trouble: type[DiskFull] | type[StoreUnavailable] | None = None

    def takes_s(self) -> float:
        """How long the next write takes."""
        return self.write_s * self.random.uniform(0.3, 2.0)

    def refusal(self) -> PalyraError | None:
        """Why the disk takes nothing now; None where it does."""
        if self.trouble is None:
            return None
        return (
            DiskFull("/var/lib")
            if self.trouble is DiskFull
            else StoreUnavailable("/var/lib", "EIO")
        )


@attrs.define(eq=False)
class _Operation:
    """One call of the store, and who waits for it."""

    name: str
    arguments: tuple[Any, ...]
    waiting: Deferred[Any]
    result: Any = None

    def fire(self) -> None:
        if isinstance(self.result, Failure):
            self.waiting.errback(self.result)
        else:
            self.waiting.callback(self.result)


class GatewayDisk(Disk):
    """The gateway's store and what happens to its groups of writes.

    ``committing`` is asked before a group becomes durable and told after it did: by it a crash
    comes in the middle of a commit.
    """

    def __init__(self, random: Random, store: MemoryStore) -> None:
        super().__init__(random)
        self.store = store
        self.committing: Callable[[bool], object] = lambda durable: None
        self.committed: Callable[[list[tuple[str, tuple[Any, ...]]]], object] = lambda group: None

    def perform(self, operation: _Operation) -> None:
        """Do an operation on what is durable."""
        done: Deferred[Any] = getattr(self.store, operation.name)(*operation.arguments)
        operation.result = _outcome(done)


@implementer(IStore)
class StoreOnDisk:
    """IStore for one life of the gateway.

    Until it is ``opened`` it reads at once, as a gateway that starts waits for its disk.
    """

    def __init__(self, disk: GatewayDisk, clock: HostClock) -> None:
        self.store_epoch = disk.store.store_epoch
        self.gateway_id = disk.store.gateway_id
        self.opened = False
        self._disk = disk
        self._clock = clock
        self._gathered: list[_Operation] = []
        self._writing = False
        self._closed = False

    def __getattr__(self, name: str) -> Callable[..., Deferred[Any]]:
        if name.startswith("_"):
            raise AttributeError(name)

        def call(*arguments: Any) -> Deferred[Any]:
            return self._call(name, arguments)

        return call

    def watch(self, followed: Collection[DeviceId], grown: Callable[[DeviceId], object]) -> None:
        """Whatever is durable is told."""
        self._disk.store.watch(followed, grown)

    def close(self) -> Deferred[None]:
        """Write what has gathered, then take no more."""
        self._closed = True
        done: Deferred[None] = Deferred()
        self._when_quiet(done)
        return done

    def _when_quiet(self, done: Deferred[None]) -> None:
        if self._gathered or self._writing:
            self._clock.soon(0.001, self._when_quiet, done)
        else:
            done.callback(None)

    def _call(self, name: str, arguments: tuple[Any, ...]) -> Deferred[Any]:
        if self._closed:
            return fail(Draining())
        operation = _Operation(name, tuple(map(_own, arguments)), Deferred())
        if name in WRITES:
            self._gathered.append(operation)
            self._begin()
        elif not self.opened:
            self._disk.perform(operation)
            operation.fire()
        else:
            self._clock.soon(self._disk.random.uniform(0.0001, 0.004), self._read, operation)
        return operation.waiting

    def _read(self, operation: _Operation) -> None:
        self._disk.perform(operation)
        self._clock.soon(0.0001, operation.fire)

    def _begin(self) -> None:
        if not self._writing and self._gathered:
            self._writing = True
            self._clock.soon(0.0001, self._take)

    def _take(self) -> None:
        group, self._gathered = self._gathered, []
        self._clock.soon(self._disk.takes_s(), self._commit, group)

    def _commit(self, group: list[_Operation]) -> None:
        """The group becomes durable as one, or does not."""
        disk = self._disk
        disk.committing(False)
        if self._clock.dead:
            return
        refusal = disk.refusal()
        if refusal is not None:
            for operation in group:
                operation.result = Failure(refusal)
        else:
            for operation in group:
                disk.perform(operation)
            disk.committed([(each.name, each.arguments) for each in group])
        disk.committing(True)
        self._clock.soon(disk.random.uniform(0.0001, 0.001), self._tell, group)

    def _tell(self, group: list[_Operation]) -> None:
        self._writing = False
        for operation in group:
            operation.fire()
        self._begin()


class AttemptDisk(Disk):
    """What a node host's disk holds of its attempts; survives every life of the host."""

    def __init__(self, random: Random) -> None:
        super().__init__(random)
        self.memory_id = ""
        self.acknowledged: Callable[[AttemptId], object] = lambda attempt_id: None
        self.rows: dict[AttemptId, KeptAttempt] = {}
        self.lose()

    def lose(self) -> None:
        """The memory is gone; the next one is another."""
        self.memory_id = self.random.randbytes(16).hex()
        self.rows.clear()


@implementer(IAttemptFile)
class AttemptsOnDisk:
    """IAttemptFile for one life of a node host: one write after the other."""

    def __init__(self, disk: AttemptDisk, clock: HostClock) -> None:
        self.memory_id = disk.memory_id
        self._disk = disk
        self._clock = clock
        self._free_at_s = 0.0
        self._pending: deque[_Write] = deque()
        rows = disk.rows
        over = [key for key, row in rows.items() if row.acknowledged and _is_over(row, clock)]
        for attempt_id in over:
            del rows[attempt_id]

    def start(self) -> None:
        """There is no thread."""

    def stop(self) -> None:
        """What was asked for is written, while the host waits."""
        for act, arguments in self._pending:
            act(*arguments)
        self._pending.clear()

    def kept(self) -> Iterable[KeptAttempt]:
        return list(self._disk.rows.values())

    def add(self, attempt_id: AttemptId, forget_at_ms: int) -> Deferred[None]:
        return self._write(self._put, KeptAttempt(attempt_id, forget_at_ms))

    def finish(self, report: Report) -> Deferred[None]:
        return self._write(self._change, report.attempt_id, {"report": report})

    def acknowledge(self, attempt_id: AttemptId) -> Deferred[None]:
        self._disk.acknowledged(attempt_id)
        return self._write(self._change, attempt_id, {"report": None, "acknowledged": True})

    def forget(self, now_ms: int) -> Deferred[None]:
        return self._write(self._drop, now_ms)

    def _put(self, row: KeptAttempt) -> None:
        self._disk.rows[row.attempt_id] = row

    def _change(self, attempt_id: AttemptId, changes: dict[str, Any]) -> None:
        row = self._disk.rows.get(attempt_id)
        if row is not None:
            self._disk.rows[attempt_id] = attrs.evolve(row, **changes)

    def _drop(self, now_ms: int) -> None:
        rows = self._disk.rows
        for row in [each for each in rows.values() if each.acknowledged]:
            if row.forget_at_ms < now_ms:
                del rows[row.attempt_id]

    def _write(self, act: Callable[..., None], *arguments: Any) -> Deferred[None]:
        written: Deferred[None] = Deferred()
        now = self._clock.elapsed_s()
        self._free_at_s = max(now, self._free_at_s) + self._disk.takes_s()
        self._pending.append((act, arguments))
        self._clock.soon(self._free_at_s - now, self._written, written)
        return written

    def _written(self, written: Deferred[None]) -> None:
        if not self._pending:
            return
        act, arguments = self._pending.popleft()
        refusal = self._disk.refusal()
        if refusal is None:
            act(*arguments)
        told = written.callback if refusal is None else written.errback
        self._clock.soon(0.0002, told, refusal)


def _is_over(row: KeptAttempt, clock: HostClock) -> bool:
    return row.forget_at_ms < clock.now_ms()


def _own(value: Any) -> Any:
    """What is handed in is read before the call returns: a copy of what could change."""
    if isinstance(value, Job):
        return own_job(value)
    if isinstance(value, CallApproval):
        return attrs.evolve(value)
    if isinstance(value, list | tuple):
        return [_own(each) for each in value]
    return dict(value) if isinstance(value, dict) else value


def _outcome(done: Deferred[Any]) -> Any:
    """The result of a Deferred that has fired, or its Failure."""
    kept: list[Any] = []
    done.addBoth(kept.append)
    return kept[0]


def at_once(done: Deferred[Any]) -> Any:
    """What a Deferred that has fired holds; raises what it failed with."""
    outcome = _outcome(done)
    if isinstance(outcome, Failure):
        outcome.raiseException()
    return outcome
