"""Pairing by PIN: what the gateway checks, counts, and never says (PROTOCOL: PIN PAIRING)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from twisted.logger import capturedLogs, formatEvent

from palyra.core.pairing import CodeMethod, RequestState
from palyra.core.pairing_uri import spell_token
from palyra.core.pake import with_pake
from palyra.core.pin import PinCode
from palyra.core.transcript import DeviceProof, Purpose
from palyra.errors import (
    PairingFailed,
    PairingSessionUnknown,
    PalyraError,
)
from palyra.pki.csr import make_csr
from palyra.wire.pairing import Completed, SessionOpened
from tests.gateway.applicants import (
    Beside,
    PinApplicant,
    failed_tries,
    failures,
    guess,
    sources,
    wrong,
)
from tests.gateway.enrolling import CSR_KEY, HOME, Applicant, Gateway
from tests.gateway.house import CAPABILITIES, result_of
from tests.gateway.opening import opened as opened_identity

# -- the way ---------------------------------------------------


def test_the_happy_path(gateway: Gateway) -> None:
    """Six digits, no file: both ends prove them, an operator says yes, a certificate is there."""
    applicant = PinApplicant()
    code = gateway.pin(labels={"site": "prague"})
    opened = gateway.open_pin(code.nameplate)
    assert len(opened.share) == 33 and opened.gateway_unix_ms <= gateway.now_ms()
    completed = gateway.complete(applicant.pin_proof(opened, code))
    assert completed.pake_confirm == applicant.expected and completed.certificate_pem == ""
    request = gateway.request(completed.request_id)
    assert (request.state, request.method) == (RequestState.PENDING, CodeMethod.PIN)
    assert (request.source, request.labels) == (HOME, {"site": "prague"})
    assert request.capabilities == CAPABILITIES
    gateway.approve(completed.request_id)
    answer = gateway.status(applicant.question())
    assert answer.status == "completed"
    peer = gateway.node_desk.admit(answer.certificate_pem.encode(), None, HOME, "grpc")
    assert peer.device_id == applicant.device_id
    assert failures(gateway) == [] and failed_tries(gateway) == []


def test_any_nameplate(gateway: Gateway) -> None:
    """Several PINs are active at once, each for itself."""
    codes = [gateway.pin() for _ in range(3)]
    for seed, code in enumerate(reversed(codes), 1):
        PinApplicant(seed).type_pin(gateway, code)
    with pytest.raises(PairingFailed):
        PinApplicant(9).type_pin(gateway, PinCode(2, gateway.pin().pin))


def test_the_answer_that_was_lost(gateway: Gateway) -> None:
    """The status says the same cB as often as it is asked, also after a restart and a decision."""
    applicant = PinApplicant()
    completed = applicant.type_pin(gateway, gateway.pin())
    assert gateway.status(applicant.question()).pake_confirm == applicant.expected
    gateway.restart()
    assert gateway.status(applicant.question()).pake_confirm == applicant.expected
    gateway.reject(completed.request_id)
    assert gateway.status(applicant.question()).pake_confirm == applicant.expected


def test_a_code_is_used_once(gateway: Gateway) -> None:
    """The request's commit uses it up: the same PIN again is as wrong as any other."""
    code = gateway.pin()
    PinApplicant(1).type_pin(gateway, code)
    with pytest.raises(PairingFailed):
        PinApplicant(2).type_pin(gateway, code)
    assert len(gateway.all_requests()) == 1


def test_a_lost_race(gateway: Gateway) -> None:
    """Two know the PIN and prove it at once: one request, and the other learns nothing more."""
    code = gateway.pin()
    beside = Beside()
    applicants = [PinApplicant(seed) for seed in (1, 2)]
    proofs = [each.pin_proof(gateway.open_pin(), code) for each in applicants]
    gateway.in_thread = beside
    answers = [gateway.desk.complete(proof, HOME) for proof in proofs]
    beside.work()
    gateway.clock.advance(0.06)
    completed = result_of(answers[0])
    assert completed.pake_confirm == applicants[0].expected
    with pytest.raises(PairingFailed) as caught:
        result_of(answers[1])
    assert caught.value.pin and len(gateway.all_requests()) == 1


def test_a_session_takes_one_proof(gateway: Gateway) -> None:
    """Right or wrong, and the second is not looked at."""
    code = gateway.pin()
    opened = gateway.open_pin()
    applicant = PinApplicant()
    with pytest.raises(PairingFailed):
        gateway.complete(applicant.pin_proof(opened, wrong(code)))
    with pytest.raises(PairingSessionUnknown):
        gateway.complete(applicant.pin_proof(opened, code))
    assert failed_tries(gateway) == [1]


# -- who confirms first, and what is bound ---------------------------------------------------


def test_nothing_keyed_before_the_device_confirmed(gateway: Gateway) -> None:
    """The answer to Begin is a share that says nothing of the PIN, the refusal of a wrong one is
    bare: no confirmation, no count, no reason."""
    code = gateway.pin()
    opened = gateway.open_pin()
    assert attrs.fields_dict(SessionOpened).keys() == {
        *("begun", "client_kind", "expires_at_ms", "gateway_unix_ms", "share")
    }
    with pytest.raises(PairingFailed) as caught:
        gateway.complete(PinApplicant().pin_proof(opened, wrong(code)))
    assert attrs.asdict(caught.value) == {"pin": True, "tries": 1}


def _enrolled(**changes: Any) -> Callable[[DeviceProof], DeviceProof]:
    def change(proof: DeviceProof) -> DeviceProof:
        assert proof.enrolment is not None
        return attrs.evolve(proof, enrolment=attrs.evolve(proof.enrolment, **changes))

    return change


TAMPERED: dict[str, Callable[[DeviceProof], DeviceProof]] = {
    "the confirmation": _enrolled(pake_confirm=bytes(32)),
    "no confirmation": _enrolled(pake_confirm=b""),
    "the share": _enrolled(pake_share=b"A" + bytes(32)),
    "no share": _enrolled(pake_share=b""),
    "the CSR": _enrolled(csr_der=make_csr(CSR_KEY, Applicant().device_id)),
    "the identity signature": _enrolled(identity_signature=bytes(64)),
    "the announcement": _enrolled(announcement=b"{}"),
    "the device id": lambda proof: attrs.evolve(proof, device_id=Applicant(5).device_id),
    "the identity key": lambda proof: attrs.evolve(proof, identity_public=bytes([7]) * 32),
    "the exchange key": lambda proof: attrs.evolve(proof, x25519_public=bytes([7]) * 32),
    "the first signature": lambda proof: attrs.evolve(proof, challenge_signature=bytes(64)),
    "the MAC": lambda proof: attrs.evolve(proof, transcript_mac=bytes(32)),
    "no enrolment": lambda proof: attrs.evolve(proof, enrolment=None),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_everything_is_bound(gateway: Gateway, what: str) -> None:
    """Whoever changes a field under way has made a wrong guess: nothing is checked before cA."""
    code = gateway.pin()
    proof = PinApplicant().pin_proof(gateway.open_pin(), code)
    with pytest.raises(PairingFailed):
        gateway.complete(TAMPERED[what](proof))
    assert failed_tries(gateway) == [1] and failures(gateway) == [(HOME, 1)]
    assert gateway.all_requests() == []


def test_the_ca_that_the_device_saw_is_bound(gateway: Gateway) -> None:
    """Who terminates TLS with a CA of his own relays a proof that is wrong here."""
    code = gateway.pin()
    with pytest.raises(PairingFailed):
        PinApplicant(ca_hash=bytes(32)).type_pin(gateway, code)
    assert failed_tries(gateway) == [1] and gateway.all_requests() == []


def test_a_proof_of_another_session(gateway: Gateway) -> None:
    """A recorded proof is worthless: session, challenge and both shares are bound."""
    code = gateway.pin()
    recorded = PinApplicant().pin_proof(gateway.open_pin(), code)
    again = gateway.open_pin()
    with pytest.raises(PairingFailed):
        gateway.complete(attrs.evolve(recorded, session_id=again.begun.session_id))


def test_the_nameplate_is_bound(gateway: Gateway) -> None:
    """Two codes with one PIN are two codes."""
    code = gateway.pin()
    with pytest.raises(PairingFailed):
        gateway.complete(PinApplicant().pin_proof(gateway.open_pin(1), PinCode(2, code.pin)))


@pytest.mark.parametrize("phase", ["overlap", "switched"])
@pytest.mark.parametrize("which", [0, 1])
def test_each_ca_of_a_rotation(tmp_path: Path, phase: str, which: int) -> None:
    """While the CA is rotated a device may have seen either, and both confirm under that one."""
    identity = opened_identity(tmp_path / "identity")
    gateway = Gateway(identity=identity)
    identity.begin_rotation(gateway.now_ms())
    if phase == "switched":
        identity.switch(gateway.now_ms())
    applicant = PinApplicant(ca_hash=identity.ca_hashes[which])
    completed = applicant.type_pin(gateway, gateway.pin())
    assert completed.pake_confirm == applicant.expected
    gateway.approve(completed.request_id)
    answer = gateway.status(applicant.question())
    assert answer.ca_pem.count("BEGIN CERTIFICATE") == 2
    gateway.end()


# -- the life of the gateway, and secrets ---------------------------------------------------


def test_a_restart_in_between(gateway: Gateway) -> None:
    """The PIN stays usable with the failures it had; the session that was open is gone."""
    code = gateway.pin()
    for address in sources(4):
        guess(gateway, code, address)
    applicant = PinApplicant()
    proof = applicant.pin_proof(gateway.open_pin(), code)
    gateway.restart()
    with pytest.raises(PairingSessionUnknown):
        gateway.complete(proof)
    assert failed_tries(gateway) == [4]
    completed = applicant.type_pin(gateway, code)
    assert completed.pake_confirm == applicant.expected


def test_a_restart_does_not_save_a_code(gateway: Gateway) -> None:
    """Four failures before, one after: burnt."""
    code = gateway.pin()
    for address in sources(4):
        guess(gateway, code, address)
    gateway.restart()
    guess(gateway, code, "198.51.100.9")
    with pytest.raises(PairingFailed):
        PinApplicant().type_pin(gateway, code)


def test_the_pin_is_nowhere_in_clear(gateway: Gateway, tmp_path: Path) -> None:
    """Neither in the store, nor in the snapshot, nor in a log, nor in what any value shows."""
    values: list[Any] = []
    with capturedLogs() as events:
        first, second = gateway.code(method=CodeMethod.PIN), gateway.code(method=CodeMethod.PIN)
        assert first.pin is not None and second.pin is not None
        values += [first, second, first.pin, second.pin]
        guess(gateway, second.pin, HOME)
        opened = gateway.open_pin()
        applicant = PinApplicant()
        proof = applicant.pin_proof(opened, first.pin)
        completed: Completed = gateway.complete(proof)
        gateway.approve(completed.request_id)
        values += [opened, proof, completed, gateway.request(completed.request_id)]
        result_of(gateway.store.write_snapshot(tmp_path / "snapshot.json"))
    shown = repr(values) + repr(gateway.store.store.__dict__) + repr(gateway.codes.__dict__)
    shown += (tmp_path / "snapshot.json").read_text()
    shown += "".join(str(formatEvent(event)) for event in events)
    for pin in (first.pin.pin, second.pin.pin):
        assert pin not in shown
    assert applicant.session_id not in shown
    (kept,) = [each for each in gateway.store.store._codes.values() if each.sealed_pin]
    assert kept.sealed_pin.hex() not in (tmp_path / "snapshot.json").read_text()


def test_pins_and_lines_share_no_exchange(gateway: Gateway) -> None:
    """A session opened with a line takes no PIN's proof, and the other way round."""
    token = spell_token(gateway.code().token)
    code = gateway.pin()
    applicant = PinApplicant()
    line = gateway.open(token)
    with pytest.raises(PalyraError):
        gateway.complete(applicant.proof(line, "", purpose=Purpose.PAIR_PIN))
    proof = with_pake(applicant.proof(gateway.open_pin(), token), bytes(33), bytes(32))
    with pytest.raises(PairingFailed):
        gateway.complete(proof)
    assert gateway.all_requests() == [] and failed_tries(gateway).count(1) == 1
    assert code.pin
