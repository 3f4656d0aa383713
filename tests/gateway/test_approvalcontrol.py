"""Promises of what operators ask about approvals: pairing requests and calls in one list."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from palyra.console import models
from palyra.console.control import IApprovalControl
from palyra.core.operators import Role
from palyra.core.policy import Rules
from palyra.errors import AmbiguousTarget, FourEyes, Malformed, NotFound
from palyra.gateway.approvalcontrol import ApprovalControl
from palyra.gateway.callapprovals import CallApprovals
from tests.gateway.asked import ANA, BO, approval_of, ask, asking, rule
from tests.gateway.house import House, result_of
from tests.store.samples import a_code, a_request, an_approval


class Pairing:
    """As much of pairing as approvals need."""

    def __init__(self) -> None:
        self.decided: list[tuple[Any, ...]] = []

    async def pairing_item(self, request: Any) -> Any:
        return f"item of {request.name}"

    def decide(self, *asked: Any) -> Deferred[Any]:
        self.decided.append(asked)
        done: Deferred[Any] = Deferred()
        done.callback(None)
        return done


@pytest.fixture
def house() -> Iterator[House]:
    house = asking(Rules((rule(four_eyes=True),)))
    yield house
    house.end()


@pytest.fixture
def pairing() -> Pairing:
    return Pairing()


@pytest.fixture
def control(house: House, pairing: Pairing) -> ApprovalControl:
    calls: CallApprovals = house.call_approvals
    fake: Any = pairing
    store: Any = house.store
    return ApprovalControl(store=store, calls=calls, pairing=fake, pairings_waiting=lambda: 1)


def asks_to_pair(house: House) -> Any:
    code = a_code("new")
    request = attrs.evolve(a_request("nas", code), created_at_ms=house.now_ms())
    result_of(house.store.add_code(code))
    result_of(house.store.open_request(request, an_approval(request)))
    return request


def listed(control: ApprovalControl, *given: Any) -> models.ApprovalList:
    state, kind, limit, cursor = (*given, *(None, None, 50, None)[len(given) :])
    return result_of(control.approvals(state, kind, limit, cursor, BO))


def test_it_provides_the_interface(control: ApprovalControl) -> None:
    """What the console asks is there."""
    assert verifyObject(IApprovalControl, control)


def test_both_kinds_are_listed(house: House, control: ApprovalControl) -> None:
    """Newest first, by page, kind and state; and how many wait."""
    device, _ = house.online()
    jobs = [ask(house, device) for _ in range(2)]
    request = asks_to_pair(house)
    page = listed(control, None, None)
    assert page.pending == 3 and {each.kind for each in page.approvals} == {"pairing", "call"}
    seen: list[str] = []
    cursor = None
    while True:
        part = listed(control, None, None, 1, cursor)
        seen += [each.approval_id for each in part.approvals]
        cursor = part.page.next_cursor
        if cursor is None:
            break
    assert seen == [each.approval_id for each in page.approvals]
    ids = {approval_of(house, job).approval_id for job in jobs}
    assert {each.approval_id for each in listed(control, None, "call").approvals} == ids
    (one,) = listed(control, "pending", "pairing").approvals
    assert (one.approval_id, one.pairing) == (request.approval_id, "item of nas")
    assert listed(control, "rejected").approvals == []
    with pytest.raises(Malformed):
        listed(control, "undecided")


def test_a_call_is_shown_whole(house: House, control: ApprovalControl) -> None:
    """Found by the beginning of its id; who asks it may not decide it."""
    device, _ = house.online()
    job = ask(house, device, input_json=b'{"a":"' + b"x" * 4_000 + b'"}')
    approval = approval_of(house, job)
    target = approval.approval_id[10:18]
    item = result_of(control.approval(target, BO)).approval
    assert item.call is not None and bytes(item.call.input_json) == job.call.input_json
    assert item.call.may_decide and item.digest == approval.digest
    again = result_of(control.approval(approval.approval_id, ANA)).approval
    assert again.call is not None and not again.call.may_decide
    with pytest.raises(NotFound):
        result_of(control.approval("ZZZZZZ", BO))


def test_several_begin_alike(house: House, control: ApprovalControl) -> None:
    """Then none of them is taken."""
    device, _ = house.online()
    approval = approval_of(house, ask(house, device))
    twin = attrs.evolve(approval, approval_id=approval.approval_id[:20] + "000000", targets=())
    house.store.store._calls[twin.approval_id] = twin
    with pytest.raises(AmbiguousTarget):
        result_of(control.approval(approval.approval_id[10:16], BO))


def test_a_decision(house: House, control: ApprovalControl) -> None:
    """With the digest that was seen it is taken; what means nothing is refused."""
    device, _ = house.online()
    approval = approval_of(house, ask(house, device))
    yes = models.ApprovalDecision("approve", digest=approval.digest, reason="fine")
    for wrong in (
        models.ApprovalDecision("maybe", digest=approval.digest),
        models.ApprovalDecision("approve", digest=approval.digest, scope="for ever"),
    ):
        with pytest.raises(Malformed):
            result_of(control.decide(approval.approval_id, wrong, BO))
    with pytest.raises(FourEyes):
        result_of(control.decide(approval.approval_id, yes, attrs.evolve(ANA, role=Role.ADMIN)))
    answer = result_of(control.decide(approval.approval_id, yes, BO)).approval
    assert (answer.state, answer.decided_by, answer.reason) == ("approved", "bo", "fine")


def test_a_pairing_request_is_decided_where_those_are(
    house: House, control: ApprovalControl, pairing: Pairing
) -> None:
    """Found by the id of the approval or of the request; everything that was said goes along."""
    request = asks_to_pair(house)
    said = models.ApprovalDecision("approve", reason="new", grants=["echo"], grant_risk="medium")
    for target in (request.approval_id, request.request_id, request.approval_id[10:18]):
        result_of(control.decide(target, said, BO))
        found, approved, decision, by = pairing.decided.pop()
        assert (found, approved, by) == (request.request_id, True, BO)
        assert (decision.reason, decision.grants, decision.grant_risk) == (
            "new",
            ["echo"],
            "medium",
        )
