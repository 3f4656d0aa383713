"""Stand-ins for what a node host's rooms talk to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred
from zope.interface import implementer

from palyra.capability.context import CapabilityContext, DeviceFacts
from palyra.capability.descriptor import Capability
from palyra.capability.outcome import Outcome, OutcomeKind, interrupted
from palyra.capability.registry import Registered, Registry
from palyra.core.frames import Dispatch, Progress, Waiting
from palyra.core.identifiers import AttemptId, DeviceId
from palyra.core.jobs import Report
from palyra.errors import PalyraError
from palyra.node.attempts import AttemptMemory
from palyra.node.mediation import Answer, IMediator, Question
from palyra.transport.interfaces import ICarrier

T = TypeVar("T")
NOW_MS = 1_700_000_000_000
PATIENCE_S = 30
DEVICE_ID = DeviceId("01M80NKQCNX4K7QM2ZT9B3FVHD")
FACTS = DeviceFacts(DEVICE_ID, "ab" * 32, "127.0.0.1:7444", NOW_MS, 500, "pi")


def attempt(number: int) -> AttemptId:
    """An attempt id."""
    return AttemptId(f"01M80NKQCNX4K7QM2ZT9B3{number:04d}")


def dispatch(number: int = 1, capability: str = "test.act", **given: Any) -> Dispatch:
    """A dispatch of attempt ``number``."""
    values: dict[str, Any] = {
        "attempt_id": attempt(number),
        "job_id": "01M80NKQCNB8Q2ZNZT9B3FVHD0",
        "number": 1,
        "capability": capability,
        "input_json": b"{}",
        "max_payload_bytes": 65_536,
        "remaining_ms": 30_000,
        "requested_by": "ana",
    }
    return Dispatch(**values | given)


async def act(_: Any, __: Any) -> dict[str, bool]:
    """A handler."""
    return {"done": True}


def registry() -> Registry:
    """Three capabilities: one with an effect, one without, and one that asks a person."""
    return Registry(
        [
            Registered(Capability(description="x", handler=act, **given), "tests", "1")
            for given in (
                {"name": "test.act"},
                {"name": "test.look", "idempotent": True},
                {"name": "test.ask", "needs_mediation": True},
            )
        ],
        [],
    )


class Turns:
    """A reactor's thread, whose turns a test takes itself."""

    def __init__(self) -> None:
        self.queue: SimpleQueue[Callable[[], object]] = SimpleQueue()

    def callFromThread(self, call: Callable[..., object], *args: object) -> None:
        """As the reactor's."""
        self.queue.put(lambda: call(*args))

    def turn(self) -> None:
        """What the next thread that ends a work hands over."""
        self.queue.get(timeout=PATIENCE_S)()

    def wait(self, result: Awaitable[T]) -> T:
        """The result of a Deferred; raises what it failed with."""
        assert isinstance(result, Deferred)
        kept: list[T] = []
        failed: list[BaseException] = []
        result.addCallbacks(kept.append, lambda failure: failed.append(failure.value))
        while not kept and not failed:
            self.turn()
        if failed:
            raise failed[0]
        return kept[0]

    def memory(self, path: Path, now_ms: int = NOW_MS) -> AttemptMemory:
        """A memory that was opened and started."""
        memory = AttemptMemory.open(path, reactor=self, entropy=lambda n: b"m" * n, now_ms=now_ms)
        memory.start()
        return memory


@attrs.define(eq=False)
class FakeRun:
    """A run that a test ends."""

    capability: Capability
    context: CapabilityContext
    on_done: Callable[[Outcome], None]
    cancelled: bool = False

    def cancel(self) -> None:
        """Stops at once."""
        self.cancelled = True
        self.on_done(
            interrupted(OutcomeKind.CANCELLED, self.capability.name, began=True, stopped=True)
        )


class FakeRunner:
    """Starts nothing."""

    def __init__(self) -> None:
        self.runs: list[FakeRun] = []
        self.closed = False

    def start(
        self, capability: Capability, _: bytes, context: CapabilityContext, __: int, done: Any
    ) -> FakeRun:
        """As ThreadRunner's."""
        if self.closed:
            raise RuntimeError("the runner is closed")
        run = FakeRun(capability, context, done)
        self.runs.append(run)
        return run


class FakeSpeaker:
    """A session that keeps what is said."""

    def __init__(self) -> None:
        self.reports: list[Report] = []
        self.said: list[Progress | Waiting] = []

    def report(self, report: Report) -> None:
        self.reports.append(report)

    def progress(self, progress: Progress) -> None:
        self.said.append(progress)

    def waiting(self, waiting: Waiting) -> None:
        self.said.append(waiting)


@implementer(IMediator)
class FakeMediator:
    """A person who answers when the test says so."""

    def __init__(self) -> None:
        self.asked: list[tuple[Question, Deferred[Answer]]] = []

    def ask(self, question: Question) -> Deferred[Answer]:
        answer: Deferred[Answer] = Deferred()
        self.asked.append((question, answer))
        return answer


@implementer(ICarrier)
class FakeCarrier:
    """A connection that only counts."""

    def __init__(self) -> None:
        self.woken = 0
        self.closed: list[PalyraError | None] = []

    def wake(self) -> None:
        self.woken += 1

    def close(self, error: PalyraError | None) -> None:
        self.closed.append(error)
