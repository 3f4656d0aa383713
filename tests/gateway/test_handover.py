"""From one certificate to the next under load: no job fails, none is lost, none is made twice."""

from __future__ import annotations

from collections import Counter
from typing import Any

import attrs
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from palyra.core.devices import CertificateState
from palyra.core.frames import Welcome
from palyra.core.jobs import Job, JobState
from palyra.errors import CertificateSuperseded
from palyra.gateway.nodesession import NodeSession
from palyra.gateway.sessions import HANDOVER_S
from palyra.testing.carrier import ScriptedNode
from tests.gateway.applicants import admitted, device_of, online, renewal, renewed
from tests.gateway.enrolling import HOME, Applicant, Gateway
from tests.gateway.house import attempt_of, fired, result_of


@attrs.define
class Load:
    """A device with calls under way, which renews."""

    gateway: Gateway
    applicant: Applicant
    node: ScriptedNode
    answers: list[Deferred[Job]] = attrs.Factory(list)

    @classmethod
    def on(cls, gateway: Gateway) -> Load:
        applicant = Applicant()
        return cls(gateway, applicant, online(gateway, applicant))

    def submit(self) -> None:
        """Somebody calls."""
        order = self.gateway.order(device_of(self.gateway, self.applicant), timeout_ms=600_000)
        self.answers.append(self.gateway.dispatcher.run(order))

    def renew(self) -> NodeSession:
        """A new certificate, and a session over it beside the old one."""
        self.ask()
        return result_of(self.node.connect())

    def ask(self) -> None:
        """A new certificate, which nothing is registered over yet."""
        asked = renewal(self.applicant, self.node.peer)
        self.node.peer = admitted(self.gateway, renewed(self.gateway, self.node.peer, asked))

    def catch_up(self) -> None:
        """Everything that was to be committed is committed now."""
        store = self.gateway.store
        while store.waiting:
            store.release()
        store.holding = False

    def over(self, session: NodeSession, act: Any, *given: Any) -> Any:
        """The node does something on one of its sessions."""
        newest, self.node.session = self.node.session, session
        try:
            return act(*given)
        finally:
            self.node.session = newest

    def open(self) -> list[NodeSession]:
        """Its sessions that are open, the oldest first."""
        self.node.notice()
        return [session for _, session in self.node.opened]

    def read(self) -> None:
        """Everything that was said to it on any session."""
        for session in self.open():
            self.over(session, self.node.take)

    def finish_one(self, *, oldest: bool) -> None:
        """One attempt ends, and is reported on the oldest session or on the newest."""
        running, sessions = list(self.node.running), self.open()
        if running and sessions:
            self.over(sessions[0 if oldest else -1], self.node.finish, running[0])

    def settle(self) -> None:
        """The node works until there is nothing left to do."""
        self.read()
        while self.node.running:
            self.finish_one(oldest=False)
            self.read()

    def check(self) -> None:
        """Every call has succeeded, and was made exactly once."""
        jobs = [result_of(answer) for answer in self.answers]
        assert {job.state for job in jobs} <= {JobState.SUCCEEDED}
        assert {job.attempts for job in jobs} <= {1}
        made = Counter(dispatch.job_id for dispatch in self.node.started)
        assert made == Counter(job.call.job_id for job in jobs)


def test_jobs_on_both_sides(gateway: Gateway) -> None:
    """Running before and reported on either session, sent and not read, waiting for room, and
    submitted after: all of them succeed."""
    load = Load.on(gateway)
    for _ in range(4):
        load.submit()
    load.read()
    (old,) = load.open()
    load.submit()  # sent on the old session, where nobody reads it in time
    new = load.renew()
    assert gateway.sessions.owner(load.applicant.device_id) is new
    load.submit()
    attempts = list(load.node.running)
    assert len(attempts) == 4
    for session, attempt_id in zip((old, new, old, new), attempts, strict=True):
        load.over(session, load.node.finish, attempt_id)
    load.settle()
    load.check()
    drained = load.node.drains
    assert len(drained) == 1 and len(load.answers) == 6


def test_a_result_that_was_not_acknowledged(gateway: Gateway) -> None:
    """It is sent again on the new session, acknowledged there, and told once."""
    load = Load.on(gateway)
    load.submit()
    load.read()
    (old,) = load.open()
    load.over(old, load.node.finish, next(iter(load.node.running)))
    assert fired(load.answers[0]) and load.node.finished != {}
    commits = len(gateway.store.commits)
    load.renew()
    gateway.clock.advance(0.1)
    load.read()
    assert load.node.finished == {} and len(gateway.store.commits) == commits
    load.check()


def test_the_old_session_ends_after_its_time(gateway: Gateway) -> None:
    """Thirty seconds to report on it, then it is closed; what still runs reports on the new one."""
    load = Load.on(gateway)
    load.submit()
    load.read()
    old_carrier = load.node.carrier
    load.renew()
    gateway.pass_time(HANDOVER_S - 1)
    assert old_carrier.closed == [] and len(load.open()) == 2
    gateway.pass_time(2)
    assert old_carrier.closed == [None] and len(load.open()) == 1
    load.settle()
    load.check()


def test_the_old_certificate_is_over_and_its_session_is_not(gateway: Gateway) -> None:
    """From the registration on no call is admitted with it; the session that it opened is heard
    to its end."""
    load = Load.on(gateway)
    record = result_of(gateway.store.certificate(load.node.peer.fingerprint))
    load.submit()
    load.read()
    (old,) = load.open()
    load.renew()
    with pytest.raises(CertificateSuperseded):
        gateway.node_desk.admit(record.pem.encode(), None, HOME, "grpc")
    kept = result_of(gateway.store.certificate(record.fingerprint))
    assert kept.state is CertificateState.SUPERSEDED
    load.over(old, load.node.finish, next(iter(load.node.running)))
    load.settle()
    load.check()


def test_a_registration_whose_commit_takes_its_time(gateway: Gateway) -> None:
    """Jobs that come meanwhile are sent on the old session or wait for the new one."""
    load = Load.on(gateway)
    load.submit()
    asked = renewal(load.applicant, load.node.peer)
    load.node.peer = admitted(gateway, renewed(gateway, load.node.peer, asked))
    gateway.store.holding = True
    connected = load.node.connect()
    load.submit()
    load.read()
    gateway.store.release(1)
    load.submit()
    while gateway.store.waiting:
        gateway.store.release()
    gateway.store.holding = False
    result_of(connected)
    load.settle()
    load.check()


def test_the_gateway_restarts_between_renewal_and_registration(gateway: Gateway) -> None:
    """The new certificate is on record: the node registers over it, and its jobs go on."""
    load = Load.on(gateway)
    jobs = [gateway.submit(device_of(gateway, load.applicant)) for _ in range(2)]
    load.read()
    asked = renewal(load.applicant, load.node.peer)
    load.node.peer = admitted(gateway, renewed(gateway, load.node.peer, asked))
    gateway.restart()
    result_of(load.node.connect())
    for job in jobs:
        load.node.finish(attempt_of(job))
    assert {gateway.kept(job).state for job in jobs} == {JobState.SUCCEEDED}
    assert len(load.node.started) == 2


ACTIONS = ("submit", "submit", "read", "finish old", "finish new", "renew", "wait")


@settings(max_examples=60)
@given(st.lists(st.sampled_from(ACTIONS), max_size=25))
def test_whatever_happens_when(actions: list[str]) -> None:
    """Calls, reads, reports and renewals in any order: zero failed jobs."""
    gateway = Gateway()
    load = Load.on(gateway)
    for action in actions:
        if action == "submit":
            load.submit()
        elif action == "read":
            load.read()
        elif action == "renew":
            load.renew()
            gateway.pass_time(25)  # no host swaps its sessions more often
        elif action == "wait":
            gateway.pass_time(6)
        else:
            load.finish_one(oldest=action == "finish old")
    load.settle()
    gateway.pass_time(1)
    load.settle()
    load.check()
    gateway.end()


WHILE_COMMITTING = ("submit", "submit", "read", "finish", "register", "attach", "commit", "commit")
STALE = ("register", "commit", "submit", "commit", "commit", "attach")
"""A call is taken for the old session, waits, and is being dispatched there when the new one is
attached."""


@settings(max_examples=60)
@given(st.lists(st.sampled_from(WHILE_COMMITTING), max_size=30))
@example([*STALE])
@example(["submit", "read", *STALE])
def test_whatever_the_store_takes_its_time_for(actions: list[str]) -> None:
    """Handovers while commits are long in coming: as soon as they have come everything is sent,
    and no call waits for somebody who calls after it."""
    gateway = Gateway()
    load = Load.on(gateway)
    registered: Deferred[Welcome] | None = None
    for action in actions:
        if action == "submit":
            load.submit()
        elif action == "read" and registered is None:  # else a node starts nothing
            load.read()
        elif action == "finish":
            load.finish_one(oldest=True)
        elif action == "register" and registered is None:
            load.catch_up()
            load.ask()
            gateway.store.holding = True
            registered = load.node.register()
        elif action == "attach" and registered is not None and fired(registered):
            load.node.attach(result_of(registered).session_epoch)
            registered = None
        elif action == "commit" and gateway.store.waiting:
            gateway.store.release(1)
    load.catch_up()
    if registered is not None:
        load.node.attach(result_of(registered).session_epoch)
    assert gateway.dispatcher.queued(None) == []
    load.settle()
    load.check()
    gateway.end()
