"""Ways of making jobs that are compared round by round."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence

import attrs

from benchmarks.measuring import Burst, Findings, Job, Plan, figure, together

WARM_UP_S = 0.5


def _nothing() -> float:
    return 0.0


@attrs.frozen
class Way:
    """One way of making jobs: for so many seconds; whose CPU it costs, and which node's."""

    name: str
    run: Callable[[float], Awaitable[Burst]]
    cpu_s: Callable[[], float]
    node_cpu_s: Callable[[], float] = _nothing


def way(
    name: str,
    job: Job,
    callers: int,
    cpu_s: Callable[[], float],
    node_cpu_s: Callable[[], float] = _nothing,
) -> Way:
    """So many callers, each with one job in flight."""
    return Way(name, lambda seconds: together(job, callers, seconds), cpu_s, node_cpu_s)


@attrs.frozen
class Round:
    """What one way came to in one round; CPU microseconds are those of one job."""

    burst: Burst
    cpu_us: float
    node_cpu_us: float


Reader = Callable[[Round], float]
"""One value of a round."""
LATENCY: dict[str, Reader] = {
    "p50_ms": lambda each: each.burst.ms(0.5),
    "p99_ms": lambda each: each.burst.ms(0.99),
}
CPU: dict[str, Reader] = {"cpu_us": lambda each: each.cpu_us}
NODE_CPU: dict[str, Reader] = {"node_cpu_us": lambda each: each.node_cpu_us}
RATE: dict[str, Reader] = {"per_s": lambda each: each.burst.per_s}


async def run_rounds(ways: Sequence[Way], plan: Plan) -> dict[str, list[Round]]:
    """Every way once a round: another load on the machine meets all of them."""
    for each in ways:
        await each.run(min(WARM_UP_S, plan.seconds))
    rounds: dict[str, list[Round]] = defaultdict(list)
    for _ in range(plan.rounds):
        for each in ways:
            rounds[each.name].append(await _round(each, plan.seconds))
    return rounds


async def _round(way: Way, seconds: float) -> Round:
    before = way.cpu_s(), way.node_cpu_s()
    burst = await way.run(seconds)
    after = way.cpu_s(), way.node_cpu_s()
    ours, nodes = (
        (now - then) / len(burst.took_s) * 1e6 for now, then in zip(after, before, strict=True)
    )
    return Round(burst, ours, nodes)


def keep(
    found: Findings,
    name: str,
    ours: Sequence[Round],
    readers: Mapping[str, Reader],
    against: Sequence[Round] | None = None,
) -> None:
    """The figures of one way, each with its ratio to another way of the same rounds."""
    for key, read in readers.items():
        theirs = None if against is None else [read(each) for each in against]
        found.figures[f"{name}.{key}"] = figure([read(each) for each in ours], theirs)
