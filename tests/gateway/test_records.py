"""Records by themselves: a change of a job is committed, and tried again until it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs

from palyra.core.interfaces import IJobLog
from palyra.core.jobs import Job, JobState
from palyra.errors import DiskFull, NotRegistered, PalyraError
from palyra.gateway.records import MAX_PAUSE_S, Records
from palyra.gateway.unfinished import Live, Unfinished
from tests.gateway.house import fired, result_of
from tests.gateway.lives import PI, a_live, live_of
from tests.store.samples import NOW_MS, a_job, dispatch, report, succeed


class Log:
    """A job log whose commits end when a test says so, and how."""

    def __init__(self) -> None:
        self.tries: list[tuple[JobState, bool, Deferred[None]]] = []
        """Of each commit: the job's state, whether it had an attempt, and its end."""

    def update(self, job: Job) -> Deferred[None]:
        committed: Deferred[None] = Deferred()
        self.tries.append((job.state, job.attempt is not None, committed))
        return committed

    def end(self, error: PalyraError | None = None) -> None:
        """The newest commit ends."""
        committed = self.tries[-1][2]
        if error is None:
            committed.callback(None)
        else:
            committed.errback(error)


class Room:
    """Records on a scripted log; ``heard`` is what was told of commits."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.log = Log()
        self.unfinished = Unfinished()
        self.heard: list[tuple[Live, bool]] = []
        self.records = Records(
            clock=self.clock,
            log=cast(IJobLog, self.log),
            unfinished=self.unfinished,
            committed=lambda live, final: self.heard.append((live, final)),
        )


@pytest.fixture
def room() -> Iterator[Room]:
    made = Room()
    yield made
    made.records.stop()
    assert not made.clock.getDelayedCalls()


def a_sent_live() -> Live:
    return live_of(dispatch(a_job("job", PI)))


def an_ended_live() -> Live:
    return live_of(succeed(dispatch(a_job("job", PI))))


@pytest.mark.parametrize(("make", "final"), [(a_sent_live, False), (an_ended_live, True)])
def test_a_change_is_kept(room: Room, make: Any, final: bool) -> None:
    """Nobody hears of it before the commit; then once, with whether it was the end."""
    live = room.unfinished.keep(make())
    answer = room.records.commit(live)
    assert not fired(answer) and room.heard == []
    room.log.end()
    assert result_of(answer) is None and room.heard == [(live, final)]
    room.clock.advance(10)
    assert len(room.log.tries) == 1


def test_an_end_that_comes_while_a_change_is_committed(room: Room) -> None:
    """The first commit tells no end: only that which holds the end does."""
    live = room.unfinished.keep(a_sent_live())
    room.records.commit(live)
    first = room.log.tries[-1][2]
    live.machine.succeeded(report(live.job), NOW_MS + 30)
    room.records.commit(live)
    first.callback(None)
    assert room.heard == [(live, False)]
    room.log.end()
    assert room.heard == [(live, False), (live, True)]


def test_a_change_that_is_not_kept(room: Room) -> None:
    """Whoever asked hears why, nobody else anything; it is tried until it is kept."""
    live = room.unfinished.keep(an_ended_live())
    answer = room.records.commit(live)
    error = DiskFull("/srv")
    room.log.end(error)
    failures = result_of(answer)
    assert failures is not None and [each.value for each in failures] == [error]
    for tries in range(2, 6):
        room.clock.advance(MAX_PAUSE_S)
        assert len(room.log.tries) == tries and room.heard == []
        room.log.end(error if tries < 5 else None)
    assert room.heard == [(live, True)]
    room.clock.advance(60)
    assert len(room.log.tries) == 5


def test_how_often_it_is_tried(room: Room) -> None:
    """After a second, then less and less often; once the store works, after a second again."""
    live = room.unfinished.keep(a_sent_live())
    for _ in range(2):
        room.records.commit(live)
        for pause_s in (1.0, 2.0, 4.0, MAX_PAUSE_S, MAX_PAUSE_S):
            room.log.end(DiskFull("/srv"))
            tries = len(room.log.tries)
            room.clock.advance(pause_s - 0.1)
            assert len(room.log.tries) == tries
            room.clock.advance(0.1)
            assert len(room.log.tries) == tries + 1
        room.log.end()


def test_all_that_waits_is_tried_together(room: Room) -> None:
    """Ten jobs that wait for the store make no more turns than one, each is tried once a turn."""
    lives = [room.unfinished.keep(live_of(dispatch(a_job(str(n), PI)))) for n in range(10)]
    for live in lives:
        room.records.commit(live)
        room.log.end(DiskFull("/srv"))
        room.clock.advance(0.05)
    assert len(room.clock.getDelayedCalls()) == 1
    room.clock.advance(0.6)
    assert len(room.log.tries) == 20
    for _, _, committed in room.log.tries[10:]:
        committed.callback(None)
    assert room.heard == [(live, False) for live in lives] and not room.clock.getDelayedCalls()


def test_a_full_disk_does_not_fill_the_log(room: Room) -> None:
    """However many jobs wait for the store, each turn says once why, and when it tries again."""
    for number in range(10):
        room.records.commit(room.unfinished.keep(live_of(dispatch(a_job(str(number), PI)))))
    with capturedLogs() as events:
        for _, _, committed in room.log.tries:
            committed.errback(DiskFull("/srv"))
    levels = [event["log_level"] for event in events]
    assert levels == [LogLevel.critical, LogLevel.warn]


def test_the_newest_state_is_tried_again(room: Room) -> None:
    """A second later the job is committed as it is then."""
    live = room.unfinished.keep(a_sent_live())
    room.records.commit(live)
    room.log.end(DiskFull("/srv"))
    live.machine.succeeded(report(live.job), NOW_MS + 30)
    room.clock.advance(1)
    assert [state for state, *_ in room.log.tries] == [JobState.DISPATCHED, JobState.SUCCEEDED]
    room.log.end()
    assert room.heard == [(live, True)]


@pytest.mark.parametrize("error", [DiskFull("/srv"), NotRegistered()])
@pytest.mark.parametrize("make", [a_sent_live, an_ended_live])
def test_a_job_that_is_no_more(room: Room, make: Any, error: PalyraError) -> None:
    """It was refused, or the store ended it, while a change was committed: nothing is repeated."""
    live = room.unfinished.keep(make())
    answer = room.records.commit(live)
    room.unfinished.forget(live)
    room.log.end(error)
    assert result_of(answer) is None
    room.clock.advance(10)
    assert len(room.log.tries) == 1 and room.heard == []


def test_a_job_in_the_place_of_another(room: Room) -> None:
    """What became of an earlier life of a job is not repeated for the one that is there now."""
    live = room.unfinished.keep(a_sent_live())
    room.records.commit(live)
    room.unfinished.keep(a_sent_live())
    room.log.end(DiskFull("/srv"))
    room.clock.advance(10)
    assert len(room.log.tries) == 1


def test_an_end_over_an_attempt_that_was_never_recorded(room: Room) -> None:
    """An earlier attempt decided: the end is committed at once, without the newest attempt."""
    live = room.unfinished.keep(an_ended_live())
    answers: list[Any] = []
    room.records.commit(live).addBoth(answers.append)
    room.log.end(NotRegistered())
    assert [(state, attempt) for state, attempt, _ in room.log.tries] == [
        (JobState.SUCCEEDED, True),
        (JobState.SUCCEEDED, False),
    ]
    assert answers == [] == room.heard
    room.log.end()
    assert answers == [None] and room.heard == [(live, True)]


def test_a_change_over_an_attempt_that_is_not_recorded(room: Room) -> None:
    """A job that goes on keeps its attempt, and is tried again in a second."""
    live = room.unfinished.keep(a_sent_live())
    answer = room.records.commit(live)
    room.log.end(NotRegistered())
    assert result_of(answer) is not None and live.job.attempt is not None
    assert len(room.log.tries) == 1
    room.clock.advance(1)
    assert [attempt for _, attempt, _ in room.log.tries] == [True, True]


def test_an_act_that_is_repeated(room: Room) -> None:
    """It happens once, a second later."""
    acts: list[tuple[Any, ...]] = []
    room.records.retry(lambda *arguments: acts.append(arguments), "pi", 3)
    room.clock.advance(0.9)
    assert acts == []
    room.clock.advance(0.2)
    room.clock.advance(5)
    assert acts == [("pi", 3)]


def test_after_the_stop(room: Room) -> None:
    """Nothing is tried again, and stopping twice is as stopping once."""
    live = room.unfinished.keep(a_live())
    room.records.commit(live)
    room.log.end(DiskFull("/srv"))
    room.records.retry(pytest.fail, "too late")
    room.records.commit(live)
    for _ in range(2):
        room.records.stop()
        assert not room.clock.getDelayedCalls()
    room.log.end(DiskFull("/srv"))
    room.records.retry(pytest.fail, "much too late")
    assert not room.clock.getDelayedCalls()
    room.clock.advance(10)
    assert len(room.log.tries) == 2


def test_one_fault_costs_the_others_nothing() -> None:
    """Everything that waits for the store has its turn."""
    room, seen = Room(), []

    def broken() -> None:
        raise ZeroDivisionError

    room.records.retry(broken)
    room.records.retry(seen.append, 1)
    room.clock.advance(2)
    assert seen == [1]
