"""``palyra jobs``: what was asked of devices and what became of it."""

from __future__ import annotations

import click

from palyra.cli import (
    cancelling,
    completion,
    fanout,
    invoking,
    lookup,
    records,
    waiting,
)
from palyra.cli.client import PAGE_LIMIT, Answer, Console, Query, segment
from palyra.cli.options import Call, VerbGroup, duration, pass_call
from palyra.console.models import FanoutAnswer, JobAnswer, JobItem, JobList
from palyra.core.jobs import JobState

STATES = tuple(state.value for state in JobState)
_DEFAULT_LIMIT = PAGE_LIMIT // 4


@click.group(cls=VerbGroup)
def jobs() -> None:
    """See what was asked of devices and what became of it."""


@jobs.command("list")
@click.option(
    "--state",
    "states",
    type=click.Choice(STATES),
    multiple=True,
    metavar="STATE",
    help="Only jobs in this state; may be repeated.",
)
@click.option(
    "--device", metavar="TARGET", shell_complete=completion.devices, help="Only of this device."
)
@click.option("--capability", metavar="NAME", help="Only of this capability.")
@click.option("--by", metavar="OPERATOR", help="Only what this operator asked for.")
@click.option("--fanout", "fanout_id", metavar="ID", help="Only rows of this fan-out.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many (default 50).")
@pass_call
def list_(
    call: Call,
    states: tuple[str, ...],
    device: str | None,
    capability: str | None,
    by: str | None,
    fanout_id: str | None,
    limit: int | None,
) -> None:
    """List jobs, the newest first."""
    chosen: dict[str, Query] = {
        "state": states,
        "device": device,
        "capability": capability,
        "by": by,
        "fanout": fanout_id,
    }
    if call.screen.as_json:
        return call.screen.json(call.console.get("jobs", JobList, 0, limit=limit, **chosen).body)
    found: list[JobItem] = []
    more = False
    for page in call.console.pages("jobs", JobList, limit or _DEFAULT_LIMIT, **chosen):
        found += page.value.jobs
        more = page.value.page.has_more
    return records.show_list(call.screen, found, more, chosen=any(chosen.values()))


@jobs.command()
@click.argument("job", metavar="ID", shell_complete=completion.jobs)
@pass_call
def show(call: Call, job: str) -> None:
    """Show one job with its input and output."""
    answer = call.console.get(f"jobs/{segment(job)}", JobAnswer)
    if call.screen.as_json:
        return call.screen.json(answer.body)
    return records.show_one(call.screen, answer.value)


@jobs.command()
@click.argument("job", metavar="ID", shell_complete=completion.unfinished_jobs)
@click.option("--timeout", "timeout_ms", type=duration, help="How long to wait.")
@pass_call
def wait(call: Call, job: str, timeout_ms: int | None) -> int:
    """Wait for the end of a job or a fan-out and print what it gave.

    Ctrl-C leaves it running.
    """
    screen, console = call.screen, call.console
    found = _located(console, job)
    if isinstance(found.value, FanoutAnswer):
        return fanout.watch(screen, console, found.value.fanout, limit_ms=timeout_ms)
    return waiting.to_the_end(screen, console, Answer(found.value, found.body), timeout_ms)


@jobs.command()
@click.argument("job", metavar="ID", shell_complete=completion.unfinished_jobs)
@pass_call
def follow(call: Call, job: str) -> int:
    """Show how far a job or a fan-out is, until it has ended; then what it gave.

    Ctrl-C leaves it running.
    """
    screen, console = call.screen, call.console
    found = _located(console, job).value
    if isinstance(found, FanoutAnswer):
        return fanout.watch(screen, console, found.fanout, told=True)
    return invoking.follow(screen, console, found.job)


@jobs.command()
@click.argument("ids", metavar="[ID]...", nargs=-1, shell_complete=completion.unfinished_jobs)
@click.option("--queued", is_flag=True, help="Cancel every job that waits.")
@click.option(
    "--device",
    default="",
    metavar="TARGET",
    shell_complete=completion.devices,
    help="With --queued: only what waits for this device.",
)
@click.option("--fanout", "only_fanouts", is_flag=True, help="Each ID is a fan-out's.")
@click.option("--reason", default="", help="Why; it is recorded.")
@pass_call
def cancel(
    call: Call,
    ids: tuple[str, ...],
    queued: bool,
    device: str,
    only_fanouts: bool,
    reason: str,
) -> int:
    """Ask for the end of jobs or fan-outs.

    What waits is cancelled at once; of what runs, the device reports whether it stopped.
    """
    cancelling.check(ids, queued=queued, device=device, fanout=only_fanouts)
    if queued:
        return cancelling.purge(call.screen, call.console, device, reason)
    return cancelling.cancel(call.screen, call.console, ids, reason, fanout=only_fanouts)


def _located(console: Console, wanted: str) -> Answer[JobAnswer] | Answer[FanoutAnswer]:
    """The job of that ID, else the fan-out with no more than one of its rows."""
    name = segment(wanted)
    return lookup.either(
        wanted,
        lambda: console.get(f"jobs/{name}", JobAnswer),
        lambda: console.get(f"fanouts/{name}", FanoutAnswer, limit=1),
    )
