"""``palyra jobs``: what was asked of devices and what became of it."""

from __future__ import annotations

from collections.abc import Sequence

import click

from palyra.cli import completion, facts, waiting, words
from palyra.cli.client import PAGE_LIMIT, segment
from palyra.cli.facts import Fact
from palyra.cli.options import Call, VerbGroup, duration, pass_call
from palyra.cli.present import Screen, json_text
from palyra.cli.tables import Cell, Column, cell, state_cell, style_of
from palyra.console.models import NULL, JobAnswer, JobItem, JobList

INTERRUPTED = 130
STATES = (
    "queued",
    "dispatched",
    "awaiting_local_mediation",
    "succeeded",
    "failed",
    "timed_out",
    "rejected",
    "cancelled",
    "expired",
    "outcome_unknown",
)
_COLUMNS = (
    Column("JOB"),
    Column("DEVICE", cut="middle"),
    Column("CAPABILITY", cut="end", floor=12),
    Column("STATE"),
    Column("WHEN"),
    Column("TOOK", right=True),
    Column("BY", cut="end", wide=True),
    Column("NOTE", cut="end", floor=12, wide=True),
)


@click.group(cls=VerbGroup)
def jobs() -> None:
    """See what was asked of devices and what became of it."""


@jobs.command("list")
@click.option("--state", type=click.Choice(STATES), help="Only jobs in this state.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many (default 50).")
@pass_call
def list_(call: Call, state: str | None, limit: int | None) -> None:
    """List jobs, the newest first."""
    if call.screen.as_json:
        answer = call.console.get("jobs", JobList, state=state, limit=limit)
        return call.screen.json(answer.body)
    found: list[JobItem] = []
    more = False
    for page in call.console.pages("jobs", JobList, limit or _DEFAULT_LIMIT, state=state):
        found += page.value.jobs
        more = page.value.page.has_more
    return _show_list(call.screen, found, more)


_DEFAULT_LIMIT = PAGE_LIMIT // 4


@jobs.command()
@click.argument("job", metavar="ID", shell_complete=completion.jobs)
@pass_call
def show(call: Call, job: str) -> None:
    """Show one job with its input and output."""
    answer = call.console.get(f"jobs/{segment(job)}", JobAnswer)
    if call.screen.as_json:
        return call.screen.json(answer.body)
    return facts.show(call.screen, _facts(call.screen, answer.value))


@jobs.command()
@click.argument("job", metavar="ID", shell_complete=completion.jobs)
@click.option("--timeout", "timeout_ms", type=duration, help="How long to wait.")
@pass_call
def wait(call: Call, job: str, timeout_ms: int | None) -> int:
    """Wait for the end of a job and print its output.  Ctrl-C leaves the job running."""
    screen, console = call.screen, call.console
    first = console.get(f"jobs/{segment(job)}", JobAnswer)
    item = first.value.job
    try:
        ended = first
        if item.state not in waiting.FINAL:
            ended = waiting.wait_for(console, item.job_id, item.device_name, screen, timeout_ms)
    except KeyboardInterrupt:
        waiting.still_running(screen, item.job_id)
        return INTERRUPTED
    if screen.as_json:
        screen.json(ended.body)
        return 0 if ended.value.job.state == "succeeded" else 1
    waiting.show_final(screen, ended.value)
    return 0


def _show_list(screen: Screen, found: Sequence[JobItem], more: bool) -> None:
    short = words.shortener(job.job_id for job in found)
    if found:
        now = screen.now()
        screen.table(_COLUMNS, [_row(job, short[job.job_id], now) for job in found])
    elif screen.tty:
        screen.line("No jobs yet.")
    if more and screen.tty:
        screen.aside(f"only the newest {words.number(len(found))}; --limit N shows more")


def _row(job: JobItem, short: str, now: int) -> list[Cell]:
    return [
        cell(short, job.job_id),
        cell(job.device_name),
        cell(job.capability),
        state_cell(job.state),
        cell(words.ago(job.submitted_at_unix_ms, now), words.utc(job.submitted_at_unix_ms)),
        cell(
            words.duration(job.took_ms),
            words.NOTHING if job.took_ms is None else f"{job.took_ms}ms",
        ),
        cell(job.requested_by),
        cell(job.note),
    ]


def _facts(screen: Screen, answer: JobAnswer) -> list[Fact]:
    job = answer.job
    state = words.escaped(job.state) + ("  !! effect possible" if job.effect_possible else "")
    if job.waiting_for:
        state += f", waiting for {words.escaped(job.waiting_for)}"
    found = [
        Fact.same("job", job.job_id),
        Fact("device", f"{words.escaped(job.device_name)}  {job.device_id}", job.device_id),
        Fact.same("capability", words.escaped(job.capability)),
        Fact("state", state, job.state, style_of(job.state)),
        _time("submitted", job.submitted_at_unix_ms),
        _time("finished", job.finished_at_unix_ms),
        Fact.same("took", words.duration(job.took_ms)),
        Fact.same("by", words.escaped(job.requested_by) or words.NOTHING),
        Fact.same("attempts", str(job.attempts)),
    ]
    problem = answer.error or (job.note if job.error_code else "")
    if problem:
        found.append(Fact.same("error", words.escaped(problem)))
    found.append(_document(screen, "input", bytes(answer.input_json)))
    if answer.output_json != NULL or job.state == "succeeded":
        found.append(_document(screen, "output", bytes(answer.output_json)))
    return found


def _time(key: str, at_ms: int | None) -> Fact:
    return Fact(key, words.whole_time(at_ms), words.utc(at_ms))


def _document(screen: Screen, key: str, document: bytes) -> Fact:
    line = json_text(document, indent=0)
    shown = line if len(line) <= screen.width - 12 else json_text(document, indent=2)
    return Fact(key, shown, json_text(document, indent=-1))
