"""Work on simulated devices: handlers that take their time, people who answer, and the ledger of
what really happened."""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Callable
from random import Random
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from zope.interface import implementer

from palyra.capability.catalogue import Catalogue, Offer
from palyra.capability.context import CapabilityContext
from palyra.capability.descriptor import Capability
from palyra.capability.outcome import Outcome, OutcomeKind, failed, interrupted, succeeded
from palyra.capability.runner import GRACE_S, OnDone
from palyra.core.jobs import ONCE
from palyra.node.mediation import Answer, IMediator, Question
from palyra.testing.simulation.clock import HostClock, Timer


@attrs.frozen
class Behaviour:
    """How a capability's handler behaves.  ``deaf``: it does not stop when it is asked to."""

    shortest_s: float = 0.02
    longest_s: float = 2.0
    timeout_s: float = 30.0
    idempotent: bool = False
    asks: bool = False
    fails: bool = False
    deaf: bool = False


PIECES_OVER = 256
"""Inputs and outputs of more bytes than this travel in pieces, so that some of all do."""
INPUT_SIZES = (2, 2, 2, 100, 700, 2_000)
OUTPUT_SIZES = (1, 1, 1, 20, 60)
"""In job ids of 26 characters."""


def input_of(size: int, output_size: int) -> bytes:
    """An input of about so many bytes, which asks for an output of so many job ids."""
    return b'{"answer":%d,"fill":"%s"}' % (output_size, b"x" * size)


def output_of(job_id: str, input_json: bytes) -> bytes:
    """What a handler answers: the job, as often as it is asked for, and what it was asked."""
    wanted = int(input_json.removeprefix(b'{"answer":').split(b",")[0])
    asked = hashlib.sha256(input_json).hexdigest()
    return b'"%s %s"' % (asked.encode(), job_id.encode() * wanted)


BEHAVIOURS = {
    "sim.act": Behaviour(),
    "sim.look": Behaviour(idempotent=True, longest_s=6.0),
    "sim.slow": Behaviour(shortest_s=1.0, longest_s=14.0, timeout_s=10.0),
    "sim.fail": Behaviour(fails=True),
    "sim.stuck": Behaviour(shortest_s=1e9, longest_s=2e9, timeout_s=6.0),
    "sim.deaf": Behaviour(shortest_s=2.0, longest_s=25.0, timeout_s=5.0, deaf=True),
    "sim.ask": Behaviour(asks=True, timeout_s=8.0),
}


async def _never(_: Any, __: Any) -> None:
    raise AssertionError("simulated handlers are not called")


def catalogue() -> Catalogue:
    """The capabilities of every simulated device."""
    capabilities = [
        Capability(
            name=name,
            description="simulated",
            handler=_never,
            idempotent=each.idempotent,
            needs_mediation=each.asks,
            timeout_s=each.timeout_s,
        )
        for name, each in BEHAVIOURS.items()
    ]
    return Catalogue(Offer(each.descriptor("simulation", "1"), each) for each in capabilities)


class Ledger:
    """Every start and every effect of a job, whatever anybody remembers of it."""

    def __init__(self) -> None:
        self.starts: Counter[str] = Counter()
        self.effects: Counter[str] = Counter()
        self.started: Callable[[str, str], object] = lambda job_id, capability: None
        self.happened: Callable[[str, str], object] = lambda job_id, capability: None

    def start(self, job_id: str, capability: str) -> None:
        """A handler began."""
        self.starts[job_id] += 1
        self.started(job_id, capability)

    def effect(self, job_id: str, capability: str) -> None:
        """It changed the world."""
        self.effects[job_id] += 1
        self.happened(job_id, capability)


class SimulatedRun:
    """One handler at work."""

    def __init__(
        self,
        runner: SimulatedRunner,
        capability: str,
        input_json: bytes,
        context: CapabilityContext,
        done: OnDone,
    ) -> None:
        self.capability = capability
        self._input_json = input_json
        self.context = context
        self.began = False
        self._runner = runner
        self._done: OnDone | None = done
        self._behaviour = BEHAVIOURS[capability]
        self._interrupted: OutcomeKind | None = None
        self._timers: list[Timer] = []
        self._effect: Timer | None = None

    def begin(self) -> None:
        """There is a thread for it."""
        self.began = True
        clock, random, behaviour = self._runner.clock, self._runner.random, self._behaviour
        self._runner.ledger.start(self.context.job_id, self.capability)
        lasts_s = random.uniform(behaviour.shortest_s, behaviour.longest_s)
        effect_s = random.uniform(0.0, min(lasts_s, behaviour.timeout_s * 1.5))
        self._effect = clock.soon(effect_s, self._act)
        self._timers.append(clock.soon(lasts_s, self._end))

    def cancel(self) -> None:
        """Ask it to end."""
        self.interrupt(OutcomeKind.CANCELLED)

    def interrupt(self, kind: OutcomeKind) -> None:
        """Nobody wants its answer any more."""
        if self._done is None or self._interrupted is not None:
            return
        self._interrupted = kind
        clock = self._runner.clock
        if not self.began:
            self._report(self._interruption(stopped=True))
        elif self._behaviour.deaf:
            self._timers.append(clock.soon(GRACE_S, self._give_up))
        else:
            self._timers.append(clock.soon(self._runner.random.uniform(0.0, 0.5), self._stop))

    def _act(self) -> None:
        self._runner.ledger.effect(self.context.job_id, self.capability)

    def _end(self) -> None:
        """The handler came to its end."""
        if self._effect is not None and self._effect.active():
            self._effect.cancel()
            self._act()
        if self._interrupted is OutcomeKind.TIMED_OUT:
            self._report(self._interruption(stopped=True))
        elif self._behaviour.fails:
            self._report(failed(ValueError("it failed")))
        else:
            self._report(succeeded(output_of(self.context.job_id, self._input_json)))

    def _stop(self) -> None:
        """The handler heard that it should stop."""
        self._halt()
        self._report(self._interruption(stopped=True))

    def _give_up(self) -> None:
        """It did not; it goes on, and nobody listens."""
        self._report(self._interruption(stopped=False))

    def _interruption(self, *, stopped: bool) -> Outcome:
        assert self._interrupted is not None
        return interrupted(self._interrupted, self.capability, began=self.began, stopped=stopped)

    def _halt(self) -> None:
        for timer in (*self._timers, *([self._effect] if self._effect else [])):
            if timer.active():
                timer.cancel()

    def _report(self, outcome: Outcome) -> None:
        done, self._done = self._done, None
        if done is not None:
            self._runner.ended(self)
            done(outcome)


class SimulatedRunner:
    """Keeps the contract of :class:`palyra.capability.runner.ThreadRunner`, without threads."""

    def __init__(self, clock: HostClock, random: Random, ledger: Ledger, max_running: int) -> None:
        self.clock = clock
        self.random = random
        self.ledger = ledger
        self._max_running = max_running
        self._running: set[SimulatedRun] = set()
        self._waiting: deque[SimulatedRun] = deque()

    def start(
        self,
        offer: Offer,
        input_bytes: bytes,
        context: CapabilityContext,
        max_output_bytes: int,
        on_done: OnDone,
    ) -> SimulatedRun:
        """Run a handler, or let it wait for a place; its deadline ticks."""
        run = SimulatedRun(self, offer.name, input_bytes, context, on_done)
        self.clock.soon(context.remaining_s(), run.interrupt, OutcomeKind.TIMED_OUT)
        self._waiting.append(run)
        self.clock.soon(0.0, self._fill)
        return run

    def ended(self, run: SimulatedRun) -> None:
        """A run was reported; its place is free."""
        self._running.discard(run)
        if run in self._waiting:
            self._waiting.remove(run)
        self.clock.soon(0.0, self._fill)

    def _fill(self) -> None:
        while self._waiting and len(self._running) < self._max_running:
            run = self._waiting.popleft()
            self._running.add(run)
            run.begin()


@implementer(IMediator)
class Person:
    """Somebody at the device: says yes, says no, or is away."""

    def __init__(self, clock: HostClock, random: Random) -> None:
        self._clock = clock
        self._random = random

    def ask(self, question: Question) -> Deferred[Answer]:
        answer: Deferred[Answer] = Deferred()
        if self._random.random() < 0.8:
            allowed = self._random.random() < 0.7
            said = Answer(ONCE, "a person") if allowed else Answer.no("mediation_denied", "No.")
            self._clock.soon(self._random.uniform(0.5, 40.0), self._say, answer, said)
        return answer

    def _say(self, answer: Deferred[Answer], said: Answer) -> None:
        if not answer.called:
            answer.callback(said)
