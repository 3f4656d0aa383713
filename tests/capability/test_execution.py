"""A workbench: one handler after the other, and none of them touches the next."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import attrs
import msgspec
import pytest

from palyra.capability import Capability, CapabilityContext, DeviceFacts, Outcome, OutcomeKind
from palyra.capability.execution import Workbench

DEVICE = DeviceFacts("d", "f", "u", 0, 0, "pi")


@attrs.define
class Job:
    capability: Capability
    context: CapabilityContext
    input_bytes: bytes = b"null"
    settings: bytes = b""
    max_output_bytes: int = 4096
    interrupted_as: OutcomeKind | None = None


class Complaints(list[tuple[str, BaseException | None]]):
    def __call__(self, sentence: str, cause: BaseException | None) -> None:
        self.append((sentence, cause))


def job(handler: Callable[[Any, CapabilityContext], Awaitable[Any]], **more: Any) -> Job:
    capability = Capability(name="acme.work", description="Works.", handler=handler, **more)
    return Job(capability, CapabilityContext("j", DEVICE, deadline_s=time.monotonic() + 60))


@pytest.fixture
def complaints() -> Complaints:
    return Complaints()


class Room:
    """A thread with a workbench; that of the tests has the reactor's loop."""

    def __init__(self, complaints: Complaints) -> None:
        self._thread = ThreadPoolExecutor(1)
        self.bench = self._thread.submit(Workbench, complaints).result()
        self.interrupt = self.bench.interrupt

    def run(self, work: Job) -> Outcome:
        return self._thread.submit(self.bench.run, work).result(timeout=30)

    def close(self) -> None:
        self._thread.submit(self.bench.close).result()
        self._thread.shutdown()


@pytest.fixture
def bench(complaints: Complaints) -> Iterator[Room]:
    room = Room(complaints)
    yield room
    room.close()


async def nothing(value: Any, context: CapabilityContext) -> str:
    await asyncio.sleep(0)
    return "done"


def test_a_late_interrupt_does_not_hit_the_next_run(bench: Room) -> None:
    """An interrupt that comes when its run has ended is for nobody."""
    first, second = job(nothing), job(nothing)
    assert bench.run(first).kind is OutcomeKind.SUCCEEDED
    first.interrupted_as = OutcomeKind.CANCELLED
    bench.interrupt(first)
    assert bench.run(second) == Outcome(OutcomeKind.SUCCEEDED, b'"done"')


def test_an_early_interrupt_stops_the_handler_before_its_first_step(bench: Room) -> None:
    """An interrupt that comes just before the loop turns is not lost."""
    called = []

    async def handler(value: Any, context: CapabilityContext) -> None:
        called.append(value)

    work = job(handler)
    work.interrupted_as = OutcomeKind.CANCELLED
    bench.interrupt(work)
    assert bench.run(work).kind is OutcomeKind.CANCELLED
    assert called == []


def test_after_an_interrupt_there_are_threads_again(bench: Room) -> None:
    """The loop of the next run starts threads as the first one did."""

    async def threaded(value: Any, context: CapabilityContext) -> int:
        return await asyncio.to_thread(lambda: 7)

    async def waiting(value: Any, context: CapabilityContext) -> None:
        bench.interrupt(work)
        await asyncio.to_thread(lambda: None)
        await asyncio.sleep(60)

    work = job(waiting)
    work.interrupted_as = OutcomeKind.TIMED_OUT
    assert bench.run(work).kind is OutcomeKind.TIMED_OUT
    assert bench.run(job(threaded)).output == b"7"


def test_tasks_that_always_leave_another_one(bench: Room, complaints: Complaints) -> None:
    """Not even those wake up in the next run: it has another loop."""
    loops = []

    async def again() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            asyncio.get_running_loop().create_task(again())
            await asyncio.sleep(0)

    async def handler(value: Any, context: CapabilityContext) -> None:
        loops.append(asyncio.get_running_loop())
        if len(loops) == 1:
            loops[0].create_task(again())
            await asyncio.sleep(0)

    assert bench.run(job(handler)).kind is OutcomeKind.SUCCEEDED
    assert bench.run(job(handler)).kind is OutcomeKind.SUCCEEDED
    assert loops[0] is not loops[1]
    assert loops[0].is_closed()


def test_settings_are_given_or_decoded(bench: Room) -> None:
    """Those of a context that has some are kept; others come from their JSON."""

    class Settings(msgspec.Struct, forbid_unknown_fields=True):
        copies: int = 1

    async def handler(value: Any, context: CapabilityContext) -> int:
        return int(context.settings.copies)

    assert bench.run(job(handler, settings_type=Settings)).output == b"1"
    configured = job(handler, settings_type=Settings)
    configured.settings = b'{"copies":5}'
    assert bench.run(configured).output == b"5"
    given = job(handler, settings_type=Settings)
    given.context.settings = Settings(9)
    assert bench.run(given).output == b"9"


def test_what_the_loop_says_is_a_complaint(bench: Room, complaints: Complaints) -> None:
    """A callback of a handler that fails is told with the others."""

    async def handler(value: Any, context: CapabilityContext) -> None:
        asyncio.get_running_loop().call_soon(lambda: [][0])
        await asyncio.sleep(0)

    bench.run(job(handler))
    ((sentence, _),) = complaints
    assert sentence.startswith("a handler's event loop: Exception in callback")
