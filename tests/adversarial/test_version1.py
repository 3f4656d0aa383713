"""Version-1 devices: refused by default; where they are allowed, a key is handed out once."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from tests.adversarial.device import Device, parts, wrong
from tests.adversarial.house import Gateway, running
from tests.adversarial.wire import CALL_S, messages

FAILED = ("FAILED_PRECONDITION", "pairing_failed")
CSR_REQUIRED = ("FAILED_PRECONDITION", "csr_required")
ALLOWED = "[enrolment]\nallow_v1_codes = true\nallow_gateway_made_keys = true\n"


@pytest.fixture(scope="module")
def config() -> str:
    """Both permissions."""
    return ALLOWED


def in_clear(pin: str) -> messages.BeginPairingSessionRequest:
    """Begin as version 1 has it: the code itself."""
    message = messages.BeginPairingSessionRequest(v=1, client_kind="node")
    message.method.pin_code = pin
    return message


def finish(device: Device, opened: Any, code: str) -> Any:
    """Complete as version 1 has it: the code as proof, no CSR."""
    message = device.answer(opened, "", proof=code, enrolment=False)
    return device.complete(message)


def ask(device: Device, session_id: str) -> Any:
    """The status question as version 1 has it: without a proof."""
    message = messages.GetPairingRequestStatusRequest(v=1, session_id=session_id)
    message.device_id.ulid = device.device_id
    with device.enrolment() as stub:
        return stub.GetPairingRequestStatus(message, timeout=CALL_S)


def register(device: Device, pem: bytes, key: Any) -> Any:
    """RegisterNode of a version-1 node."""
    message = messages.RegisterNodeRequest(v=1, platform="linux")
    message.device_id.ulid = device.device_id
    message.capabilities.add(name="echo", available=True)
    with device.node_rpc(pem, key) as stub:
        return stub.RegisterNode(message, timeout=CALL_S)


@pytest.mark.parametrize("permission", ["allow_v1_codes", "allow_gateway_made_keys"])
def test_one_permission_is_none(permission: str) -> None:
    """With only one of the two, neither a PIN in clear nor a token will do."""
    with running(f"[enrolment]\n{permission} = true\n") as gateway:
        code, token = gateway.pin(), gateway.token()
        with gateway.unmoved(but=code, guesses=None):
            for offer, proof in (("pin", parts(code.pin)[1]), ("token", token)):
                device = Device(gateway)
                device.secrets |= {proof}

                def pair(device: Device = device, offer: str = offer, proof: str = proof) -> Any:
                    begun = in_clear(proof) if offer == "pin" else device.offer_token(proof)
                    return finish(device, device.begin(begun), proof)

                assert device.refused(pair).kind in (FAILED, CSR_REQUIRED)
        Device(gateway).pair_by_pin(code.pin)
        Device(gateway).pair_by_token(token)


@pytest.mark.parametrize("method", ["pin", "token"])
def test_a_key_is_handed_out_until_it_is_used(gateway: Gateway, method: str) -> None:
    """Paired after an approval; certificate and key come together, and the key is then gone."""
    device = Device(gateway, method)
    if method == "pin":
        proof = parts(gateway.pin().pin)[1]
        opened = device.begin(in_clear(proof))
    else:
        proof = gateway.token()
        opened = device.begin(device.offer_token(proof))
    answer = finish(device, opened, proof)
    session_id = opened.session_id
    assert not answer.paired and not answer.mtls_client_private_key_pem
    waiting = ask(device, session_id)
    assert waiting.status == "pending_approval" and not waiting.mtls_client_private_key_pem
    gateway.approve(answer.request_id)
    given = ask(device, session_id)
    again = ask(device, session_id)
    assert given.mtls_client_private_key_pem == again.mtls_client_private_key_pem
    assert given.mtls_client_certificate_pem == again.mtls_client_certificate_pem
    assert given.gateway_ca_certificate_pem.encode() == gateway.ca_pem
    key: Any = load_pem_private_key(given.mtls_client_private_key_pem.encode(), None)
    pem = given.mtls_client_certificate_pem.encode()
    assert x509.load_pem_x509_certificate(pem).public_key() == key.public_key()
    assert not kept(gateway, key), "the key is on disk in clear"
    assert register(device, pem, key).accepted
    after = ask_or_nothing(device, session_id)
    assert not after, "the key was handed out again after its certificate was used"
    assert [row for row in gateway.rows("pairing_requests", "sealed_key") if row[0]] == []


def ask_or_nothing(device: Device, session_id: str) -> str:
    """The private key in the answer to a status question, if there still is an answer."""
    try:
        return str(ask(device, session_id).mtls_client_private_key_pem)
    except Exception:
        return ""


def kept(gateway: Gateway, key: Any) -> bool:
    """Whether a private key is in a file of the state root, or in the log, in clear."""
    secret = key.private_numbers().private_value.to_bytes(32, "big")
    assert key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    files = [file for file in gateway.root.rglob("*") if file.is_file()]
    texts = [file.read_bytes() for file in (*files, gateway.process.log)]
    return any(secret in text or secret.hex().encode() in text for text in texts)


def test_a_session_id_alone_is_not_enough(gateway: Gateway) -> None:
    """The key goes to the device id of the request; a wrong id learns not even that it exists."""
    device, thief = Device(gateway), Device(gateway)
    token = gateway.token()
    opened = device.begin(device.offer_token(token))
    answer = finish(device, opened, token)
    gateway.approve(answer.request_id)
    with gateway.unmoved():
        refusal = thief.refused(ask, thief, opened.session_id)
        assert refusal.kind == ("FAILED_PRECONDITION", "pairing_session_unknown")
        refusal = thief.refused(ask, thief, "0" * 32)
        assert refusal.kind == ("FAILED_PRECONDITION", "pairing_session_unknown")


def test_a_device_with_a_csr_still_proves_itself(gateway: Gateway) -> None:
    """The permission is for version-1 requests: others are asked for their status proof."""
    device = Device(gateway)
    opened, answer = device.pair_by_token(gateway.token())
    gateway.approve(answer.request_id)
    with gateway.unmoved():
        refusal = device.refused(ask, device, opened.session_id)
    assert refusal.status in ("FAILED_PRECONDITION", "INVALID_ARGUMENT")
    assert device.accept(device.status(opened.session_id)).register().accepted


def test_wrong_pins_in_clear_are_guesses(gateway: Gateway) -> None:
    """Each is charged to its source, and a source has three; the code is burnt by five."""
    code = gateway.pin()
    attacker = Device(gateway)
    tried = code.pin
    with gateway.unmoved(but=code, guesses=3):
        for _ in range(3):
            tried = wrong(tried)
            pin = parts(tried)[1]
            refusal = attacker.refused(finish, attacker, attacker.begin(in_clear(pin)), pin)
            assert refusal.kind == FAILED
        assert gateway.tries(attacker.source) == 3
        refusal = attacker.refused(attacker.begin, in_clear(parts(code.pin)[1]))
        assert refusal.kind == ("RESOURCE_EXHAUSTED", "pairing_limited")
    Device(gateway).pair_by_pin(code.pin)


def test_a_swapped_proof_is_a_guess(gateway: Gateway) -> None:
    """Begin with the right PIN and Complete with another: refused, and nothing recorded."""
    code, device = gateway.pin(), Device(gateway)
    opened = device.begin(in_clear(parts(code.pin)[1]))
    with gateway.unmoved(but=code, guesses=None):
        refusal = device.refused(finish, device, opened, parts(wrong(code.pin))[1])
        assert refusal.kind == FAILED
    Device(gateway).pair_by_pin(code.pin)


def test_a_device_with_a_csr_renews_with_one(gateway: Gateway) -> None:
    """Whoever stole only the TLS key of a device that makes its own does not get another one."""
    device = Device(gateway).enrol()
    assert device.register().accepted
    message = messages.RotateDeviceCertificateRequest(v=1)
    message.device_id.ulid = device.device_id
    with gateway.unmoved():
        refusal = device.refused(device.rotate, message)
    assert refusal.kind == CSR_REQUIRED
