"""Calls that rules hold: people, rules, and ways to ask and to decide."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.defer import Deferred

from palyra.core.approval import ApprovalState
from palyra.core.approvallog import CallQuery
from palyra.core.callapprovals import ONCE, SESSION, TIMEBOXED, CallApproval
from palyra.core.devices import Device
from palyra.core.jobs import Job
from palyra.core.operators import Caller, Role
from palyra.core.policy import Capabilities, Effect, Rule, Rules, parse_where
from palyra.gateway.callanswers import Answer
from palyra.testing.carrier import ScriptedNode
from tests.gateway.house import House, result_of
from tests.store.samples import ulid

S = ApprovalState
ANA = Caller(ulid("ana"), "ana", Role.OPERATOR, "console.sock", session="tab")
BO = Caller(ulid("bo"), "bo", Role.APPROVER, "192.0.2.9")
BOT = Caller(ulid("bot"), "bot", Role.OPERATOR, "192.0.2.8", owner=BO.operator_id)


def rule(effect: Effect = Effect.ASK, number: int = 1, where: str = "", **changes: Any) -> Rule:
    """A rule of the file; ``capability`` may be named."""
    given: dict[str, Any] = {
        "rule_id": f"rule-{number}",
        "number": number,
        "effect": effect,
        **changes,
    }
    if where:
        given["where"] = parse_where(where)
    if "capability" in given:
        given["capability"] = Capabilities((given["capability"],))
    return Rule(**given)


ASK_ALL = Rules((rule(scopes=(ONCE, SESSION, TIMEBOXED)),))


def asking(rules: Rules = ASK_ALL, **changes: Any) -> House:
    """A house whose rules hold calls."""
    house = House(rules=rules, **changes)
    house.roles.update({each.operator_id: each.role for each in (ANA, BO, BOT) if each.role})
    return house


def ask(house: House, device: Device, by: Caller = ANA, **changes: Any) -> Job:
    """A call of an operator, on record."""
    return house.submit(device, requested_by=by.name, caller=by, **changes)


def approval_of(house: House, job: Job) -> CallApproval:
    """The approval that a job needs, as it is on record."""
    assert job.call.approval_id is not None
    found: CallApproval | None = result_of(house.store.call_approval(job.call.approval_id))
    assert found is not None
    return found


def approvals(house: House, *states: ApprovalState) -> list[CallApproval]:
    query = CallQuery(frozenset(states) if states else None)
    found: list[CallApproval] = result_of(house.store.call_approvals(query))
    return found


def deciding(house: House, approval: CallApproval, **changes: Any) -> Deferred[CallApproval]:
    given: dict[str, Any] = {"by": BO, "approved": True, "digest": approval.digest, **changes}
    decided = house.call_approvals.decide(approval.approval_id, Answer(**given))
    return Deferred.fromCoroutine(decided)


def decide(house: House, approval: CallApproval, **changes: Any) -> CallApproval:
    return result_of(deciding(house, approval, **changes))


def started(node: ScriptedNode) -> list[str]:
    """The ids of the jobs that the node was sent."""
    node.take()
    return [each.job_id for each in node.started]


def audited(house: House) -> list[tuple[str, str]]:
    """What the chain says, without jobs: action and result."""
    rows = [row.line for row in house.store.store._rows]
    return [(line.action, line.result) for line in rows if line.action != "job.ended"]


def renamed(rule: Rule, **changes: Any) -> Rule:
    return attrs.evolve(rule, **changes)
