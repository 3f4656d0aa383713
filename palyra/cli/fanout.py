"""One call to many devices: ask, follow, and show a row for every target."""

from __future__ import annotations

import msgspec

from palyra.cli import bars, following, words
from palyra.cli.client import PAGE_LIMIT, Answer, Console
from palyra.cli.present import Screen
from palyra.cli.tables import Cell, Column, cell, state_cell
from palyra.console.models import FanoutAnswer, FanoutItem, JobItem, SubmitJobs
from palyra.core.callapprovals import APPROVAL
from palyra.core.identifiers import short_id
from palyra.core.jobs import JobState
from palyra.errors import PalyraError

INTERRUPTED = 130
SUBMIT_MS = 30_000
"""How much longer than other answers the acceptance of thousands of jobs may take."""
_BAD_ENDS = (
    JobState.OUTCOME_UNKNOWN,
    JobState.FAILED,
    JobState.REJECTED,
    JobState.TIMED_OUT,
    JobState.EXPIRED,
    JobState.CANCELLED,
)
_WORST_FIRST = (
    *(state.value for state in _BAD_ENDS),
    *bars.UNFINISHED,
    JobState.SUCCEEDED.value,
)
_RANK = {state: i for i, state in enumerate(_WORST_FIRST)}
_COLUMNS = (
    Column("DEVICE", cut="middle"),
    Column("STATE"),
    Column("TOOK", right=True),
    Column("OUTPUT", cut="end", floor=12),
    Column("JOB", wide=True),
    Column("ATTEMPT", right=True, wide=True),
)


def run(screen: Screen, console: Console, body: SubmitJobs, *, wait: bool, follow: bool) -> int:
    """Ask many devices, and unless told otherwise wait for the end.  The exit status."""
    try:
        accepted = console.post("jobs", body, FanoutAnswer, SUBMIT_MS)
    except KeyboardInterrupt:
        screen.aside("stopped before the gateway had answered; the jobs may be running")
        screen.hint("palyra jobs list")
        return INTERRUPTED
    _tell_approval(screen, accepted.value)
    if not wait:
        return _show_accepted(screen, accepted)
    return watch(screen, console, accepted.value.fanout, told=follow)


def _tell_approval(screen: Screen, answer: FanoutAnswer) -> None:
    """Rows that somebody has to decide, and by which command."""
    held = sum(row.waiting_for == APPROVAL for row in answer.rows)
    if held and answer.fanout.approval_id is not None:
        device = words.counted(held, "device")
        screen.aside(f"..  {device} {'waits' if held == 1 else 'wait'} for approval")
        screen.hint(f"palyra approvals approve {short_id(answer.fanout.approval_id)}")


def watch(
    screen: Screen,
    console: Console,
    item: FanoutItem,
    *,
    told: bool = False,
    limit_ms: int | None = None,
) -> int:
    """Wait for the end of a fan-out and show its rows; Ctrl-C ends only the waiting.

    ``told``: what happens is told also without a terminal; with ``--json`` one event a line and
    nothing else.
    """
    followed = following.FanoutWatch(item)
    try:
        if limit_ms is not None:
            following.look(screen, console, followed, limit_ms)
        elif not item.finished or (told and screen.as_json):
            following.fanout(screen, console, followed, told=told)
        if not followed.fanout.finished:
            _still_running(screen, followed.fanout)
            return 1
        if told and screen.as_json:
            return _status(followed.fanout)
        return show(screen, whole(console, item.fanout_id))
    except KeyboardInterrupt:
        _still_running(screen, followed.fanout)
        return INTERRUPTED
    except PalyraError:
        if not followed.fanout.finished:
            _still_running(screen, followed.fanout)
        raise


def whole(console: Console, fanout_id: str) -> FanoutAnswer:
    """A fan-out with every row of it, whatever the number of pages."""
    rows: dict[str, JobItem] = {}
    for answer in console.pages(f"fanouts/{fanout_id}", FanoutAnswer, None):
        last = answer.value
        rows |= {row.job_id: row for row in last.rows}
    page = msgspec.structs.replace(
        last.page, limit=len(rows), returned=len(rows), has_more=False, next_cursor=None
    )
    return msgspec.structs.replace(last, page=page, rows=list(rows.values()))


def show(screen: Screen, answer: FanoutAnswer) -> int:
    """A row for every target, those that did not succeed first, then the counts."""
    if screen.as_json:
        screen.json(msgspec.json.encode(answer))
        return _status(answer.fanout)
    rows = sorted(answer.rows, key=_place)
    shown = rows[:PAGE_LIMIT] if screen.tty else rows
    if shown:
        short = words.shortener(row.job_id for row in shown)
        screen.table(_COLUMNS, [_row(row, short[row.job_id]) for row in shown])
    # Without a terminal stdout has only rows, for scripts; the counts come all the same.
    last_line = screen.parts if screen.tty else screen.aside_parts
    last_line(*bars.totals(answer.fanout))
    _show_rest(screen, answer.fanout, len(shown), len(rows))
    return _status(answer.fanout)


def _show_rest(screen: Screen, item: FanoutItem, shown: int, known: int) -> None:
    if item.stopped and item.max_failures is not None:
        failures = words.counted(item.max_failures, "failure")
        screen.aside(f"stopped after more than {failures}; the rest was not started")
    if shown < known:
        screen.aside(f"{words.number(shown)} of {words.number(known)} rows")
        screen.hint(f"palyra jobs list --fanout {short_id(item.fanout_id)} --limit {known}")


def called(item: FanoutItem) -> str:
    """A fan-out as people name it."""
    return f"fan-out {short_id(item.fanout_id)}"


def _show_accepted(screen: Screen, accepted: Answer[FanoutAnswer]) -> int:
    item = accepted.value.fanout
    if screen.as_json:
        screen.json(accepted.body)
    elif screen.tty:
        targets = words.counted(item.targets, "target")
        screen.parts(("accepted", "green"), (f"  {called(item)}  {targets}", ""))
        screen.hint(f"palyra jobs follow {short_id(item.fanout_id)}")
    else:
        screen.pair("fanout", item.fanout_id)
        screen.pair("targets", str(item.targets))
    return 0


def _still_running(screen: Screen, item: FanoutItem) -> None:
    short = short_id(item.fanout_id)
    screen.aside(f"still running  fan-out {short}, {bars.progress(item)} ended")
    screen.hint(f"palyra jobs follow {short}  or  palyra jobs cancel {short}")


def _status(item: FanoutItem) -> int:
    return 0 if item.counts.get("succeeded", 0) == item.targets else 1


def _place(row: JobItem) -> tuple[int, str]:
    return _RANK.get(row.state, 0), row.device_name


def _row(row: JobItem, short: str) -> list[Cell]:
    took = words.NOTHING if row.took_ms is None else f"{row.took_ms}ms"
    return [
        cell(row.device_name),
        state_cell(row.state),
        cell(words.duration(row.took_ms), took),
        _output(row),
        cell(short, row.job_id),
        cell(str(row.attempts)),
    ]


def _output(row: JobItem) -> Cell:
    """The output, or what is known of a row that has none: a cell, not a sentence."""
    if row.effect_possible and row.state == "timed_out":
        return cell("may have taken effect", row.note, "magenta")
    if row.state == "succeeded":
        return cell(row.note)
    short = row.note.removeprefix(f"{row.device_name} is ").removesuffix(".")
    return cell(short.removesuffix("; nothing was queued"), row.note)
