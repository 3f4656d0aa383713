"""Rejoin: who is not let back in, and how often anybody may ask (PROTOCOL: REJOIN)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet.defer import Deferred

from palyra.console import models
from palyra.core.devices import CertificateState, ClientKind
from palyra.core.identifiers import DeviceId
from palyra.core.pairing import CodeMethod
from palyra.core.transcript import DeviceProof, Purpose
from palyra.errors import (
    DeviceRevoked,
    LimitReached,
    PairingLimited,
    PairingPaused,
    PairingSessionUnknown,
    PalyraError,
    RejoinRefused,
    VerificationFailed,
)
from palyra.gateway.rejoin import MAX_AN_HOUR
from palyra.pki.csr import make_csr
from palyra.wire.pairing import Begin
from tests.callers import ANA
from tests.gateway.applicants import (
    PinApplicant,
    admitted,
    device_of,
    failures,
    rejoin,
    rejoin_proof,
    sources,
    states,
)
from tests.gateway.enrolling import CSR_KEY, HOME, Applicant, Gateway
from tests.gateway.house import result_of

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


# -- who may not ---------------------------------------------------


def test_unknown_and_wrong_key_are_the_same(gateway: Gateway) -> None:
    """Both are answered at Begin, and refused at Complete with the same word."""
    known = Applicant(1)
    known.pair(gateway)
    thief = Applicant(2, device_id=known.device_id)
    refusals = []
    for who in (thief, Applicant(3)):
        opened = gateway.open_rejoin(who.device_id)
        assert opened.share == b"" and len(opened.begun.challenge) == 32
        with pytest.raises(RejoinRefused) as caught:
            gateway.complete(rejoin_proof(who, opened))
        refusals.append((str(caught.value), attrs.asdict(caught.value)))
    assert refusals[0] == refusals[1]
    assert states(gateway, known) == [S.PENDING]


def test_the_null_key_is_nobodys(gateway: Gateway) -> None:
    """The key that stands for an unknown device proves nothing."""
    opened = gateway.open_rejoin(Applicant(3).device_id)
    proof = rejoin_proof(Applicant(3), opened)
    with pytest.raises(RejoinRefused):
        gateway.complete(attrs.evolve(proof, identity_public=bytes(32)))


def _enrolled(**changes: Any) -> Callable[[DeviceProof], DeviceProof]:
    def change(proof: DeviceProof) -> DeviceProof:
        assert proof.enrolment is not None
        return attrs.evolve(proof, enrolment=attrs.evolve(proof.enrolment, **changes))

    return change


TAMPERED: dict[str, Callable[[DeviceProof], DeviceProof]] = {
    "the CSR": _enrolled(csr_der=make_csr(CSR_KEY, Applicant().device_id)),
    "the signature": _enrolled(identity_signature=bytes(64)),
    "the announcement": _enrolled(announcement=b"{}"),
    "no enrolment": lambda proof: attrs.evolve(proof, enrolment=None),
    "no CSR": _enrolled(csr_der=b""),
    "another device": lambda proof: attrs.evolve(proof, device_id=Applicant(2).device_id),
    "no device": lambda proof: attrs.evolve(proof, device_id=DeviceId("x")),
    "a short key": lambda proof: attrs.evolve(proof, identity_public=b"short"),
    "another MAC": lambda proof: attrs.evolve(proof, transcript_mac=bytes(32)),
    "another first signature": lambda proof: attrs.evolve(proof, challenge_signature=bytes(64)),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_everything_is_signed(gateway: Gateway, what: str) -> None:
    """Whatever is changed under way, the refusal is that of a wrong key, and nothing is issued."""
    applicant = Applicant()
    applicant.pair(gateway)
    proof = rejoin_proof(applicant, gateway.open_rejoin(applicant.device_id))
    with pytest.raises(RejoinRefused):
        gateway.complete(TAMPERED[what](proof))
    assert states(gateway, applicant) == [S.PENDING]


@pytest.mark.parametrize(
    "changes", [{"purpose": Purpose.PAIR_URI}, {"ca_hash": bytes(32)}], ids=["purpose", "CA"]
)
def test_another_purpose_or_ca(gateway: Gateway, changes: dict[str, Any]) -> None:
    """A signature for pairing, or one that was made for another gateway, lets nobody in."""
    applicant = Applicant()
    applicant.pair(gateway)
    with pytest.raises(RejoinRefused):
        rejoin(applicant, gateway, **changes)


@pytest.mark.parametrize(
    "csr",
    [
        b"none",
        make_csr(CSR_KEY, Applicant(2).device_id),
        make_csr(ec.generate_private_key(ec.SECP384R1()), Applicant().device_id),
    ],
)
def test_a_csr_that_is_not_acceptable(gateway: Gateway, csr: bytes) -> None:
    """Said to whoever has proved the key, and no guess of anybody."""
    applicant = Applicant()
    applicant.pair(gateway)
    with pytest.raises(VerificationFailed):
        rejoin(applicant, gateway, csr_der=csr)
    assert states(gateway, applicant) == [S.PENDING] and failures(gateway) == []
    away(gateway, 92)
    with pytest.raises(VerificationFailed):
        rejoin(applicant, gateway, csr_der=csr)
    assert len(gateway.all_requests()) == 1


def test_nobody_comes_back_as_another(gateway: Gateway) -> None:
    """A paired device that signs for another one's id, in a session it opened for itself."""
    mine, theirs = Applicant(1), Applicant(2, name="nas")
    mine.pair(gateway)
    theirs.pair(gateway)
    opened = gateway.open_rejoin(mine.device_id)
    posing = attrs.evolve(mine, device_id=theirs.device_id)
    with pytest.raises(RejoinRefused):
        gateway.complete(rejoin_proof(posing, opened))
    assert states(gateway, theirs) == [S.PENDING]


def test_a_replay(gateway: Gateway) -> None:
    """A recorded Complete is worthless: its session is over, and in another one the challenge is
    another."""
    applicant = Applicant()
    applicant.pair(gateway)
    recorded = rejoin_proof(applicant, gateway.open_rejoin(applicant.device_id))
    gateway.complete(recorded)
    with pytest.raises(PairingSessionUnknown):
        gateway.complete(recorded)
    again = gateway.open_rejoin(applicant.device_id)
    with pytest.raises(RejoinRefused):
        gateway.complete(attrs.evolve(recorded, session_id=again.begun.session_id))
    assert len(states(gateway, applicant)) == 2


def test_a_session_of_another_purpose(gateway: Gateway) -> None:
    """A rejoin's proof does not pair, and a pairing's does not rejoin."""
    applicant = Applicant()
    applicant.pair(gateway)
    gateway.pin()
    with pytest.raises(PalyraError):
        gateway.complete(rejoin_proof(applicant, gateway.open_pin()))
    code = gateway.pin()
    proof = PinApplicant().pin_proof(gateway.open_pin(code.nameplate), code)
    opened = gateway.open_rejoin(applicant.device_id)
    with pytest.raises(RejoinRefused):
        gateway.complete(attrs.evolve(proof, session_id=opened.begun.session_id))


def test_a_revoked_device(gateway: Gateway) -> None:
    """It hears so, with the reason, once it has proved its key; nobody else does."""
    applicant = Applicant()
    applicant.pair(gateway)
    revoke(gateway, applicant)
    with pytest.raises(RejoinRefused):
        rejoin(Applicant(2, device_id=applicant.device_id), gateway)
    with pytest.raises(DeviceRevoked) as caught:
        rejoin(applicant, gateway)
    assert caught.value.reason == "lost"
    gateway.restart()
    with pytest.raises(DeviceRevoked):
        rejoin(applicant, gateway)
    assert failures(gateway) == []


def test_a_removed_device_is_unknown(gateway: Gateway) -> None:
    """There is no key to compare with any more: it has to pair."""
    applicant = Applicant()
    applicant.pair(gateway)
    result_of(gateway.control.remove(applicant.device_id, models.Remove(), ANA))
    with pytest.raises(RejoinRefused):
        rejoin(applicant, gateway)


def test_the_key_before(gateway: Gateway) -> None:
    """After the device was paired with another key its old one is as wrong as any."""
    old = Applicant(1)
    old.pair(gateway)
    new = Applicant(2, device_id=old.device_id)
    gateway.approve(new.apply(gateway).request_id, accept_new_identity=True)
    gateway.status(new.question())
    with pytest.raises(RejoinRefused):
        rejoin(old, gateway)
    assert admitted(gateway, rejoin(new, gateway))


def test_a_revocation_that_is_faster(gateway: Gateway) -> None:
    """Committed between the proof and its answer: nothing is issued."""
    applicant = Applicant()
    applicant.pair(gateway)
    proof = rejoin_proof(applicant, gateway.open_rejoin(applicant.device_id))
    device = device_of(gateway, applicant)
    gateway.store.holding = True
    revoked = Deferred.fromCoroutine(gateway.revoker.revoke(device, "ana", "lost"))
    answer = gateway.desk.complete(proof, HOME)
    gateway.store.release()
    gateway.store.holding = False
    gateway.clock.advance(0.06)
    result_of(revoked)
    with pytest.raises(DeviceRevoked):
        result_of(answer)
    assert S.PENDING not in states(gateway, applicant)


# -- limits ---------------------------------------------------


def test_six_an_hour(gateway: Gateway) -> None:
    """Of proofs that held: nobody else can use up a device's own."""
    applicant = Applicant()
    applicant.pair(gateway)
    for seed, address in enumerate(sources(8), 2):
        thief = Applicant(seed, device_id=applicant.device_id)
        opened = gateway.open_rejoin(applicant.device_id, address)
        with pytest.raises(RejoinRefused):
            gateway.complete(rejoin_proof(thief, opened), address)
    for _ in range(MAX_AN_HOUR):
        rejoin(applicant, gateway)
    with pytest.raises(LimitReached) as caught:
        rejoin(applicant, gateway)
    assert 3_500 < caught.value.retry_after_s <= 3_600
    gateway.pass_time(3_601)
    rejoin(applicant, gateway)


def test_a_key_cannot_be_guessed(gateway: Gateway) -> None:
    """So a wrong one is held against nobody, and a source that guesses PINs keeps no device out
    that comes back from behind the same address."""
    applicant = Applicant()
    applicant.pair(gateway)
    for seed in range(2, 7):
        with pytest.raises(RejoinRefused):
            rejoin(Applicant(seed, device_id=applicant.device_id), gateway)
    assert failures(gateway) == []
    for _ in range(3):
        gateway.ledger.proof_failed(HOME, gateway.now_ms())
    with pytest.raises(PairingLimited):
        gateway.open_pin()
    assert admitted(gateway, rejoin(applicant, gateway))


def test_another_client_kind(gateway: Gateway) -> None:
    """What a client is was fixed by its approval: it does not come back as something else."""
    applicant = Applicant()
    applicant.pair(gateway)
    begin = Begin(ClientKind.CLI, CodeMethod.REJOIN, device_id=applicant.device_id)
    opened = gateway.begun(begin)
    applicant.kind = ClientKind.CLI
    with pytest.raises(VerificationFailed):
        gateway.complete(rejoin_proof(applicant, opened))
    assert states(gateway, applicant) == [S.PENDING]


def test_the_pause_of_pins_keeps_nobody_out(gateway: Gateway) -> None:
    """A device comes back while PINs are being guessed from everywhere."""
    applicant = Applicant()
    applicant.pair(gateway)
    for address in sources(50):
        gateway.ledger.proof_failed(address, gateway.now_ms())
    with pytest.raises(PairingPaused):
        gateway.open_pin()
    rejoin(applicant, gateway)
