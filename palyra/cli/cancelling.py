"""``palyra jobs cancel``: ask for the end of jobs and fan-outs, and say what is confirmed."""

from __future__ import annotations

from collections.abc import Sequence

import click

from palyra.cli import bars, words
from palyra.cli.client import Answer, Console, problem_of, segment
from palyra.cli.lookup import either
from palyra.cli.present import Screen
from palyra.console.models import (
    CancelJob,
    FanoutAnswer,
    FanoutItem,
    JobAnswer,
    JobItem,
    PurgeAnswer,
    PurgeJobs,
)
from palyra.core.identifiers import short_id
from palyra.errors import PalyraError

_UNREACHABLE = 3


def check(ids: Sequence[str], *, queued: bool, device: str, fanout: bool) -> None:
    """Refuse a call that says two things, or nothing.

    :raises click.UsageError: it does.
    """
    if queued and (ids or fanout):
        raise click.UsageError("--queued cancels what waits; it takes no ID")
    if device and not queued:
        raise click.UsageError("--device goes with --queued")
    if not ids and not queued:
        raise click.UsageError("name a job or a fan-out, or give --queued")


def purge(screen: Screen, console: Console, device: str, reason: str) -> int:
    """Cancel what waits for one device, or (``device`` empty) for all."""
    answer = console.post("jobs/purge", PurgeJobs(device, reason), PurgeAnswer)
    if screen.as_json:
        screen.json(answer.body)
    elif screen.tty:
        jobs = words.counted(answer.value.cancelled, "queued job")
        of = f" of {words.escaped(device)}" if device else ""
        screen.parts(("cancelled", "dim"), (f"  {jobs}{of}", ""))
    else:
        screen.pair("cancelled", str(answer.value.cancelled))
    return 0


def cancel(
    screen: Screen, console: Console, ids: Sequence[str], reason: str, *, fanout: bool
) -> int:
    """Cancel each; what is refused is told, and the others are cancelled all the same."""
    status = 0
    for wanted in ids:
        try:
            _show(screen, _ask(console, wanted, CancelJob(reason), fanout=fanout))
        except PalyraError as error:
            if len(ids) == 1 or error.exit_code == _UNREACHABLE:
                raise
            screen.problem(problem_of(error))
            status = error.exit_code
    return status


def _ask(
    console: Console, wanted: str, body: CancelJob, *, fanout: bool
) -> Answer[JobAnswer] | Answer[FanoutAnswer]:
    def rows() -> Answer[FanoutAnswer]:
        return console.post(f"fanouts/{segment(wanted)}/cancel", body, FanoutAnswer)

    def job() -> Answer[JobAnswer]:
        return console.post(f"jobs/{segment(wanted)}/cancel", body, JobAnswer)

    return rows() if fanout else either(wanted, job, rows)


def _show(screen: Screen, answer: Answer[JobAnswer] | Answer[FanoutAnswer]) -> None:
    if screen.as_json:
        screen.json(answer.body)
    elif isinstance(answer.value, FanoutAnswer):
        _show_fanout(screen, answer.value.fanout)
    else:
        _show_job(screen, answer.value.job)


def _show_job(screen: Screen, job: JobItem) -> None:
    decided = job.state not in bars.UNFINISHED
    if not screen.tty:
        screen.pair(job.state if decided else "cancel_asked", job.job_id)
    elif decided:
        screen.parts((job.state, "dim"), (f"  job {short_id(job.job_id)}", ""))
    else:
        who = f"job {short_id(job.job_id)}; {words.escaped(job.device_name)} decides"
        screen.parts(("cancel asked", "yellow"), (f"  {who}", ""))


def _show_fanout(screen: Screen, item: FanoutItem) -> None:
    if not screen.tty:
        screen.pair("cancelled" if item.finished else "cancel_asked", item.fanout_id)
        return
    counts = ", ".join(
        f"{words.number(count)} {state}" for state, count in bars.counted(item.counts)
    )
    said, style = ("cancelled", "dim") if item.finished else ("cancel asked", "yellow")
    screen.parts((said, style), (f"  fan-out {short_id(item.fanout_id)}: {counts}", ""))
    if not item.finished:
        screen.hint(f"palyra jobs follow {short_id(item.fanout_id)}")
