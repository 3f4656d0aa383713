"""The simulator finds bugs: each of these, made on purpose, within a few seeds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred, succeed

from palyra.core.devices import Device
from palyra.core.frames import Chunk, Hello
from palyra.core.jobs import Standing
from palyra.core.transfers import Incoming, _Received
from palyra.gateway.fanouts import Fanouts
from palyra.gateway.nodesession import NodeSession
from palyra.gateway.records import Records
from palyra.gateway.statements import Statements
from palyra.node.attempts import AttemptMemory
from palyra.node.registering import Registering
from palyra.node.running import Runs
from palyra.pki.trust import TrustGate
from palyra.store.memory import MemoryStore
from palyra.store.rules import own_job
from palyra.testing.simulation.disk import StoreOnDisk
from palyra.testing.simulation.trace import Violation
from palyra.testing.simulation.world import World

STEPS = 200
SEEDS = 60
Patch = Callable[[pytest.MonkeyPatch], None]


def act_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    """The gateway does not wait for the store: it sends, and tells, at once."""
    call = StoreOnDisk._call

    def hasty(self: StoreOnDisk, name: str, arguments: tuple[Any, ...]) -> Deferred[Any]:
        done = call(self, name, arguments)
        if name not in ("accept", "update"):
            return done
        done.addErrback(lambda _: None)
        return succeed(None)

    patch.setattr(StoreOnDisk, "_call", hasty)


def run_before_it_is_remembered(patch: pytest.MonkeyPatch) -> None:
    """A node host does not keep attempts on its disk."""
    accepted = AttemptMemory.accepted

    def forgetful(self: AttemptMemory, attempt_id: Any, **given: Any) -> Deferred[None]:
        return accepted(self, attempt_id, **given | {"durable": False})

    patch.setattr(AttemptMemory, "accepted", forgetful)


def forget_rows_that_wait(patch: pytest.MonkeyPatch) -> None:
    """A gateway that starts does not go on with the fan-outs of its last life."""

    async def start(self: Fanouts, unfinished: Any) -> None:
        """Nothing."""

    patch.setattr(Fanouts, "start", start)


def take_a_lost_memory_for_the_old_one(patch: pytest.MonkeyPatch) -> None:
    """What a device does not list was never started, whatever happened to its memory."""

    def standing(self: Hello, attempt_id: str, memory_id: str) -> Standing:
        return self.attempts.get(attempt_id, Standing.NOT_LISTED)

    patch.setattr(Hello, "standing", standing)


def give_up_on_a_full_disk(patch: pytest.MonkeyPatch) -> None:
    """What the store refused once is not tried again."""
    patch.setattr(Records, "retry", lambda self, act, *arguments: None)


def forget_what_was_dispatched(patch: pytest.MonkeyPatch) -> None:
    """A gateway does not compare what it dispatched with what a returning node knows."""
    patch.setattr(Statements, "attached", lambda self, session, hello: None)


def acknowledge_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    """A node host is told to forget a report that is not on record yet."""
    reported = Statements.reported

    def hasty(self: Statements, session: NodeSession, report: Any) -> None:
        session.acknowledge(report.attempt_id)
        reported(self, session, report)

    patch.setattr(Statements, "reported", hasty)


def overwrite_a_final_state(patch: pytest.MonkeyPatch) -> None:
    """The store takes whatever it is given, and a late report is taken for a first one."""

    def update(self: MemoryStore, job: Any) -> Deferred[None]:
        self._jobs[job.call.job_id] = own_job(job)
        return succeed(None)

    def report_to(machine: Any, job: Any, report: Any, now_ms: int) -> None:
        job.error = "overwritten"

    patch.setattr(MemoryStore, "update", update)
    patch.setattr("palyra.gateway.reports.report_to", report_to)


def keep_callers_waiting(patch: pytest.MonkeyPatch) -> None:
    """A caller's limit is not watched."""
    patch.setattr("palyra.gateway.waiters.Waiters._tire", lambda self, key, now_ms: None)


def lose_a_row(patch: pytest.MonkeyPatch) -> None:
    """A fan-out is kept without its last row."""
    accept = MemoryStore.accept_fanout

    def careless(self: MemoryStore, fanout: Any, rows: Any, *others: Any) -> Deferred[None]:
        return accept(self, fanout, rows[:-1], *others)

    patch.setattr(MemoryStore, "accept_fanout", careless)


def never_rejoin(patch: pytest.MonkeyPatch) -> None:
    """A node host whose certificate ran out tries it again and again."""
    patch.setattr(Registering, "_seems_lost", lambda self, error: False)


def keep_what_is_replaced(patch: pytest.MonkeyPatch) -> None:
    """The older certificate stays beside the one that was registered."""
    patch.setattr(MemoryStore, "_supersede", lambda self, device_id, state: None)


def take_superseded_certificates(patch: pytest.MonkeyPatch) -> None:
    """Neither the gate nor the store minds one."""

    def gate(self: TrustGate, passed: Any) -> None:
        passed.generation = self._revocations.generation

    patch.setattr(TrustGate, "_ask_again", gate)
    patch.setattr("palyra.store.rules.require_live", lambda certificate, device_id, at: certificate)


def take_an_order_for_done(patch: pytest.MonkeyPatch) -> None:
    """An order to renew ends with the next registration, over whatever certificate."""

    def without_order(device: Device, over: Any) -> Device:
        return attrs.evolve(device, rotate_asked_at_ms=None)

    patch.setattr("palyra.store.rules._without_done_order", without_order)


def tell_nobody_of_orders(patch: pytest.MonkeyPatch) -> None:
    """An order to renew is on record, and that is all."""
    patch.setattr(NodeSession, "renew", lambda self, order: None)
    patch.setattr("palyra.gateway.renewals.is_ordered", lambda device, certificate: False)


def drop_work_at_a_handover(patch: pytest.MonkeyPatch) -> None:
    """What runs on a device ends with the session that it came by."""
    detach = Runs.detach

    def harsh(self: Runs, session: Any) -> None:
        detach(self, session)
        for attempt_id in list(self._running):
            self.cancel(attempt_id, "")

    patch.setattr(Runs, "detach", harsh)


def take_half_a_payload(patch: pytest.MonkeyPatch) -> None:
    """Nobody counts the pieces of a payload, nor compares the digest of the whole."""

    def careless(self: Incoming, chunk: Chunk) -> None:
        received = self._transfers.setdefault(chunk.transfer_id, _Received())
        received.complete = chunk.last
        if chunk.index != 1:
            received.data += chunk.data

    patch.setattr(Incoming, "add", careless)


@pytest.mark.parametrize(
    ("bug", "found"),
    [
        (act_before_the_commit, "not on record"),
        (run_before_it_is_remembered, "twice"),
        (forget_rows_that_wait, "never final"),
        (take_a_lost_memory_for_the_old_one, "twice"),
        (give_up_on_a_full_disk, "never final"),
        (forget_what_was_dispatched, "never final"),
        (acknowledge_before_the_commit, "acknowledged and is not on record"),
        (overwrite_a_final_state, "changed"),
        (keep_callers_waiting, "not answered in time"),
        (lose_a_row, "without all its rows"),
        (never_rejoin, "locked out"),
        (keep_what_is_replaced, "2 current certificates"),
        (take_superseded_certificates, "carries a session"),
        (take_an_order_for_done, "older certificate than was ordered"),
        (tell_nobody_of_orders, "never renewed as ordered"),
        (drop_work_at_a_handover, "only certificates were renewed"),
        (take_half_a_payload, "another job's output"),
    ],
)
def test_a_bug_is_found(bug: Patch, found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a violation that names what is wrong, before the seeds are used up."""
    bug(monkeypatch)
    for seed in range(SEEDS):
        try:
            World(seed, STEPS).run()
        except Violation as violation:
            if found in str(violation).splitlines()[0]:
                return
    pytest.fail(f"{bug.__name__} was not found in {SEEDS} seeds")
