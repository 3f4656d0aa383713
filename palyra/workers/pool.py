"""Workers of every distribution: started when there is work, kept warm, few at a time.

Whatever a worker does, whoever started a run gets exactly one :class:`Outcome`, from a thread of
the pool.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from subprocess import SubprocessError

import attrs
import msgspec
from twisted.logger import Logger

from palyra.capability.catalogue import Offer
from palyra.capability.context import CapabilityContext
from palyra.capability.frames import Limits, Ready, Result
from palyra.capability.outcome import Outcome, OutcomeKind, failed
from palyra.errors import InputInvalid
from palyra.workers.describing import Described, Description
from palyra.workers.killing import Containment, best_containment
from palyra.workers.places import Place, PoolRun
from palyra.workers.placing import Placing
from palyra.workers.process import KILL_S, Death, Listener, Log, Worker
from palyra.workers.spawning import WORKER_ARGV, Account, Spawner

GRACE_S = 2.0
"""How long a worker has to end an interrupted run, or itself, before it is killed, in seconds."""
_TEND_S = 15.0
_LONGEST_WAIT_S = 5.0
"""A wait stands still while the machine sleeps, and the clock of deadlines may not."""
_logger = Logger("palyra.capability.worker")
_any_json = msgspec.json.Decoder(msgspec.Raw)

OnDone = Callable[[Outcome], None]
Changed = Callable[[str, str | None], None]
"""Takes a distribution, and why it cannot be used now; None where it can be used again."""


def log_line(distribution: str, line: str) -> None:
    """Put what a worker wrote on stderr into the log."""
    _logger.info("{distribution}: {line}", distribution=distribution, line=line)


def _nobody(distribution: str, sentence: str | None) -> None:
    """Nobody is told."""


@attrs.frozen(slots=True, kw_only=True)
class PoolSettings:
    """Limits of each worker, how many there are, and how long they are waited for, in seconds.

    ``user``: whom they run as; '' is whoever runs this process.
    """

    limits: Limits
    max_workers: int = 4
    idle_s: float = 60.0
    start_s: float = 10.0
    user: str = ""


class WorkerPool:
    """Runs capabilities in at most ``max_workers`` processes, one run in each at a time.

    ``clock`` is the clock of every context's deadline, in seconds; it never goes back, and may jump
    ahead where the machine slept, which is seen within five seconds.  Runs wait for a place in the
    order of start, and their deadlines tick; an idle worker of another distribution is stopped to
    make room.  An idempotent run whose worker died before the handler was called is given to one
    more worker.  ``changed`` is told, by one thread, which distributions cannot be used.
    """

    def __init__(
        self,
        settings: PoolSettings,
        *,
        argv: Sequence[str] = WORKER_ARGV,
        grace_s: float = GRACE_S,
        log: Log = log_line,
        changed: Changed = _nobody,
        clock: Callable[[], float] = time.monotonic,
        contain: Callable[[], Containment] = best_containment,
    ) -> None:
        """``argv`` is what starts a worker; the name of the distribution is put behind it."""
        self.changed = changed
        self._settings = settings
        self._argv = argv
        self._grace_s = grace_s
        self._log = log
        self._clock = clock
        self._contain = contain
        self._lock = threading.Condition(threading.Lock())
        self._placing = Placing(
            settings.max_workers, settings.idle_s, settings.start_s, grace_s, clock
        )
        self._by_worker: dict[Worker, Place] = {}
        self._questions: list[Description] = []
        self._describing: set[Description] = set()
        self._desks = threading.BoundedSemaphore(settings.max_workers)
        self._spawner: Spawner | None = None
        self._keeper: threading.Thread | None = None
        self._tend_at = math.inf
        self._wake_at = math.inf
        self._poked = False

    # -- what the node host calls -----------------------------------------------------------

    def open(self) -> None:
        """Be ready to start workers; none is started.

        :raises Malformed: workers cannot run as the user that is configured.
        """
        with self._lock:
            if self._keeper is not None or self._placing.closing:
                return
            user = self._settings.user
            account = Account.named(user) if user else None
            self._spawner = Spawner(self._argv, account, self._contain())
            self._keeper = threading.Thread(
                target=self._keep, name="palyra-worker-pool", daemon=True
            )
            self._keeper.start()

    def start(
        self,
        offer: Offer,
        input_bytes: bytes,
        context: CapabilityContext,
        max_output_bytes: int,
        on_done: OnDone,
    ) -> PoolRun:
        """Run ``offer`` in a worker and call ``on_done`` once, from a thread of the pool.

        RuntimeError after close.
        """
        self.open()
        run = PoolRun(offer, input_bytes, context, max_output_bytes, on_done, self._cancel)
        refusal = _refused_input(run)
        with self._lock:
            self._check_open()
            self._placing.add(run, refusal)
            self._see_to(self._placing.reports, also_at=run.next_look())
        return run

    def describe(self, distribution: str) -> Described:
        """Ask a worker of its own what a distribution offers.  Blocks, for some 10 s at most once
        its turn came; RuntimeError after close."""
        self.open()
        question = Description(distribution)
        with self._desks:
            with self._lock:
                self._check_open()
                self._describing.add(question)
                self._questions.append(question)
                self._poke()
            try:
                return question.wait(self._settings.start_s, self._grace_s)
            finally:
                with self._lock:
                    self._describing.discard(question)
                    self._poke()

    def retire(self) -> None:
        """The plugins may be others now: what runs is let end, and new runs get new workers.

        What was off for its deaths is tried again.
        """
        with self._lock:
            self._placing.retire()
            self._poke()

    def close(self, timeout_s: float = GRACE_S) -> None:
        """Cancel every run, stop every worker, and kill what is left after ``timeout_s``.

        A run that is not over by then is reported cancelled, and stopped if nothing is left of it.
        """
        with self._lock:
            self._placing.close(self._clock() + timeout_s)
            for question in self._describing:
                question.abort()
            self._poke()
        if self._keeper is not None and self._keeper is not threading.current_thread():
            self._keeper.join(timeout_s + self._grace_s + 4 * KILL_S)

    def _check_open(self) -> None:
        if self._placing.closing:
            raise RuntimeError("the pool is closed")

    def _cancel(self, run: PoolRun) -> None:
        with self._lock:
            give_up_at = self._clock() + self._grace_s
            self._placing.interrupt(run, OutcomeKind.CANCELLED, give_up_at)
            if not run.done:
                self._poke()

    # -- what workers say; their threads ----------------------------------------------------

    def ready(self, worker: Worker, ready: Ready) -> None:
        """A worker can run."""
        contracts = {said.name: said.contract() for said in ready.descriptors}
        with self._lock:
            self._placing.ready(self._by_worker[worker], contracts, ready.faults)
            self._see_to()
        self._report()

    def started(self, worker: Worker) -> None:
        """From here on the run may have had an effect."""
        with self._lock:
            if (run := self._by_worker[worker].run) is not None:
                run.began = True

    def progressed(self, worker: Worker, fraction: float | None, text: str) -> None:
        """How far a run is."""
        with self._lock:
            run = self._by_worker[worker].run
        if run is not None:
            run.context.progress(fraction, text)

    def ended(self, worker: Worker, result: Result) -> None:
        """A run is over."""
        with self._lock:
            self._placing.ended(self._by_worker[worker], lambda run: run.outcome(result))
            self._see_to()
        self._report()

    def died(self, worker: Worker, death: Death) -> None:
        """Nothing is left of a worker."""
        with self._lock:
            place = self._by_worker.pop(worker)
        self._lost(place, death)

    def _lost(self, place: Place, death: Death) -> None:
        with self._lock:
            self._placing.lost(place, death)
            self._poke()
        self._report()

    # -- the keeper: the one thread that starts workers, and looks at the clock --------------

    def _see_to(self, *work: object, also_at: float = math.inf) -> None:
        """Wake the keeper if it has something to do, or later than it thinks."""
        placing = self._placing
        when = min(also_at, placing.next_move())
        if any(work) or placing.orders or placing.news or when < self._wake_at:
            self._poke()

    def _poke(self) -> None:
        self._poked = True
        self._lock.notify()

    def _keep(self) -> None:
        over = False
        placing = self._placing
        while not over:
            with self._lock:
                self._wait()
                placing.look()
                orders, placing.orders = placing.orders, []
                questions, self._questions = self._questions, []
                news, placing.news = placing.news, []
                tend = self._tend_is_due()
            for place in orders:
                self._fulfil(place)
            for question in questions:
                self._ask(question)
            self._report()
            for distribution, sentence in news:
                self._tell(distribution, sentence)
            if tend:
                self._tend()
            over = self._is_over()

    def _wait(self) -> None:
        self._wake_at = min(self._placing.next_look(), self._tend_at)
        wait_s = self._wake_at - self._clock()
        if wait_s > 0 and not self._poked:
            self._lock.wait(None if self._wake_at == math.inf else min(wait_s, _LONGEST_WAIT_S))
        self._poked = False

    def _tend_is_due(self) -> bool:
        """Whether to look after orphans: now and then while there are workers."""
        now = self._clock()
        due = now >= self._tend_at
        if not self._placing.places:
            self._tend_at = math.inf
        elif due or self._tend_at == math.inf:
            self._tend_at = now + _TEND_S
        return due

    def _tend(self) -> None:
        assert self._spawner is not None
        try:
            self._spawner.containment.tend()
        except OSError as exc:  # no file to spare, perhaps; later is soon enough
            _logger.warn("orphans of workers are not looked after: {e}", e=exc.strerror)

    def _is_over(self) -> bool:
        with self._lock:
            placing = self._placing
            left = placing.runs or placing.places or placing.reports or self._describing
            return placing.closing and not left

    def _fulfil(self, place: Place) -> None:
        """Start the worker of a place."""
        problem = self._begin(place.distribution, self, lambda worker: self._begun(place, worker))
        if problem:
            with self._lock:
                self._by_worker = {k: v for k, v in self._by_worker.items() if v is not place}
            self._lost(place, Death(problem, wanted=False, gone=True))
        with self._lock:
            if self._placing.closing:
                self._placing.dismiss(place)

    def _begun(self, place: Place, worker: Worker) -> None:
        with self._lock:
            self._placing.begun(place, worker)
            self._by_worker[worker] = place

    def _ask(self, question: Description) -> None:
        """Start the worker that describes a distribution."""
        if question.over:
            return
        if problem := self._begin(question.distribution, question, question.begin):
            question.fail(problem)
        if question.over or self._placing.closing:
            question.abort()

    def _begin(self, distribution: str, listener: Listener, know: Callable[[Worker], None]) -> str:
        """Start a worker; why that cannot be done, or ''."""
        assert self._spawner is not None
        try:
            spawned = self._spawner.spawn(distribution)
            worker = Worker(spawned, distribution, listener, log=self._log, clock=self._clock)
            know(worker)
            worker.open(self._settings.limits)
        except (OSError, ValueError, SubprocessError) as exc:
            return f"it could not be started: {getattr(exc, 'strerror', None) or exc}"
        return ""

    # -- telling; the lock is not held ------------------------------------------------------

    def _report(self) -> None:
        with self._lock:
            reports, self._placing.reports = self._placing.reports, []
        for run, outcome in reports:
            run.context._end()
            try:
                run.on_done(outcome)
            except Exception:
                _logger.failure("the outcome of {name} was not taken", name=run.name)

    def _tell(self, distribution: str, sentence: str | None) -> None:
        try:
            self.changed(distribution, sentence)
        except Exception:
            _logger.failure("a change of {name} was not taken", name=distribution)


def _refused_input(run: PoolRun) -> Outcome | None:
    """Input is put into a frame as it is: what is no JSON would become part of that frame."""
    try:
        _any_json.decode(run.input_bytes or b"{}")
    except (msgspec.MsgspecError, RecursionError) as exc:
        return failed(InputInvalid("input", f"is not JSON ({exc})", run.name))
    return None
