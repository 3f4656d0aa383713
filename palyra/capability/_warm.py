"""A warm thread: an event loop that waits for one run after the other."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from palyra.capability.outcome import Outcome, OutcomeKind, failed, interrupted, succeeded
from palyra.errors import PalyraError

if TYPE_CHECKING:
    from palyra.capability.runner import Run, ThreadRunner

log = Logger()


class Seat:
    """Where one thread sits: its loop, the task it runs, and whether it was given up."""

    __slots__ = ("abandoned", "loop", "task", "thread")

    def __init__(self) -> None:
        self.thread: threading.Thread = threading.current_thread()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.task: asyncio.Task[bytes] | None = None
        self.abandoned = False

    def interrupt(self) -> None:
        """Cancel the running task, from any thread; the caller holds the runner's lock."""
        if self.loop is not None:
            self.loop.call_soon_threadsafe(self._cancel_task)

    def _cancel_task(self) -> None:
        if self.task is not None:
            self.task.cancel()


def serve(runner: ThreadRunner, seat: Seat) -> None:
    """The life of a warm thread: until it is told to stop, or was given up."""
    try:
        seat.loop = loop = asyncio.new_event_loop()
    except OSError:
        runner._gone(seat)
        raise
    loop.set_exception_handler(_stray)
    try:
        while not seat.abandoned and (run := runner._take()) is not None:
            begun = runner._begin(run, seat)
            runner._ended(run, seat, _execute(loop, seat, run) if begun else None)
    finally:
        runner._gone(seat)
        loop.close()


def _execute(loop: asyncio.AbstractEventLoop, seat: Seat, run: Run) -> Outcome:
    """Run the handler to its end, whatever it raises, and leave an empty loop behind."""
    seat.task = task = loop.create_task(_call(run))
    try:
        outcome = succeeded(loop.run_until_complete(task))
    except BaseException as exc:  # SystemExit of a handler must not end the thread
        outcome = _outcome_of(run, exc)
    seat.task = None
    if leftovers := asyncio.all_tasks(loop):
        _end_tasks(loop, leftovers)
    if run.interrupted_as is OutcomeKind.TIMED_OUT:
        return run.interruption(stopped=True)
    return outcome


async def _call(run: Run) -> bytes:
    capability = run.capability
    value = capability.decode_input(run.input_bytes)
    answer = await capability.handler(value, run.context)
    return capability.encode_output(answer, run.max_output_bytes)


def _outcome_of(run: Run, exc: BaseException) -> Outcome:
    name = run.capability.name
    if isinstance(exc, asyncio.CancelledError) and run.interrupted_as is not None:
        return interrupted(run.interrupted_as, name, began=True, stopped=True)
    if not isinstance(exc, PalyraError):
        failure = Failure(exc)
        log.failure("{name} failed", failure, level=LogLevel.error, name=name)
    return failed(exc)


def _end_tasks(loop: asyncio.AbstractEventLoop, tasks: set[asyncio.Task[Any]]) -> None:
    """Cancel what a handler left running: it must not wake up inside somebody else's run."""
    for task in tasks:
        task.cancel()
    try:
        loop.run_until_complete(asyncio.wait(tasks))
    except BaseException:
        log.failure("a task that a handler left behind did not end", level=LogLevel.error)


def _stray(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    log.warn("a handler's event loop: {message}", message=context.get("message", ""))
