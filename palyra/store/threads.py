"""The store's two threads: one that writes, with group commit, and one that reads.

Whoever submits gets a Deferred that fires in the reactor's thread.  A thread takes everything that
has gathered as soon as it is idle and hands all results back in one call; there is no timer and no
batch size to tune: the slower the disk, the larger the group.
"""

from __future__ import annotations

import contextlib
import threading
import time
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
from palyra.store.faults import already_kept, of_database
from palyra.store.opening import run_statement

T = TypeVar("T")
Operation = Callable[[Connection], T]
CallFromThread = Callable[[Callable[[], None]], object]
"""``reactor.callFromThread``."""
CallSoon = Callable[[Callable[[], None]], object]
"""The loop's ``call_soon``."""


def at_once(call: Callable[[], None]) -> None:
    """A ``call_soon`` for where there is no loop."""
    call()


CHECKPOINT_WRITES = 1_000
"""Writes after which an empty queue is enough for a checkpoint."""
IDLE_S = 1.0
DOUBT_PAUSES_S = (0.0, 0.5, 1.5, 3.0)
"""When to ask what became of a commit whose connection was lost: a restart takes a few seconds."""


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
                self._call_from_thread(partial(_fire, group))
            self._served(len(group), ended)
        if self._open is not None:
            self._open.close()
        self._call_from_thread(self._ended)

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


class Writer(_Worker):
    """Runs everything that has gathered in one transaction.

    A refusal undoes the operation it came from and nothing else.  When the transaction itself fails
    (no space, an I/O error) every operation of the group fails and nothing of it is kept; the next
    group is a new chance.  A group whose connection was lost is written once more over a new one,
    unless its commit had begun and turns out to have happened.
    """

    _uncheckpointed = 0
    _mark: str | None = None
    """Of the transaction that is being committed; None until its operations are done."""

    def submit_item(self, batch: IBatch, item: Any) -> Deferred[None]:
        """Write ``item`` by ``batch``, together with its neighbours in the queue."""
        return self._put(_Task(None, batch, item, Deferred()))

    def _serve(self, group: list[_Task]) -> None:
        try:
            self._write(group)
        except Exception as error:
            failure = self._database.translated(error)
            for task in group:
                task.refuse(failure)

    def _write(self, group: list[_Task]) -> None:
        try:
            self._write_once(group)
        except Exception as error:
            if not self._was_lost():
                raise
            if self._mark is not None and self._committed(self._mark, error):
                return
            try:
                self._write_once(group)
            finally:
                self._was_lost()

    def _write_once(self, group: list[_Task]) -> None:
        self._mark = None
        for task in group:
            task.error = None
        runs = list(_runs(group))
        if len(runs) == 1 and self._written_plainly(runs[0]):
            return
        connection = self._connected()
        with connection.begin():
            for run in runs:
                self._perform(connection, run)
            self._mark = self._database.mark(connection)

    def _written_plainly(self, run: list[_Task]) -> bool:
        """Write a group that is one run without a savepoint; False where something in it broke.

        That undoes the transaction, and the group is written again with savepoints, which find
        what broke.  Nearly always nothing does.
        """
        connection = self._connected()
        try:
            with connection.begin():
                _do(connection, run)
                self._mark = self._database.mark(connection)
        except Exception as error:
            if of_database(error):
                raise
            return False
        return True

    def _committed(self, mark: str, lost: Exception) -> bool:
        """Whether the commit that was cut off happened; raises ``lost`` if nobody can tell."""
        for pause_s in DOUBT_PAUSES_S:
            time.sleep(pause_s)
            try:
                connection = self._connected()
                with connection.begin():
                    return self._database.committed(connection, mark)
            except Exception as error:
                self.log.warn("a commit is in doubt: {error}", error=error)
                self._was_lost()
        raise lost

    def _perform(self, connection: Connection, run: list[_Task]) -> None:
        """A single operation, or neighbouring items of one batch; in halves where one breaks."""
        try:
            self._attempt(connection, run)
        except Exception as error:
            if of_database(error):
                raise
            run_statement(connection, "ROLLBACK TO SAVEPOINT one")
            run_statement(connection, "RELEASE SAVEPOINT one")
            if len(run) == 1:
                run[0].refuse(AlreadyKept() if already_kept(error) else error)
                return
            half = len(run) // 2  # one that is refused costs a large group little
            for part in (run[:half], run[half:]):
                self._perform(connection, part)

    def _attempt(self, connection: Connection, run: list[_Task]) -> None:
        run_statement(connection, "SAVEPOINT one")
        _do(connection, run)
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
        """Put the database's log away.  A failure loses nothing: the log stays."""
        if self._open is None:
            return
        try:
            self._database.checkpoint(self._open, mode)
        except Exception as error:
            self.log.warn(
                "checkpoint of {name} failed: {error}", name=self._database.name, error=error
            )


def _runs(group: list[_Task]) -> Iterator[list[_Task]]:
    """Neighbouring items of one batch together, every other operation alone."""
    for batch, tasks in groupby(group, key=lambda task: task.batch):
        if batch is None:
            yield from ([task] for task in tasks)
        else:
            yield list(tasks)


def _do(connection: Connection, run: list[_Task]) -> None:
    """Do what the tasks of a run ask for, and leave in each what came of it."""
    batch, work = run[0].batch, run[0].work
    if batch is not None:
        refusals = batch(connection, [task.item for task in run])
        for task, refusal in zip(run, refusals, strict=True):
            task.error = refusal
    else:
        assert work is not None, "a task is work or an item"
        run[0].result = work(connection)


def _fire(group: list[_Task]) -> None:
    for task in group:
        task.fire()


def _passed_on(result: None, waiting: Deferred[None]) -> None:
    waiting.callback(result)
