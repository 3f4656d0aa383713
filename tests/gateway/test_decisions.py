"""Decisions on pairing requests: one at a time, no more than was meant, and felt without a read."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail

from palyra.core.devices import INVOKE_OTHERS, AnnouncedCapability, ClientKind
from palyra.core.identifiers import RequestId
from palyra.core.pairing import PairingRequest, RequestState
from palyra.errors import (
    ApprovalFinal,
    CertificateUnknown,
    DeviceRevoked,
    IdentityChanged,
    PairingSessionUnknown,
    StoreUnavailable,
)
from palyra.gateway.approvals import Verdict
from tests.gateway.applicants import admitted, device_of, online
from tests.gateway.enrolling import Applicant, Gateway
from tests.gateway.house import ECHO, fired, result_of

INVOKE = AnnouncedCapability(INVOKE_OTHERS)
LAMP = AnnouncedCapability("acme.lamp")


def approve(gateway: Gateway, request_id: str, **verdict: Any) -> Deferred[PairingRequest]:
    act = gateway.approvals.approve(RequestId(request_id), Verdict("ana", **verdict))
    return Deferred.fromCoroutine(act)


def offered(gateway: Gateway, request_id: str) -> set[str]:
    """What the operator is shown that a plain yes would grant."""
    item = result_of(gateway.control.pairing_request(request_id)).request
    return {each.name for each in item.capabilities if each.granted}


def hold(gateway: Gateway) -> Deferred[None]:
    """Approvals are committed when the result fires."""
    store: Any = gateway.store
    gate: Deferred[None] = Deferred()
    real = store.store.approve_request

    def later(*given: Any) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        gate.addCallback(lambda _: real(*given).chainDeferred(done))
        return done

    store.approve_request = later
    return gate


# -- one at a time ---------------------------------------------------


def rivals(gateway: Gateway) -> tuple[Applicant, Applicant, list[str]]:
    """Two keys under one device id, both waiting for an operator."""
    first = Applicant(1)
    second = Applicant(2, device_id=first.device_id)
    return first, second, [each.apply(gateway).request_id for each in (first, second)]


def test_two_approvals_of_one_device_id(gateway: Gateway) -> None:
    """Of two operators who say yes at the same time the second is asked whether he means another
    key than the one that was approved a moment ago."""
    first, second, asked = rivals(gateway)
    committed = hold(gateway)
    yes, also = (approve(gateway, request_id) for request_id in asked)
    assert not fired(yes) and not fired(also)
    committed.callback(None)
    assert result_of(yes).state is RequestState.APPROVED
    with pytest.raises(IdentityChanged):
        result_of(also)
    assert device_of(gateway, first).identity_public == gateway.request(asked[0]).identity_public
    assert admitted(gateway, gateway.status(first.question()))
    assert gateway.request(asked[1]).state is RequestState.PENDING
    result_of(approve(gateway, asked[1], accept_new_identity=True))
    assert admitted(gateway, gateway.status(second.question()))
    with pytest.raises((DeviceRevoked, PairingSessionUnknown)):
        gateway.status(first.question())


def test_a_yes_and_a_no_at_once(gateway: Gateway) -> None:
    """The first one counts, the other is told that it was decided."""
    request_id = Applicant().apply(gateway).request_id
    committed = hold(gateway)
    yes = approve(gateway, request_id)
    no = Deferred.fromCoroutine(gateway.approvals.reject(RequestId(request_id), Verdict("bob")))
    assert not fired(no)
    committed.callback(None)
    assert result_of(yes).decided_by == "ana"
    with pytest.raises(ApprovalFinal):
        result_of(no)


def test_a_decision_that_fails_does_not_hold_the_next_one(gateway: Gateway) -> None:
    """Whatever it failed with."""
    _, _, asked = rivals(gateway)
    result_of(approve(gateway, asked[0]))
    for _ in range(2):
        with pytest.raises(IdentityChanged):
            result_of(approve(gateway, asked[1]))
    gateway.reject(asked[1])


# -- what a plain yes grants ---------------------------------------------------


@pytest.mark.parametrize("kind", ClientKind)
def test_to_address_others_is_never_granted_by_default(gateway: Gateway, kind: ClientKind) -> None:
    """However it is announced: only an operator who names it grants it, and only to a client."""
    applicant = Applicant(kind=kind, capabilities=(ECHO, INVOKE))
    request_id = applicant.apply(gateway).request_id
    assert offered(gateway, request_id) == {"echo"}
    gateway.approve(request_id)
    assert device_of(gateway, applicant).grants == {"echo"}


def test_what_was_withheld_does_not_come_back(gateway: Gateway) -> None:
    """A plain yes to the same identity grants what is new, and not what it was denied before; an
    operator who names that grants it."""
    applicant = Applicant(capabilities=(ECHO, LAMP))
    applicant.pair(gateway, grants=("echo",))
    gateway.restart()
    applicant.capabilities = (*applicant.capabilities, AnnouncedCapability("acme.door"))
    request_id = applicant.apply(gateway).request_id
    assert offered(gateway, request_id) == {"echo", "acme.door"}
    gateway.approve(request_id)
    assert device_of(gateway, applicant).grants == {"echo", "acme.door"}
    applicant.pair(gateway, grants=("echo", "acme.lamp"))
    assert device_of(gateway, applicant).grants == {"echo", "acme.lamp"}


def test_another_identity_begins_anew(gateway: Gateway) -> None:
    """What was withheld from the key before is nothing that is known of this one."""
    first, second = Applicant(1), Applicant(2, device_id=Applicant(1).device_id)
    first.pair(gateway, grants=())
    request_id = second.apply(gateway).request_id
    assert "echo" in offered(gateway, request_id)
    gateway.approve(request_id, accept_new_identity=True)
    assert "echo" in device_of(gateway, second).grants


# -- without a read ---------------------------------------------------


def test_an_approval_needs_no_read(gateway: Gateway) -> None:
    """What the commit says is what is believed: a store that answers no question afterwards leaves
    no device that is approved on record and unknown here."""
    applicant = Applicant()
    request_id = applicant.apply(gateway).request_id
    store: Any = gateway.store.store
    for question in ("device", "devices", "certificates_of", "revocations"):
        setattr(store, question, lambda *_: fail(StoreUnavailable("db", "gone")))
    gateway.approve(request_id)
    assert device_of(gateway, applicant).name == "pi"


def test_an_identity_that_was_replaced_ends_without_a_read(gateway: Gateway) -> None:
    """Its session and its certificate are over although the store answers no question."""
    old = Applicant(1)
    node = online(gateway, old)
    pem = result_of(gateway.store.certificate(node.peer.fingerprint)).pem.encode()
    request_id = Applicant(2, device_id=old.device_id).apply(gateway).request_id
    store: Any = gateway.store.store
    for question in ("device", "devices", "certificates_of", "revocations"):
        setattr(store, question, lambda *_: fail(StoreUnavailable("db", "gone")))
    gateway.approve(request_id, accept_new_identity=True)
    assert [type(each) for each in node.carrier.closed] == [DeviceRevoked]
    with pytest.raises((DeviceRevoked, CertificateUnknown)):
        gateway.node_desk.admit(pem, None, node.peer.address, "grpc")
