"""What a benchmark of several parts found, for programs and for people."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import msgspec

from benchmarks.machine import Machine, load
from benchmarks.measuring import Account, Figure, Findings, Plan

Part = Callable[[Plan], Findings]


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


def measure(plan: Plan, parts: Sequence[Part]) -> Report:
    """Measure these parts.

    :raises benchmarks.measuring.Miscounted: the store does not hold what was answered.
    """
    before = load()
    all_found = [part(plan) for part in parts]
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


def printed(report: Report, about: str, as_json: bool) -> str:
    """The report: one JSON object, or a table that says what the plan was ``about``."""
    if as_json:
        return msgspec.json.encode(report).decode()
    return "\n".join(_lines(report, about))


def _lines(report: Report, about: str) -> Iterator[str]:
    yield report.machine.line()
    yield f"{report.rounds} rounds of {report.seconds:g}s; {report.callers} callers, {about}"
    yield ""
    yield f"{'figure':<36}{'median':>11}{'lowest':>11}{'highest':>11}{'ratio':>9}"
    part = ""
    for name, value in report.figures.items():
        if part not in ("", name.split(".")[0]):
            yield ""
        part = name.split(".")[0]
        yield _row(name, value)
    yield ""
    for name, account in report.records.items():
        yield f"{name:<36}{account.answered:>11,} answered, {account.on_record:,} on record"


def _row(name: str, value: Figure) -> str:
    ratio = "" if value.ratio is None else f"{value.ratio:.2f}"
    spread = "".join(f"{_short(each):>11}" for each in (value.median, value.low, value.high))
    return f"{name:<36}{spread}{ratio:>9}"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 1_000 else f"{value:.4g}"
