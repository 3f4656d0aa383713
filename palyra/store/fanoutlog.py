"""Fan-outs in SQL (:class:`palyra.core.interfaces.IFanoutLog`): what is read of them.

They are written, with their rows, by :meth:`palyra.store.jobbatch.JobBatch.accept_fanout`.
"""

from __future__ import annotations

from collections import Counter

from sqlalchemy import Connection, func, select

from palyra.core.fanouts import FAILED, Fanout, Tally
from palyra.core.identifiers import FanoutId
from palyra.core.jobs import JobState
from palyra.store.joblog import beginning_with
from palyra.store.tables import fanouts, jobs


def fanout(connection: Connection, fanout_id: FanoutId) -> Fanout | None:
    """One fan-out."""
    row = connection.execute(select(fanouts).where(fanouts.c.fanout_id == fanout_id)).first()
    return None if row is None else Fanout(*row)


def tally(connection: Connection, fanout_id: FanoutId) -> Tally:
    """What became of its rows so far; failures as :func:`palyra.core.fanouts.is_failure` has it."""
    asked = jobs.c.attempts > 0
    statement = select(jobs.c.state, asked, func.count()).where(jobs.c.fanout_id == fanout_id)
    counts: Counter[JobState] = Counter()
    failures = 0
    for name, was_asked, count in connection.execute(statement.group_by(jobs.c.state, asked)):
        state = JobState(name)
        counts[state] += count
        if was_asked and state in FAILED:
            failures += count
    return Tally(dict(counts), failures)


def find_fanouts(connection: Connection, prefix: str) -> list[FanoutId]:
    """As :func:`palyra.store.joblog.find_jobs`."""
    return [FanoutId(found) for found in beginning_with(connection, fanouts.c.fanout_id, prefix)]
