"""What a job costs by how many jobs are on record already."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from collections.abc import Callable

import attrs

from benchmarks import records
from benchmarks.heartbeat import Turns
from benchmarks.loads import Unary, connected
from benchmarks.measuring import Burst, Findings, Plan, figure, run, together
from benchmarks.paired import Served, Town, served, start_fleet, town
from benchmarks.records import now_ms
from palyra.console.models import JobList
from palyra.gateway.retention import AT_ONCE
from palyra.store.sqlite import SqliteStore

DAYS = 29
"""How old the oldest job is: none is old enough to be forgotten for its age."""
PAGE = 50
PAGES = 9
SWEEPS = 40
WARM_UP_S = 0.5


def history(plan: Plan) -> Findings:
    """One caller and the job list on stores of several sizes, then retention on the largest.

    All gateways run at once and are measured in turn: another load meets each of them.
    """
    found = Findings()
    with contextlib.ExitStack() as towns:
        here = {size: towns.enter_context(town(plan.nodes)) for size in plan.history}
        for size, each in here.items():
            records.keep_ended(each.database, each.devices, size, DAYS)
        _measure(found, plan, here)
        largest = max(here)
        _forget(found, here[largest], largest)
    return found


def _measure(found: Findings, plan: Plan, here: dict[int, Town]) -> None:
    with contextlib.ExitStack() as running:
        gateways = {}
        for size, each in here.items():
            began_s = time.perf_counter()
            gateways[size] = running.enter_context(served(each))
            found.figures[f"history.{size}.start_s"] = figure([time.perf_counter() - began_s])
            start_fleet(gateways[size], each.nodes[:1])
        rounds, answered = run(_rounds(plan, gateways))
        on_record = sum(each.count("succeeded") for each in here.values())
        found.account("history", sum(here) + answered, on_record)
    smallest = rounds[min(here)]
    for size, ours in rounds.items():
        for key, values in _READERS.items():
            against = None if ours is smallest else [values(each) for each in smallest]
            name = f"history.{size}.{key}"
            found.figures[name] = figure([values(each) for each in ours], against)


@attrs.frozen
class Round:
    """One round of one store."""

    burst: Burst
    cpu_us: float
    page_ms: float


_READERS: dict[str, Callable[[Round], float]] = {
    "p50_ms": lambda each: each.burst.ms(0.5),
    "p99_ms": lambda each: each.burst.ms(0.99),
    "cpu_us": lambda each: each.cpu_us,
    "page_ms": lambda each: each.page_ms,
}


async def _rounds(plan: Plan, gateways: dict[int, Served]) -> tuple[dict[int, list[Round]], int]:
    async with contextlib.AsyncExitStack() as lines:
        callers = {}
        for size, here in gateways.items():
            line = await lines.enter_async_context(connected(here))
            callers[size] = Unary(line, [here.town.nodes[0].device_id])
            await _round(callers[size], here, min(WARM_UP_S, plan.seconds))
        rounds: dict[int, list[Round]] = {size: [] for size in gateways}
        for _ in range(plan.rounds):
            for size, here in gateways.items():
                rounds[size].append(await _round(callers[size], here, plan.seconds))
    return rounds, sum(unary.answered for unary in callers.values())


async def _round(unary: Unary, here: Served, seconds: float) -> Round:
    before_s = here.cpu_s()
    burst = await together(unary.job, 1, seconds)
    cpu_us = (here.cpu_s() - before_s) / len(burst.took_s) * 1e6
    return Round(burst, cpu_us, await asyncio.to_thread(_page_ms, here))


def _page_ms(here: Served) -> float:
    """Milliseconds of the newest page of jobs, in the median."""
    console = here.town.console
    return statistics.median(
        _timed_ms(lambda: console.get("jobs", JobList, limit=PAGE)) for _ in range(PAGES)
    )


def _timed_ms(act: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    act()
    return (time.perf_counter() - began_s) * 1000


def _forget(found: Findings, here: Town, kept: int) -> None:
    """Steps of a retention sweep, each a transaction that others wait for: because the oldest are
    too old, then because there are too many."""
    turns = Turns()
    store = SqliteStore.open(here.database, call_from_thread=turns.call_from_thread, now_ms=now_ms)
    steps = max(1, min(SWEEPS, kept // AT_ONCE // 4))
    with contextlib.ExitStack() as closing:
        closing.callback(lambda: turns.wait(store.close()))
        reasons = {"old": (now_ms(), kept), "many": (0, kept // 4)}
        for reason, (before_ms, keep) in reasons.items():
            took = []
            for _ in range(steps):
                began_s = time.perf_counter()
                gone = turns.wait(store.forget_jobs(before_ms, keep, AT_ONCE))
                took.append((time.perf_counter() - began_s) * 1000)
                assert gone == AT_ONCE, "there are as many to forget"
            found.figures[f"history.forget_{reason}_ms"] = figure(took)
