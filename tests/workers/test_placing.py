"""Tests of :mod:`palyra.workers.placing`: who gets which place when, without any process."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra.capability.catalogue import Offer
from palyra.capability.context import CapabilityContext
from palyra.capability.frames import Run
from palyra.capability.outcome import Outcome, OutcomeKind
from palyra.core.descriptors import Descriptor
from palyra.workers.places import Place, PoolRun
from palyra.workers.placing import Placing
from palyra.workers.process import Death, State

from .pools import DEVICE

CRASH = Death("it exited with status 1", wanted=False, gone=True)
GOOD = Outcome(OutcomeKind.SUCCEEDED, b"1")


class FakeWorker:
    """Keeps what it is told."""

    def __init__(self, distribution: str) -> None:
        self.distribution = distribution
        self.told: list[str] = []

    def run(self, run: Run) -> None:
        self.told.append(f"run {run.job_id}")

    def cancel(self) -> None:
        self.told.append("cancel")

    def stop(self) -> None:
        self.told.append("stop")

    def end(self, cause: str = "", *, wanted: bool = False) -> None:
        self.told.append(f"end: {cause}")


class Table:
    """A placing with a clock of its own, and workers that obey."""

    def __init__(self, most: int = 2) -> None:
        self.now = 0.0
        self._count = 0
        self.placing = Placing(most, 60.0, 10.0, 2.0, lambda: self.now)

    def start(
        self, name: str, *, in_s: float = 1000.0, most: int = 9, idempotent: bool = False
    ) -> PoolRun:
        """A run of ``acme.it`` of the distribution acme."""
        self._count += 1
        offer = Offer(_descriptor(name, most, idempotent))
        context = CapabilityContext(
            f"{name}-{self._count}", DEVICE, deadline_s=self.now + in_s, clock=lambda: self.now
        )
        run = PoolRun(offer, b"1", context, 100, lambda outcome: None, lambda run: None)
        self.placing.add(run, None)
        return run

    def spawn(self) -> list[Place]:
        """Start the workers that were ordered; they are ready at once."""
        orders, self.placing.orders = self.placing.orders, []
        for place in orders:
            self.begin(place)
            usual = {f"{place.key}.it": _descriptor(f"{place.key}.it").contract()}
            asked = {each.name: each.offer.contract for each in self.placing.runs}
            self.placing.ready(place, usual | asked)
        return orders

    def begin(self, place: Place) -> None:
        """Start a worker that does not get ready."""
        self.placing.begun(place, FakeWorker(place.distribution))  # type: ignore[arg-type]

    def told(self) -> list[tuple[str, Outcome]]:
        """The outcomes since the last time."""
        reports, self.placing.reports = self.placing.reports, []
        return [(run.context.job_id, outcome) for run, outcome in reports]

    def places(self) -> list[str]:
        """What is on each place."""
        return [f"{each.key} {each.state.value}" for each in self.placing.places]


def _descriptor(name: str, most: int = 9, idempotent: bool = False) -> Descriptor:
    return Descriptor(
        api=1, name=name, version="1", distribution=name.partition(".")[0], description="d",
        risk="low", needs_mediation=False, idempotent=idempotent, timeout_ms=1000,
        max_concurrency=most, input_schema={}, output_schema={},
    )  # fmt: skip


def worker_of(place: Place) -> Any:
    """The fake."""
    return place.worker


def test_one_run() -> None:
    """A worker is ordered, gets the run when it is ready, and is idle after it."""
    table = Table()
    table.start("acme.it")
    assert table.places() == ["acme starting"]
    (place,) = table.spawn()
    assert (worker_of(place).told, table.places()) == (["run acme.it-1"], ["acme running"])
    table.placing.ended(place, lambda run: GOOD)
    assert (table.told(), table.places()) == ([("acme.it-1", GOOD)], ["acme idle"])
    assert table.placing.next_look() == 60.0
    table.now = 60.0
    table.placing.look()
    assert worker_of(place).told[-1] == "stop"
    table.now = 62.0
    table.placing.look()
    assert worker_of(place).told[-1] == "end: it did not exit"
    table.placing.lost(place, Death("it did not exit", wanted=True, gone=True))
    assert (table.places(), table.placing.next_look()) == ([], math.inf)
    table.placing.look()
    assert table.told() == []


def test_nobody_is_starved() -> None:
    """Who came first gets the place that comes free, also if its worker must be started."""
    table = Table(most=1)
    table.start("one.it")
    (place,) = table.spawn()
    table.start("two.it")
    table.start("one.it")
    assert table.places() == ["one running"]
    table.placing.ended(place, lambda run: GOOD)
    assert table.places() == ["one stopping"]
    table.placing.lost(place, Death("", wanted=True, gone=True))
    (other,) = table.spawn()
    assert worker_of(other).told == ["run two.it-2"]


def test_no_more_workers_than_runs() -> None:
    """Two runs that may not run together start one worker; three that may start two of two."""
    table = Table(most=4)
    for _ in range(2):
        table.start("acme.it", most=1)
    assert len(table.placing.orders) == 1
    table = Table(most=2)
    for _ in range(3):
        table.start("acme.it")
    assert len(table.spawn()) == 2


def test_who_is_not_ready_in_time() -> None:
    """A worker that does not get ready is ended; whoever waited for two of them fails."""
    table = Table()
    table.start("acme.it", in_s=100.0)
    for _ in range(2):
        orders, table.placing.orders = table.placing.orders, []
        table.begin(orders[0])
        table.now += 10.0
        table.placing.look()
        assert worker_of(orders[0]).told == ["end: it was not ready in 10 s"]
        table.placing.lost(orders[0], Death("it was not ready in 10 s", wanted=False, gone=True))
    ((job, outcome),) = table.told()
    assert (job, outcome.error_code) == ("acme.it-1", "worker_died")
    assert table.places() == []


def test_off_and_on_again() -> None:
    """Three deaths take a distribution off for ten seconds, with everybody who waits for it."""
    table = Table()
    waits = [table.start("acme.it", most=1) for _ in range(4)]
    for _ in range(3):
        table.placing.lost(table.placing.orders.pop(), CRASH)
    told = table.told()
    assert [outcome.error_code for _, outcome in told] == [
        "worker_died", "capability_disabled", "capability_disabled", "capability_disabled",
    ]  # fmt: skip
    assert all(run.done for run in waits)
    last = table.placing
    ((distribution, sentence),) = last.news
    assert distribution == "acme" and sentence is not None
    assert sentence.startswith("acme is not used for 10 s, until ")
    assert sentence.endswith("3 times within a minute, at last because it exited with status 1.")
    table.start("acme.it")
    assert [outcome.error_sentence for _, outcome in table.told()] == [sentence]
    table.start("other.it")
    assert len(last.orders) == 1
    table.now = last.next_look()
    last.look()
    assert last.news[1:] == [("acme", None)]


@pytest.mark.parametrize(("began", "idempotent"), [(True, True), (False, True), (False, False)])
def test_a_death_in_a_run(began: bool, idempotent: bool) -> None:
    """A run whose handler was not called is given to one more worker, if it is idempotent: what a
    worker did before it died is only known from itself.  Others have failed."""
    table = Table()
    run = table.start("acme.it", idempotent=idempotent)
    (place,) = table.spawn()
    run.began = began
    table.placing.lost(place, CRASH)
    if began or not idempotent:
        ((_, outcome),) = table.told()
        assert outcome.error_code == "worker_died"
        return
    (place,) = table.spawn()
    assert worker_of(place).told == ["run acme.it-1"]
    table.placing.lost(place, CRASH)
    assert [outcome.error_code for _, outcome in table.told()] == ["worker_died"]


@pytest.mark.parametrize("gone", [True, False])
def test_a_deadline(gone: bool) -> None:
    """Cancelled at the deadline, killed after the grace, and stopped if nothing is left."""
    table = Table()
    table.start("acme.it", in_s=5.0)
    (place,) = table.spawn()
    table.now = 5.0
    table.placing.look()
    assert worker_of(place).told[1:] == ["cancel"]
    table.now = 7.0
    table.placing.look()
    assert worker_of(place).told[2:] == ["end: it did not end its run"]
    table.placing.lost(place, Death("it did not end its run", wanted=True, gone=gone))
    ((_, outcome),) = table.told()
    assert (outcome.kind, outcome.stopped) == (OutcomeKind.TIMED_OUT, gone)


@pytest.mark.parametrize("began", [True, False])
def test_what_was_interrupted_goes_with_its_worker(began: bool) -> None:
    """An interrupted run is reported when the worker is gone, with all that its handler left; one
    whose handler was never called has left nothing."""
    table = Table()
    run = table.start("acme.it")
    (place,) = table.spawn()
    run.began = began
    table.placing.interrupt(run, OutcomeKind.CANCELLED, 2.0)
    said = run.interruption(stopped=True)
    table.placing.ended(place, lambda run: said)
    if not began:
        assert (table.told(), table.places()) == ([("acme.it-1", said)], ["acme idle"])
        return
    assert (table.told(), table.places()) == ([], ["acme ending"])
    table.placing.ended(place, lambda run: GOOD)
    table.placing.lost(place, Death("its run was interrupted", wanted=True, gone=False))
    ((_, outcome),) = table.told()
    assert (outcome.kind, outcome.stopped) == (OutcomeKind.CANCELLED, False)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["start", "spawn", "end", "crash", "cancel", "tick", "retire"]),
        st.integers(0, 3),
    ),
    max_size=60,
)


@settings(max_examples=100)
@given(STEPS)
def test_whatever_happens(steps: list[tuple[str, int]]) -> None:
    """Every run gets one outcome, there are never too many places, and close leaves nothing."""
    table = Table(most=2)
    runs: list[PoolRun] = []
    seen: list[str] = []
    for what, which in steps:
        _step(table, runs, what, which)
        seen += [job for job, _ in table.told()]
        assert len(table.placing.places) <= 2
        running = [each for each in table.placing.places if each.state is State.RUNNING]
        assert all(each.run is not None and not each.run.done for each in running)
    table.placing.close(table.now)
    table.placing.look()
    for place in list(table.placing.places):
        table.placing.lost(place, Death("", wanted=True, gone=True))
    table.placing.look()
    seen += [job for job, _ in table.told()]
    assert sorted(seen) == sorted(run.context.job_id for run in runs)
    assert (table.placing.runs, table.placing.places) == (set(), [])


def _step(table: Table, runs: list[PoolRun], what: str, which: int) -> None:
    places = table.placing.places
    place = places[which % len(places)] if places else None
    if what == "start":
        runs.append(table.start(("one.it", "two.it", "three.it")[which % 3], most=2))
    elif what == "spawn":
        table.spawn()
    elif what == "cancel" and runs:
        run = runs[which % len(runs)]
        table.placing.interrupt(run, OutcomeKind.CANCELLED, table.now + 2.0)
    elif what == "tick":
        table.now += (0.5, 3.0, 20.0, 120.0)[which]
        table.placing.look()
    elif what == "retire":
        table.placing.retire()
    elif place is not None and place.worker is not None:
        if what == "end" and place.run is not None:
            place.run.began = bool(which % 2)
            ended_by = place.run.interrupted_as
            table.placing.ended(
                place, lambda run: run.interruption(stopped=True) if ended_by else GOOD
            )
        elif what == "crash":
            wanted = place.state in (State.STOPPING, State.ENDING)
            table.placing.lost(place, Death("it died", wanted=wanted, gone=True))
