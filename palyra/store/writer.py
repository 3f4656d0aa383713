"""The thread that writes, with group commit; it tells whoever watches which journals have grown."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterator
from functools import partial
from itertools import groupby
from typing import Any

from sqlalchemy import Connection
from twisted.internet.defer import Deferred

from palyra.core.audit import acts_for
from palyra.core.identifiers import DeviceId
from palyra.errors import AlreadyKept
from palyra.store import journal, remembered
from palyra.store.faults import already_kept, of_database
from palyra.store.opening import run_statement
from palyra.store.threads import IBatch, _fire, _Task, _Worker

CHECKPOINT_WRITES = 1_000
"""Writes after which an empty queue is enough for a checkpoint."""
IDLE_S = 1.0
DOUBT_PAUSES_S = (0.0, 0.5, 1.5, 3.0)
"""When to ask what became of a commit whose connection was lost: a restart takes a few seconds."""


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
    _committing = False
    """Whether a transaction was begun whose commit was not seen."""
    _grown: frozenset[DeviceId] = frozenset()
    """The devices whose journals grew in the transaction of ``_mark``."""
    _followed: Collection[DeviceId] = ()
    _tell: Callable[[DeviceId], object]
    _measured: Callable[[int, float], object] | None = None

    def watch(self, followed: Collection[DeviceId], tell: Callable[[DeviceId], object]) -> None:
        """Call ``tell`` in the reactor's thread for each device in ``followed`` whose journal grew,
        after the commit.  Only whether a device is in it is asked, and that in the thread."""
        self._tell = tell
        self._followed = followed

    def measure(self, committed: Callable[[int, float], object]) -> None:
        """Call ``committed`` in the thread after each transaction, with the number of operations
        and the seconds it took."""
        self._measured = committed

    def submit_item(self, batch: IBatch, item: Any) -> Deferred[None]:
        """Write ``item`` by ``batch``, together with its neighbours in the queue."""
        return self._put(_Task(None, batch, item, Deferred()))

    def _serve(self, group: list[_Task]) -> None:
        since = time.perf_counter()
        try:
            self._write(group)
        except Exception as error:
            self._grown = frozenset()
            failure = self._database.translated(error)
            for task in group:
                task.refuse(failure)
        if self._measured is not None:
            self._measured(len(group), time.perf_counter() - since)

    def _answer(self, group: list[_Task]) -> Callable[[], None]:
        if not self._followed:
            return super()._answer(group)
        followed = [device_id for device_id in self._grown if device_id in self._followed]
        return partial(_fire_and_tell, group, followed, self._tell)

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
        self._mark, self._grown = None, frozenset()
        for task in group:
            task.error = None
        runs = list(_runs(group))
        if len(runs) == 1 and self._written_plainly(runs[0]):
            return
        with self._transaction() as connection:
            for run in runs:
                self._perform(connection, run)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[Connection]:
        connection = self._connected()
        if self._committing:  # the one before was undone, or may have been
            remembered.undone(connection)
        self._committing = True
        with connection.begin():
            yield connection
            remembered.complete(connection)
            self._grown = journal.of(connection).take_grown()
            self._mark = self._database.mark(connection)
        self._committing = False

    def _written_plainly(self, run: list[_Task]) -> bool:
        """Write a group that is one run without a savepoint; False where something in it broke.

        That undoes the transaction, and the group is written again with savepoints, which find
        what broke.  Nearly always nothing does.
        """
        try:
            with self._transaction() as connection:
                _do(connection, run)
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
        standing = remembered.standing(connection)
        try:
            self._attempt(connection, run)
        except Exception as error:
            if of_database(error):
                raise
            run_statement(connection, "ROLLBACK TO SAVEPOINT one")
            run_statement(connection, "RELEASE SAVEPOINT one")
            remembered.undone(connection, standing)
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
    task = run[0]
    if task.batch is not None:
        refusals = task.batch(connection, [each.item for each in run])
        for each, refusal in zip(run, refusals, strict=True):
            each.error = refusal
    else:
        assert task.work is not None, "a task is work or an item"
        with acts_for(task.by):
            task.result = task.work(connection)


def _fire_and_tell(
    group: list[_Task], grown: list[DeviceId], tell: Callable[[DeviceId], object]
) -> None:
    _fire(group)
    for device_id in grown:
        tell(device_id)
