"""Version-1 devices: a code in clear and no key of their own, only where both are allowed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate
from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, capturedLogs, formatEvent

from palyra.core.pairing import CodeMethod
from palyra.core.pairing_uri import spell_token
from palyra.core.pin import PinCode
from palyra.errors import (
    PairingFailed,
    PairingLimited,
    PairingPaused,
    PairingSessionUnknown,
    VerificationFailed,
    VersionOneRefused,
)
from palyra.pki.sealing import Sealer
from palyra.wire.pairing import Completed, SessionOpened, StatusAnswer
from tests.gateway.applicants import (
    VersionOne,
    admitted,
    device_of,
    failed_tries,
    failures,
    sources,
    wrong,
)
from tests.gateway.enrolling import HOME, Gateway
from tests.gateway.house import result_of


@pytest.fixture
def lenient() -> Iterator[Gateway]:
    """A gateway whose operator has version-1 devices and knows what that means."""
    made = Gateway(allow_v1_codes=True, allow_gateway_made_keys=True)
    yield made
    made.end()


def begin(gateway: Gateway, code: PinCode, address: str = HOME) -> SessionOpened:
    return gateway.open(str(code), address, method=CodeMethod.PIN)


def type_pin(gateway: Gateway, old: VersionOne, code: PinCode, address: str = HOME) -> Completed:
    proof = old.old_proof(begin(gateway, code, address), str(code))
    return gateway.complete(proof, address)


def paired(gateway: Gateway, old: VersionOne) -> StatusAnswer:
    """A version-1 device with its certificate and the key that was made for it."""
    gateway.approve(type_pin(gateway, old, gateway.pin()).request_id)
    return gateway.status(old.old_question())


def sweep(gateway: Gateway) -> None:
    result_of(Deferred.fromCoroutine(gateway.requests.sweep()))


def sealed(gateway: Gateway) -> list[bytes]:
    return [request.sealed_key for request in gateway.all_requests()]


# -- off by default ---------------------------------------------------


def test_a_pin_in_clear_is_refused(gateway: Gateway) -> None:
    """Before it is compared with anything; nobody is charged."""
    code = gateway.pin()
    for typed in (code, wrong(code)):
        with pytest.raises(VersionOneRefused):
            begin(gateway, typed)
    assert failures(gateway) == [] and failed_tries(gateway) == [0]


def test_a_token_without_a_csr_is_refused(gateway: Gateway) -> None:
    """The code is not used up, and no key was made."""
    token = spell_token(gateway.code().token)
    with pytest.raises(VersionOneRefused):
        gateway.complete(VersionOne().old_proof(gateway.open(token), token))
    assert gateway.all_requests() == []
    gateway.complete(VersionOne().proof(gateway.open(token), token))


@pytest.mark.parametrize(
    "flags", [{"allow_v1_codes": True}, {"allow_gateway_made_keys": True}], ids=["codes", "keys"]
)
def test_one_flag_is_not_enough(flags: dict[str, Any]) -> None:
    """Both must be on: there is no pairing without a CSR otherwise, by neither method."""
    gateway = Gateway(**flags)
    code, token = gateway.pin(), spell_token(gateway.code().token)
    with pytest.raises(VersionOneRefused):
        type_pin(gateway, VersionOne(), code)
    with pytest.raises(VersionOneRefused):
        gateway.complete(VersionOne().old_proof(gateway.open(token), token))
    assert gateway.all_requests() == [] and failed_tries(gateway) == [0, 0]
    gateway.end()


# -- on ---------------------------------------------------


def test_the_way_of_a_version_one_device(lenient: Gateway) -> None:
    """A PIN in clear, an approval, and a certificate to a key that was made here."""
    old = VersionOne()
    with capturedLogs() as events:
        answer = paired(lenient, old)
    assert answer.status == "completed" and answer.pake_confirm == b""
    key = load_pem_private_key(answer.private_key_pem.encode(), None)
    certificate = load_pem_x509_certificate(answer.certificate_pem.encode())
    assert key.public_key() == certificate.public_key()
    assert admitted(lenient, answer).device_id == old.device_id
    assert device_of(lenient, old).capabilities == ()
    loud = [formatEvent(each) for each in events if each["log_level"] is LogLevel.warn]
    assert any("PIN in clear" in str(each) and HOME in str(each) for each in loud)
    assert any("private key" in str(each) and old.device_id in str(each) for each in loud)


def test_a_token_of_a_version_one_device(lenient: Gateway) -> None:
    """The pairing line's token works in the same way."""
    old = VersionOne()
    token = spell_token(lenient.code().token)
    completed = lenient.complete(old.old_proof(lenient.open(token), token))
    lenient.approve(completed.request_id)
    assert "PRIVATE KEY" in lenient.status(old.old_question()).private_key_pem


def test_a_new_device_makes_its_own_key_here_too(lenient: Gateway) -> None:
    """Where it sends a CSR no key is made for it, and its status needs its signature."""
    old = VersionOne()
    token = spell_token(lenient.code().token)
    completed = lenient.complete(old.proof(lenient.open(token), token))
    lenient.approve(completed.request_id)
    assert sealed(lenient) == [b""]
    with pytest.raises(PairingSessionUnknown):
        lenient.status(old.old_question())
    assert lenient.status(old.question()).private_key_pem == ""


def test_nobody_else_is_answered(lenient: Gateway) -> None:
    """The session's secret and the device id belong together."""
    old = VersionOne()
    paired(lenient, old)
    for changes in ({"session_id": "0" * 32}, {"device_id": VersionOne(2).device_id}):
        with pytest.raises(PairingSessionUnknown):
            lenient.status(attrs.evolve(old.old_question(), **changes))
    with pytest.raises(VerificationFailed):
        lenient.status(attrs.evolve(old.question(), signature=bytes(64)))


# -- the key that was made ---------------------------------------------------


def test_the_key_is_handed_out_until_it_is_used(lenient: Gateway) -> None:
    """A lost answer is repeated word for word; the first registration ends that for ever."""
    old = VersionOne()
    answer = paired(lenient, old)
    lenient.pass_time(60)
    again = lenient.status(old.old_question())
    assert again.private_key_pem == answer.private_key_pem
    assert again.certificate_pem == answer.certificate_pem
    node = lenient.node(device_of(lenient, old))
    node.peer = admitted(lenient, answer)
    result_of(node.connect())
    assert sealed(lenient) == [b""]
    with pytest.raises(PairingSessionUnknown):
        lenient.status(old.old_question())
    assert lenient.status(old.question()).private_key_pem == ""


def test_a_restart_before_it_is_used(lenient: Gateway) -> None:
    """The gateway does not know any more whose key it handed out: the next sweep finds that the
    certificate is in use."""
    old = VersionOne()
    answer = paired(lenient, old)
    lenient.restart()
    sweep(lenient)
    assert sealed(lenient) != [b""]
    node = lenient.node(device_of(lenient, old))
    node.peer = admitted(lenient, answer)
    result_of(node.connect())
    sweep(lenient)
    assert sealed(lenient) == [b""]
    with pytest.raises(PairingSessionUnknown):
        lenient.status(old.old_question())


def test_a_key_that_nobody_fetches(lenient: Gateway) -> None:
    """It is forgotten with its session: a day after the yes, at once after a no."""
    old = VersionOne()
    lenient.approve(type_pin(lenient, old, lenient.pin()).request_id)
    sweep(lenient)
    assert sealed(lenient) != [b""]
    lenient.pass_time(86_401)
    sweep(lenient)
    assert sealed(lenient) == [b""]
    with pytest.raises(PairingSessionUnknown):
        lenient.status(old.old_question())


def test_a_no_and_a_request_that_expires(lenient: Gateway) -> None:
    """Nobody will need their keys."""
    lenient.reject(type_pin(lenient, VersionOne(1), lenient.pin()).request_id)
    type_pin(lenient, VersionOne(2), lenient.pin())
    lenient.pass_time(601)
    assert sealed(lenient) == [b"", b""]


def test_a_key_of_another_store_key(lenient: Gateway) -> None:
    """What cannot be opened any more cannot be handed out: the device has to pair again."""
    old = VersionOne()
    lenient.approve(type_pin(lenient, old, lenient.pin()).request_id)
    lenient.identity.sealer = Sealer(bytes(range(32)), entropy=lenient.entropy)
    lenient.restart()
    with pytest.raises(PairingSessionUnknown):
        lenient.status(old.old_question())


def test_the_key_is_nowhere_in_clear(lenient: Gateway, tmp_path: Path) -> None:
    """Sealed in the store, absent from the snapshot, from logs and from what values show."""
    old = VersionOne()
    with capturedLogs() as events:
        answer = paired(lenient, old)
        result_of(lenient.store.write_snapshot(tmp_path / "snapshot.json"))
    secret = "".join(answer.private_key_pem.splitlines()[1:-1])[:40]
    assert len(secret) == 40
    shown = repr(answer) + repr(lenient.store.store.__dict__) + repr(lenient.requests.__dict__)
    shown += (tmp_path / "snapshot.json").read_text()
    shown += "".join(str(formatEvent(event)) for event in events)
    (kept,) = sealed(lenient)
    assert secret not in shown and kept and kept.hex() not in shown


# -- guesses ---------------------------------------------------


def test_wrong_pins_in_clear_are_counted(lenient: Gateway) -> None:
    """As any other guess: by source, by code, and the fifth burns it."""
    code = lenient.pin()
    for address in sources(2) + sources(2) + sources(1):
        with pytest.raises(PairingFailed) as caught:
            type_pin(lenient, VersionOne(), wrong(code), address)
        assert caught.value.pin
    with pytest.raises(PairingFailed):
        type_pin(lenient, VersionOne(), code)
    with pytest.raises(PairingLimited):
        begin(lenient, code, "198.51.100.1")
    assert [each.failed for each in lenient.codes.burnt()] == [5]


@pytest.mark.parametrize("text", ["abc", "21-123456", "20-123456", "12345", "A" * 22])
def test_what_is_no_pin(lenient: Gateway, text: str) -> None:
    """Whatever is sent, a session opens and its proof fails: nobody learns what is active."""
    lenient.pin()
    opened = lenient.open(text, method=CodeMethod.PIN)
    with pytest.raises(PairingFailed):
        lenient.complete(VersionOne().old_proof(opened, text))
    assert failures(lenient) == [(HOME, 1)] and failed_tries(lenient) == [0]


def test_the_proof_is_what_the_session_was_opened_with(lenient: Gateway) -> None:
    """Another PIN in the proof is a guess, also where one of the two is right."""
    code = lenient.pin()
    for opened_with, proved in ((code, wrong(code)), (wrong(code), code)):
        opened = begin(lenient, opened_with)
        with pytest.raises(PairingFailed):
            lenient.complete(VersionOne().old_proof(opened, str(proved)))
    assert failed_tries(lenient) == [2]


def test_a_fault_is_no_guess(lenient: Gateway) -> None:
    """A signature that does not hold is refused with its reason, five times at most."""
    code = lenient.pin()
    for _ in range(5):
        proof = VersionOne().old_proof(begin(lenient, code), str(code))
        with pytest.raises(VerificationFailed):
            lenient.complete(attrs.evolve(proof, transcript_mac=bytes(32)))
    assert failed_tries(lenient) == [0] and failures(lenient) == []
    with pytest.raises(PairingFailed):
        type_pin(lenient, VersionOne(), code)


def test_a_pin_in_clear_is_used_once(lenient: Gateway) -> None:
    """Two sessions with the right PIN: one request."""
    code = lenient.pin()
    proofs = [VersionOne(seed).old_proof(begin(lenient, code), str(code)) for seed in (1, 2)]
    lenient.complete(proofs[0])
    with pytest.raises(PairingFailed):
        lenient.complete(proofs[1])
    assert len(lenient.all_requests()) == 1


def test_the_pause_is_theirs_too(lenient: Gateway) -> None:
    """Fifty failures over all sources: no PIN is taken in whatever form."""
    code = lenient.pin()
    proof = VersionOne().old_proof(begin(lenient, code), str(code))
    for address in sources(50):
        lenient.ledger.proof_failed(address, lenient.now_ms())
    with pytest.raises(PairingPaused):
        begin(lenient, code)
    with pytest.raises(PairingPaused):
        lenient.complete(proof)
    assert failed_tries(lenient) == [0]
