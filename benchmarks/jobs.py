"""What jobs cost, and how that compares with the least that it could be on this machine.

Run ``python -m benchmarks.jobs``; README.md beside this file says how to read the numbers.
"""

from __future__ import annotations

from collections.abc import Mapping

import click

from benchmarks.crowd import fanout
from benchmarks.history import history
from benchmarks.measuring import Plan
from benchmarks.rates import one, rate, submit
from benchmarks.report import Part, measure, printed

PARTS: Mapping[str, Part] = {
    "one": one,
    "rate": rate,
    "submit": submit,
    "fanout": fanout,
    "history": history,
}
QUICK = Plan(
    seconds=0.4, rounds=2, callers=8, nodes=20, streams=(1, 2), crowd=20, history=(1_000, 10_000)
)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--seconds", default=2.0, show_default=True, help="How long one round takes.")
@click.option("--rounds", default=5, show_default=True, help="Rounds of every figure.")
@click.option("--only", multiple=True, type=click.Choice([*PARTS]), help="Only this part.")
@click.option("--quick", is_flag=True, help="Measure little: to see that it works.")
def main(as_json: bool, seconds: float, rounds: int, only: tuple[str, ...], quick: bool) -> None:
    """Measure what jobs cost."""
    plan = QUICK if quick else Plan(seconds=seconds, rounds=rounds)
    report = measure(plan, [PARTS[name] for name in only or PARTS])
    about = f"{report.nodes} nodes; fan-out to {report.crowd}"
    click.echo(printed(report, about, as_json))


if __name__ == "__main__":
    main()
