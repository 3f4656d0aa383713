"""The bridge between Deferreds and futures: results, failures and cancellation cross it."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.logger import LogEvent, globalLogPublisher

from palyra.errors import NotRegistered
from palyra.transport.asyncbridge import Tasks, as_deferred, as_future, call_from_thread


async def value(result: object = 7) -> object:
    await asyncio.sleep(0)
    return result


async def refused() -> None:
    await asyncio.sleep(0)
    raise NotRegistered()


@pytest_twisted.ensureDeferred
async def test_results_and_failures_reach_deferreds() -> None:
    """A task's result is the Deferred's, and so is its exception."""
    assert await as_deferred(value()) == 7
    with pytest.raises(NotRegistered):
        await as_deferred(refused())


@pytest_twisted.ensureDeferred
async def test_results_and_failures_reach_tasks() -> None:
    """A Deferred's result is the future's, fired before or after it is awaited."""

    async def wait(deferred: Deferred[object]) -> object:
        return await as_future(deferred)

    assert await as_deferred(wait(succeed(1))) == 1
    later: Deferred[object] = Deferred()
    waiting = as_deferred(wait(later))
    later.callback(2)
    assert await waiting == 2
    with pytest.raises(NotRegistered):
        await as_deferred(wait(fail(NotRegistered())))


@pytest_twisted.ensureDeferred
async def test_cancelling_a_deferred_cancels_its_task() -> None:
    """The task ends, and Twisted's own CancelledError arrives, not asyncio's."""
    ended: Deferred[None] = Deferred()

    async def forever() -> None:
        try:
            await asyncio.sleep(3_600)
        finally:
            ended.callback(None)

    waiting = as_deferred(forever())
    await as_deferred(value())
    waiting.cancel()
    with pytest.raises(CancelledError):
        await waiting
    await ended


@pytest_twisted.ensureDeferred
async def test_cancelling_a_future_leaves_its_deferred() -> None:
    """Whoever waits may go; what is waited for goes on, also where it fails at last."""
    for end in (lambda d: d.callback(1), lambda d: d.errback(NotRegistered())):
        commit: Deferred[object] = Deferred()
        future = as_future(commit)
        future.cancel()
        assert not commit.called
        end(commit)
        await as_deferred(value())


@pytest_twisted.ensureDeferred
async def test_a_call_from_a_thread() -> None:
    """It runs on the reactor's thread, with its arguments."""
    called: Deferred[tuple[object, int]] = Deferred()
    here = threading.get_ident()

    def act(argument: object) -> None:
        called.callback((argument, threading.get_ident()))

    thread = threading.Thread(target=call_from_thread, args=(act, "x"))
    thread.start()
    assert await called == ("x", here)
    thread.join()


@pytest_twisted.ensureDeferred
async def test_owned_tasks() -> None:
    """Their failures are logged under the owner's name, and stopping ends them all."""
    events: list[LogEvent] = []
    observer: Any = events.append
    globalLogPublisher.addObserver(observer)
    try:
        tasks = Tasks("the owner")
        tasks.start(refused())
        tasks.start(asyncio.sleep(3_600))
        cancel = tasks.start(asyncio.sleep(3_600))
        cancel()
        for _ in range(3):
            await as_deferred(value())
        await as_deferred(tasks.stop())
        await as_deferred(tasks.stop())
    finally:
        globalLogPublisher.removeObserver(observer)
    (logged,) = [each for each in events if "a task failed" in str(each.get("log_format"))]
    assert logged["owner"] == "the owner"
