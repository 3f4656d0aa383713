"""Enrolment: the way of an unknown device to a request that waits for an operator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from palyra.core.identifiers import sha256_hex
from palyra.core.pairing import CodeMethod, CodeState, RequestState
from palyra.core.pairing_uri import spell_token
from palyra.core.transcript import DeviceProof, Purpose
from palyra.errors import (
    DeviceRevoked,
    LimitReached,
    Malformed,
    PairingFailed,
    PairingLimited,
    PairingSessionUnknown,
    VerificationFailed,
    VersionOneRefused,
)
from palyra.gateway import codes
from palyra.pki.csr import make_csr
from palyra.transport.interfaces import IEnrolmentDesk
from tests.gateway.enrolling import HOME, Applicant, Gateway
from tests.gateway.house import CAPABILITIES, result_of


def test_the_desk_is_one(gateway: Gateway) -> None:
    """The desk provides what carriers ask."""
    assert verifyObject(IEnrolmentDesk, gateway.desk)


def test_the_happy_path(gateway: Gateway) -> None:
    """A code, a proof, a yes, a certificate: and no word of it says more than it must."""
    applicant = Applicant()
    minted = gateway.code(labels={"site": "prague"})
    token = spell_token(minted.token)
    opened = gateway.open(token)
    assert opened.expires_at_ms == opened.gateway_unix_ms + 300_000
    completed = gateway.complete(applicant.proof(opened, token))
    request = gateway.request(completed.request_id)
    assert (request.state, request.name, request.platform) == (RequestState.PENDING, "pi", "linux")
    assert (request.source, request.issued_by, request.labels) == (HOME, "ana", {"site": "prague"})
    assert request.capabilities == CAPABILITIES
    assert request.session_digest == sha256_hex(applicant.session_id.encode())
    assert gateway.status(applicant.question()).status == "pending_approval"
    gateway.approve(completed.request_id)
    answer = gateway.status(applicant.question())
    assert (answer.status, answer.device_name, answer.decided_by) == ("completed", "pi", "ana")
    assert answer.node_rpc_address == "gateway.test:7444"
    assert answer.quic_address == "gateway.test:9444"
    assert 0 < answer.renew_after_s <= 16 * 3_600
    peer = gateway.node_desk.admit(answer.certificate_pem.encode(), None, HOME, "grpc")
    assert peer.device_id == applicant.device_id
    device = gateway.inventory.paired(applicant.device_id)
    assert device.grants == {each.name for each in CAPABILITIES}
    assert device.labels == {"site": "prague"}


def test_secrets_are_kept_as_digests(gateway: Gateway) -> None:
    """Neither the token nor the session id is found in what the store keeps or a value shows."""
    applicant = Applicant()
    minted = gateway.code()
    token = spell_token(minted.token)
    completed = gateway.complete(applicant.proof(gateway.open(token), token))
    shown = repr(gateway.store.store.__dict__) + repr(minted) + repr(gateway.enrolment.__dict__)
    assert token not in shown and applicant.session_id not in shown
    assert applicant.session_id not in repr(completed)


# -- refusals at Begin ---------------------------------------------------


def test_an_unknown_token(gateway: Gateway) -> None:
    """A guess is charged to its source, three in ten minutes; others are not touched."""
    for _ in range(3):
        with pytest.raises(PairingFailed):
            gateway.open("A" * 22)
    with pytest.raises(PairingLimited) as caught:
        gateway.open(spell_token(gateway.code().token))
    assert 590 < caught.value.retry_after_s <= 600
    assert gateway.ledger.failing(gateway.now_ms()) == [(HOME, 3)]
    gateway.open(spell_token(gateway.code().token), "192.0.2.8")
    gateway.pass_time(601)
    gateway.open(spell_token(gateway.code().token))
    assert gateway.ledger.failing(gateway.now_ms()) == []


def test_ipv6_sources_are_networks(gateway: Gateway) -> None:
    """A host cannot escape its limit by another address of its /64."""
    for host in (1, 2, 3):
        with pytest.raises(PairingFailed):
            gateway.open("A" * 22, f"2001:db8::{host}")
    with pytest.raises(PairingLimited):
        gateway.open("A" * 22, "2001:db8::4")


def test_an_expired_code(gateway: Gateway) -> None:
    """A code is over by its time, not by being collected."""
    token = spell_token(gateway.code(ttl_ms=30_000).token)
    gateway.pass_time(30)
    with pytest.raises(PairingFailed):
        gateway.open(token)


def test_a_used_code(gateway: Gateway) -> None:
    """The request's commit uses the code up."""
    applicant = Applicant()
    token = spell_token(gateway.code().token)
    gateway.complete(applicant.proof(gateway.open(token), token))
    with pytest.raises(PairingFailed):
        gateway.open(token)


def test_a_pin_is_not_a_token(gateway: Gateway) -> None:
    """A PIN sent as a token finds nothing, and a token sent as a PIN is a device of version 1."""
    pin = gateway.pin()
    with pytest.raises(PairingFailed):
        gateway.open(str(pin))
    with pytest.raises(VersionOneRefused):
        gateway.open(spell_token(gateway.code().token), method=CodeMethod.PIN)


@pytest.mark.parametrize(
    ("network", "address", "allowed"),
    [
        ("192.0.2.0/24", "192.0.2.9", True),
        ("192.0.2.0/24", "192.0.3.9", False),
        ("192.0.2.0/24", "::ffff:192.0.2.9", True),
        ("192.0.2.0/24", "2001:db8::1", False),
        ("fe80::/10", "fe80::1%eth0", True),
        ("2001:db8::/32", "192.0.2.9", False),
    ],
)
def test_a_code_for_one_network(
    gateway: Gateway, network: str, address: str, allowed: bool
) -> None:
    """``--from CIDR`` limits who may try; the refusal is that of a wrong token."""
    token = spell_token(gateway.code(source=network).token)
    if allowed:
        gateway.open(token, address)
    else:
        with pytest.raises(PairingFailed):
            gateway.open(token, address)


def test_open_sessions_are_bounded() -> None:
    """Eight sessions a source; they end by being completed, or after five minutes."""
    gateway = Gateway()
    token = spell_token(gateway.code().token)
    for _ in range(8):
        opened = gateway.open(token)
    with pytest.raises(PairingLimited):
        gateway.open(token)
    with pytest.raises(VerificationFailed):
        gateway.complete(Applicant().proof(opened, token, ca_hash=bytes(32)))
    gateway.open(token)
    gateway.pass_time(302)
    gateway.open(token)
    assert gateway.ledger.open_sessions == 1
    gateway.end()


def test_all_sources_together_are_bounded() -> None:
    """Starts over all sources have a limit of their own."""
    gateway = Gateway(session_starts_per_minute=2)
    token = spell_token(gateway.code().token)
    for host in (1, 2):
        gateway.open(token, f"192.0.2.{host}")
    with pytest.raises(LimitReached):
        gateway.open(token, "192.0.2.3")
    gateway.end()


# -- refusals at Complete ---------------------------------------------------


def _changed(**changes: Any) -> Callable[[DeviceProof], DeviceProof]:
    return lambda proof: attrs.evolve(proof, **changes)


def _enrolled(**changes: Any) -> Callable[[DeviceProof], DeviceProof]:
    return lambda proof: attrs.evolve(
        proof, enrolment=attrs.evolve(proof.enrolment, **changes) if proof.enrolment else None
    )


REFUSALS = {
    "no CSR": (_changed(enrolment=None), VersionOneRefused),
    "another signature": (_changed(challenge_signature=bytes(64)), VerificationFailed),
    "another MAC": (_changed(transcript_mac=bytes(32)), VerificationFailed),
    "a short key": (_changed(identity_public=b"short"), Malformed),
    "a small-order key": (_changed(identity_public=bytes(32)), VerificationFailed),
    "another identity signature": (_enrolled(identity_signature=bytes(64)), VerificationFailed),
    "another CSR": (_enrolled(csr_der=b"other"), VerificationFailed),
    "another announcement": (_enrolled(announcement=b"{}"), VerificationFailed),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_a_proof_that_does_not_hold(gateway: Gateway, what: str) -> None:
    """The code is not used up and the source not charged; the session is over."""
    change, error = REFUSALS[what]
    token = spell_token(gateway.code().token)
    opened = gateway.open(token)
    proof = Applicant().proof(opened, token)
    with pytest.raises(error):
        gateway.complete(change(proof))
    with pytest.raises(PairingSessionUnknown):
        gateway.complete(proof)
    assert gateway.all_requests() == [] and gateway.ledger.failing(gateway.now_ms()) == []
    gateway.complete(Applicant().proof(gateway.open(token), token))


@pytest.mark.parametrize(
    "changes",
    [
        {"ca_hash": b"\x01" * 32},
        {"purpose": Purpose.REJOIN},
        {"csr_der": b"not a CSR"},
        {"csr_der": make_csr(ec.generate_private_key(ec.SECP256R1()), "another device")},
        {"csr_der": make_csr(ec.generate_private_key(ec.SECP384R1()), Applicant().device_id)},
    ],
)
def test_a_well_signed_lie(gateway: Gateway, changes: dict[str, Any]) -> None:
    """Signed by the device and still refused: another CA, another purpose, a bad CSR."""
    token = spell_token(gateway.code().token)
    with pytest.raises(VerificationFailed):
        gateway.complete(Applicant().proof(gateway.open(token), token, **changes))
    assert gateway.all_requests() == []


def test_a_wrong_proof_is_a_guess(gateway: Gateway) -> None:
    """Another token than the session was opened with is charged to the source."""
    token, other = (spell_token(gateway.code().token) for _ in range(2))
    with pytest.raises(PairingFailed):
        gateway.complete(Applicant().proof(gateway.open(token), other))
    assert gateway.ledger.failing(gateway.now_ms()) == [(HOME, 1)]


def test_a_session_that_nobody_opened(gateway: Gateway) -> None:
    """An unknown session is refused, as late as any other answer."""
    token = spell_token(gateway.code().token)
    proof = Applicant().proof(gateway.open(token), token)
    with pytest.raises(PairingSessionUnknown):
        gateway.complete(attrs.evolve(proof, session_id="0" * 32))
    gateway.complete(proof)


def test_a_session_is_over_after_five_minutes(gateway: Gateway) -> None:
    """Its window ends by the clock."""
    token = spell_token(gateway.code().token)
    proof = Applicant().proof(gateway.open(token), token)
    gateway.pass_time(301)
    with pytest.raises(PairingSessionUnknown):
        gateway.complete(proof)


def test_two_racing_sessions(gateway: Gateway) -> None:
    """Both open, both prove: the second commit fails, and one request exists."""
    token = spell_token(gateway.code().token)
    proofs = [Applicant(seed).proof(gateway.open(token), token) for seed in (1, 2)]
    gateway.complete(proofs[0])
    with pytest.raises(PairingFailed):
        gateway.complete(proofs[1])
    assert len(gateway.all_requests()) == 1


def test_five_faults_burn_a_code(gateway: Gateway) -> None:
    """A device that fails again and again, or an attacker who found the token, is stopped."""
    token = spell_token(gateway.code().token)
    for _ in range(5):
        with pytest.raises(VerificationFailed):
            gateway.complete(Applicant().proof(gateway.open(token), token, ca_hash=bytes(32)))
    with pytest.raises(PairingFailed):
        gateway.open(token)


@pytest.mark.parametrize("new_key", [False, True])
def test_a_revoked_device_is_refused(gateway: Gateway, new_key: bool) -> None:
    """By its id with another key, and by its key with another id; the code is not used up."""
    first = Applicant(1)
    first.pair(gateway)
    device = gateway.inventory.paired(first.device_id)
    result_of(Deferred.fromCoroutine(gateway.revoker.revoke(device, "ana", "lost")))
    again = Applicant(2, device_id=first.device_id) if new_key else Applicant(1)
    if not new_key:
        again.device_id = Applicant(3).device_id
    token = spell_token(gateway.code().token)
    with pytest.raises(DeviceRevoked) as caught:
        gateway.complete(again.proof(gateway.open(token), token))
    assert caught.value.reason == "lost"
    gateway.open(token)


# -- codes ---------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"ttl_ms": 29_999},
        {"ttl_ms": 86_400_001},
        {"labels": {"Site": "x"}},
        {"labels": {"site": "x" * 64}},
        {"source": "everywhere"},
        {"source": "192.0.2.7/24"},
    ],
)
def test_a_code_that_cannot_be(gateway: Gateway, changes: dict[str, Any]) -> None:
    """Life, labels and network are checked before a code exists."""
    with pytest.raises(Malformed):
        gateway.code(**changes)
    assert result_of(gateway.store.active_codes(gateway.now_ms())) == []


def test_a_code_is_kept_as_asked(gateway: Gateway) -> None:
    """The store keeps the digest, the issuer and the life; the token is given once."""
    minted = gateway.code(ttl_ms=60_000, issued_by="ana\x1b[31m")
    (kept,) = result_of(gateway.store.active_codes(gateway.now_ms()))
    assert kept.digest == sha256_hex(spell_token(minted.token).encode())
    assert kept.expires_at_ms == gateway.now_ms() + 60_000
    assert "\x1b" not in kept.issued_by and kept.state is CodeState.ACTIVE
    assert minted.token != gateway.code().token


def test_codes_are_bounded(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many active codes and no more, until some are used or over."""
    monkeypatch.setattr(codes, "MAX_ACTIVE_CODES", 2)
    gateway.code(ttl_ms=30_000)
    gateway.code()
    with pytest.raises(LimitReached):
        gateway.code()
    gateway.pass_time(31)
    gateway.code()
