"""Rejoin: a device whose certificate ran out comes back by its identity key (PROTOCOL: REJOIN)."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import fail

from palyra.console import models
from palyra.core.devices import CertificateState
from palyra.core.jobs import JobState
from palyra.core.pairing import CodeMethod
from palyra.errors import (
    CertificateSuperseded,
    DiskFull,
    NotRegistered,
    StoreUnavailable,
)
from palyra.pki.csr import make_csr
from tests.callers import ANA
from tests.gateway.applicants import (
    admitted,
    device_of,
    online,
    rejoin,
    rejoin_proof,
    renewal,
    renewed,
    states,
)
from tests.gateway.enrolling import CSR_KEY, HOME, Applicant, Gateway
from tests.gateway.house import fired, result_of

DAY_S = 86_400
S = CertificateState


def away(gateway: Gateway, days: float) -> None:
    """Time passes while no device is there."""
    for node in gateway.nodes.values():
        node.hang_up()
    gateway.pass_time(days * DAY_S)
    gateway.inventory.forget_expired(gateway.now_ms())


def revoke(gateway: Gateway, applicant: Applicant, reason: str = "lost") -> None:
    body = models.Revoke(reason)
    result_of(gateway.control.revoke(applicant.device_id, body, ANA))


# -- the way ---------------------------------------------------


def test_a_month_switched_off(gateway: Gateway) -> None:
    """No code and no person: a certificate at once, over which it registers and works."""
    applicant = Applicant()
    node = online(gateway, applicant)
    away(gateway, 31)
    completed = rejoin(applicant, gateway)
    assert (completed.request_id, completed.pake_confirm) == ("", b"")
    assert completed.renew_after_s == pytest.approx(16 * 3_600, abs=1)
    assert "BEGIN CERTIFICATE" in completed.ca_pem
    assert completed.certificate_expires_at_ms > gateway.now_ms()
    node.peer = admitted(gateway, completed)
    assert node.peer.device_id == applicant.device_id
    result_of(node.connect())
    node.take()
    job = gateway.submit(device_of(gateway, applicant))
    node.take()
    assert job.state is JobState.DISPATCHED and gateway.all_requests()[1:] == []
    assert states(gateway, applicant) == [S.SUPERSEDED, S.CURRENT]


def test_what_it_was_stays(gateway: Gateway) -> None:
    """Name, labels, grants and approval are those of the record: nothing was asked."""
    applicant = Applicant()
    gateway.approve(applicant.apply(gateway, labels={"a": "b"}).request_id, grants=("echo",))
    gateway.status(applicant.question())
    before = device_of(gateway, applicant)
    away(gateway, 2)
    applicant.name = "other"
    rejoin(applicant, gateway)
    assert device_of(gateway, applicant) == before


def test_after_a_restart(gateway: Gateway) -> None:
    """The gateway needs nothing but its record, also when every certificate has run out."""
    applicant = Applicant()
    online(gateway, applicant)
    away(gateway, 40)
    gateway.restart()
    assert admitted(gateway, rejoin(applicant, gateway)).device_id == applicant.device_id


def test_a_device_that_never_fetched_its_certificate(gateway: Gateway) -> None:
    """It was approved, and that counts from then on."""
    applicant = Applicant()
    gateway.approve(applicant.apply(gateway).request_id)
    away(gateway, 89)
    assert admitted(gateway, rejoin(applicant, gateway))
    other = Applicant(2, name="nas")
    gateway.approve(other.apply(gateway).request_id)
    away(gateway, 91)
    assert rejoin(other, gateway).certificate_pem == ""


def test_the_same_csr_gets_the_same_answer(gateway: Gateway) -> None:
    """A device whose answer was lost asks again with what it kept, and nothing else happens: not
    to its session, and not to a certificate it was issued since."""
    applicant = Applicant()
    node = online(gateway, applicant)
    away(gateway, 2)
    csr = make_csr(CSR_KEY, applicant.device_id)
    first = rejoin(applicant, gateway, csr_der=csr)
    gateway.pass_time(10)
    assert rejoin(applicant, gateway, csr_der=csr).certificate_pem == first.certificate_pem
    node.peer = admitted(gateway, first)
    result_of(node.connect())
    newer = renewed(gateway, node.peer, renewal(applicant, node.peer))
    assert rejoin(applicant, gateway, csr_der=csr).certificate_pem == first.certificate_pem
    assert node.carrier.closed == []
    assert admitted(gateway, newer) and admitted(gateway, first)
    assert states(gateway, applicant) == [S.SUPERSEDED, S.CURRENT, S.PENDING]


def test_every_older_certificate_is_over(gateway: Gateway) -> None:
    """Current and pending: whoever has a copy of them has nothing."""
    applicant = Applicant()
    node = online(gateway, applicant)
    old = result_of(gateway.store.certificate(node.peer.fingerprint))
    gateway.pass_time(1)
    pending = renewed(gateway, node.peer, renewal(applicant, node.peer))
    gateway.pass_time(1)
    completed = rejoin(applicant, gateway)
    for _ in range(2):
        for pem in (old.pem, pending.certificate_pem):
            with pytest.raises(CertificateSuperseded):
                gateway.node_desk.admit(pem.encode(), None, HOME, "grpc")
        assert admitted(gateway, completed)
        gateway.restart()
    assert states(gateway, applicant) == [S.SUPERSEDED, S.SUPERSEDED, S.PENDING]


def test_old_sessions_are_closed(gateway: Gateway) -> None:
    """What was opened with older certificates ends, also a registration that has no stream yet; a
    job that ran there is reported on the new session."""
    applicant = Applicant()
    node = online(gateway, applicant)
    job = gateway.submit(device_of(gateway, applicant))
    node.take()
    carrier = node.carrier
    welcome = result_of(node.register())
    completed = rejoin(applicant, gateway)
    assert [type(each) for each in carrier.closed] == [CertificateSuperseded]
    assert gateway.sessions.owner(applicant.device_id) is None
    with pytest.raises(NotRegistered):
        node.attach(welcome.session_epoch)
    node.notice()
    node.peer = admitted(gateway, completed)
    result_of(node.connect())
    node.take()
    node.finish(next(iter(node.running)))
    assert gateway.kept(job).state is JobState.SUCCEEDED


def test_it_is_committed_before_it_is_answered(gateway: Gateway) -> None:
    """Until then its session lives; where it cannot be kept nothing is issued."""
    applicant = Applicant()
    node = online(gateway, applicant)
    opened = gateway.open_rejoin(applicant.device_id)
    gateway.store.holding = True
    answer = gateway.desk.complete(rejoin_proof(applicant, opened), HOME)
    gateway.clock.advance(0.06)
    assert not fired(answer) and node.carrier.closed == []
    gateway.store.release()
    gateway.store.holding = False
    gateway.clock.advance(0.06)
    assert admitted(gateway, result_of(answer)) and node.carrier.closed != []
    store: Any = gateway.store
    store.renew = lambda _: fail(DiskFull("/var/lib/palyra"))
    with pytest.raises(DiskFull):
        rejoin(applicant, gateway)
    del store.renew
    assert len(states(gateway, applicant)) == 2


def test_a_commit_that_was_in_doubt(gateway: Gateway) -> None:
    """It was kept and the store lost its voice: the same CSR brings the device back in, and ends
    what was open under its older certificates."""
    applicant = Applicant()
    node = online(gateway, applicant)
    csr = make_csr(CSR_KEY, applicant.device_id)
    store: Any = gateway.store

    def lost(given: Any) -> Any:
        result_of(store.store.renew(given))
        return fail(StoreUnavailable("db", "the connection is lost"))

    store.renew = lost
    with pytest.raises(StoreUnavailable):
        rejoin(applicant, gateway, csr_der=csr)
    del store.renew
    assert admitted(gateway, rejoin(applicant, gateway, csr_der=csr))
    assert [type(each) for each in node.carrier.closed] == [CertificateSuperseded]
    assert states(gateway, applicant) == [S.SUPERSEDED, S.PENDING]


# -- beyond the grace ---------------------------------------------------


def test_away_for_too_long(gateway: Gateway) -> None:
    """It waits for an operator, who sees that it is the same device and since when it was away; a
    yes lets it fetch a certificate for the CSR it signed."""
    applicant = Applicant()
    first = applicant.pair(gateway)
    device = device_of(gateway, applicant)
    away(gateway, 92)
    completed = rejoin(applicant, gateway)
    assert completed.certificate_pem == "" and completed.retry_after_ms > 0
    request = gateway.request(completed.request_id)
    assert (request.method, request.code_id, request.issued_by) == (CodeMethod.REJOIN, "", "")
    assert request.name == device.name
    seen = result_of(gateway.control.pairing_request(request.request_id)).request.seen_before
    assert (seen.kind, seen.at_unix_ms) == ("same_key", device.paired_at_ms)
    assert seen.certificate_ended_unix_ms == first.certificate_expires_at_ms
    assert gateway.status(applicant.question()).status == "pending_approval"
    gateway.approve(request.request_id)
    answer = gateway.status(applicant.question())
    assert admitted(gateway, answer).device_id == applicant.device_id


def test_an_operator_who_says_no(gateway: Gateway) -> None:
    """The device stays as it is: known, and without a certificate."""
    applicant = Applicant()
    applicant.pair(gateway)
    away(gateway, 92)
    gateway.reject(rejoin(applicant, gateway).request_id)
    assert gateway.status(applicant.question()).status == "rejected"
    assert device_of(gateway, applicant).name == "pi"


@pytest.mark.parametrize(("grace_s", "days", "at_once"), [(0, 0.9, True), (0, 1.1, False)])
def test_the_operator_sets_the_grace(grace_s: int, days: float, at_once: bool) -> None:
    """None at all: then only a certificate that is still good brings a device back by itself."""
    gateway = Gateway(rejoin_grace_s=grace_s)
    applicant = Applicant()
    applicant.pair(gateway)
    away(gateway, days)
    assert bool(rejoin(applicant, gateway).certificate_pem) is at_once
    gateway.end()


def test_the_grace_counts_from_the_last_certificate(gateway: Gateway) -> None:
    """A device that renewed or rejoined since begins again."""
    applicant = Applicant()
    applicant.pair(gateway)
    for _ in range(3):
        away(gateway, 80)
        assert rejoin(applicant, gateway).certificate_pem
