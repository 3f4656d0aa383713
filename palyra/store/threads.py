"""The store's two threads: one that writes, with group commit, and one that reads.

Whoever submits gets a Deferred that fires in the reactor's thread.  A thread takes everything that
has gathered as soon as it is idle and hands all results back in one call; there is no timer and no
batch size to tune: the slower the disk, the larger the group.
"""

from __future__ import annotations

import contextlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Protocol, TypeVar

import attrs
from sqlalchemy import Connection
from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger

from palyra.core.audit import Acting, acting
from palyra.errors import Draining, PalyraError

T = TypeVar("T")
Operation = Callable[[Connection], T]
CallFromThread = Callable[[Callable[[], None]], object]
"""``reactor.callFromThread``."""
CallSoon = Callable[[Callable[[], None]], object]
"""The loop's ``call_soon``."""


def at_once(call: Callable[[], None]) -> None:
    """A ``call_soon`` for where there is no loop."""
    call()


class IBatch(Protocol):
    """Writes many items at once."""

    def __call__(self, connection: Connection, items: Sequence[Any]) -> list[PalyraError | None]:
        """Write the items and return for each the refusal that kept it out, or None."""


class IDatabase(Protocol):
    """The database behind a thread's connection: all that differs between SQLite and others."""

    @property
    def name(self) -> str:
        """What errors and logs call it; never has a password in it."""

    def connect(self) -> Connection:
        """A new connection; raises a typed error where there is none."""

    def translated(self, error: Exception) -> Exception:
        """The typed error for a fault of the database; any other error as it is."""

    def is_lost(self, connection: Connection) -> bool:
        """Whether the connection is of no more use, and another one might be."""

    def mark(self, connection: Connection) -> str:
        """What :meth:`committed` will know the connection's transaction by."""

    def committed(self, connection: Connection, mark: str) -> bool:
        """Whether the transaction of a lost connection was committed."""

    def checkpoint(self, connection: Connection, mode: str) -> None:
        """Put the database's own log away: PASSIVE in a pause, TRUNCATE at the end."""


@attrs.define(eq=False)
class _Task:
    """An operation, or an item for a batch, and who waits for it."""

    work: Operation[Any] | None
    batch: IBatch | None
    item: Any
    deferred: Deferred[Any]
    by: Acting | None = attrs.field(factory=acting)
    """On whose behalf it was submitted."""
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
        self,
        name: str,
        database: IDatabase,
        connection: Connection,
        call_from_thread: CallFromThread,
        call_soon: CallSoon,
    ) -> None:
        self._database = database
        self._open: Connection | None = connection
        self._call_from_thread = call_from_thread
        self._call_soon = call_soon
        self._gathering: list[_Task] = []
        self._queue: SimpleQueue[list[_Task] | None] = SimpleQueue()
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
            self._hand_over()
            self._queue.put(None)
        waiting: Deferred[None] = Deferred()
        self._closed.addCallback(_passed_on, waiting)
        return waiting

    def _put(self, task: _Task) -> Deferred[Any]:
        if self._closed is not None:
            return fail(Draining())
        # One hand-over for all of a turn: each would wake the thread, which wants the interpreter.
        self._gathering.append(task)
        if len(self._gathering) == 1:
            self._call_soon(self._hand_over)
        return task.deferred

    def _hand_over(self) -> None:
        tasks, self._gathering = self._gathering, []
        if tasks:
            self._queue.put(tasks)

    def _run(self) -> None:
        ended = False
        while not ended:
            gathered = self._gathered()
            ended = None in gathered
            group = [task for tasks in gathered if tasks is not None for task in tasks]
            if group:
                self._serve(group)
                self._call_from_thread(self._answer(group))
            self._served(len(group), ended)
        if self._open is not None:
            self._open.close()
        self._call_from_thread(self._ended)

    def _answer(self, group: list[_Task]) -> Callable[[], None]:
        """What the reactor does once the group is served."""
        return partial(_fire, group)

    def _connected(self) -> Connection:
        """The connection, or a new one where it was lost."""
        if self._open is None:
            self._open = self._database.connect()
        return self._open

    def _was_lost(self) -> bool:
        """Whether the connection is lost; one that is lost is let go."""
        lost = self._open
        if lost is None or not self._database.is_lost(lost):
            return False
        self._open = None
        with contextlib.suppress(Exception):  # it is broken, and may say so
            lost.invalidate()
            lost.close()
        return True

    def _gathered(self) -> list[list[_Task] | None]:
        """Everything that waits; blocks until there is something, or it is time to be idle."""
        try:
            gathered = [self._queue.get(timeout=self._patience())]
        except Empty:
            return []
        try:
            while True:
                gathered.append(self._queue.get_nowait())
        except Empty:
            return gathered

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
    """Runs each read in a transaction of its own; once more if that lost its connection."""

    def _serve(self, group: list[_Task]) -> None:
        for task in group:
            assert task.work is not None, "batches are for the writer"
            try:
                task.result = self._read(task.work)
            except Exception as error:
                task.refuse(self._database.translated(error))

    def _read(self, work: Operation[T]) -> T:
        try:
            return self._read_once(work)
        except Exception:
            if not self._was_lost():
                raise
        try:
            return self._read_once(work)
        finally:
            self._was_lost()

    def _read_once(self, work: Operation[T]) -> T:
        connection = self._connected()
        with connection.begin():
            return work(connection)

    def _served(self, tasks: int, ended: bool) -> None:
        """A reader leaves nothing behind."""


def _fire(group: list[_Task]) -> None:
    for task in group:
        task.fire()


def _passed_on(result: None, waiting: Deferred[None]) -> None:
    waiting.callback(result)
