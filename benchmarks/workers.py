"""What it costs to run a capability in a process of its own, and what a cold start would cost.

Run ``python -m benchmarks.workers``; README.md beside this file says how to read the numbers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import attrs
import click

from benchmarks.measuring import Findings, Plan, figure, run
from benchmarks.report import measure, printed
from benchmarks.ways import CPU, LATENCY, RATE, keep, run_rounds, way
from palyra.capability.catalogue import Offer
from palyra.capability.context import CapabilityContext, DeviceFacts
from palyra.capability.frames import Limits
from palyra.capability.outcome import Outcome, OutcomeKind
from palyra.capability.registry import load_here, own_points
from palyra.capability.runner import ThreadRunner
from palyra.workers.pool import PoolSettings, WorkerPool
from palyra.workers.runners import Runners

CALLERS = 4
COLD_STARTS = 5
_DEVICE = DeviceFacts("01BENCH", "f1", "https://gateway:7444", 0, 1_000, "bench")
_INPUT = b'{"text":"hello"}'
_MAX_OUTPUT_BYTES = 64 * 1024
_MIB = 1024 * 1024
_LIMITS = Limits(memory_bytes=1024 * _MIB, open_files=256, file_bytes=64 * _MIB, processes=256)
QUICK = Plan(seconds=0.2, rounds=2, callers=CALLERS)


class _Runner(Protocol):
    def start(
        self,
        offer: Offer,
        input_bytes: bytes,
        context: CapabilityContext,
        max_output_bytes: int,
        on_done: Callable[[Outcome], None],
    ) -> Any: ...


@attrs.frozen
class Called:
    """``echo`` by one way, from an event loop and back to it, as a node host does it."""

    runner: _Runner
    offer: Offer

    async def job(self) -> None:
        """One run, to its end."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[Outcome] = loop.create_future()
        context = CapabilityContext("job", _DEVICE, deadline_s=time.monotonic() + 60)
        self.runner.start(
            self.offer, _INPUT, context, _MAX_OUTPUT_BYTES,
            lambda outcome: _tell(loop, ended, outcome),
        )  # fmt: skip
        outcome = await ended
        if outcome.kind is not OutcomeKind.SUCCEEDED:
            raise click.ClickException(outcome.error_sentence)


def _tell(
    loop: asyncio.AbstractEventLoop, ended: asyncio.Future[Outcome], outcome: Outcome
) -> None:
    loop.call_soon_threadsafe(ended.set_result, outcome)


@contextmanager
def _opened() -> Iterator[tuple[Runners, Offer, Offer]]:
    """Runners, and ``echo`` as it runs in a thread and in a worker."""
    offers, _ = load_here(own_points())
    here = next(each for each in offers if each.name == "echo")
    pool = WorkerPool(PoolSettings(limits=_LIMITS), log=lambda distribution, line: None)
    runners = Runners(ThreadRunner(CALLERS), pool)
    runners.open()
    try:
        yield runners, here, attrs.evolve(here, capability=None)
    finally:
        runners.close()


def warm(plan: Plan) -> Findings:
    """Runs in a thread, and in a worker that is there: one at a time, and several at once."""
    found = Findings()
    with _opened() as (runners, here, elsewhere):
        run(_warm(found, plan, Called(runners, here), Called(runners, elsewhere)))
    return found


async def _warm(found: Findings, plan: Plan, here: Called, elsewhere: Called) -> None:
    for part, callers in (("one", 1), ("rate", CALLERS)):
        ways = [
            way("thread", here.job, callers, time.process_time),
            way("worker", elsewhere.job, callers, time.process_time),
        ]
        rounds = await run_rounds(ways, plan)
        for name, ours in rounds.items():
            theirs = None if name == "thread" else rounds["thread"]
            keep(found, f"{part}.{name}", ours, {**RATE, **LATENCY, **CPU}, theirs)


def cold(plan: Plan) -> Findings:
    """The first run of a distribution: a process starts, imports it, and runs."""
    took_ms = []
    for _ in range(COLD_STARTS):
        with _opened() as (runners, _, elsewhere):
            began_s = time.perf_counter()
            run(Called(runners, elsewhere).job())
            took_ms.append((time.perf_counter() - began_s) * 1000)
    found = Findings()
    found.figures["cold.worker.ms"] = figure(took_ms)
    return found


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--seconds", default=2.0, show_default=True, help="How long one round takes.")
@click.option("--rounds", default=5, show_default=True, help="Rounds of every figure.")
@click.option("--quick", is_flag=True, help="Measure little: to see that it works.")
def main(as_json: bool, seconds: float, rounds: int, quick: bool) -> None:
    """Measure what a run in a worker costs."""
    plan = QUICK if quick else Plan(seconds=seconds, rounds=rounds, callers=CALLERS)
    report = measure(plan, [warm, cold])
    click.echo(printed(report, f"{COLD_STARTS} cold starts", as_json))


if __name__ == "__main__":
    main()
