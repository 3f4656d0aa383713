"""Figures with their spread, and the calls that make them."""

from __future__ import annotations

import asyncio
import math
import statistics
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

import attrs
import click
import msgspec

T = TypeVar("T")
Job = Callable[[], Awaitable[object]]
"""Makes one call and waits for its answer."""


class Figure(msgspec.Struct, frozen=True):
    """The median of several rounds, the lowest and the highest of them.

    ``ratio`` is how many times what it is compared with, in the same round, that is in the median.
    """

    median: float
    low: float
    high: float
    rounds: int
    ratio: float | None = None


def figure(values: Sequence[float], against: Sequence[float] | None = None) -> Figure:
    """The figure of one value a round, compared with other values of the same rounds."""
    middle, low, high = statistics.median(values), min(values), max(values)
    ratio = None
    if against is not None:
        pairs = zip(values, against, strict=True)
        ratio = round(statistics.median(ours / theirs for ours, theirs in pairs), 3)
    return Figure(round(middle, 3), round(low, 3), round(high, 3), len(values), ratio)


class Account(msgspec.Struct, frozen=True):
    """What callers were told, and what the store says."""

    answered: int
    on_record: int


class Miscounted(click.ClickException):
    """The store does not hold what was answered: whatever was measured is worthless."""


@attrs.frozen
class Findings:
    """What a part of the benchmark found, by name."""

    figures: dict[str, Figure] = attrs.Factory(dict)
    records: dict[str, Account] = attrs.Factory(dict)

    def account(self, name: str, answered: int, on_record: int) -> None:
        """Keep that the store holds what was answered.

        :raises Miscounted: it holds another number of jobs.
        """
        if answered != on_record:
            raise Miscounted(f"{name}: {answered} jobs answered, but {on_record} are on record")
        self.records[name] = Account(answered, on_record)


@attrs.frozen(kw_only=True)
class Plan:
    """How much is measured."""

    seconds: float = 2.0
    """How long one round of one figure takes."""
    rounds: int = 5
    callers: int = 64
    nodes: int = 100
    streams: Sequence[int] = (1, 2, 4)
    crowd: int = 1_000
    """Nodes of the fan-out."""
    history: Sequence[int] = (1_000, 10_000, 100_000, 1_000_000)


@attrs.frozen
class Burst:
    """Calls that were made at once: what each took, and all of them together, in seconds."""

    took_s: list[float]
    wall_s: float

    @property
    def per_s(self) -> float:
        """Answered calls by wall time."""
        return len(self.took_s) / self.wall_s

    def ms(self, share: float) -> float:
        """A percentile of what a call took, in milliseconds."""
        return percentile(sorted(self.took_s), share) * 1000


def percentile(ordered: Sequence[float], share: float) -> float:
    """By nearest rank."""
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)]


async def together(job: Job, callers: int, seconds: float) -> Burst:
    """So many callers for so long, each with one call in flight."""
    began_s = time.perf_counter()
    end_s = began_s + seconds
    took = await asyncio.gather(*(_until(job, end_s) for _ in range(callers)))
    return Burst([each for some in took for each in some], time.perf_counter() - began_s)


async def _until(job: Job, end_s: float) -> list[float]:
    took = []
    now_s = time.perf_counter()
    while now_s < end_s:
        await job()
        then_s, now_s = now_s, time.perf_counter()
        took.append(now_s - then_s)
    return took


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, on the event loop that the gateway takes too."""
    with asyncio.Runner(loop_factory=_loop) as runner:
        return runner.run(main)


def _loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop
