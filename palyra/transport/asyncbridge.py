"""Where Deferreds and futures meet, and nowhere else.

Awaiting one kind inside a coroutine of the other raises (or works by accident when it has already
fired), so every crossing is a call of this room.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from palyra._reactor import event_loop, the_reactor

T = TypeVar("T")


def as_deferred(coroutine: Coroutine[Any, Any, T]) -> Deferred[T]:
    """Run an asyncio coroutine as a task; cancelling the Deferred cancels the task.

    asyncio's CancelledError is a BaseException that Deferreds do not carry well: it arrives as
    Twisted's own CancelledError.
    """
    task = event_loop(the_reactor()).create_task(coroutine)

    def cancel(_: Deferred[Any]) -> None:
        task.cancel()

    result: Deferred[T] = Deferred(cancel)

    def finished(done: asyncio.Task[T]) -> None:
        if result.called:
            if not done.cancelled():
                done.exception()  # looked at, so that asyncio does not report it as lost
            return
        if done.cancelled():
            result.errback(Failure(CancelledError()))
        elif (error := done.exception()) is not None:
            result.errback(Failure(error))
        else:
            result.callback(done.result())

    task.add_done_callback(finished)
    return result


def as_future(deferred: Deferred[T]) -> asyncio.Future[T]:
    """A future that ends as the Deferred does.

    Cancelling the future only stops waiting: what the Deferred stands for (a commit, a job) goes
    on, and a failure that comes later is logged by nobody but its owner.
    """
    future: asyncio.Future[T] = event_loop(the_reactor()).create_future()

    def succeeded(value: T) -> None:
        if not future.done():
            future.set_result(value)

    def failed(failure: Failure) -> None:
        if not future.done():
            assert failure.value is not None, "a failure has an exception"
            future.set_exception(failure.value)

    deferred.addCallbacks(succeeded, failed)
    return future


def run_now(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end before the reactor runs (binding a port in ``startService``)."""
    return event_loop(the_reactor()).run_until_complete(coroutine)


def run_now_deferred(coroutine: Coroutine[Deferred[Any], Any, T]) -> T:
    """The same for a coroutine that awaits Deferreds (loading state before serving it)."""

    async def wait() -> T:
        return await as_future(Deferred.fromCoroutine(coroutine))

    return run_now(wait())


def call_from_thread(function: Callable[..., object], *arguments: object) -> None:
    """Run a function on the reactor's thread soon; the way back from every other thread.

    ``reactor.callFromThread`` takes two turns of the loop for it, which every job would pay.
    """
    event_loop(the_reactor()).call_soon_threadsafe(function, *arguments)


def call_soon(function: Callable[[], object]) -> None:
    """Run a function on the reactor's thread in the next turn of its loop; from that thread."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:  # it does not run yet
        loop = event_loop(the_reactor())
    loop.call_soon(function)


def on_hangup(act: Callable[[], object]) -> Callable[[], None]:
    """Call ``act`` on the reactor's thread at every SIGHUP from now on; what undoes that.

    Nothing where the system has no such signal, and in other threads than the main one.  Not by
    the loop's ``add_signal_handler``: that would take the wake-up descriptor away by which the
    reactor hears of ended children.
    """
    signum = getattr(signal, "SIGHUP", None)
    if signum is None or threading.current_thread() is not threading.main_thread():
        return lambda: None
    before = signal.signal(signum, lambda *_: call_from_thread(act))

    def undo() -> None:
        signal.signal(signum, before)

    return undo


class Tasks:
    """The owner of tasks that nobody awaits: logs their failures, cancels them at the end."""

    _log = Logger()

    def __init__(self, name: str) -> None:
        self._name = name
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, coroutine: Coroutine[Any, Any, Any]) -> Callable[[], object]:
        """Start a task that this object owns; the returned callable cancels it."""
        task = event_loop(the_reactor()).create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task.cancel

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.failure("{owner}: a task failed", Failure(error), owner=self._name)

    async def stop(self) -> None:
        """Cancel every task and wait until all have ended."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
