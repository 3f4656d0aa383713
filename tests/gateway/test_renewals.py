"""Renewal: the next certificate of a device, and orders to fetch one now (PROTOCOL: RENEWAL)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate
from twisted.internet.defer import Deferred, fail
from twisted.logger import LogLevel, capturedLogs

from palyra.core.devices import CertificateState
from palyra.core.identifiers import Fingerprint
from palyra.core.pairing_uri import spell_token
from palyra.errors import (
    CertificateRefused,
    CertificateSuperseded,
    CertificateUnknown,
    DeviceRevoked,
    DiskFull,
    LimitReached,
    NotFound,
    StoreUnavailable,
    VerificationFailed,
    VersionOneRefused,
)
from palyra.gateway.renewals import MAX_AN_HOUR
from palyra.pki.csr import make_csr
from palyra.transport.interfaces import Peer
from palyra.wire.pairing import RenewalAsked
from tests.gateway.applicants import (
    VersionOne,
    admitted,
    device_of,
    online,
    renewal,
    renewed,
    states,
)
from tests.gateway.enrolling import CSR_KEY, Applicant, Gateway
from tests.gateway.house import result_of

S = CertificateState


@pytest.fixture
def lenient() -> Iterator[Gateway]:
    made = Gateway(allow_v1_codes=True, allow_gateway_made_keys=True)
    yield made
    made.end()


def refused(gateway: Gateway, peer: Peer) -> None:
    """A certificate that was superseded is refused at the gate."""
    record = result_of(gateway.store.certificate(peer.fingerprint))
    with pytest.raises(CertificateSuperseded):
        gateway.node_desk.admit(record.pem.encode(), None, peer.address, "grpc")


# -- the way ---------------------------------------------------


def test_old_and_new_overlap(gateway: Gateway) -> None:
    """The new certificate is to the CSR's key; both are good until the node has registered over
    the new one, which ends the old one at once."""
    applicant = Applicant()
    node = online(gateway, applicant)
    old = node.peer
    gateway.pass_time(600)
    key = ec.generate_private_key(ec.SECP256R1())
    asked = renewal(applicant, old, make_csr(key, applicant.device_id))
    answer = renewed(gateway, old, asked)
    certificate = load_pem_x509_certificate(answer.certificate_pem.encode())
    assert certificate.public_key() == key.public_key() and answer.private_key_pem == ""
    assert answer.renew_after_s == pytest.approx(16 * 3_600, abs=1)
    life_ms = answer.certificate_expires_at_ms - gateway.now_ms()
    assert life_ms == pytest.approx(86_400_000, abs=1_000)
    new = admitted(gateway, answer)
    assert states(gateway, applicant) == [S.CURRENT, S.PENDING]
    node.peer = new
    result_of(node.connect())
    assert states(gateway, applicant) == [S.SUPERSEDED, S.CURRENT]
    refused(gateway, old)
    gateway.restart()
    refused(gateway, old)


def test_nothing_is_retired_by_a_timer(gateway: Gateway) -> None:
    """A new certificate that is never used ends nothing: the old one lives to its own end."""
    applicant = Applicant()
    node = online(gateway, applicant)
    record = result_of(gateway.store.certificate(node.peer.fingerprint))
    gateway.pass_time(70_000)
    renewed(gateway, node.peer, renewal(applicant, node.peer))
    gateway.pass_time(16_000)
    gateway.inventory.forget_expired(gateway.now_ms())
    assert admitted_pem(gateway, record.pem)
    gateway.pass_time(401)
    with pytest.raises(CertificateRefused) as caught:
        admitted_pem(gateway, record.pem)
    assert caught.value.reason == "expired"


def admitted_pem(gateway: Gateway, pem: str) -> Peer:
    return gateway.node_desk.admit(pem.encode(), None, "192.0.2.7", "grpc")


def test_a_lost_answer_changes_nothing(gateway: Gateway) -> None:
    """The same CSR gets the same certificate, over the old one and over the new one, also after a
    restart and after the node has registered; a pending one stays as it was."""
    applicant = Applicant()
    node = online(gateway, applicant)
    old = node.peer
    gateway.pass_time(1)
    asked = renewal(applicant, old)
    first = renewed(gateway, old, asked)
    gateway.pass_time(60)
    assert renewed(gateway, old, asked).certificate_pem == first.certificate_pem
    gateway.restart()
    assert renewed(gateway, old, asked).certificate_pem == first.certificate_pem
    new = admitted(gateway, first)
    again = renewed(gateway, new, renewal(applicant, new, asked.csr_der))
    assert again.certificate_pem == first.certificate_pem
    assert states(gateway, applicant) == [S.CURRENT, S.PENDING]
    node.peer = new
    result_of(node.connect())
    again = renewed(gateway, new, renewal(applicant, new, asked.csr_der))
    assert again.certificate_pem == first.certificate_pem
    assert again.renew_after_s == pytest.approx(first.renew_after_s - 60, abs=1)
    assert states(gateway, applicant) == [S.SUPERSEDED, S.CURRENT]


def test_another_csr_takes_the_place_of_the_pending_one(gateway: Gateway) -> None:
    """At most two live certificates: an answer that was never used is over."""
    applicant = Applicant()
    node = online(gateway, applicant)
    gateway.pass_time(1)
    first = renewed(gateway, node.peer, renewal(applicant, node.peer))
    unused = admitted(gateway, first)
    gateway.pass_time(1)
    second = renewed(gateway, node.peer, renewal(applicant, node.peer))
    refused(gateway, unused)
    assert states(gateway, applicant) == [S.CURRENT, S.SUPERSEDED, S.PENDING]
    assert admitted(gateway, second) and admitted(gateway, second) != node.peer


def test_over_the_pending_one(gateway: Gateway) -> None:
    """Whoever asks over it uses it: the certificate before is over, this one is the current."""
    applicant = Applicant()
    node = online(gateway, applicant)
    old = node.peer
    gateway.pass_time(1)
    pending = admitted(gateway, renewed(gateway, old, renewal(applicant, old)))
    gateway.pass_time(1)
    third = renewed(gateway, pending, renewal(applicant, pending))
    refused(gateway, old)
    assert admitted(gateway, third)
    assert states(gateway, applicant) == [S.SUPERSEDED, S.CURRENT, S.PENDING]


def test_an_old_csr_over_the_pending_one(gateway: Gateway) -> None:
    """The answer is the certificate it got before, and that is all: memory and record agree."""
    applicant = Applicant()
    node = online(gateway, applicant)
    old, first_csr = node.peer, applicant.csr_der
    gateway.pass_time(1)
    pending = admitted(gateway, renewed(gateway, old, renewal(applicant, old)))
    answer = renewed(gateway, pending, renewal(applicant, pending, first_csr))
    assert admitted(gateway, answer).fingerprint == old.fingerprint
    assert states(gateway, applicant) == [S.CURRENT, S.PENDING]
    assert gateway.inventory.gate.admit(answer.certificate_pem.encode(), gateway.now_ms(), None)


def test_it_is_committed_before_it_is_answered(gateway: Gateway) -> None:
    """Until then nobody has a new certificate, and the old one works; a full disk gives none."""
    applicant = Applicant()
    node = online(gateway, applicant)
    asked = renewal(applicant, node.peer)
    gateway.pass_time(1)
    gateway.store.holding = True
    answer = gateway.node_desk.renew(node.peer, asked)
    assert not answer.called and len(gateway.inventory.certificates()) == 1
    gateway.store.release()
    gateway.store.holding = False
    assert admitted(gateway, result_of(answer))
    store: Any = gateway.store
    store.renew = lambda _: fail(DiskFull("/var/lib/palyra"))
    with pytest.raises(DiskFull):
        renewed(gateway, node.peer, renewal(applicant, node.peer))
    del store.renew
    assert states(gateway, applicant) == [S.CURRENT, S.PENDING]


def test_a_commit_that_was_in_doubt(gateway: Gateway) -> None:
    """It was kept and the store lost its voice: the device asks again, gets that certificate, and
    is let in with it."""
    applicant = Applicant()
    node = online(gateway, applicant)
    gateway.pass_time(1)
    asked = renewal(applicant, node.peer)
    store: Any = gateway.store

    def lost(given: Any) -> Deferred[Any]:
        result_of(store.store.renew(given))
        return fail(StoreUnavailable("db", "the connection is lost"))

    store.renew = lost
    with pytest.raises(StoreUnavailable):
        renewed(gateway, node.peer, asked)
    del store.renew
    answer = renewed(gateway, node.peer, asked)
    node.peer = admitted(gateway, answer)
    result_of(node.connect())
    assert states(gateway, applicant) == [S.SUPERSEDED, S.CURRENT]


# -- who may ---------------------------------------------------


WRONG: dict[str, dict[str, Any]] = {
    "another device": {"device_id": Applicant(2).device_id},
    "another CA": {"ca_hash": bytes(32)},
    "another connection": {"over": Fingerprint("ab" * 32)},
}


@pytest.mark.parametrize("what", WRONG)
def test_what_the_signature_binds(gateway: Gateway, what: str) -> None:
    """The device, the CA, the certificate of this connection: else nothing is issued."""
    applicant = Applicant()
    node = online(gateway, applicant)
    with pytest.raises(VerificationFailed):
        renewed(gateway, node.peer, renewal(applicant, node.peer, **WRONG[what]))
    assert states(gateway, applicant) == [S.CURRENT]


def test_the_csr_is_bound(gateway: Gateway) -> None:
    """A stolen TLS key alone renews nothing: the identity key signs the very CSR."""
    applicant, other = Applicant(1), Applicant(2)
    node = online(gateway, applicant)
    good = renewal(applicant, node.peer)
    mine = make_csr(ec.generate_private_key(ec.SECP256R1()), applicant.device_id)
    for asked in (
        attrs.evolve(good, csr_der=mine),
        attrs.evolve(good, signature=bytes(64)),
        renewal(attrs.evolve(other, device_id=applicant.device_id), node.peer),
    ):
        with pytest.raises(VerificationFailed):
            renewed(gateway, node.peer, asked)
    assert states(gateway, applicant) == [S.CURRENT]


@pytest.mark.parametrize(
    "csr",
    [
        b"none",
        make_csr(CSR_KEY, Applicant(2).device_id),
        make_csr(ec.generate_private_key(ec.SECP384R1()), Applicant().device_id),
    ],
)
def test_a_csr_that_is_not_acceptable(gateway: Gateway, csr: bytes) -> None:
    """However well signed: another's name, another kind of key, no CSR at all."""
    applicant = Applicant()
    node = online(gateway, applicant)
    with pytest.raises(VerificationFailed):
        renewed(gateway, node.peer, renewal(applicant, node.peer, csr))
    assert states(gateway, applicant) == [S.CURRENT]


def test_over_a_certificate_that_is_none(gateway: Gateway) -> None:
    """A call that was admitted a moment before its certificate was superseded, revoked or removed
    gets nothing."""
    applicant = Applicant()
    node = online(gateway, applicant)
    old = node.peer
    node.peer = admitted(gateway, renewed(gateway, old, renewal(applicant, old)))
    result_of(node.connect())
    with pytest.raises(CertificateSuperseded):
        renewed(gateway, old, renewal(applicant, old))
    strange = attrs.evolve(old, fingerprint=Fingerprint("ab" * 32))
    with pytest.raises(CertificateUnknown):
        renewed(gateway, strange, renewal(applicant, strange))
    device = device_of(gateway, applicant)
    result_of(Deferred.fromCoroutine(gateway.revoker.revoke(device, "ana", "lost")))
    with pytest.raises(DeviceRevoked):
        renewed(gateway, node.peer, renewal(applicant, node.peer))
    result_of(Deferred.fromCoroutine(gateway.revoker.remove(device, "ana", "")))
    with pytest.raises(NotFound):
        renewed(gateway, node.peer, renewal(applicant, node.peer))


def test_a_revocation_that_is_faster(gateway: Gateway) -> None:
    """Committed between the checks and the commit of the renewal: there is no certificate."""
    applicant = Applicant()
    node = online(gateway, applicant)
    device = device_of(gateway, applicant)
    gateway.store.holding = True
    revoked = Deferred.fromCoroutine(gateway.revoker.revoke(device, "ana", "lost"))
    answer = gateway.node_desk.renew(node.peer, renewal(applicant, node.peer))
    gateway.store.release()
    gateway.store.holding = False
    result_of(revoked)
    with pytest.raises(DeviceRevoked):
        result_of(answer)


def test_so_many_an_hour(gateway: Gateway) -> None:
    """A device that asks without end is told when it may again; others are not touched."""
    first, other = Applicant(1), Applicant(2, name="nas")
    node, theirs = online(gateway, first), online(gateway, other)
    asked = renewal(first, node.peer)
    for _ in range(MAX_AN_HOUR):
        renewed(gateway, node.peer, asked)
    with pytest.raises(LimitReached) as caught:
        renewed(gateway, node.peer, asked)
    assert 3_500 < caught.value.retry_after_s <= 3_600
    renewed(gateway, theirs.peer, renewal(other, theirs.peer))
    gateway.pass_time(3_601)
    renewed(gateway, node.peer, asked)


# -- version 1 ---------------------------------------------------


def test_no_key_is_made_by_default(gateway: Gateway) -> None:
    """A renewal without a CSR is refused."""
    applicant = Applicant()
    node = online(gateway, applicant)
    with pytest.raises(VersionOneRefused):
        renewed(gateway, node.peer, RenewalAsked(applicant.device_id))
    assert states(gateway, applicant) == [S.CURRENT]


def a_version_one_peer(gateway: Gateway) -> Peer:
    """A device whose first key was made here."""
    old = VersionOne()
    token = spell_token(gateway.code().token)
    completed = gateway.complete(old.old_proof(gateway.open(token), token))
    gateway.approve(completed.request_id)
    return admitted(gateway, gateway.status(old.old_question()))


def test_a_key_is_made_where_that_is_allowed(lenient: Gateway) -> None:
    """For a device whose last one was made here too: the key comes with its certificate, is kept
    nowhere, and is logged loudly."""
    peer = a_version_one_peer(lenient)
    with capturedLogs() as events:
        answer = renewed(lenient, peer, RenewalAsked(peer.device_id))
    key = load_pem_private_key(answer.private_key_pem.encode(), None)
    certificate = load_pem_x509_certificate(answer.certificate_pem.encode())
    assert key.public_key() == certificate.public_key()
    assert [each["log_level"] for each in events] == [LogLevel.warn]
    secret = answer.private_key_pem.splitlines()[1]
    assert secret not in repr(answer) + repr(lenient.store.store.__dict__) + str(events)
    other = renewed(lenient, peer, RenewalAsked(peer.device_id))
    assert other.private_key_pem != answer.private_key_pem
    newest = admitted(lenient, other)
    assert renewed(lenient, newest, RenewalAsked(peer.device_id)).private_key_pem


def test_a_device_with_its_own_key_signs(lenient: Gateway) -> None:
    """Whatever is allowed to others: its TLS key alone renews nothing."""
    applicant = Applicant(2)
    node = online(lenient, applicant)
    with pytest.raises(VersionOneRefused):
        renewed(lenient, node.peer, RenewalAsked(applicant.device_id))
    assert states(lenient, applicant) == [S.CURRENT]
