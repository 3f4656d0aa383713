"""Enrolment after the proof: names, decisions, pick-up, and time."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail

from palyra.console import models
from palyra.core.devices import INVOKE_OTHERS, AnnouncedCapability, ClientKind, Risk
from palyra.core.jobs import JobState
from palyra.core.pairing import RequestState
from palyra.errors import (
    ApprovalFinal,
    CertificateSuperseded,
    CertificateUnknown,
    DeviceRevoked,
    DiskFull,
    IdentityChanged,
    Malformed,
    NotFound,
    PairingSessionUnknown,
    VerificationFailed,
)
from tests.callers import ANA
from tests.gateway.enrolling import HOME, Applicant, Gateway
from tests.gateway.house import ECHO, result_of
from tests.store.samples import ulid

# -- names and grants ---------------------------------------------------


def test_a_name_is_chosen_among_all_that_wait(gateway: Gateway) -> None:
    """Two devices that want one name get two, whether approved or still waiting."""
    Applicant(1).pair(gateway)
    names = [gateway.request(Applicant(seed).apply(gateway).request_id).name for seed in (2, 3)]
    assert names == ["pi-2", "pi-3"]


def test_a_name_is_free_again_after_a_no(gateway: Gateway) -> None:
    """A rejected or expired request keeps no name."""
    gateway.reject(Applicant(1).apply(gateway).request_id)
    second = Applicant(2).apply(gateway).request_id
    assert gateway.request(second).name == "pi"
    gateway.pass_time(601)
    assert gateway.request(Applicant(3).apply(gateway).request_id).name == "pi"


def test_a_name_is_free_again_after_a_removal(gateway: Gateway) -> None:
    """Removing a device takes its pending requests along; nobody keeps their names for ever."""
    applicant = Applicant(1)
    applicant.pair(gateway)
    applicant.apply(gateway)
    result_of(gateway.control.remove("pi", models.Remove(), ANA))
    gateway.pass_time(601)
    assert gateway.request(Applicant(2).apply(gateway).request_id).name == "pi"


def test_a_known_device_keeps_its_name(gateway: Gateway) -> None:
    """Pairing again under another wish changes no name."""
    Applicant(1).pair(gateway)
    again = Applicant(1, name="kitchen").apply(gateway)
    assert gateway.request(again.request_id).name == "pi"


def test_grants(gateway: Gateway) -> None:
    """An operator grants all that was announced, or less, never more."""
    request_id = Applicant(1).apply(gateway).request_id
    with pytest.raises(Malformed):
        gateway.approve(request_id, grants=("echo", "root.shell"))
    with pytest.raises(Malformed):
        gateway.approve(request_id, grants=(INVOKE_OTHERS,))
    assert gateway.approve(request_id, grants=("echo",)).grants == {"echo"}
    assert gateway.inventory.paired(Applicant(1).device_id).grants == {"echo"}


def test_a_client_may_be_granted_others(gateway: Gateway) -> None:
    """Only a cli or desktop identity can be granted to address other devices."""
    applicant = Applicant(1, kind=ClientKind.CLI)
    applicant.pair(gateway, grants=(INVOKE_OTHERS,))
    device = gateway.inventory.paired(applicant.device_id)
    assert (device.client_kind, device.grants) == (ClientKind.CLI, frozenset({INVOKE_OTHERS}))


# -- decisions ---------------------------------------------------


def test_a_decision_is_made_once(gateway: Gateway) -> None:
    """Approved stays approved, rejected stays rejected, an unknown request is none."""
    first, second = Applicant(1).apply(gateway), Applicant(2).apply(gateway)
    gateway.approve(first.request_id)
    gateway.reject(second.request_id)
    for request_id in (first.request_id, second.request_id):
        for act in (gateway.approve, gateway.reject):
            with pytest.raises(ApprovalFinal):
                act(request_id)
    with pytest.raises(NotFound):
        gateway.approve(ulid("nothing"))


def test_a_no(gateway: Gateway) -> None:
    """The device reads the reason, for five minutes; it never was a device."""
    applicant = Applicant(1)
    gateway.reject(applicant.apply(gateway).request_id)
    answer = gateway.status(applicant.question())
    assert (answer.status, answer.reason, answer.certificate_pem) == ("rejected", "not mine", "")
    assert gateway.inventory.devices() == []
    gateway.pass_time(301)
    with pytest.raises(PairingSessionUnknown):
        gateway.status(applicant.question())


def test_nobody_decides(gateway: Gateway) -> None:
    """After ten minutes the request expires by itself, and cannot be approved any more."""
    applicant = Applicant(1)
    completed = applicant.apply(gateway)
    gateway.pass_time(598)
    assert gateway.status(applicant.question()).status == "pending_approval"
    gateway.pass_time(3)
    assert gateway.request(completed.request_id).state is RequestState.EXPIRED
    assert gateway.status(applicant.question()).status == "expired"
    with pytest.raises(ApprovalFinal):
        gateway.approve(completed.request_id)
    gateway.pass_time(301)
    with pytest.raises(PairingSessionUnknown):
        gateway.status(applicant.question())


def test_a_yes_that_comes_a_moment_late(gateway: Gateway) -> None:
    """Time decides at the decision, also before the clock's turn has been noticed."""
    completed = Applicant(1).apply(gateway)
    gateway.enrolment.stop()
    gateway.approvals.stop()
    gateway.pass_time(601)
    with pytest.raises(ApprovalFinal) as caught:
        gateway.approve(completed.request_id)
    assert caught.value.state == "expired"


def test_requests_outlive_a_restart(gateway: Gateway) -> None:
    """A pending request is still pending, keeps its name, and still expires in time."""
    applicant = Applicant(1)
    completed = applicant.apply(gateway)
    gateway.restart()
    assert gateway.status(applicant.question()).status == "pending_approval"
    assert gateway.request(Applicant(2).apply(gateway).request_id).name == "pi-2"
    gateway.pass_time(601)
    assert gateway.request(completed.request_id).state is RequestState.EXPIRED


# -- pick-up ---------------------------------------------------


def test_the_same_session_gets_the_same_certificate(gateway: Gateway) -> None:
    """However often it asks, until five minutes after it was issued."""
    applicant = Applicant(1)
    first = applicant.pair(gateway)
    for _ in range(4):
        gateway.pass_time(70)
        again = gateway.status(applicant.question())
        assert again.certificate_pem == first.certificate_pem
    gateway.pass_time(30)
    with pytest.raises(PairingSessionUnknown):
        gateway.status(applicant.question())


def test_an_approval_that_is_not_picked_up(gateway: Gateway) -> None:
    """A day later it is too late."""
    applicant = Applicant(1)
    gateway.approve(applicant.apply(gateway).request_id)
    gateway.pass_time(86_401)
    with pytest.raises(PairingSessionUnknown):
        gateway.status(applicant.question())


def test_only_the_device_itself_may_ask(gateway: Gateway) -> None:
    """Another session, device, key or an old counter learns nothing."""
    applicant = Applicant(1)
    applicant.apply(gateway)
    with pytest.raises(PairingSessionUnknown):
        gateway.status(applicant.question(session_id="0" * 32))
    with pytest.raises(PairingSessionUnknown):
        gateway.status(applicant.question(device_id=Applicant(2).device_id))
    with pytest.raises(VerificationFailed):
        gateway.status(applicant.question(signature=bytes(64)))
    with pytest.raises(VerificationFailed):
        gateway.status(applicant.question(counter=99))
    question = applicant.question()
    gateway.status(question)
    with pytest.raises(VerificationFailed):
        gateway.status(question)
    gateway.status(applicant.question())


def test_a_device_revoked_before_pick_up(gateway: Gateway) -> None:
    """It gets no certificate."""
    applicant = Applicant(1)
    gateway.approve(applicant.apply(gateway).request_id)
    device = gateway.inventory.paired(applicant.device_id)
    result_of(Deferred.fromCoroutine(gateway.revoker.revoke(device, "ana", "lost")))
    with pytest.raises(DeviceRevoked):
        gateway.status(applicant.question())


def test_pairing_again_leaves_one_pending_certificate(gateway: Gateway) -> None:
    """The certificate that was picked up and never used is refused once a newer one is."""
    first = Applicant(1).pair(gateway)
    second = Applicant(1).pair(gateway)
    assert first.certificate_pem != second.certificate_pem
    admit = gateway.node_desk.admit
    with pytest.raises(CertificateSuperseded):
        admit(first.certificate_pem.encode(), None, HOME, "grpc")
    assert admit(second.certificate_pem.encode(), None, HOME, "grpc")


# -- another key under a known id ---------------------------------------------------


def test_an_identity_change_needs_a_person(gateway: Gateway) -> None:
    """Nothing changes before somebody accepts the new key in as many words."""
    old = Applicant(1)
    answer = old.pair(gateway)
    new = Applicant(2, device_id=old.device_id)
    request_id = new.apply(gateway).request_id
    with pytest.raises(IdentityChanged):
        gateway.approve(request_id)
    assert gateway.request(request_id).state is RequestState.PENDING
    assert gateway.node_desk.admit(answer.certificate_pem.encode(), None, HOME, "grpc")


def test_an_accepted_identity_change_ends_the_old_one(gateway: Gateway) -> None:
    """The old key, its certificates, sessions and jobs end; the new key is the device now."""
    old = Applicant(1)
    answer = old.pair(gateway)
    device = gateway.inventory.paired(old.device_id)
    node = gateway.node(device, max_in_flight=1)
    result_of(node.connect())
    running = gateway.dispatcher.run(gateway.order(device))
    waits = gateway.dispatcher.run(gateway.order(device))
    node.take()
    new = Applicant(2, device_id=old.device_id)
    gateway.approve(new.apply(gateway).request_id, accept_new_identity=True)
    assert [type(each) for each in node.carrier.closed] == [DeviceRevoked]
    assert result_of(running).state is JobState.OUTCOME_UNKNOWN
    assert result_of(waits).error_code == "identity_changed"
    admit = gateway.node_desk.admit
    with pytest.raises((DeviceRevoked, CertificateUnknown)):
        admit(answer.certificate_pem.encode(), None, HOME, "grpc")
    fresh = gateway.status(new.question())
    assert admit(fresh.certificate_pem.encode(), None, HOME, "grpc").device_id == old.device_id
    with pytest.raises(DeviceRevoked):
        old.apply(gateway)


def test_a_store_that_is_full_changes_nothing(gateway: Gateway) -> None:
    """An approval that could not be kept was not given."""
    applicant = Applicant(1)
    request_id = applicant.apply(gateway).request_id

    store: Any = gateway.store
    store.approve_request = lambda *_: fail(DiskFull("/var/lib/palyra"))
    with pytest.raises(DiskFull):
        gateway.approve(request_id)
    del store.approve_request
    assert gateway.inventory.devices() == []
    assert gateway.status(applicant.question()).status == "pending_approval"
    gateway.approve(request_id)


# -- what comes later, and what was seen before ---------------------------------------------------

OURS = AnnouncedCapability("system.info")
THEIRS = AnnouncedCapability("acme.lamp", risk="low")
HIGH = AnnouncedCapability("acme.shell", risk="high")


def granted_later(gateway: Gateway, applicant: Applicant) -> frozenset[str]:
    """What it is granted after it came with more than it announced when it paired."""
    node = gateway.node(gateway.inventory.paired(applicant.device_id))
    node.capabilities = (*applicant.capabilities, OURS, THEIRS, HIGH)
    result_of(node.connect())
    return gateway.inventory.paired(applicant.device_id).grants


@pytest.mark.parametrize(
    ("risk", "given"),
    [
        (Risk.NONE, set()),
        (Risk.LOW, {"system.info"}),
        (Risk.MEDIUM, {"system.info", "acme.lamp"}),
        (Risk.HIGH, {"system.info", "acme.lamp", "acme.shell"}),
    ],
)
def test_a_later_capability(gateway: Gateway, risk: Risk, given: set[str]) -> None:
    """It is granted by itself only where the risk that the operator set covers its own; what
    another vendor calls low is medium."""
    applicant = Applicant(1, capabilities=(ECHO,))
    applicant.pair(gateway, grant_risk=risk)
    assert gateway.inventory.paired(applicant.device_id).grant_risk is risk
    assert granted_later(gateway, applicant) == {"echo"} | given
    gateway.restart()
    assert gateway.inventory.paired(applicant.device_id).grants == {"echo"} | given


def test_what_was_announced_and_not_granted_stays_withheld(gateway: Gateway) -> None:
    """An approval of less than was announced is a no to the rest, at whatever risk; a capability
    that was announced at once is granted by the approval alone."""
    applicant = Applicant(1, capabilities=(ECHO, OURS, HIGH))
    applicant.pair(gateway, grants=("acme.shell",), grant_risk=Risk.HIGH)
    device = gateway.inventory.paired(applicant.device_id)
    assert device.grants == {"acme.shell"} and device.withheld == {"echo", "system.info"}
    assert granted_later(gateway, applicant) == {"acme.shell", "acme.lamp"}


def test_the_usual_approval(gateway: Gateway) -> None:
    """Grants what was announced, and low risk later."""
    applicant = Applicant(1, capabilities=(ECHO, HIGH))
    applicant.pair(gateway)
    device = gateway.inventory.paired(applicant.device_id)
    assert device.grants == {"echo", "acme.shell"} and device.grant_risk is Risk.LOW


def test_pairing_again_is_decided_anew(gateway: Gateway) -> None:
    """With the same key the newest decision counts, and what was withheld before stays so where
    the device does not announce it now."""
    applicant = Applicant(1, capabilities=(ECHO, OURS))
    applicant.pair(gateway, grants=("echo",))
    applicant.capabilities = (ECHO, THEIRS)
    applicant.pair(gateway, grants=("acme.lamp",), grant_risk=Risk.HIGH)
    device = gateway.inventory.paired(applicant.device_id)
    assert device.grants == {"acme.lamp"} and device.withheld == {"echo", "system.info"}
    assert granted_later(gateway, applicant) == {"acme.lamp", "acme.shell"}


def test_grants_of_another_identity_do_not_carry_over(gateway: Gateway) -> None:
    """Nor its labels, nor what was withheld from it, nor an order it was given."""
    old = Applicant(1, capabilities=(ECHO, HIGH))
    gateway.approve(
        old.apply(gateway, labels={"site": "a"}).request_id, grants=("echo",), grant_risk=Risk.HIGH
    )
    gateway.status(old.question())
    result_of(gateway.control.rotate(models.Rotate(everything=True), ANA))
    new = Applicant(2, device_id=old.device_id, capabilities=(HIGH,))
    gateway.approve(new.apply(gateway).request_id, accept_new_identity=True)
    device = gateway.inventory.paired(old.device_id)
    assert device.grants == {"acme.shell"} and not device.withheld and not device.labels
    assert (device.grant_risk, device.rotate_asked_at_ms) == (Risk.LOW, None)


def test_an_operator_sets_the_risk_in_his_decision(gateway: Gateway) -> None:
    """By one of four names; without it, low."""
    first, second = Applicant(1).apply(gateway), Applicant(2).apply(gateway)
    decide = gateway.control.decide
    with pytest.raises(Malformed):
        result_of(decide(first.request_id, True, models.Decision(grant_risk="all"), ANA))
    result_of(decide(first.request_id, True, models.Decision(grant_risk="none"), ANA))
    result_of(decide(second.request_id, True, models.Decision(), ANA))
    risks = [gateway.inventory.paired(Applicant(seed).device_id).grant_risk for seed in (1, 2)]
    assert risks == [Risk.NONE, Risk.LOW]


def test_two_requests_of_one_device(gateway: Gateway) -> None:
    """Each is decided for itself; the certificate is issued to the CSR of the one it polls."""
    first, second = Applicant(1), Applicant(1)
    asked = [first.apply(gateway), second.apply(gateway)]
    gateway.approve(asked[1].request_id)
    answer = gateway.status(second.question())
    gateway.reject(asked[0].request_id)
    assert gateway.status(first.question()).status == "rejected"
    assert gateway.node_desk.admit(answer.certificate_pem.encode(), None, HOME, "grpc")


def test_a_revocation_between_the_request_and_the_yes(gateway: Gateway) -> None:
    """A device that was revoked while its request waited cannot be approved by it."""
    applicant = Applicant(1)
    applicant.pair(gateway)
    request_id = applicant.apply(gateway).request_id
    result_of(gateway.control.revoke(applicant.device_id, models.Revoke("lost"), ANA))
    with pytest.raises(DeviceRevoked):
        gateway.approve(request_id)
    assert gateway.request(request_id).state is RequestState.PENDING
    gateway.reject(request_id)
