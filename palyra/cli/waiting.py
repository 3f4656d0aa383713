"""Waiting for a job to end, and how its end is told."""

from __future__ import annotations

import time
from collections.abc import Callable

from palyra.cli import words
from palyra.cli.client import Answer, Console
from palyra.cli.present import Screen
from palyra.console.models import JobAnswer
from palyra.core.identifiers import short_id
from palyra.errors import JobStillRunning, JobUnsuccessful

POLL_MS = 2000
FINAL = frozenset(
    {"succeeded", "failed", "timed_out", "rejected", "cancelled", "expired", "outcome_unknown"}
)


def wait_for(
    console: Console, job_id: str, device: str, screen: Screen, limit_ms: int | None = None
) -> Answer[JobAnswer]:
    """The job when it has ended.

    :raises JobStillRunning: after ``limit_ms``; the job goes on.
    """
    over = None if limit_ms is None else time.monotonic() + limit_ms / 1000
    with screen.working(f"waiting for {words.escaped(device)}") as tell:
        while True:
            left_ms = POLL_MS if over is None else int((over - time.monotonic()) * 1000)
            answer = _look(console, job_id, max(0, min(POLL_MS, left_ms)), tell)
            state = answer.value.job.state
            if state in FINAL:
                return answer
            if over is not None and time.monotonic() >= over:
                raise JobStillRunning(short_id(job_id), state)


def _look(
    console: Console, job_id: str, wait_ms: int, tell: Callable[[str], None]
) -> Answer[JobAnswer]:
    answer = console.get(f"jobs/{job_id}", JobAnswer, wait_ms=wait_ms)
    job = answer.value.job
    if job.state == "awaiting_local_mediation":
        tell(f"a person at {words.escaped(job.device_name)} must allow this")
    elif job.waiting_for:
        tell(f"{job.state}, waiting for {words.escaped(job.waiting_for)}")
    return answer


def still_running(screen: Screen, job_id: str) -> None:
    """What is said when a person stops waiting: the job goes on."""
    short = short_id(job_id)
    screen.aside(f"still running  job {short}")
    screen.hint(f"palyra jobs wait {short}")


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
