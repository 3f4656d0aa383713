"""``python -m palyra.testing.simulate``: jobs and certificates under every fault, by a seed.

One seed is one world; the same seed and number of steps make the same world again, to the last
line of its trace.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import attrs
from twisted.logger import globalLogBeginner

from palyra.testing.simulation.trace import Violation
from palyra.testing.simulation.world import Result, World

STEPS = 300
CHUNK = 10
SHOWN_AT_MOST = 20
Outcome = Result | str
"""What a run was, or the text of its violation."""


def simulate(seed: int, steps: int) -> Outcome:
    """One world from its beginning to its end."""
    try:
        return World(seed, steps).run()
    except Violation as violation:
        return str(violation)


@attrs.define
class Totals:
    """What many runs were together."""

    runs: int = 0
    simulated_s: float = 0.0
    events: int = 0
    jobs: int = 0
    renewals: int = 0
    rejoins: int = 0
    faults: Counter[str] = attrs.Factory(Counter)
    violations: list[str] = attrs.Factory(list)

    def add(self, outcome: Outcome) -> None:
        """One more."""
        self.runs += 1
        if isinstance(outcome, str):
            self.violations.append(outcome)
            return
        self.simulated_s += outcome.simulated_s
        self.events += outcome.events
        self.jobs += outcome.jobs
        self.renewals += outcome.renewals
        self.rejoins += outcome.rejoins
        self.faults.update(outcome.faults)

    def as_json(self, took_s: float) -> dict[str, Any]:
        """For programs."""
        return {
            "runs": self.runs,
            "simulated_hours": round(self.simulated_s / 3600, 2),
            "events": self.events,
            "jobs": self.jobs,
            "renewals": self.renewals,
            "rejoins": self.rejoins,
            "faults": dict(sorted(self.faults.items())),
            "violations": self.violations,
            "took_s": round(took_s, 1),
        }

    def shown(self, took_s: float) -> str:
        """For people."""
        faults = "\n".join(f"  {count:>9,} {kind}" for kind, count in self.faults.most_common())
        return (
            f"{self.runs:,} worlds, {self.simulated_s / 3600:,.1f} simulated hours in "
            f"{took_s:.1f} s\n{self.events:,} events, {self.jobs:,} jobs, "
            f"{self.renewals:,} renewals, {self.rejoins:,} rejoins, "
            f"{self.faults.total():,} faults\n{faults}\n"
            f"{len(self.violations)} violations"
        )


def main(arguments: list[str] | None = None) -> int:
    """Run what was asked for; 1 where a promise was broken."""
    options = _parser().parse_args(arguments)
    _prepare()
    if options.trace:
        return _traced(options.seed, options.steps)
    begun = time.monotonic()
    totals = Totals()
    for outcome in _outcomes(options):
        totals.add(outcome)
        if isinstance(outcome, str) and not options.json and len(totals.violations) == 1:
            print(outcome, file=sys.stderr, flush=True)
        if len(totals.violations) >= SHOWN_AT_MOST:
            break
    took_s = time.monotonic() - begun
    if options.json:
        print(json.dumps(totals.as_json(took_s), indent=2))
    else:
        for violation in totals.violations:
            print(violation.splitlines()[0])
        print(totals.shown(took_s))
    return 1 if totals.violations else 0


def _outcomes(options: argparse.Namespace) -> Iterator[Outcome]:
    seeds = range(options.seed, options.seed + options.runs)
    if options.jobs == 1:
        for seed in seeds:
            yield simulate(seed, options.steps)
        return
    pool = ProcessPoolExecutor(options.jobs, initializer=_prepare)
    try:
        every: Iterable[Outcome] = pool.map(
            simulate, seeds, [options.steps] * options.runs, chunksize=CHUNK
        )
        yield from every
    finally:
        pool.shutdown(cancel_futures=True)


def _traced(seed: int, steps: int) -> int:
    """One world with every line of its trace."""
    world = World(seed, steps, keep_trace=True)
    violation = None
    try:
        world.run()
    except Violation as error:
        violation = str(error).splitlines()[0]
    for line in world.trace.lines:
        print(line)
    print(violation or f"well; the trace's hash is {world.trace.digest}")
    return 1 if violation else 0


def _prepare() -> None:
    """What the rooms log is looked at by each world; nobody else needs it."""
    globalLogBeginner.beginLoggingTo([], redirectStandardIO=False, discardBuffer=True)
    gc.freeze()  # every world ends with a collection, which need not look at the modules


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m palyra.testing.simulate", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="the first seed [0]")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"steps of a world [{STEPS}]")
    parser.add_argument("--runs", type=int, default=1, help="how many seeds, one after another [1]")
    parser.add_argument("--jobs", type=int, default=1, help="processes at once [1]")
    parser.add_argument("--json", action="store_true", help="totals as JSON")
    parser.add_argument("--trace", action="store_true", help="print every line of one world")
    return parser


if __name__ == "__main__":
    sys.exit(main())
