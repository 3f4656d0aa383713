"""The store's two threads: one that writes, with group commit, and one that reads.

Whoever submits gets a Deferred that fires in the reactor's thread.  A thread takes everything that
has gathered as soon as it is idle and hands all results back in one call; there is no timer and no
batch size to tune: the slower the disk, the larger the group.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby
from queue import Empty, SimpleQueue
from typing import Any, Protocol, TypeVar

import attrs
from sqlalchemy import Connection
from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger

from palyra.errors import AlreadyKept, Draining, PalyraError
from palyra.store.faults import already_kept, of_database, translated
from palyra.store.opening import run_statement

T = TypeVar("T")
Operation = Callable[[Connection], T]
CallFromThread = Callable[[Callable[[], None]], object]
"""``reactor.callFromThread``."""

CHECKPOINT_WRITES = 1_000
"""Writes after which an empty queue is enough to move the WAL into the database."""
IDLE_S = 1.0


class IBatch(Protocol):
    """Writes many items at once."""

    def __call__(self, connection: Connection, items: Sequence[Any]) -> list[PalyraError | None]:
        """Write the items and return for each the refusal that kept it out, or None."""


@attrs.define(eq=False)
class _Task:
    """An operation, or an item for a batch, and who waits for it."""

    work: Operation[Any] | None
    batch: IBatch | None
    item: Any
    deferred: Deferred[Any]
    error: Exception | None = None
    result: Any = None

    def refuse(self, error: Exception) -> None:
        self.error, self.result = error, None

    def fire(self) -> None:
        if self.error is not None:
            self.deferred.errback(self.error)
        else:
            self.deferred.callback(self.result)


class _Worker(ABC):
    """A thread with its own connection and a queue that only ever hands over whole groups."""

    log = Logger()

    def __init__(
        self, name: str, connection: Connection, file: str, call_from_thread: CallFromThread
    ) -> None:
        self._connection = connection
        self._file = file
        self._call_from_thread = call_from_thread
        self._queue: SimpleQueue[_Task | None] = SimpleQueue()
        self._closed: Deferred[None] | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread; until then what is submitted waits."""
        self._thread.start()

    def submit(self, work: Operation[T]) -> Deferred[T]:
        """Run ``work`` in the thread; its result, or why it failed, comes back."""
        return self._put(_Task(work, None, None, Deferred()))

    def close(self) -> Deferred[None]:
        """Do what was submitted, then end the thread; refuses what comes later."""
        if self._closed is None:
            self._closed = Deferred()
            self._queue.put(None)
        waiting: Deferred[None] = Deferred()
        self._closed.addCallback(_passed_on, waiting)
        return waiting

    def _put(self, task: _Task) -> Deferred[Any]:
        if self._closed is not None:
            return fail(Draining())
        self._queue.put(task)
        return task.deferred

    def _run(self) -> None:
        ended = False
        while not ended:
            tasks = self._gathered()
            ended = None in tasks
            group = [task for task in tasks if task is not None]
            if group:
                self._serve(group)
                self._call_from_thread(partial(_fire, group))
            self._served(len(group), ended)
        self._connection.close()
        self._call_from_thread(self._ended)

    def _gathered(self) -> list[_Task | None]:
        """Everything that waits; blocks until there is something, or it is time to be idle."""
        try:
            tasks = [self._queue.get(timeout=self._patience())]
        except Empty:
            return []
        try:
            while True:
                tasks.append(self._queue.get_nowait())
        except Empty:
            return tasks

    def _ended(self) -> None:
        self._thread.join()
        assert self._closed is not None, "only close() ends the thread"
        self._closed.callback(None)

    def _patience(self) -> float | None:
        return None

    @abstractmethod
    def _serve(self, group: list[_Task]) -> None:
        """Do every task of the group and leave in each its result or its error."""

    @abstractmethod
    def _served(self, tasks: int, ended: bool) -> None:
        """A group, an idle second, or the last group is over."""


class Reader(_Worker):
    """Runs each read in a transaction of its own."""

    def _serve(self, group: list[_Task]) -> None:
        for task in group:
            assert task.work is not None, "batches are for the writer"
            try:
                with self._connection.begin():
                    task.result = task.work(self._connection)
            except Exception as error:
                task.refuse(translated(error, self._file))

    def _served(self, tasks: int, ended: bool) -> None:
        """A reader leaves nothing behind."""


class Writer(_Worker):
    """Runs everything that has gathered in one transaction.

    A refusal undoes the operation it came from and nothing else.  When the transaction itself fails
    (no space, an I/O error) every operation of the group fails and nothing of it is kept; the next
    group is a new chance.
    """

    _uncheckpointed = 0

    def submit_item(self, batch: IBatch, item: Any) -> Deferred[None]:
        """Write ``item`` by ``batch``, together with its neighbours in the queue."""
        return self._put(_Task(None, batch, item, Deferred()))

    def _serve(self, group: list[_Task]) -> None:
        try:
            with self._connection.begin():
                for run in _runs(group):
                    self._perform(run)
        except Exception as error:
            failure = translated(error, self._file)
            for task in group:
                task.refuse(failure)

    def _perform(self, run: list[_Task]) -> None:
        """A single operation, or neighbouring items of one batch; items one by one if need be."""
        try:
            self._attempt(run)
        except Exception as error:
            if of_database(error):
                raise
            run_statement(self._connection, "ROLLBACK TO SAVEPOINT one")
            run_statement(self._connection, "RELEASE SAVEPOINT one")
            if len(run) == 1:
                run[0].refuse(AlreadyKept() if already_kept(error) else error)
                return
            for task in run:
                self._perform([task])

    def _attempt(self, run: list[_Task]) -> None:
        connection = self._connection
        run_statement(connection, "SAVEPOINT one")
        batch, work = run[0].batch, run[0].work
        if batch is not None:
            refusals = batch(connection, [task.item for task in run])
            for task, refusal in zip(run, refusals, strict=True):
                task.error = refusal
        else:
            assert work is not None, "a task is work or an item"
            run[0].result = work(connection)
        run_statement(connection, "RELEASE SAVEPOINT one")

    def _patience(self) -> float | None:
        return IDLE_S if self._uncheckpointed else None

    def _served(self, tasks: int, ended: bool) -> None:
        self._uncheckpointed += tasks
        idle = not tasks and self._uncheckpointed
        late = self._uncheckpointed >= CHECKPOINT_WRITES and self._queue.empty()
        if idle or late or ended:
            self._uncheckpointed = 0
            self._checkpoint("TRUNCATE" if ended else "PASSIVE")

    def _checkpoint(self, mode: str) -> None:
        """Move the WAL into the database, so that the next commits overwrite it from its start.

        A WAL that is not re-grown is cheaper to fsync.  A failure loses nothing: the WAL stays.
        """
        raw = self._connection.connection.driver_connection
        assert raw is not None, "the connection is open"
        try:
            raw.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()
        except Exception as error:
            self.log.warn("checkpoint of {file} failed: {error}", file=self._file, error=error)


def _runs(group: list[_Task]) -> Iterator[list[_Task]]:
    """Neighbouring items of one batch together, every other operation alone."""
    for batch, tasks in groupby(group, key=lambda task: task.batch):
        if batch is None:
            yield from ([task] for task in tasks)
        else:
            yield list(tasks)


def _fire(group: list[_Task]) -> None:
    for task in group:
        task.fire()


def _passed_on(result: None, waiting: Deferred[None]) -> None:
    waiting.callback(result)
