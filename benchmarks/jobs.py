"""What jobs cost, and how that compares with the least that it could be on this machine.

Run ``python -m benchmarks.jobs``; README.md beside this file says how to read the numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import click
import msgspec

from benchmarks.crowd import fanout
from benchmarks.history import history
from benchmarks.machine import Machine, load
from benchmarks.measuring import Account, Figure, Findings, Plan
from benchmarks.rates import one, rate, submit

PARTS: Mapping[str, Callable[[Plan], Findings]] = {
    "one": one,
    "rate": rate,
    "submit": submit,
    "fanout": fanout,
    "history": history,
}
QUICK = Plan(
    seconds=0.4, rounds=2, callers=8, nodes=20, streams=(1, 2), crowd=20, history=(1_000, 10_000)
)


class Report(msgspec.Struct, frozen=True):
    """Everything that was measured, and on what."""

    machine: Machine
    seconds: float
    rounds: int
    callers: int
    nodes: int
    crowd: int
    figures: dict[str, Figure]
    records: dict[str, Account]


def measure(plan: Plan, parts: tuple[str, ...]) -> Report:
    """Measure these parts.

    :raises benchmarks.measuring.Miscounted: the store does not hold what was answered.
    """
    before = load()
    all_found = [PARTS[name](plan) for name in parts]
    return Report(
        machine=Machine.here(before),
        seconds=plan.seconds,
        rounds=plan.rounds,
        callers=plan.callers,
        nodes=plan.nodes,
        crowd=plan.crowd,
        figures={key: value for found in all_found for key, value in found.figures.items()},
        records={key: value for found in all_found for key, value in found.records.items()},
    )


def table(report: Report) -> str:
    """The report for people."""
    return "\n".join(_lines(report))


def _lines(report: Report) -> Iterator[str]:
    yield report.machine.line()
    yield (
        f"{report.rounds} rounds of {report.seconds:g}s; {report.callers} callers,"
        f" {report.nodes} nodes; fan-out to {report.crowd}"
    )
    yield ""
    yield f"{'figure':<32}{'median':>11}{'lowest':>11}{'highest':>11}{'ratio':>9}"
    part = ""
    for name, value in report.figures.items():
        if part not in ("", name.split(".")[0]):
            yield ""
        part = name.split(".")[0]
        ratio = "" if value.ratio is None else f"{value.ratio:.2f}"
        figures = "".join(f"{_short(each):>11}" for each in (value.median, value.low, value.high))
        yield f"{name:<32}{figures}{ratio:>9}"
    yield ""
    for name, account in report.records.items():
        yield f"{name:<32}{account.answered:>11,} answered, {account.on_record:,} on record"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 1_000 else f"{value:.4g}"


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--seconds", default=2.0, show_default=True, help="How long one round takes.")
@click.option("--rounds", default=5, show_default=True, help="Rounds of every figure.")
@click.option("--only", multiple=True, type=click.Choice([*PARTS]), help="Only this part.")
@click.option("--quick", is_flag=True, help="Measure little: to see that it works.")
def main(as_json: bool, seconds: float, rounds: int, only: tuple[str, ...], quick: bool) -> None:
    """Measure what jobs cost."""
    plan = QUICK if quick else Plan(seconds=seconds, rounds=rounds)
    report = measure(plan, only or tuple(PARTS))
    click.echo(msgspec.json.encode(report).decode() if as_json else table(report))


if __name__ == "__main__":
    main()
