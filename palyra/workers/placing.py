"""Which run is worked on where: the queue, the places with their workers, and what time decides.

Nothing here waits or calls out of the pool: what is to be told or started is kept for the thread
that holds the lock.
"""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

import attrs

from palyra.capability.frames import PluginFault
from palyra.capability.outcome import Outcome, OutcomeKind, failed
from palyra.capability.registry import normal_name
from palyra.capability.wording import one_line
from palyra.errors import PluginFailed
from palyra.workers.deaths import MOST, Deaths
from palyra.workers.places import Place, PoolRun
from palyra.workers.process import Death, State, Worker

MAX_RUNS = 1000
"""After so many runs a worker is replaced."""
MAX_TRIES = 2
_INTERRUPTED = (OutcomeKind.TIMED_OUT, OutcomeKind.CANCELLED)
STOPPING = "the node host is stopping"


@attrs.define(eq=False)
class Placing:
    """The state of a pool; times in seconds on ``clock``, which is monotonic.

    Whoever calls holds the pool's lock, and afterwards tells ``reports`` and ``news`` and starts
    workers for ``orders``, all in their order.
    """

    max_workers: int
    idle_s: float
    start_s: float
    grace_s: float
    clock: Callable[[], float]
    reports: list[tuple[PoolRun, Outcome]] = attrs.field(factory=list, init=False)
    orders: list[Place] = attrs.field(factory=list, init=False)
    news: list[tuple[str, str | None]] = attrs.field(factory=list, init=False)
    runs: set[PoolRun] = attrs.field(factory=set, init=False)
    places: list[Place] = attrs.field(factory=list, init=False)
    _waiting: list[PoolRun] = attrs.field(factory=list, init=False)
    _busy: Counter[str] = attrs.field(factory=Counter, init=False)
    _deaths: dict[str, Deaths] = attrs.field(factory=lambda: defaultdict(Deaths), init=False)
    _off: dict[str, tuple[str, str]] = attrs.field(factory=dict, init=False)
    _run_id: int = attrs.field(default=0, init=False)
    closing: bool = attrs.field(default=False, init=False)

    # -- runs -------------------------------------------------------------------------------

    def add(self, run: PoolRun, refusal: Outcome | None) -> None:
        """Take a run in; ``refusal`` is its outcome where it is not to be worked on."""
        self.runs.add(run)
        refusal = refusal or self._unavailable(key_of(run))
        if refusal is not None:
            self._settle(run, refusal)
        else:
            self._waiting.append(run)
            self._fill()

    def interrupt(self, run: PoolRun, kind: OutcomeKind, give_up_at: float) -> None:
        """Ask a run to end, until ``give_up_at`` at most."""
        if run.done or run.interrupted_as is not None:
            return
        run.interrupted_as = kind
        run.context._interrupt()
        if run.place is None:
            run.give_up_at = -math.inf
            return
        run.give_up_at = give_up_at
        if run.place.worker is not None:
            run.place.worker.cancel()

    def close(self, give_up_at: float) -> None:
        """Interrupt every run and send every worker away."""
        self.closing = True
        for run in self.runs:
            self.interrupt(run, OutcomeKind.CANCELLED, give_up_at)
            run.give_up_at = min(run.give_up_at, give_up_at)
        for place in self.places:
            self.dismiss(place)

    def retire(self) -> None:
        """The plugins may be others now: no run is given to a worker that is there already."""
        for place in self.places:
            place.fresh = False
            if place.state is State.IDLE:
                self._stop(place)
        self._deaths.clear()
        self.news += [(distribution, None) for distribution, _ in self._off.values()]
        self._off.clear()
        self._fill()

    # -- what becomes of workers ------------------------------------------------------------

    def begun(self, place: Place, worker: Worker) -> None:
        """The worker that was ordered for a place was started."""
        place.worker = worker
        place.since_s = self.clock()

    def ready(
        self, place: Place, contracts: Mapping[str, str], faults: Sequence[PluginFault] = ()
    ) -> None:
        """It can run: these capabilities, by name, with their contracts."""
        if place.state is State.STARTING:
            place.contracts, place.faults = contracts, faults
            place.was_ready = True
            self._rest(place)
            self._fill()

    def ended(self, place: Place, outcome: Callable[[PoolRun], Outcome]) -> None:
        """Its run is over."""
        run = place.run
        if run is None or place.state is not State.RUNNING:
            return
        said = outcome(run)
        if run.began and said.kind in _INTERRUPTED:
            # Only with its worker has all of it stopped: threads, and processes it has started.
            run.interrupted_as = said.kind
            self._end(place, "its run was interrupted", wanted=True)
            return
        self._leave(run)
        self._settle(run, said)
        place.runs += 1
        self._rest(place)
        self._fill()

    def lost(self, place: Place, death: Death) -> None:
        """Nothing is left of it."""
        self.places.remove(place)
        if (run := place.run) is not None:
            self._leave(run)
            self._orphaned(run, death)
        elif not death.wanted and not place.was_ready:
            self._unserved(place, death)
        if not death.wanted:
            self._count(place, death)
        self._fill()

    def dismiss(self, place: Place) -> None:
        """Send a worker away that does not run anything."""
        if place.state is State.IDLE:
            self._stop(place)
        elif place.state is State.STARTING:
            self._end(place, STOPPING, wanted=True)

    # -- time -------------------------------------------------------------------------------

    def next_look(self) -> float:
        """When time has something to do."""
        return min((*self._run_times(), self.next_move()))

    def next_move(self) -> float:
        """When time has something to do with a place."""
        return min(self._place_times(), default=math.inf)

    def _run_times(self) -> Iterator[float]:
        for run in self.runs:
            yield run.next_look()
        for key in self._off:
            yield self._deaths[key].off_until

    def _place_times(self) -> Iterator[float]:
        for place in self.places:
            yield place.since_s + self._patience(place)

    def look(self) -> None:
        """Do what time has decided."""
        now = self.clock()
        for run in list(self.runs):
            if run.interrupted_as is None and run.context.deadline_s <= now:
                self.interrupt(run, OutcomeKind.TIMED_OUT, now + self.grace_s)
            if run.interrupted_as is not None and run.give_up_at <= now:
                self._give_up(run)
        for place in self.places:
            if place.since_s + self._patience(place) <= now:
                self._overdue(place)
        for key in [each for each in self._off if self._deaths[each].off_until <= now]:
            self.news.append((self._off.pop(key)[0], None))

    def _patience(self, place: Place) -> float:
        """How long a place may be in its state; what is ordered has no state of its own yet."""
        if place.worker is None:
            return math.inf
        patience = {
            State.STARTING: self.start_s,
            State.IDLE: self.idle_s,
            State.STOPPING: self.grace_s,
        }
        return patience.get(place.state, math.inf)

    def _give_up(self, run: PoolRun) -> None:
        run.give_up_at = math.inf
        if run.place is None:
            self._settle(run, run.interruption(stopped=True))
        else:
            self._end(run.place, "it did not end its run", wanted=True)

    def _overdue(self, place: Place) -> None:
        if place.state is State.STARTING:
            self._end(place, f"it was not ready in {self.start_s:g} s", wanted=False)
        elif place.state is State.IDLE:
            self._stop(place)
        else:
            self._end(place, "it did not exit", wanted=True)

    # -- places -----------------------------------------------------------------------------

    def _fill(self) -> None:
        """Give places to whoever waits, in order; make room where there is none."""
        if not self._waiting or self.closing:
            return
        free = self.max_workers - len(self.places)
        leaving = sum(each.state in (State.STOPPING, State.ENDING) for each in self.places)
        starting = (each for each in self.places if each.state is State.STARTING and each.fresh)
        coming = Counter(each.key for each in starting)
        claimed: Counter[str] = Counter()
        for run in list(self._waiting):
            key = key_of(run)
            if self._busy[run.name] + claimed[run.name] >= run.offer.descriptor.max_concurrency:
                continue
            if place := self._idle(key):
                self._seat(run, place)
                continue
            claimed[run.name] += 1
            if coming[key]:
                coming[key] -= 1
            elif free > 0:
                free -= 1
                self._order(key, run.offer.descriptor.distribution)
            elif leaving > 0:
                leaving -= 1
            elif other := self._idle():
                self._stop(other)

    def _idle(self, key: str | None = None) -> Place | None:
        """An idle worker of that distribution, or of any."""
        idle = (each for each in self.places if each.state is State.IDLE and each.fresh)
        return next((each for each in idle if key in (None, each.key)), None)

    def _order(self, key: str, distribution: str) -> None:
        place = Place(key, distribution, self.clock())
        self.places.append(place)
        self.orders.append(place)

    def _seat(self, run: PoolRun, place: Place) -> None:
        """Give a run to an idle worker, unless it is too late or that offers something else."""
        now = self.clock()
        if run.context.deadline_s <= now:
            run.interrupted_as = OutcomeKind.TIMED_OUT
        if run.interrupted_as is not None:
            self._settle(run, run.interruption(stopped=True))
        elif place.contracts.get(run.name) != run.offer.contract:
            self._settle(run, _stale(run, place.faults))
        else:
            assert place.worker is not None
            self._waiting.remove(run)
            self._busy[run.name] += 1
            self._run_id += 1
            place.run, run.place = run, place
            place.become(State.RUNNING, now)
            place.worker.run(run.frame(self._run_id, now))

    def _leave(self, run: PoolRun) -> None:
        """A run left its place."""
        assert run.place is not None
        run.place.run, run.place = None, None
        self._busy[run.name] -= 1
        if not self._busy[run.name]:
            del self._busy[run.name]

    def _rest(self, place: Place) -> None:
        """A worker has nothing to do now."""
        place.become(State.IDLE, self.clock())
        if self.closing or not place.fresh or place.runs >= MAX_RUNS:
            self._stop(place)

    def _stop(self, place: Place) -> None:
        assert place.worker is not None
        place.worker.stop()
        place.become(State.STOPPING, self.clock())

    def _end(self, place: Place, cause: str, *, wanted: bool) -> None:
        if place.worker is not None:
            place.become(State.ENDING, self.clock())
            place.worker.end(cause, wanted=wanted)

    # -- deaths -----------------------------------------------------------------------------

    def _orphaned(self, run: PoolRun, death: Death) -> None:
        """The worker of a run died under it; one whose handler was not called gets another, where
        it does no harm if the worker has lied about that."""
        run.tries += 1
        again = run.offer.descriptor.idempotent and not run.began and run.interrupted_as is None
        if again and run.tries < MAX_TRIES and not self.closing:
            self._waiting.insert(0, run)
        else:
            self._settle(run, run.death(death.cause, gone=death.gone))

    def _unserved(self, place: Place, death: Death) -> None:
        """A worker died before it could run anything: so ends whoever has waited for two."""
        run = next((each for each in self._waiting if key_of(each) == place.key), None)
        if run is not None:
            run.tries += 1
            if run.tries >= MAX_TRIES:
                self._settle(run, run.death(death.cause, gone=True))

    def _count(self, place: Place, death: Death) -> None:
        """One more death of a distribution; one that dies too often is off for a while."""
        off_s = self._deaths[place.key].died(self.clock())
        if not off_s or self.closing:
            return
        until = time.strftime("%H:%M:%S", time.localtime(time.time() + off_s))
        sentence = (
            f"{place.distribution} is not used for {off_s:g} s, until {until} on the device: its "
            f"process ended {MOST} times within a minute, at last because {death.cause}."
        )
        self._off[place.key] = (place.distribution, sentence)
        self.news.append((place.distribution, sentence))
        for run in [each for each in self._waiting if key_of(each) == place.key]:
            self._settle(run, _disabled(sentence))

    def _unavailable(self, key: str) -> Outcome | None:
        return _disabled(self._off[key][1]) if key in self._off else None

    def _settle(self, run: PoolRun, outcome: Outcome) -> None:
        """A run has its outcome, once."""
        run.done = True
        self.runs.discard(run)
        if run in self._waiting:
            self._waiting.remove(run)
        self.reports.append((run, outcome))


def key_of(run: PoolRun) -> str:
    """Whose worker it needs."""
    return normal_name(run.offer.descriptor.distribution)


def _disabled(sentence: str) -> Outcome:
    return Outcome(OutcomeKind.FAILED, b"", "capability_disabled", sentence)


def _stale(run: PoolRun, faults: Sequence[PluginFault]) -> Outcome:
    """What was described once is not there now; most likely for the fault of the same name."""
    said = run.offer.descriptor
    cause = f"does not offer the {said.name} that this node host has announced"
    if fault := min(faults, key=lambda each: each.name != said.name, default=None):
        cause = f"{cause}: {one_line(fault.sentence).rstrip('.')}"
    return failed(PluginFailed(said.distribution, said.version, cause))
