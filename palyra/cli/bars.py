"""The live lines: how far a job is, and how far a fan-out is.  Pure functions of what is known."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from palyra.cli import words
from palyra.cli.tables import style_of
from palyra.console.models import FanoutItem, JobItem
from palyra.core import jobs
from palyra.core.identifiers import short_id
from palyra.core.jobs import JobState

WIDTH = 10
UNFINISHED = tuple(state.value for state in reversed(JobState) if state in jobs.UNFINISHED)
_ENDS = (
    JobState.SUCCEEDED,
    JobState.OUTCOME_UNKNOWN,
    JobState.FAILED,
    JobState.TIMED_OUT,
    JobState.REJECTED,
    JobState.EXPIRED,
    JobState.CANCELLED,
)
ORDER = (*(state.value for state in _ENDS), *UNFINISHED)
"""In which order the counts of a fan-out stand."""
_PULSE = 3
_PULSE_STEP_MS = 250
_LIVE = {JobState.DISPATCHED.value: "running"}
Parts = list[tuple[str, str]]


def bar(fraction: float) -> str:
    """``[#####.....]``: a tenth is drawn when more than half of it is there."""
    done = max(0, min(WIDTH, math.ceil(fraction * WIDTH - 0.5)))
    return f"[{'#' * done}{'.' * (WIDTH - done)}]"


def pulse(elapsed_ms: int) -> str:
    """``[..###.....]``: something goes on, nobody knows how far it is."""
    room = WIDTH - _PULSE
    step = max(0, elapsed_ms) // _PULSE_STEP_MS % (2 * room)
    before = min(step, 2 * room - step)
    return f"[{'.' * before}{'#' * _PULSE}{'.' * (room - before)}]"


def percent(fraction: float) -> str:
    """``48%``; 100% only at the end."""
    return f"{math.floor(max(0.0, min(1.0, fraction)) * 100)}%"


def job_facts(job: JobItem, fraction: float | None, text: str, now_ms: int) -> list[str]:
    """What is told of a job that goes on: how far, of what, and since when.

    What it waits for takes the place of how far it is.
    """
    facts = [short_id(job.job_id), words.escaped(job.capability)]
    waits = standing(job, now_ms)
    if waits:
        return [*facts, waits]
    if fraction is not None:
        facts.append(percent(fraction))
    if text:
        facts.append(words.escaped(text))
    elapsed_s = max(1, (now_ms - job.submitted_at_unix_ms) // 1000)
    return [*facts, words.duration(elapsed_s * 1000)]


def job_line(job: JobItem, fraction: float | None, text: str, now_ms: int) -> Parts:
    """``B8Q2ZN  files.fetch  [#####.....]  48%  3.1 MiB  6s``."""
    facts = job_facts(job, fraction, text, now_ms)
    if not standing(job, now_ms):
        elapsed_ms = now_ms - job.submitted_at_unix_ms
        facts.insert(2, pulse(elapsed_ms) if fraction is None else bar(fraction))
    return [("  ".join(facts), "")]


def standing(job: JobItem, now_ms: int) -> str:
    """What stands between a job that has not ended and its end; empty while it runs."""
    device = words.escaped(job.device_name)
    if job.cancel_requested_unix_ms is not None:
        return f"cancel asked; {device} decides"
    if job.state == "awaiting_local_mediation":
        return f"a person at {device} must allow this"
    if job.state != "queued":
        return ""
    if job.retry_at_unix_ms is not None:
        return f"queued, next try at {words.when(job.retry_at_unix_ms, now_ms)}"
    if job.waiting_for == "batch":
        return "queued, waits for its turn in the batch"
    if job.waiting_for not in ("", "device"):
        return f"queued, waiting for {words.escaped(job.waiting_for)}"
    if job.queue_expires_unix_ms is not None:
        until = words.clock(job.queue_expires_unix_ms, now_ms)
        return f"queued, {device} is away; waits until {until}"
    return "queued"


def ended(fanout: FanoutItem) -> int:
    """How many rows are final."""
    return fanout.targets - sum(fanout.counts.get(state, 0) for state in UNFINISHED)


def fanout_line(fanout: FanoutItem) -> Parts:
    """``[#######...]  3 of 4  1 succeeded  1 timed_out  1 rejected  1 running``."""
    done = ended(fanout) / max(1, fanout.targets)
    return [(f"{bar(done)}  ", ""), *fanout_facts(fanout)]


def fanout_facts(fanout: FanoutItem) -> Parts:
    """``3 of 4  1 succeeded  1 timed_out  1 rejected  1 running``."""
    parts: Parts = [(progress(fanout), "")]
    for state, count in counted(fanout.counts):
        parts += [(f"  {words.number(count)} ", ""), (_LIVE.get(state, state), style_of(state))]
    return parts


def progress(fanout: FanoutItem) -> str:
    """``3 of 4``."""
    return f"{words.number(ended(fanout))} of {words.number(fanout.targets)}"


def totals(fanout: FanoutItem) -> Parts:
    """``4 targets: 2 succeeded, 1 timed_out, 1 rejected``."""
    parts: Parts = [(words.counted(fanout.targets, "target") + ":", "")]
    for i, (state, count) in enumerate(counted(fanout.counts)):
        parts += [(f"{',' if i else ''} {words.number(count)} ", ""), (state, style_of(state))]
    return parts


def counted(counts: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    """The states that occur, in their order; one of another version comes last."""
    for state in (*ORDER, *sorted(set(counts) - set(ORDER))):
        if counts.get(state):
            yield state, counts[state]
