"""How jobs are listed and shown."""

from __future__ import annotations

from collections.abc import Sequence

from palyra.cli import facts, words
from palyra.cli.facts import Fact
from palyra.cli.present import Screen, json_text
from palyra.cli.tables import Cell, Column, cell, state_cell, style_of
from palyra.console.models import NULL, JobAnswer, JobItem, JobNote, MediationItem
from palyra.core.callapprovals import APPROVAL
from palyra.core.identifiers import short_id

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


def show_list(screen: Screen, found: Sequence[JobItem], more: bool, *, chosen: bool) -> None:
    """Jobs as a table; ``chosen``: not all were asked for."""
    short = words.shortener(job.job_id for job in found)
    if found:
        now = screen.now()
        screen.table(_COLUMNS, [_row(job, short[job.job_id], now) for job in found])
    elif screen.tty:
        screen.line("No such jobs." if chosen else "No jobs yet.")
    if more and screen.tty:
        screen.aside(f"only the newest {words.number(len(found))}; --limit N shows more")


def show_one(screen: Screen, answer: JobAnswer) -> None:
    """Everything known of one job."""
    facts.show(screen, _facts(screen, answer))


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
        cell(job.note or _waits(job)),
    ]


def _waits(job: JobItem) -> str:
    return "waits for approval" if job.waiting_for == APPROVAL else ""


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
        *_plans(job),
        _time("finished", job.finished_at_unix_ms),
        Fact.same("took", words.duration(job.took_ms)),
        Fact.same("by", words.escaped(job.requested_by) or words.NOTHING),
        Fact.same("attempts", str(job.attempts)),
        *_mediation(job.mediation),
    ]
    if job.fanout_id:
        found.append(Fact.same("fan-out", words.escaped(job.fanout_id)))
    problem = answer.error or (job.note if job.error_code else "")
    if problem:
        found.append(Fact.same("error", words.escaped(problem)))
    found.append(_document(screen, "input", bytes(answer.input_json)))
    if answer.output_json != NULL or job.state == "succeeded":
        found.append(_document(screen, "output", bytes(answer.output_json)))
    return found + [_late(note) for note in answer.notes]


def _late(note: JobNote) -> Fact:
    """A report that came when the job had ended."""
    what, took = words.escaped(note.outcome), words.duration(note.took_ms)
    told = words.escaped(note.error or note.note)
    rest = (f": {told}" if told else "") + ("" if note.stopped else "  !! may still run")
    return Fact(
        "note",
        f"late {what} of attempt {words.escaped(short_id(note.attempt_id))} after {took}{rest}",
        f"late {what} of attempt {words.escaped(note.attempt_id)} after {note.took_ms}ms{rest}",
    )


def _plans(job: JobItem) -> list[Fact]:
    """What is to happen, or was asked for and by whom, as far as there is any of it."""
    times = (
        ("waits until", job.queue_expires_unix_ms if job.state == "queued" else None),
        ("next try", job.retry_at_unix_ms),
        ("cancel asked", job.cancel_requested_unix_ms),
    )
    texts = ("asked by", job.cancelled_by), ("reason", job.cancel_reason)
    return [
        *(_time(key, at_ms) for key, at_ms in times if at_ms is not None),
        *(Fact.same(key, words.escaped(text)) for key, text in texts if text),
    ]


_CHOICES = {
    "once": "allowed once",
    "session": "allowed for this session",
    "always": "always allowed",
    "rule": "allowed",
    "no": "refused",
}


def _mediation(said: MediationItem | None) -> list[Fact]:
    """What became of the question at the device, who said so and when."""
    if said is None:
        return []
    found = []
    if said.asked_at_unix_ms is not None:
        found.append(_time("asked there", said.asked_at_unix_ms))
    if said.choice:
        choice = _CHOICES.get(said.choice, words.escaped(said.choice))
        by = f" by {words.escaped(said.decided_by)}" if said.decided_by else ""
        found.append(Fact.same("said there", choice + by))
    if said.decided_at_unix_ms is not None:
        found.append(_time("decided", said.decided_at_unix_ms))
    return found


def _time(key: str, at_ms: int | None) -> Fact:
    return Fact(key, words.whole_time(at_ms), words.utc(at_ms))


def _document(screen: Screen, key: str, document: bytes) -> Fact:
    line = json_text(document, indent=0)
    shown = line if len(line) <= screen.width - 14 else json_text(document, indent=2)
    return Fact(key, shown, json_text(document, indent=-1))
