"""Calls under an ask rule: they wait, are decided once, and run only as they were approved."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred

from palyra.core.approval import ApprovalState
from palyra.core.callapprovals import APPROVAL, ONCE, SESSION, TIMEBOXED
from palyra.core.devices import AnnouncedCapability, Device, DeviceChange, Risk
from palyra.core.fanouts import BATCH
from palyra.core.identifiers import sha256_hex
from palyra.core.interfaces import IdempotencyKey
from palyra.core.jobs import Job, JobState
from palyra.core.operators import Caller, Role
from palyra.core.policy import Effect, Rules
from palyra.errors import (
    ApprovalChanged,
    ApprovalVoid,
    CallDecided,
    DeviceOffline,
    DiskFull,
    FourEyes,
    JobStillRunning,
    LimitReached,
    Malformed,
    NotAnApprover,
    NotFound,
    RuleDenies,
)
from palyra.gateway.callapprovals import MAX_PENDING_EACH
from palyra.gateway.orders import client
from tests.gateway.asked import (
    ANA,
    ASK_ALL,
    BO,
    BOT,
    approval_of,
    approvals,
    ask,
    asking,
    audited,
    decide,
    deciding,
    rule,
    started,
)
from tests.gateway.house import House, fired, result_of
from tests.gateway.test_fanouts import finish, fleet, rows, running, submit, view
from tests.store.samples import ulid

A, S = ApprovalState, JobState


@pytest.fixture
def house() -> Iterator[House]:
    """Every call is asked."""
    house = asking()
    yield house
    house.end()


def ended(house: House, job: Job, code: str, state: JobState = S.REJECTED) -> str:
    """The sentence with which the job ended."""
    kept = house.kept(job)
    assert (kept.state, kept.error_code, kept.attempts) == (state, code, 0)
    return kept.error


# -- asking -------------------------------------------------------------------------------------


def test_it_waits(house: House) -> None:
    """The job is queued and held, with an approval of everything that is asked."""
    device, node = house.online()
    job = ask(house, device, input_json=b'{"b":1, "a":2}', timeout_ms=9_000)
    house.pass_time(5)
    assert (job.state, job.waiting_for) == (S.QUEUED, APPROVAL) and started(node) == []
    approval = approval_of(house, job)
    (target,) = approval.targets
    assert (target.job_id, target.device_name) == (job.call.job_id, "pi")
    assert target.identity_fingerprint == device.identity_fingerprint
    assert (approval.input_json, approval.run_timeout_ms) == (b'{"a":2,"b":1}', 9_000)
    assert (approval.requested_by, approval.person, approval.rule_id) == (
        "ana",
        ANA.operator_id,
        "rule-1",
    )
    assert approval.expires_at_ms - approval.created_at_ms == 600_000
    assert house.call_approvals.pending == 1


def test_a_yes_lets_it_run_once(house: House) -> None:
    """It is sent, the yes is used up, and what happened is on the chain."""
    device, node = house.online()
    job = ask(house, device)
    decided = decide(house, approval_of(house, job), reason="fine")
    assert (decided.state, decided.decided_by, decided.reason) == (A.APPROVED, "bo", "fine")
    assert started(node) == [job.call.job_id]
    node.finish(node.started[0].attempt_id)
    approval = approval_of(house, job)
    assert (house.kept(job).state, approval.state) == (S.SUCCEEDED, A.CONSUMED)
    assert approval.targets[0].consumed_at_ms is not None and house.call_approvals.pending == 0
    actions = [action for action, _ in audited(house)]
    assert [each for each in actions if each.startswith("approval")] == [
        "approval.asked",
        "approval.approved",
    ]


def test_a_no_rejects_it(house: House) -> None:
    """The job ends with who said no, and why; it was never sent."""
    device, node = house.online()
    job = ask(house, device)
    decide(house, approval_of(house, job), approved=False, reason="not now")
    assert ended(house, job, "approval_rejected") == "bo rejected it: not now."
    assert approval_of(house, job).state is A.REJECTED and started(node) == []


def test_an_offline_device(house: House) -> None:
    """Without time to wait nothing is asked: it could not run."""
    with pytest.raises(DeviceOffline):
        ask(house, house.device())
    assert approvals(house) == []


def test_a_paired_client_waits_too(house: House) -> None:
    """Its call is held as an operator's, and it is its own person."""
    device, _ = house.online()
    job = house.submit(device, requested_by=client(device.device_id))
    approval = approval_of(house, job)
    assert approval.operator_id == approval.person == f"device:{device.device_id}"
    decide(house, approval)
    assert house.kept(job).attempts == 1


def test_whoever_waits_waits_for_the_approval_too(house: House) -> None:
    """A caller's patience is longer by the life of the approval."""
    device, _ = house.online()
    waiting = house.dispatcher.run(house.order(device, caller=ANA), lambda call: 1_000)
    for _ in range(2):
        house.pass_time(295)
    assert not fired(waiting)
    house.pass_time(30)
    assert result_of(waiting).error_code == "approval_expired"
    late = house.dispatcher.run(house.order(device, caller=ANA), lambda call: -599_000)
    house.pass_time(2)
    with pytest.raises(JobStillRunning):
        result_of(late)


def test_one_caller_cannot_flood(house: House) -> None:
    """So many of one operator may wait at a time; others still may."""
    device, _ = house.online()
    for _ in range(MAX_PENDING_EACH):
        ask(house, device)
    with pytest.raises(LimitReached):
        ask(house, device)
    ask(house, device, by=BOT)


def test_a_flood_that_is_being_committed(house: House) -> None:
    """What is on its way to the store counts too; what does not get there, or is decided, does
    not any more."""
    device, _ = house.online()
    house.store.holding = True
    waiting = [
        house.dispatcher.submit(house.order(device, caller=ANA)) for _ in range(MAX_PENDING_EACH)
    ]
    with pytest.raises(LimitReached):
        ask(house, device)
    house.store.holding, house.store.trouble = False, DiskFull("/srv")
    house.store.release()
    for each in waiting:
        with pytest.raises(DiskFull):
            result_of(each)
    house.store.trouble = None
    jobs = [ask(house, device) for _ in range(MAX_PENDING_EACH)]
    decide(house, approval_of(house, jobs[0]), approved=False)
    house.dispatcher.cancel(jobs[1].call.job_id)
    ask(house, device)
    ask(house, device)
    with pytest.raises(LimitReached):
        ask(house, device)
    house.restart()
    with pytest.raises(LimitReached):
        ask(house, device)
    house.pass_time(700)
    assert not house.call_approvals._asked_by and not house.call_approvals._asking


def test_a_disk_that_is_full(house: House) -> None:
    """A call that could not be recorded was never made."""
    device, _ = house.online()
    house.store.trouble = DiskFull("/srv")
    with pytest.raises(DiskFull):
        ask(house, device)
    house.store.trouble = None
    assert house.call_approvals.pending == 0 and house.dispatcher.queued(None) == []


# -- who decides --------------------------------------------------------------------------------


def test_what_was_seen_is_what_is_approved(house: House) -> None:
    """Another digest decides nothing."""
    device, node = house.online()
    job = ask(house, device)
    with pytest.raises(ApprovalChanged):
        decide(house, approval_of(house, job), digest=sha256_hex(b"other"))
    assert approval_of(house, job).state is A.PENDING and started(node) == []


def test_it_is_decided_once(house: House) -> None:
    """A second decision is refused, and so is one on nothing."""
    device, _ = house.online()
    approval = approval_of(house, ask(house, device))
    decide(house, approval, approved=False)
    with pytest.raises(CallDecided):
        decide(house, approval)
    with pytest.raises(NotFound):
        decide(house, attrs.evolve(approval, approval_id=ulid("other")))


@pytest.mark.parametrize("by", [BO, BOT])
def test_four_eyes(by: Caller) -> None:
    """Not who asks, nor whoever answers for the program that asks."""
    house = asking(Rules((rule(four_eyes=True),)))
    device, _ = house.online()
    approval = approval_of(house, ask(house, device, by=BOT))
    for approved in (True, False):
        with pytest.raises(FourEyes):
            decide(house, approval, by=by, approved=approved)
    decide(house, approval, by=attrs.evolve(ANA, role=Role.APPROVER))
    house.end()


def test_named_approvers() -> None:
    """Only the roles and operators that the rule names."""
    house = asking(Rules((rule(approvers=("role:admin", f"operator:{BO.operator_id}")),)))
    device, _ = house.online()
    first, second = (approval_of(house, ask(house, device)) for _ in range(2))
    with pytest.raises(NotAnApprover):
        decide(house, first, by=attrs.evolve(ANA, role=Role.APPROVER))
    decide(house, first, by=BO)
    decide(house, second, by=attrs.evolve(ANA, role=Role.ADMIN))
    house.end()


def test_a_decision_that_is_not_recorded(house: House) -> None:
    """Nothing is let go before the yes is on record."""
    device, node = house.online()
    job = ask(house, device)
    house.store.holding = True
    decision = deciding(house, approval_of(house, job))
    assert started(node) == [] and not fired(decision)
    house.store.release(1)
    assert fired(decision)
    house.store.holding = False
    house.store.release()
    assert started(node) == [job.call.job_id]


# -- time ---------------------------------------------------------------------------------------


def test_nobody_decides(house: House) -> None:
    """After its time the job is rejected, and a late yes is refused."""
    device, node = house.online()
    job = ask(house, device)
    approval = approval_of(house, job)
    house.pass_time(602)
    assert ended(house, job, "approval_expired").startswith("Nobody approved it within 10 min")
    assert approval_of(house, job).state is A.EXPIRED
    with pytest.raises(CallDecided):
        decide(house, approval)
    assert started(node) == []


def test_a_yes_in_the_last_moment(house: House) -> None:
    """A yes after the time, but before the wheel has turned, is none."""
    device, _ = house.online()
    job = ask(house, device)
    approval = approval_of(house, job)
    house.clock.rightNow = approval.expires_at_ms / 1000
    with pytest.raises(CallDecided):
        decide(house, approval)
    ended(house, job, "approval_expired")


def test_approved_for_a_device_that_is_away(house: House) -> None:
    """It waits for its device until the approval is over, or its own time is."""
    device = house.device()
    job = ask(house, device, ttl_ms=3_600_000)
    decide(house, approval_of(house, job))
    assert house.kept(job).waiting_for == ""
    house.pass_time(602)
    assert ended(house, job, "approval_expired").startswith("It was approved, but not sent")
    short = ask(house, device, ttl_ms=60_000)
    decide(house, approval_of(house, short))
    house.pass_time(61)
    ended(house, short, "expired", S.EXPIRED)
    assert approval_of(house, short).state is A.EXPIRED


def test_the_device_comes_in_time(house: House) -> None:
    """What was approved is sent when its device comes."""
    device = house.device()
    job = ask(house, device, ttl_ms=3_600_000)
    decide(house, approval_of(house, job))
    house.pass_time(300)
    node = house.node(device)
    result_of(node.connect())
    assert started(node) == [job.call.job_id]


def test_its_own_time_ends_first(house: House) -> None:
    """A time to live passes also while an operator thinks."""
    device = house.device()
    job = ask(house, device, ttl_ms=30_000)
    house.pass_time(31)
    sentence = ended(house, job, "expired", S.EXPIRED)
    assert sentence.startswith("Nobody approved it before")
    assert approval_of(house, job).state is A.EXPIRED


def test_a_cancelled_job_ends_its_approval(house: House) -> None:
    """Nothing is left to decide."""
    device, _ = house.online()
    job = ask(house, device)
    result_of(house.dispatcher.cancel(job.call.job_id, "ana"))
    assert house.kept(job).state is S.CANCELLED
    approval = approval_of(house, job)
    assert approval.state is A.EXPIRED and house.call_approvals.pending == 0
    with pytest.raises(CallDecided):
        decide(house, approval)


# -- rechecked ----------------------------------------------------------------------------------


def _approved_and_away(house: House) -> tuple[Job, Device]:
    device = house.device()
    job = ask(house, device, ttl_ms=3_600_000)
    decide(house, approval_of(house, job))
    return job, device


def test_another_key_voids_it(house: House) -> None:
    """What was approved for one key is not sent to another."""
    job, device = _approved_and_away(house)
    other = attrs.evolve(device, identity_fingerprint=sha256_hex(b"other"))
    house.inventory.put(other)
    with pytest.raises(ApprovalVoid, match="another key"):
        house.call_approvals.recheck(job)


def test_another_descriptor_voids_it(house: House) -> None:
    """A capability that is not the one approved is not run."""
    job, device = _approved_and_away(house)
    node = house.node(device)
    node.capabilities = (AnnouncedCapability("echo", digest="other"),)
    result_of(node.connect())
    assert "not the same" in ended(house, job, "approval_void") and started(node) == []


def test_a_grant_that_was_taken_voids_it(house: House) -> None:
    """Approval and grant are both needed."""
    job, device = _approved_and_away(house)
    withheld = DeviceChange(device.device_id, withhold=frozenset({"echo"}))
    house.inventory.put(result_of(house.store.change(withheld)))
    node = house.node(device)
    result_of(node.connect())
    assert "not granted" in ended(house, job, "approval_void") and started(node) == []


@pytest.mark.parametrize("role", [None, Role.VIEWER])
def test_a_role_that_was_taken_voids_it(house: House, role: Role | None) -> None:
    """Who asked must still be allowed to ask."""
    job, device = _approved_and_away(house)
    house.roles.pop(ANA.operator_id)
    if role is not None:
        house.roles[ANA.operator_id] = role
    node = house.node(device)
    result_of(node.connect())
    assert "may not submit" in ended(house, job, "approval_void") and started(node) == []


def test_a_rule_that_denies_voids_it(house: House) -> None:
    """A yes does not outweigh a rule that denies."""
    job, device = _approved_and_away(house)
    house.policing.rules = Rules((rule(Effect.DENY, number=4),))
    node = house.node(device)
    result_of(node.connect())
    assert "rule 4" in ended(house, job, "approval_void") and started(node) == []


def test_new_rules_look_at_what_waits(house: House) -> None:
    """What they deny is rejected; what they allow by now stays asked."""
    device, node = house.online()
    denied, asked = ask(house, device), ask(house, device, capability="safe")
    house.policing.rules = Rules(
        (rule(Effect.DENY, capability="echo"), rule(Effect.ALLOW, number=2))
    )
    house.dispatcher.recheck()
    ended(house, denied, "approval_void")
    assert approval_of(house, denied).state is A.EXPIRED
    assert house.kept(asked).waiting_for == APPROVAL
    decide(house, approval_of(house, asked))
    assert started(node) == [asked.call.job_id]


# -- jobs without an approval ---------------------------------------------------------------------


def test_a_rule_denies() -> None:
    """Nothing is made of the call; the refusal names the rule, and is on the chain."""
    house = asking(Rules((rule(Effect.DENY, 4, "label.env = prod"), rule(Effect.ALLOW, 5))))
    device, node = house.online()
    job = ask(house, device)
    labelled = DeviceChange(device.device_id, labels={"env": "prod"})
    house.inventory.put(result_of(house.store.change(labelled)))
    with pytest.raises(RuleDenies) as caught:
        ask(house, device)
    assert caught.value.sentence == (
        "A rule denies ana echo on label.env = prod (palyra.toml, rule 4)."
    )
    assert started(node) == [job.call.job_id]
    assert ("job.submitted", "denied, rule 4") in audited(house)
    house.end()


def test_rules_that_have_names() -> None:
    """Refusals and the chain say number and name."""
    no = rule(Effect.DENY, capability="safe", rule_id="no-safe")
    house = asking(Rules((no, rule(Effect.ASK, 2, rule_id="docs"))))
    device, _ = house.online()
    with pytest.raises(RuleDenies) as caught:
        ask(house, device, capability="safe")
    assert "(palyra.toml, rule 1: no-safe)." in caught.value.sentence
    ask(house, device)
    told = audited(house)
    assert ("job.submitted", "denied, rule 1: no-safe") in told
    assert ("approval.asked", "pending, rule 2: docs") in told
    house.end()


def test_what_was_allowed_and_waits() -> None:
    """Before it is sent it is judged again: by a label set since, or by new rules."""
    house = asking(Rules((rule(Effect.DENY, 1, "label.env = prod"), rule(Effect.ALLOW, 2))))
    device = house.device()
    denied = ask(house, device, ttl_ms=3_600_000)
    labelled = DeviceChange(device.device_id, labels={"env": "prod"})
    house.inventory.put(result_of(house.store.change(labelled)))
    node = house.node(device)
    result_of(node.connect())
    ended(house, denied, "policy_denied")
    node.hang_up()
    house.pass_time(60)
    house.policing.rules = Rules((rule(Effect.ALLOW),))
    asked = ask(house, device, ttl_ms=3_600_000)
    house.policing.rules = ASK_ALL
    house.dispatcher.recheck()
    ended(house, asked, "approval_needed")
    house.end()


# -- a yes that stands --------------------------------------------------------------------------


def test_a_session_stands_for_repeats(house: House) -> None:
    """The same call from the same browser session runs at once, with another key too."""
    device, node = house.online()
    approval = approval_of(house, ask(house, device))
    decide(house, approval, scope=SESSION)
    key = IdempotencyKey("ana", "k", sha256_hex(b"k"))
    order = house.order(device, caller=ANA)
    again = result_of(house.dispatcher.submit(order, key))
    assert started(node)[-1] == again.call.job_id and house.call_approvals.pending == 0
    repeat = approval_of(house, again)
    assert repeat.decided_by == "bo" and repeat.reason.startswith("repeats approval")
    for other in (
        {"input_json": b'{"x":1}'},
        {"timeout_ms": 2_000},
        {"caller": attrs.evolve(ANA, session="other")},
        {"caller": BOT, "requested_by": "bot"},
    ):
        asked = result_of(house.dispatcher.submit(house.order(device, **{"caller": ANA, **other})))
        assert asked.waiting_for == APPROVAL
    house.restart()
    result_of(node.connect())
    assert ask(house, device).waiting_for == APPROVAL


def test_a_session_of_somebody_without_one(house: House) -> None:
    """Who asks by certificate has no browser session: the yes is for once."""
    device, _ = house.online()
    approval = approval_of(house, ask(house, device, by=BOT))
    assert decide(house, approval, scope=SESSION).scope == ONCE
    assert ask(house, device, by=BOT).waiting_for == APPROVAL


def test_a_timeboxed_yes(house: House) -> None:
    """It stands for its time and over a restart, and no longer."""
    device, node = house.online()
    approval = approval_of(house, ask(house, device))
    for ttl_ms in (None, 25 * 3_600_000, 0):
        with pytest.raises(Malformed):
            decide(house, approval, scope=TIMEBOXED, ttl_ms=ttl_ms)
    decide(house, approval, scope=TIMEBOXED, ttl_ms=300_000)
    house.restart()
    result_of(node.connect())
    assert ask(house, device).waiting_for == "" and len(started(node)) >= 1
    house.pass_time(301)
    assert ask(house, device).waiting_for == APPROVAL


def test_no_yes_stands_that_may_not() -> None:
    """Not beyond the rule's scopes, and never for what is of high risk."""
    house = asking(Rules((rule(scopes=(ONCE, TIMEBOXED)),), {"safe": Risk.HIGH}))
    device, _ = house.online()
    approval = approval_of(house, ask(house, device))
    with pytest.raises(Malformed):
        decide(house, approval, scope=SESSION)
    high = approval_of(house, ask(house, device, capability="safe"))
    assert high.risk == "high"
    with pytest.raises(Malformed):
        decide(house, high, scope=TIMEBOXED, ttl_ms=60_000)
    house.end()


# -- operators that leave, gateways that restart ------------------------------------------------


def test_an_operator_is_revoked(house: House) -> None:
    """What waits in their name is over, and no yes to them stands any more."""
    device, _ = house.online()
    decide(house, approval_of(house, ask(house, device)), scope=SESSION)
    mine, theirs = ask(house, device, capability="safe"), ask(house, device, by=BOT)
    result_of(Deferred.fromCoroutine(house.call_approvals.operator_gone(ANA.operator_id)))
    assert "revoked" in ended(house, mine, "approval_void")
    assert approval_of(house, mine).state is A.EXPIRED
    assert house.kept(theirs).waiting_for == APPROVAL
    assert ask(house, device).waiting_for == APPROVAL


def test_a_restart_takes_over_what_is_pending(house: House) -> None:
    """The next life can decide it, and it expires there at its time."""
    device, node = house.online()
    first, second = ask(house, device, ttl_ms=3_600_000), ask(house, device, ttl_ms=3_600_000)
    house.restart()
    assert house.call_approvals.pending == 2
    result_of(node.connect())
    decide(house, approval_of(house, first))
    assert started(node) == [first.call.job_id]
    house.pass_time(602)
    ended(house, second, "approval_expired")


def test_killed_between_yes_and_run(house: House) -> None:
    """A yes on record lets the job run in the next life, once."""
    device, node = house.online()
    job = ask(house, device, ttl_ms=3_600_000)
    house.store.holding = True
    decision = deciding(house, approval_of(house, job))
    house.store.release(1)
    assert fired(decision)
    house.store.drop()
    house.store.holding = False
    house.restart()
    assert house.kept(job).attempts == 0
    result_of(node.connect())
    assert started(node) == [job.call.job_id]
    node.finish(node.started[0].attempt_id)
    house.restart()
    result_of(node.connect())
    assert len(started(node)) == 1 and approval_of(house, job).state is A.CONSUMED


@pytest.mark.parametrize("state", [A.REJECTED, A.EXPIRED])
def test_killed_between_no_and_end(house: House, state: ApprovalState) -> None:
    """Jobs of an approval that is over end in the next life."""
    device, _ = house.online()
    job = ask(house, device, ttl_ms=3_600_000)
    approval = approval_of(house, job)
    if state is A.REJECTED:
        no = attrs.evolve(approval, state=state, decided_by="bo", decided_at_ms=house.now_ms())
        result_of(house.store.decide_call(no))
    else:
        result_of(house.store.close_call(approval.approval_id, state, "", house.now_ms()))
    house.restart()
    ended(house, job, f"approval_{state.value}")


def test_watchers_hear_of_each_change(house: House) -> None:
    """Whoever watches is told which approval to look at."""
    device, _ = house.online()
    heard: list[str] = []
    house.call_approvals.watchers.append(heard.append)
    approval = approval_of(house, ask(house, device))
    assert heard == [approval.approval_id]
    decide(house, approval)
    assert set(heard) == {approval.approval_id} and len(heard) >= 2


# -- fan-outs -----------------------------------------------------------------------------------


def _fanned(house: House, rules: Rules, count: int = 3, **changes: Any) -> tuple[Any, list[Any]]:
    """A fan-out over devices pi-0, pi-1 ...; even ones are labelled ``env=prod``."""
    devices, nodes = fleet(house, count)
    chosen = []
    for number, device in enumerate(devices):
        labels = {} if number % 2 else {"env": "prod"}
        labelled = result_of(house.store.change(DeviceChange(device.device_id, labels=labels)))
        house.inventory.put(labelled)
        chosen.append(labelled)
    house.policing.rules = rules
    return submit(house, chosen, requested_by="ana", caller=ANA, **changes), nodes


def test_a_fanout_has_one_approval(house: House) -> None:
    """Asked rows wait together; allowed ones run meanwhile, and all run after one yes."""
    rules = Rules((rule(Effect.ASK, 1, "label.env = prod"), rule(Effect.ALLOW, 2)))
    made, nodes = _fanned(house, rules)
    house.pass_time(1)
    assert [len(started(node)) for node in nodes] == [0, 1, 0]
    (approval,) = approvals(house)
    assert made.fanout.approval_id == approval.approval_id
    assert [each.device_name for each in approval.targets] == ["pi-0", "pi-2"]
    decide(house, approval)
    house.pass_time(1)
    assert [len(started(node)) for node in nodes] == [1, 1, 1]
    assert approvals(house)[0].state is A.CONSUMED


def test_a_fanout_with_denied_rows(house: House) -> None:
    """They are rejected at once, and a no rejects the others that were asked."""
    rules = Rules((rule(Effect.DENY, 3, "label.env = prod"), rule(Effect.ASK, 4)))
    made, nodes = _fanned(house, rules)
    kept = rows(house, made)
    assert [kept[f"pi-{number}"].error_code for number in range(3)] == [
        "policy_denied",
        "",
        "policy_denied",
    ]
    decide(house, approvals(house)[0], approved=False)
    house.pass_time(1)
    assert rows(house, made)["pi-1"].error_code == "approval_rejected"
    assert view(house, made).finished and not running(nodes)


def test_approved_rows_wait_for_their_turn(house: House) -> None:
    """A batch is a batch also after a yes, and over a restart."""
    made, nodes = _fanned(house, ASK_ALL, batch=1, ttl_ms=3_600_000)
    assert {job.waiting_for for job in rows(house, made).values()} == {APPROVAL}
    decide(house, approvals(house)[0])
    house.pass_time(1)
    assert len(running(nodes)) == 1
    assert sorted(job.waiting_for for job in rows(house, made).values()) == ["", BATCH, BATCH]
    house.restart()
    for node in nodes:
        result_of(node.connect())
    for left in (2, 1, 0):
        (node,) = running(nodes)
        finish(node)
        house.pass_time(1)
        assert len(running(nodes)) == min(left, 1)
    assert view(house, made).tally.counts == {S.SUCCEEDED: 3}


def test_rows_that_others_decide(house: House) -> None:
    """Rows whose approvers are others than the first row's are refused, not put together."""
    rules = Rules(
        (
            rule(Effect.ASK, 1, "label.env = prod", approvers=("role:admin",)),
            rule(Effect.ASK, 2, approvers=("role:approver",)),
        )
    )
    made, _ = _fanned(house, rules)
    codes = [rows(house, made)[f"pi-{number}"].error_code for number in range(3)]
    assert codes == ["", "approval_apart", ""]
    assert approvals(house)[0].approvers == ("role:admin",)


def test_the_strictest_of_two_rules(house: House) -> None:
    """Rows of two rules with the same approvers: four eyes of either, the shorter time."""
    rules = Rules(
        (
            rule(Effect.ASK, 1, "label.env = prod", scopes=(ONCE, SESSION), expires_s=60),
            rule(Effect.ASK, 2, four_eyes=True, scopes=(ONCE,)),
        )
    )
    _fanned(house, rules)
    (approval,) = approvals(house)
    assert (approval.four_eyes, approval.scopes, approval.rule_id) == (
        True,
        (ONCE,),
        "rule-1,rule-2",
    )
    assert approval.expires_at_ms - approval.created_at_ms == 60_000


def test_a_fanout_that_is_cancelled(house: House) -> None:
    """With its last waiting row its approval is over."""
    made, nodes = _fanned(house, ASK_ALL)
    for job in rows(house, made).values():
        result_of(house.dispatcher.cancel(job.call.job_id, "ana"))
    assert approvals(house)[0].state is A.EXPIRED and not running(nodes)


def test_a_fanout_that_is_not_recorded(house: House) -> None:
    """Neither rows nor approval are left of it."""
    devices, _ = fleet(house, 2)
    house.store.trouble = DiskFull("/srv")
    with pytest.raises(DiskFull):
        submit(house, devices, requested_by="ana", caller=ANA)
    house.store.trouble = None
    assert house.call_approvals.pending == 0 and house.dispatcher.queued(None) == []
