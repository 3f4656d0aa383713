"""Tests of :mod:`palyra.cli.bars`."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra.cli import bars
from palyra.console.models import JobItem
from tests.cli.things import ENDED, NOW, H, M, S, fanout_item, job, running

FETCH = job(
    capability="files.fetch",
    state="dispatched",
    took_ms=None,
    submitted_at_unix_ms=NOW - 6 * S,
)


def text(parts: bars.Parts) -> str:
    return "".join(each for each, _ in parts)


def test_the_bar_of_a_job() -> None:
    """As drawn; without a percentage it pulses."""
    line = text(bars.job_line(FETCH, 0.48, "3.1 MiB", NOW))
    assert line == "B8Q2ZN  files.fetch  [#####.....]  48%  3.1 MiB  6s"
    assert text(bars.job_line(FETCH, None, "", NOW)) == "B8Q2ZN  files.fetch  [....###...]  6s"
    assert bars.job_facts(FETCH, 0.48, "3.1 MiB", NOW)[2:] == ["48%", "3.1 MiB", "6s"]


def test_the_line_of_a_fanout() -> None:
    """As drawn."""
    assert text(bars.fanout_line(running())) == (
        "[#######...]  3 of 4  1 succeeded  1 timed_out  1 rejected  1 running"
    )


def test_totals() -> None:
    """As drawn; a state of another version is not dropped."""
    assert text(bars.totals(fanout_item())) == "4 targets: 2 succeeded, 1 timed_out, 1 rejected"
    odd = fanout_item(counts={**ENDED, "paused": 1}, targets=5)
    assert text(bars.totals(odd)).endswith("1 rejected, 1 paused")


@settings(max_examples=100, deadline=None)
@given(st.floats(allow_nan=False), st.integers(min_value=-1000, max_value=10**12))
def test_every_bar_has_the_same_width(fraction: float, elapsed_ms: int) -> None:
    """Whatever a handler says, and however the clocks differ."""
    fraction = max(-1e9, min(1e9, fraction))
    assert len(bars.bar(fraction)) == len(bars.pulse(elapsed_ms)) == bars.WIDTH + 2
    assert bars.pulse(elapsed_ms).count("#") == 3
    assert 0 <= int(bars.percent(fraction)[:-1]) <= 100


def test_not_done_before_the_end() -> None:
    """Only the whole is 100%."""
    assert (bars.percent(0.999), bars.percent(1.0)) == ("99%", "100%")


@pytest.mark.parametrize(
    ("item", "said"),
    [
        (job(state="awaiting_local_mediation"), "a person at pi must allow this"),
        (job(state="dispatched", cancel_requested_unix_ms=NOW), "cancel asked; pi decides"),
        (job(state="queued"), "queued"),
        (
            job(state="queued", queue_expires_unix_ms=NOW + 28 * M),
            "queued, pi is away; waits until 04:12",
        ),
        (
            job(state="queued", queue_expires_unix_ms=NOW + 24 * H),
            "queued, pi is away; waits until 23 Nov 03:44",
        ),
        (
            job(state="queued", waiting_for="retry", retry_at_unix_ms=NOW + S),
            "queued, next try at 03:44:15",
        ),
        (job(state="queued", waiting_for="batch"), "queued, waits for its turn in the batch"),
        (job(state="queued", waiting_for="approval"), "queued, waiting for approval"),
        (job(state="dispatched"), ""),
    ],
)
def test_what_stands_in_the_way(item: JobItem, said: str) -> None:
    """What a job waits for is said instead of how far it is."""
    assert bars.standing(item, NOW) == said
    if said:
        assert text(bars.job_line(item, 0.5, "", NOW)) == f"B8Q2ZN  echo  {said}"
