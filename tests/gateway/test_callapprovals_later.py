"""Between the asking, the yes and the sending much can change: then the yes is not for that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest

from palyra.core.audit import Acting, acts_for
from palyra.core.callapprovals import APPROVAL, ONCE, TIMEBOXED
from palyra.core.devices import INVOKE_OTHERS, Device, DeviceState
from palyra.core.jobmachine import FIRST_BACKOFF_MS, RETRY
from palyra.core.jobs import Job, JobState
from palyra.core.operators import Role
from palyra.core.policy import Effect, Rules
from palyra.gateway.fanouts import SLICE
from palyra.gateway.orders import FanoutOrder, client
from palyra.gateway.rechecks import SLICE as RECHECKED
from tests.gateway.asked import (
    ANA,
    BO,
    BOT,
    approval_of,
    approvals,
    ask,
    asking,
    decide,
    rule,
    started,
)
from tests.gateway.house import ALL_ALLOWED, House, result_of
from tests.gateway.test_fanouts import fleet, submit

ADMINS: dict[str, Any] = {"approvers": ("role:admin",)}
OTHERS: list[dict[str, Any]] = [ADMINS, {"four_eyes": True}]
"""What makes a rule ask somebody else."""


@pytest.fixture
def house() -> Iterator[House]:
    """Every call is asked."""
    house = asking()
    yield house
    house.end()


def voided(house: House, job: Job) -> str:
    """The sentence with which the job ended that was never sent."""
    kept = house.kept(job)
    assert (kept.state, kept.error_code, kept.attempts) == (
        JobState.REJECTED,
        "approval_void",
        0,
    )
    return kept.error


def agent_of(house: House) -> Device:
    """A device that may run on others."""
    return house.device("agent", grants=frozenset({INVOKE_OTHERS}))


@pytest.mark.parametrize("changes", OTHERS)
def test_others_decide_by_now(house: House, changes: dict[str, Any]) -> None:
    """A yes of whom the rule does not ask any more lets nothing run."""
    device, node = house.online()
    job = ask(house, device)
    house.policing.rules = Rules((rule(**changes),))
    decide(house, approval_of(house, job))
    assert "others decide it by now (palyra.toml, rule 1)" in voided(house, job)
    assert started(node) == []


def test_others_decide_from_a_reload_on(house: House) -> None:
    """What waits for the wrong people ends when the rules are read; what does not waits on."""
    device, _ = house.online()
    job = ask(house, device)
    house.dispatcher.recheck()
    assert house.kept(job).waiting_for == APPROVAL
    house.policing.rules = Rules((rule(**ADMINS),))
    other = ask(house, device, capability="safe")
    house.policing.rules = Rules((rule(Effect.ASK, 1, **ADMINS), rule(Effect.ALLOW, 2)))
    house.dispatcher.recheck()
    voided(house, job)
    assert house.kept(other).waiting_for == APPROVAL


@pytest.mark.parametrize("changes", OTHERS)
def test_a_yes_stands_for_the_rule_it_was_given_to(house: House, changes: dict[str, Any]) -> None:
    """Rules without an id are known by their place: another rule may stand there by now."""
    device, _ = house.online()
    decide(house, approval_of(house, ask(house, device)), scope=TIMEBOXED, ttl_ms=3_600_000)
    house.policing.rules = Rules((rule(scopes=(ONCE, TIMEBOXED), **changes),))
    assert ask(house, device).waiting_for == APPROVAL


def test_what_stands_no_more_is_forgotten(house: House) -> None:
    """Also a yes whose call was never repeated."""
    device, node = house.online()
    for number in range(3):
        job = ask(house, device, input_json=b"%d" % number)
        decide(house, approval_of(house, job), scope=TIMEBOXED, ttl_ms=1_000)
        node.take()
        node.finish(node.started[-1].attempt_id)
        house.pass_time(2)
    assert len(house.call_approvals._standing) == 1


def test_a_client_that_was_revoked(house: House) -> None:
    """Nothing runs in its name any more, whoever said yes."""
    device, node = house.online()
    agent = agent_of(house)
    job = house.submit(device, requested_by=client(agent.device_id))
    house.inventory.put(attrs.evolve(agent, state=DeviceState.REVOKED, revoked_at_ms=1))
    decide(house, approval_of(house, job))
    assert "was revoked" in voided(house, job) and started(node) == []


def test_a_client_that_may_not_run_on_others_any_more(house: House) -> None:
    """Its grant is looked at again; on itself it runs without one."""
    device, node = house.online()
    agent = agent_of(house)
    job = house.submit(device, requested_by=client(agent.device_id))
    own = house.submit(device, requested_by=client(device.device_id))
    house.inventory.put(attrs.evolve(agent, grants=frozenset()))
    decide(house, approval_of(house, job))
    decide(house, approval_of(house, own))
    assert "may not run on other devices any more" in voided(house, job)
    assert started(node) == [own.call.job_id]


def test_rules_that_are_read_while_it_is_being_accepted(house: House) -> None:
    """A call whose approval is on its way to the store waits for it as any other."""
    device, _ = house.online()
    house.store.holding = True
    accepted = house.dispatcher.submit(house.order(device, caller=ANA))
    house.dispatcher.recheck()
    house.store.holding = False
    house.store.release()
    job = result_of(accepted)
    assert (job.state, job.waiting_for) == (JobState.QUEUED, APPROVAL)


def test_each_row_looks_at_its_own_target_only(house: House) -> None:
    """What a look at one row costs does not grow with the rows beside it."""
    devices, _ = fleet(house, 4)
    submit(house, devices, requested_by="ana", caller=ANA)
    (entry,) = house.call_approvals._open.values()
    assert list(entry.targets) == [target.job_id for target in entry.approval.targets]
    house.dispatcher.recheck()
    assert house.dispatcher.waiting == 4


def test_a_device_that_is_revoked_while_rows_are_made(house: House) -> None:
    """That is its row; the others are asked, and one yes is for them."""
    devices, _ = fleet(house, SLICE + 2)
    order = FanoutOrder(
        devices=tuple(devices), capability="echo", input_json=b"{}", requested_by="ana", caller=ANA
    )
    accepted = house.fanouts.submit(order)
    revoked = attrs.evolve(devices[0], state=DeviceState.REVOKED, revoked_at_ms=1)
    house.inventory.put(revoked)
    house.pass_time(1)
    made = result_of(accepted)
    assert made.tally.counts == {JobState.REJECTED: 1, JobState.QUEUED: SLICE + 1}
    (approval,) = approvals(house)
    assert len(approval.targets) == SLICE + 1
    decide(house, approval)
    house.pass_time(1)
    running = house.fanouts.running(made.fanout.fanout_id)
    assert running is not None
    assert running.view().tally.counts == {JobState.REJECTED: 1, JobState.DISPATCHED: SLICE + 1}
    assert house.dispatcher.waiting == 0


def test_the_chain_says_who_asked_and_who_decided(house: House) -> None:
    """An operator with id and way of coming in, a client by its own name; nobody else."""
    device, _ = house.online()
    with acts_for(Acting(ANA.operator_id, "ana", "192.0.2.4")):
        job = ask(house, device)
    with acts_for(Acting(BO.operator_id, "bo", "192.0.2.9")):
        decide(house, approval_of(house, job))
    client_job = house.submit(device, requested_by=client(device.device_id))
    lines = [row.line for row in house.store.store._rows]
    told = {
        line.action: (line.who, line.operator_id, line.via)
        for line in lines
        if line.subject == f"approval:{job.call.approval_id}"
    }
    assert told == {
        "approval.asked": ("ana", ANA.operator_id, "192.0.2.4"),
        "approval.approved": ("bo", BO.operator_id, "192.0.2.9"),
    }
    (asked,) = (x for x in lines if x.subject == f"approval:{client_job.call.approval_id}")
    assert (asked.who, asked.operator_id) == (client(device.device_id), "")


# -- whoever asked, or said yes, is gone -----------------------------------------------------------


@pytest.mark.parametrize("role", [None, Role.VIEWER])
def test_an_operator_who_may_not_submit_any_more(role: Role | None) -> None:
    """What they queued does not run, though no rule asked anybody; others' does."""
    house = asking(ALL_ALLOWED)
    device = house.device()
    mine = ask(house, device, ttl_ms=600_000)
    theirs = ask(house, device, BOT, ttl_ms=600_000)
    nobodys = house.submit(device, ttl_ms=600_000)
    house.roles.pop(ANA.operator_id)
    if role is not None:
        house.roles[ANA.operator_id] = role
    node = house.node(device)
    result_of(node.connect())
    kept = house.kept(mine)
    assert (kept.state, kept.error_code) == (JobState.REJECTED, "policy_denied")
    assert kept.error == "ana may not submit jobs any more."
    assert started(node) == [theirs.call.job_id, nobodys.call.job_id]
    house.end()


def test_rules_that_are_read_look_at_who_asked_too() -> None:
    """What waits for a device that is away needs not wait for it to be refused."""
    house = asking(ALL_ALLOWED)
    job = ask(house, house.device(), ttl_ms=600_000)
    house.roles.clear()
    house.dispatcher.recheck()
    assert house.kept(job).state is JobState.REJECTED
    house.end()


@pytest.mark.parametrize("changes", [{"state": DeviceState.REVOKED, "revoked_at_ms": 1}, {}])
def test_a_client_whose_call_was_queued(changes: dict[str, Any]) -> None:
    """One that was revoked, or may not run on others any more, has nothing run for it."""
    house = asking(ALL_ALLOWED)
    device, agent = house.device(), agent_of(house)
    job = house.submit(device, requested_by=client(agent.device_id), ttl_ms=600_000)
    house.inventory.put(attrs.evolve(agent, grants=frozenset(), **changes))
    node = house.node(device)
    result_of(node.connect())
    assert house.kept(job).state is JobState.REJECTED and started(node) == []
    house.end()


@pytest.mark.parametrize("restarts", [False, True])
def test_a_yes_ends_with_whoever_gave_it(house: House, restarts: bool) -> None:
    """Repeats ask again, also after a restart; while they are here, they do not."""
    device, _ = house.online()
    decide(house, approval_of(house, ask(house, device)), scope=TIMEBOXED, ttl_ms=3_600_000)
    if restarts:
        house.restart()
    assert ask(house, device).waiting_for != APPROVAL
    house.roles.pop(BO.operator_id)
    if restarts:
        house.restart()
    else:
        house.call_approvals.operator_left(BO.operator_id)
        assert not house.call_approvals._standing
    assert ask(house, device).waiting_for == APPROVAL


# -- another attempt -------------------------------------------------------------------------------


def without_grant(house: House, device: Device) -> None:
    house.inventory.put(attrs.evolve(device, grants=frozenset()))


def denied(house: House, _: Device) -> None:
    house.policing.rules = Rules((rule(Effect.DENY),))


def asked_now(house: House, _: Device) -> None:
    house.policing.rules = Rules((rule(**ADMINS),))


@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize(("change", "attempts"), [(without_grant, 1), (denied, 1), (asked_now, 2)])
def test_another_attempt(
    asked: bool, change: Callable[[House, Device], None], attempts: int
) -> None:
    """It needs no other yes, and is not made where the grant is gone or a rule denies it by now;
    the first one may have had its effect."""
    house = asking() if asked else asking(ALL_ALLOWED)
    device, node = house.online()
    job = ask(house, device, capability="safe")
    if asked:
        decide(house, approval_of(house, job))
    node.take()
    node.restart(lose_memory=True)
    result_of(node.connect())
    assert house.kept(job).waiting_for == RETRY
    change(house, device)
    house.pass_time(FIRST_BACKOFF_MS / 1000 + 0.5)
    node.take()
    kept = house.kept(job)
    assert len(node.started) == kept.attempts == attempts
    if attempts == 1:
        assert kept.state is JobState.REJECTED and kept.effect_possible
    house.end()


def test_many_are_looked_at_in_turns() -> None:
    """When the rules are read again, no turn of the reactor goes over all that waits; a second
    time begins anew, and the end of the gateway ends it."""
    house = asking(ALL_ALLOWED)
    device = house.device()
    jobs = [ask(house, device, ttl_ms=600_000) for _ in range(RECHECKED + 2)]
    house.policing.rules = Rules((rule(Effect.DENY),))
    house.dispatcher.recheck()
    states = [house.kept(job).state for job in jobs]
    assert states == [JobState.REJECTED] * RECHECKED + [JobState.QUEUED] * 2
    house.dispatcher.recheck()
    assert house.dispatcher.waiting == 0
    more = [ask_unruled(house, device) for _ in range(RECHECKED + 2)]
    house.dispatcher.recheck()
    house.clock.advance(0)
    assert {house.kept(job).state for job in more} == {JobState.REJECTED}
    more = [ask_unruled(house, device) for _ in range(RECHECKED + 1)]
    house.dispatcher.recheck()
    house.end()
    house.clock.advance(0)
    assert house.kept(more[-1]).state is JobState.QUEUED


def ask_unruled(house: House, device: Device) -> Job:
    """A call that was accepted while nothing denied it."""
    rules, house.policing.rules = house.policing.rules, ALL_ALLOWED
    job = ask(house, device, ttl_ms=600_000)
    house.policing.rules = rules
    return job
