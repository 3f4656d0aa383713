"""The states in which somebody is killed: each is brought about, and made sure of.

Nothing in the product helps: a relay holds the wire, a gate the handler, a lock the store, and
SIGSTOP a whole process.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from random import Random

import attrs

from palyra.console.models import Invoke, SubmitJobs
from palyra.errors import PalyraError
from tests.integration.errands import ASKED, ONCE, REPEATABLE
from tests.integration.killing import IN_FLIGHT, Pair
from tests.integration.processes import eventually
from tests.integration.relay import DOWN, UP
from tests.integration.terminal import Terminal

START_S = 0.8
"""About as long as the start of a process takes."""
TTL_MS = 60_000


@attrs.define
class Scene:
    """One kill: who is killed, and what has been prepared."""

    pair: Pair
    victim: str
    random: Random
    _gates: list[Path] = attrs.Factory(list)
    _person: Terminal | None = None
    _asking: threading.Thread | None = None

    # -- jobs -----------------------------------------------------------------------------------

    def crowd(self) -> None:
        """Some short jobs that may be anywhere when the kill comes."""
        for _ in range(self.random.randrange(4)):
            self.pair.submit(self.pair.call(self.any_capability(), None))

    def call(
        self, capability: str | None = None, late: bool | None = None, ttl_ms: int | None = None
    ) -> Invoke:
        """A call that will wait at a gate, and takes effect before it or behind it."""
        late = self.chance() if late is None else late
        return self.pair.call(capability or self.any_capability(), self.gate(), late, ttl_ms)

    def gate(self) -> Path:
        """A new gate, which is closed."""
        gate = self.pair.path / f"gate-{self.random.getrandbits(64):x}"
        self._gates.append(gate)
        return gate

    def running(self, call: Invoke) -> str:
        """A job that a handler has begun with."""
        job_id = self.pair.submit(call)
        eventually(lambda: self.pair.has_begun(job_id), "the handler has begun")
        return job_id

    def expect(self, job_id: str, *states: str) -> None:
        """How a job may end, after this kill."""
        self.pair.ledger[job_id].may_end = states

    def cut_off(self, job_id: str, call: Invoke) -> None:
        """What becomes of a job that ran: its end is unknown only where its node was killed, and
        only where it must not be run again."""
        lost = self.victim != "gateway" and call.capability == ONCE
        self.expect(job_id, "outcome_unknown" if lost else "succeeded")

    def ask(self, call: Invoke) -> bool:
        """Submit in the background, where no answer will come; whether none has."""

        def submit() -> None:
            with contextlib.suppress(PalyraError):
                self.pair.submit(call)

        self._asking = threading.Thread(target=submit)
        self._asking.start()
        self._asking.join(self.random.uniform(0.1, 0.2))
        return self._asking.is_alive()

    def open_gates(self) -> None:
        """Let every job end."""
        for gate in self._gates:
            gate.touch()

    # -- a person -------------------------------------------------------------------------------

    def ask_person(self) -> str:
        """A job that waits for a person's yes."""
        self._person = self.pair.person()
        job_id = self.pair.submit(self.call(ASKED))
        self._person.shows("[a]lways:")
        return job_id

    def _answer(self) -> None:
        """The person says yes, once asked again where the node was killed."""
        if self._person is None:
            return
        if self.victim != "gateway":
            self._person = self.pair.person()
        self._person.shows("[a]lways:")
        self._person.type("o\r")

    # -- the kill -------------------------------------------------------------------------------

    def kill(self) -> None:
        """SIGKILL; where a person is asked, the node is the one that asks."""
        if self._person is None:
            self.pair.kill(self.victim)
            return
        if self.victim != "gateway":
            self._person.close()
        if self.victim != "node":
            self.pair.kill("gateway")

    def recover(self) -> None:
        """Start what was killed, say everything again, and let every job end: before the node is
        back, or then."""
        early = self.chance()
        if early:
            self.open_gates()
        self.pair.restart()
        if self._asking is not None:
            self._asking.join()
        self.pair.ready()
        self.pair.repeat(newest=3)
        self._answer()
        self.open_gates()
        self.pair.ended()

    def leave(self) -> None:
        """Nobody is asked any more."""
        if self._person is not None:
            self._person.close()

    # -- what the seed decides ------------------------------------------------------------------

    def chance(self) -> bool:
        """Yes or no."""
        return self.random.random() < 0.5

    def any_capability(self) -> str:
        """One that may be run again, or one that may not."""
        return ONCE if self.chance() else REPEATABLE

    def pause(self, most_s: float) -> None:
        """Wait for a while."""
        threading.Event().wait(self.random.uniform(0.0, most_s))


def accepting(scene: Scene) -> None:
    """The gateway has a call and cannot commit it: its caller has no answer."""
    pair, call = scene.pair, scene.call()
    pair.lock()
    known = len(pair.ledger)
    assert scene.ask(call) and len(pair.ledger) == known


def queued(scene: Scene) -> None:
    """Jobs wait for a place: the node has as many as it takes."""
    jobs = [scene.pair.submit(scene.call()) for _ in range(IN_FLIGHT + scene.random.randint(1, 3))]
    assert scene.pair.committed(jobs[-1]) == "queued"
    scene.expect(jobs[-1], "succeeded")


def _is_away(pair: Pair) -> bool:
    """Whether the last the gateway said of the node's session is its end.  It may have ended before
    the node was killed: then no other end is said."""
    said, device_id = pair.gateway.process.output(), pair.node.device_id
    return said.rfind(f"session of {device_id} ended") > said.rfind(f"{device_id} is online")


def away(scene: Scene) -> None:
    """A job waits for its device, which is away: long enough, or not."""
    pair = scene.pair
    pair.kill("node")
    eventually(lambda: _is_away(pair), "the session ended")
    short = scene.chance()
    ttl_ms = scene.random.randint(100, 2_000) if short else TTL_MS
    job_id = pair.submit(scene.call(ttl_ms=ttl_ms))
    if not short:
        assert pair.committed(job_id) == "queued"
    ends = ["succeeded", *(["expired"] if short else [])]
    if scene.victim != "gateway":
        pair.node.serve()
        scene.pause(START_S)  # it may have come back, and begun
        ends.append("outcome_unknown")
    scene.expect(job_id, *ends)


def fanned_out(scene: Scene) -> None:
    """A fan-out waits for two devices, or for one after the other: one of them stays away."""
    pair = scene.pair
    devices = [pair.node.device_id, pair.asker.device_id]
    order = SubmitJobs(
        capability=scene.any_capability(),
        targets=scene.random.sample(devices, 2),
        input_json=pair.errand(scene.gate(), scene.chance()),
        ttl_ms=scene.random.randint(500, 2_000),
        batch="1" if scene.chance() else "",
        idempotency_key=scene.gate().name,
    )
    rows = pair.fan_out(order)
    assert all(pair.committed(job_id) for job_id in rows.values()) and len(rows) == 2
    scene.pause(0.2)
    scene.expect(rows[pair.asker.device_id], "expired")
    lost = ["outcome_unknown"] if scene.victim != "gateway" else []
    scene.expect(rows[pair.node.device_id], "succeeded", "expired", *lost)


def dispatched(scene: Scene) -> None:
    """The dispatch is committed and sent, and the node has not seen it."""
    pair = scene.pair
    if scene.chance():
        pair.relay.hold(DOWN)
    else:
        pair.node.process.send(signal.SIGSTOP)
    job_id = pair.submit(scene.call())
    assert pair.committed(job_id) == "dispatched"
    scene.pause(0.05)
    assert not pair.has_begun(job_id)
    scene.expect(job_id, "succeeded")


def awaiting(scene: Scene) -> None:
    """A person at the device is being asked."""
    pair = scene.pair
    job_id = scene.ask_person()
    state = "awaiting_local_mediation"
    eventually(lambda: pair.committed(job_id) == state, "the gateway knows that a person is asked")
    scene.expect(job_id, "succeeded")


def running(scene: Scene) -> None:
    """A handler is at work, before or after its effect."""
    call = scene.call()
    job_id = scene.running(call)
    assert scene.pair.committed(job_id) == "dispatched"
    scene.cut_off(job_id, call)


def cancelling(scene: Scene) -> None:
    """The job was asked to stop: the node does not know it yet, or has stopped it untold."""
    pair = scene.pair
    job_id = scene.running(scene.call(late=True))
    pair.relay.hold(DOWN if scene.chance() else UP)
    pair.cancel(job_id)
    scene.pause(0.05)
    assert pair.committed(job_id) == "dispatched"
    lost = ["outcome_unknown"] if scene.victim != "gateway" else []
    scene.expect(job_id, "cancelled", "succeeded", *lost)


def unsent(scene: Scene) -> None:
    """The result is on the node's disk, and there is no gateway to send it to."""
    pair = scene.pair
    job_id = scene.running(scene.call(ONCE))
    pair.relay.cut()
    scene.open_gates()
    eventually(lambda: pair.keeps_result(job_id), "the result is on the node's disk")
    assert pair.committed(job_id) == "dispatched"
    scene.expect(job_id, "succeeded")


def uncommitted(scene: Scene) -> None:
    """The result was sent, and the gateway has not committed it."""
    pair = scene.pair
    job_id = scene.running(scene.call(ONCE))
    if scene.chance():
        pair.lock()
    else:
        pair.gateway.process.send(signal.SIGSTOP)
    said = pair.relay.passed(UP)
    scene.open_gates()
    eventually(lambda: pair.keeps_result(job_id), "the result is on the node's disk")
    eventually(lambda: pair.relay.passed(UP) > said, "the result was sent")
    scene.pause(0.05)
    assert pair.committed(job_id) == "dispatched"
    scene.expect(job_id, "succeeded")


def unacknowledged(scene: Scene) -> None:
    """The result is committed, and the node does not know that."""
    pair = scene.pair
    job_id = scene.running(scene.call(ONCE))
    pair.relay.hold(DOWN)
    scene.open_gates()
    eventually(lambda: pair.committed(job_id) == "succeeded", "the result is committed")
    assert pair.keeps_result(job_id)
    scene.expect(job_id, "succeeded")


def starting(scene: Scene) -> None:
    """The victim was killed before, and is starting again."""
    pair, call = scene.pair, scene.call()
    scene.cut_off(scene.running(call), call)
    for share in (0.9, 0.6, 0.3, 0.1):
        pair.kill(scene.victim)
        pair.restart()
        scene.pause(START_S * share)
        if pair.starting(scene.victim):
            return
    raise AssertionError("it starts faster than it can be killed")


def registering(scene: Scene) -> None:
    """The node is back and in the middle of its handshake, its registration or its first words."""
    pair, call = scene.pair, scene.call()
    scene.cut_off(scene.running(call), call)
    pair.relay.cut()
    pair.relay.hold(DOWN, scene.random.randint(1, pair.registration_bytes * 9 // 10))
    pair.relay.accept()
    eventually(lambda: pair.relay.holds(DOWN), "the node is registering")


def stopping(scene: Scene) -> None:
    """The victim was told to stop, and waits for what runs."""
    pair, call = scene.pair, scene.call()
    job_id = scene.running(call)
    scene.cut_off(job_id, call)
    for process in pair.processes(scene.victim):
        process.send(signal.SIGTERM)
    scene.pause(0.3)
    assert all(process.alive for process in pair.processes(scene.victim))
    if scene.chance():
        scene.open_gates()
        scene.expect(job_id, "succeeded", *pair.ledger[job_id].may_end)


STATES: tuple[Callable[[Scene], None], ...] = (
    accepting,
    queued,
    away,
    fanned_out,
    dispatched,
    awaiting,
    running,
    cancelling,
    unsent,
    uncommitted,
    unacknowledged,
    starting,
    registering,
    stopping,
)
