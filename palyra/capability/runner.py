"""Running handlers off the reactor, with deadline, cancel and a bound on how many run at once.

Handlers are strangers' code: one may block its thread, swallow its cancellation or leave the
interpreter.  Whatever it does, whoever started the run gets exactly one :class:`Outcome`.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue

from twisted.logger import Logger

from palyra.capability._warm import Seat, serve
from palyra.capability.context import CapabilityContext
from palyra.capability.descriptor import Capability
from palyra.capability.outcome import Outcome, OutcomeKind, interrupted

GRACE_S = 2.0
"""How long an interrupted handler has to stop before its thread is given up, in seconds."""

WARM_THREADS = 2
_LONGEST_WAIT_S = 5.0
"""A wait stands still while the machine sleeps, and the clock of deadlines may not."""

OnDone = Callable[[Outcome], None]


class Run:
    """One run of one capability; :meth:`cancel` is all a caller does with it."""

    __slots__ = (
        "_runner", "began", "capability", "context", "dispatched", "done", "give_up_at",
        "input_bytes", "interrupted_as", "max_output_bytes", "on_done", "seat", "settings",
    )  # fmt: skip

    def __init__(
        self,
        runner: ThreadRunner,
        capability: Capability,
        input_bytes: bytes,
        context: CapabilityContext,
        max_output_bytes: int,
        on_done: OnDone,
        settings: bytes = b"",
    ) -> None:
        self._runner = runner
        self.capability = capability
        self.input_bytes = input_bytes
        self.context = context
        self.max_output_bytes = max_output_bytes
        self.on_done = on_done
        self.settings = settings
        self.dispatched = False
        self.began = False
        self.done = False
        self.interrupted_as: OutcomeKind | None = None
        self.give_up_at = math.inf
        self.seat: Seat | None = None

    def cancel(self) -> None:
        """Ask the run to end; its outcome tells whether it did.  Safe from any thread, any time."""
        self._runner._cancel(self)

    def interruption(self, *, stopped: bool) -> Outcome:
        """The outcome of a run that was interrupted, by what interrupted it."""
        kind = self.interrupted_as or OutcomeKind.CANCELLED
        return interrupted(kind, self.capability.name, began=self.began, stopped=stopped)

    def next_look(self) -> float:
        """When time has something to do with this run again."""
        return self.context.deadline_s if self.interrupted_as is None else self.give_up_at


class ThreadRunner:
    """Runs handlers in at most ``max_running`` warm threads, each with an event loop of its own.

    ``clock`` is the clock of every context's deadline, in seconds; it never goes back, and may jump
    ahead where the machine slept, which is seen within five seconds.  ``on_done`` is called once a
    run, always from a thread of the runner and never from the caller's.  A run that waits for a
    free thread, or for its capability's ``max_concurrency``, waits in the order of start, and its
    deadline ticks.  A thread that was given up is replaced, but keeps its place in
    ``max_concurrency`` until it ends, so that a stuck capability cannot eat thread after thread.
    """

    log = Logger()

    def __init__(
        self,
        max_running: int = 16,
        *,
        clock: Callable[[], float] = time.monotonic,
        grace_s: float = GRACE_S,
    ) -> None:
        self._max_running = max_running
        self._clock = clock
        self._grace_s = grace_s
        self._changed = threading.Condition(threading.Lock())
        self._ready: SimpleQueue[Run | None] = SimpleQueue()
        self._open: set[Run] = set()
        self._places: dict[str, int] = {}
        self._waiting: dict[str, deque[Run]] = {}
        self._active = 0
        self._seats: set[Seat] = set()
        self._watchdog: threading.Thread | None = None
        self._wake_at = math.inf
        self._poked = False
        self._closing = False

    # -- what the node host calls -----------------------------------------------------------

    def open(self, warm: int = WARM_THREADS) -> None:
        """Start ``warm`` threads ahead of the first run; :meth:`start` does it where nobody did."""
        with self._changed:
            if self._watchdog is not None or self._closing:
                return
            for _ in range(min(warm, self._max_running)):
                self._add_thread()
            self._watchdog = threading.Thread(target=self._watch, name="palyra-runs", daemon=True)
            self._watchdog.start()

    def start(
        self,
        capability: Capability,
        input_bytes: bytes,
        context: CapabilityContext,
        max_output_bytes: int,
        on_done: OnDone,
        *,
        settings: bytes = b"",
    ) -> Run:
        """Run ``capability`` and call ``on_done`` when it ended.  RuntimeError after close.

        ``settings`` is the JSON of what the device's owner configured, empty for nothing.
        """
        if self._watchdog is None:
            self.open()
        run = Run(self, capability, input_bytes, context, max_output_bytes, on_done, settings)
        with self._changed:
            if self._closing:
                raise RuntimeError("the runner is closed")
            self._open.add(run)
            self._admit(run)
            short = self._active > len(self._seats) < self._max_running
            if short or context.deadline_s < self._wake_at:
                self._poke()
        return run

    def running(self) -> list[str]:
        """Names of capabilities that have a thread now, also one that was given up."""
        with self._changed:
            return sorted(self._places)

    def close(self, timeout_s: float = GRACE_S) -> None:
        """Cancel every run and wait for the threads, ``timeout_s`` at most.

        A run whose handler does not stop in that time is reported cancelled and not stopped.
        """
        with self._changed:
            self._closing = True
            give_up_at = self._clock() + timeout_s
            for run in self._open:
                self._interrupt(run, OutcomeKind.CANCELLED, give_up_at)
                run.give_up_at = min(run.give_up_at, give_up_at)
            self._poke()
        self._join(timeout_s)

    def _join(self, timeout_s: float) -> None:
        until = time.monotonic() + timeout_s
        watchdog = self._watchdog
        if watchdog is not None and watchdog is not threading.current_thread():
            watchdog.join(timeout_s + 1.0)
        with self._changed:
            seats = list(self._seats)
        for _ in seats:
            self._ready.put(None)
        for seat in seats:
            if seat.thread is not threading.current_thread():
                seat.thread.join(max(0.1, until - time.monotonic()))

    # -- places and queues; the lock is held ------------------------------------------------

    def _admit(self, run: Run) -> None:
        name = run.capability.name
        if self._places.get(name, 0) >= run.capability.max_concurrency:
            self._waiting.setdefault(name, deque()).append(run)
        else:
            self._places[name] = self._places.get(name, 0) + 1
            self._dispatch(run)

    def _dispatch(self, run: Run) -> None:
        run.dispatched = True
        self._active += 1
        self._ready.put(run)

    def _leave_place(self, name: str) -> None:
        """A run of ``name`` left its place: hand it to the one that waits longest."""
        if queue := self._waiting.get(name):
            self._dispatch(queue.popleft())
            if not queue:
                del self._waiting[name]
        elif self._places[name] == 1:
            del self._places[name]
        else:
            self._places[name] -= 1

    def _interrupt(self, run: Run, kind: OutcomeKind, give_up_at: float) -> None:
        if run.done or run.interrupted_as is not None:
            return
        run.interrupted_as = kind
        run.context._interrupt()
        if run.seat is not None:
            run.give_up_at = give_up_at
            run.seat.interrupt(run)
        else:
            run.give_up_at = -math.inf

    def _finish(self, run: Run) -> bool:
        """Claim the right to report ``run``; only the first claim is granted."""
        if run.done:
            return False
        run.done = True
        self._open.discard(run)
        if not run.dispatched:
            queue = self._waiting[run.capability.name]
            queue.remove(run)
            if not queue:
                del self._waiting[run.capability.name]
        return True

    def _poke(self) -> None:
        self._poked = True
        self._changed.notify()

    def _add_thread(self) -> None:
        seat = Seat()
        seat.thread = threading.Thread(
            target=serve, args=(self, seat), name="palyra-capability", daemon=True
        )
        seat.thread.start()
        self._seats.add(seat)

    # -- what the warm threads call ---------------------------------------------------------

    def _cancel(self, run: Run) -> None:
        with self._changed:
            self._interrupt(run, OutcomeKind.CANCELLED, self._clock() + self._grace_s)
            if not run.done:
                self._poke()

    def _take(self) -> Run | None:
        return self._ready.get()

    def _begin(self, run: Run, seat: Seat) -> bool:
        """Whether ``run`` is still wanted; from here on it can be interrupted in its loop."""
        with self._changed:
            if run.context.deadline_s <= self._clock():
                self._interrupt(run, OutcomeKind.TIMED_OUT, -math.inf)
                self._poke()
            if run.done or run.interrupted_as is not None:
                return False
            run.began = True
            run.seat = seat
            return True

    def _ended(self, run: Run, seat: Seat, outcome: Outcome | None) -> None:
        """The thread is done with ``run`` (``outcome`` is None where it never began)."""
        with self._changed:
            run.seat = None
            mine = outcome is not None and self._finish(run)
            if seat in self._seats:
                self._active -= 1
            self._leave_place(run.capability.name)
        if mine and outcome is not None:
            self._report(run, outcome)

    def _gone(self, seat: Seat) -> None:
        """The thread of ``seat`` ends; the watchdog adds another when one is missed."""
        with self._changed:
            self._seats.discard(seat)

    def _report(self, run: Run, outcome: Outcome) -> None:
        run.context._end()
        try:
            run.on_done(outcome)
        except Exception:
            self.log.failure("the outcome of {name} was not taken", name=run.capability.name)

    # -- time -------------------------------------------------------------------------------

    def _watch(self) -> None:
        """The watchdog: the one place that looks at deadlines, and that adds threads."""
        over = False
        while not over:
            with self._changed:
                self._wait()
                given_up = self._sweep(self._clock())
                missing = min(self._active, self._max_running) - len(self._seats)
                self._grow(0 if self._closing else missing)
                over = self._closing and not self._open
            for run, outcome in given_up:
                self._report(run, outcome)

    def _grow(self, threads: int) -> None:
        try:
            for _ in range(threads):
                self._add_thread()
        except RuntimeError:
            self.log.failure("the machine gives no more threads; runs wait for {n}", n=threads)

    def _wait(self) -> None:
        self._wake_at = min((run.next_look() for run in self._open), default=math.inf)
        wait_s = self._wake_at - self._clock()
        if wait_s > 0 and not self._poked:
            self._changed.wait(None if self._wake_at == math.inf else min(wait_s, _LONGEST_WAIT_S))
        self._poked = False

    def _sweep(self, now: float) -> list[tuple[Run, Outcome]]:
        """Interrupt what is over its deadline, give up what did not stop after that."""
        given_up = []
        for run in list(self._open):
            if run.interrupted_as is None and run.context.deadline_s <= now:
                self._interrupt(run, OutcomeKind.TIMED_OUT, now + self._grace_s)
            if run.give_up_at <= now and run.interrupted_as is not None and self._finish(run):
                given_up.append((run, run.interruption(stopped=run.seat is None)))
                self._abandon(run.seat)
        return given_up

    def _abandon(self, seat: Seat | None) -> None:
        if seat is not None:
            seat.abandoned = True
            self._seats.discard(seat)
            self._active -= 1
