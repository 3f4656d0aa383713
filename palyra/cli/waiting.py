"""Waiting for a job to end, and how its end is told."""

from __future__ import annotations

import time
from collections.abc import Callable

import attrs

from palyra.cli import bars, words
from palyra.cli.client import Answer, Console
from palyra.cli.present import Screen
from palyra.console.models import JobAnswer, JobItem
from palyra.core import jobs
from palyra.core.identifiers import short_id
from palyra.errors import JobStillRunning, JobUnsuccessful

INTERRUPTED = 130
POLL_MS = 2000
_HELD_UP = ("queued", "awaiting_local_mediation")
FINAL = frozenset(state.value for state in jobs.FINAL)


@attrs.define
class Wait:
    """A job that is waited for: who has it, and in which state it was seen last."""

    job_id: str
    device: str
    state: str = ""


def wait_for(
    console: Console, wait: Wait, screen: Screen, limit_ms: int | None = None
) -> Answer[JobAnswer]:
    """The job when it has ended.

    :raises JobStillRunning: after ``limit_ms``; the job goes on.
    """
    over = None if limit_ms is None else time.monotonic() + limit_ms / 1000
    # What holds a job up is told at once.
    longest_ms = 0 if wait.state in _HELD_UP else POLL_MS
    with screen.working(f"waiting for {words.escaped(wait.device)}") as tell:
        while True:
            left_ms = longest_ms if over is None else int((over - time.monotonic()) * 1000)
            wait_ms = max(0, min(longest_ms, left_ms))
            answer = console.get(f"jobs/{wait.job_id}", JobAnswer, wait_ms=wait_ms)
            wait.state = answer.value.job.state
            if wait.state in FINAL:
                return answer
            _tell(answer.value.job, screen, tell)
            longest_ms = POLL_MS
            if over is not None and time.monotonic() >= over:
                raise JobStillRunning(short_id(wait.job_id), wait.state)


def _tell(job: JobItem, screen: Screen, tell: Callable[[str], None]) -> None:
    waits = bars.standing(job, screen.now())
    tell(waits or f"waiting for {words.escaped(job.device_name)}")


def to_the_end(
    screen: Screen, console: Console, first: Answer[JobAnswer], limit_ms: int | None
) -> int:
    """Wait for the end of a job and print its output.  The exit status.

    :raises JobUnsuccessful: where it ended without success; :class:`JobStillRunning`: it goes on.
    """
    job, ended = first.value.job, first
    wait = Wait(job.job_id, job.device_name, job.state)
    try:
        if job.state not in FINAL:
            ended = wait_for(console, wait, screen, limit_ms)
    except KeyboardInterrupt:
        return still_running(screen, wait)
    return tell_end(screen, ended)


def tell_end(screen: Screen, ended: Answer[JobAnswer]) -> int:
    """A job's end as this screen wants it.  The exit status; errors as :func:`show_final`."""
    if screen.as_json:
        screen.json(ended.body)
        return 0 if ended.value.job.state == "succeeded" else 1
    show_final(screen, ended.value)
    return 0


def still_running(screen: Screen, wait: Wait) -> int:
    """What is said when a person stops waiting: the job goes on.  The exit status."""
    short = short_id(wait.job_id)
    state = "queued" if wait.state == "queued" else "running"
    screen.aside(f"still {state}  job {short}")
    screen.hint(f"palyra jobs wait {short}  or  palyra jobs cancel {short}")
    return INTERRUPTED


def show_end(
    screen: Screen, *, job_id: str, device: str, state: str, took_ms: int | None, output: bytes
) -> None:
    """A success: the output and nothing else on stdout, the summary beside it."""
    screen.document(output)
    parts = [state, f"job {short_id(job_id)}", words.escaped(device)]
    if took_ms is not None:
        parts.append(words.duration(took_ms, blank=" "))
    screen.aside("  ".join(parts), "dim")


def show_final(screen: Screen, answer: JobAnswer) -> None:
    """The end of a job.

    :raises JobUnsuccessful: where it is not a success.
    """
    job = answer.job
    if job.state != "succeeded":
        raise unsuccessful(
            job.job_id, job.device_name, job.state, answer.error or job.note, job.effect_possible
        )
    show_end(
        screen,
        job_id=job.job_id,
        device=job.device_name,
        state=job.state,
        took_ms=job.took_ms,
        output=bytes(answer.output_json),
    )


def unsuccessful(
    job_id: str, device: str, state: str, reason: str, effect_possible: bool
) -> JobUnsuccessful:
    """The error that a job without success becomes at the command line."""
    return JobUnsuccessful(
        job_id=short_id(job_id),
        device=device,
        state=state,
        reason=reason,
        effect_possible=effect_possible,
    )
