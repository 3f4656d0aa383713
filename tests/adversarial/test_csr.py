"""Requests for certificates that ask for something else than a certificate of the device's key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tests.adversarial import forging
from tests.adversarial.device import Device
from tests.adversarial.forging import csr, fresh_key
from tests.adversarial.house import Gateway
from tests.adversarial.wire import ulid

REFUSED = ("FAILED_PRECONDITION", "verification_failed")


def spoilt(device: Device) -> bytes:
    """A request whose own signature does not hold."""
    der = bytearray(csr(device.key, device.device_id))
    der[-1] ^= 1
    return bytes(der)


def of_another_key(device: Device) -> bytes:
    """A request for somebody else's key: the signature is the device's, the key is not."""
    mine, other = csr(device.key, device.device_id), csr(fresh_key(), device.device_id)
    point = ec_point(other)
    return mine.replace(ec_point(mine), point)


def ec_point(der: bytes) -> bytes:
    """The public point in a request."""
    key: Any = x509.load_der_x509_csr(der).public_key()
    numbers = key.public_numbers()
    x, y = int(numbers.x), int(numbers.y)
    return b"\x04" + x.to_bytes(32, "big") + y.to_bytes(32, "big")


def two_names(device: Device) -> bytes:
    """A request for the device's id and for another name."""
    names = [x509.NameAttribute(NameOID.COMMON_NAME, each) for each in (device.device_id, "root")]
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(names))
    return builder.sign(device.key, SHA256()).public_bytes(Encoding.DER)


def with_extension(extension: x509.ExtensionType) -> Callable[[Device], bytes]:
    """A request that asks for an extension."""
    return lambda device: csr(device.key, device.device_id, extension)


URI = x509.UniformResourceIdentifier("spiffe://palyra/operator/root")
REQUESTS: dict[str, Callable[[Device], bytes]] = {
    "of another device": lambda device: csr(device.key, ulid()),
    "of an operator": lambda device: csr(device.key, "operator/root"),
    "with two names": two_names,
    "to be a CA": with_extension(x509.BasicConstraints(ca=True, path_length=None)),
    "to be an operator": with_extension(x509.SubjectAlternativeName([URI])),
    "to be a gateway": with_extension(x509.ExtendedKeyUsage([forging.SERVER])),
    "to be a server": with_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")])),
    "of an RSA key": lambda device: csr(rsa.generate_private_key(65537, 2048), device.device_id),
    "of a P-384 key": lambda device: csr(ec.generate_private_key(ec.SECP384R1()), device.device_id),
    "of a P-256K1 key": lambda device: csr(
        ec.generate_private_key(ec.SECP256K1()), device.device_id
    ),
    "of an Ed25519 key": lambda device: csr(ed25519.Ed25519PrivateKey.generate(), device.device_id),
    "with a broken signature": spoilt,
    "of somebody else's key": of_another_key,
    "with more after it": lambda device: csr(device.key, device.device_id) + b"\x00",
    "twice": lambda device: csr(device.key, device.device_id) * 2,
    "of nothing": lambda device: b"\x30\x00",
    "of garbage": lambda device: bytes(range(256)),
}


@pytest.mark.parametrize("request_for", REQUESTS)
def test_a_strange_request_is_refused(gateway: Gateway, device: Device, request_for: str) -> None:
    """It is refused, nothing is issued, and the code is not used up."""
    token = gateway.token()
    device.csr = REQUESTS[request_for](device)
    opened = device.begin(device.offer_token(token))
    message = device.answer(opened, "pair-uri", proof=token)
    device.secrets |= {token}
    with gateway.unmoved():
        assert device.refused(device.complete, message).kind == REFUSED
    assert gateway.tries(device.source) == 0


def test_a_device_without_a_request_is_refused(gateway: Gateway, device: Device) -> None:
    """Version 1 would have the gateway make the key: not unless the operator allows it."""
    token = gateway.token()
    opened = device.begin(device.offer_token(token))
    message = device.answer(opened, "pair-uri", proof=token, enrolment=False)
    with gateway.unmoved():
        refusal = device.refused(device.complete, message)
    assert refusal.kind == ("FAILED_PRECONDITION", "csr_required")
    assert device.pair_by_token(token)[1].request_id


@pytest.mark.parametrize("size", [4_097, 60_000])
def test_an_oversized_request_is_not_looked_at(gateway: Gateway, device: Device, size: int) -> None:
    """More than 4 KiB is invalid, whatever is in it."""
    token = gateway.token()
    device.csr = csr(device.key, device.device_id).ljust(size, b"\x00")
    opened = device.begin(device.offer_token(token))
    message = device.answer(opened, "pair-uri", proof=token)
    with gateway.unmoved():
        assert device.refused(device.complete, message).status == "INVALID_ARGUMENT"


def test_what_was_signed_cannot_be_swapped(gateway: Gateway, device: Device) -> None:
    """CSR, announcement, identity key, X25519 key, device id, kind and MAC: all are bound."""
    other = Device(gateway, device_id=device.device_id)
    honest = other.begin(other.offer_token(gateway.token()))
    theirs = other.answer(honest, "pair-uri")
    changes: dict[str, Callable[[Any], object]] = {
        "csr": lambda m: setattr(m.enrolment, "csr_der", other.csr),
        "announcement": lambda m: setattr(m.enrolment, "announcement", b'{"name":"innocent"}'),
        "identity key": lambda m: setattr(m, "device_signing_public", other.identity_public),
        "x25519": lambda m: setattr(m, "device_x25519_public", theirs.device_x25519_public),
        "device id": lambda m: setattr(m.device_id, "ulid", ulid()),
        "kind": lambda m: setattr(m, "client_kind", "desktop"),
        "mac": lambda m: setattr(m, "transcript_mac", theirs.transcript_mac),
        "sig": lambda m: setattr(
            m.enrolment, "identity_signature", theirs.enrolment.identity_signature
        ),
    }
    for what, change in changes.items():
        token = gateway.token()
        opened = device.begin(device.offer_token(token))
        message = device.answer(opened, "pair-uri", proof=token)
        change(message)
        with gateway.unmoved():
            refusal = device.refused(device.complete, message)
        assert refusal.kind == REFUSED, (what, refusal)


SMALL_ORDER = (
    bytes(32),
    (1).to_bytes(32, "little"),
    (2**255 - 20).to_bytes(32, "little"),
    (2**255 - 19).to_bytes(32, "little"),  # 0 again, not canonical
    (2**255 - 18).to_bytes(32, "little"),
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa"),
)


@pytest.mark.parametrize("key", SMALL_ORDER, ids=lambda key: key.hex()[:8])
def test_an_identity_key_of_small_order_is_refused(
    gateway: Gateway, device: Device, key: bytes
) -> None:
    """With such a key one signature holds for every message: it is nobody's."""
    token = gateway.token()
    opened = device.begin(device.offer_token(token))
    message = device.answer(opened, "pair-uri", proof=token)
    message.device_signing_public = key
    message.challenge_signature = (1).to_bytes(32, "little") + bytes(32)
    message.enrolment.identity_signature = (1).to_bytes(32, "little") + bytes(32)
    with gateway.unmoved():
        assert device.refused(device.complete, message).kind == REFUSED


def test_five_faults_use_a_code_up(gateway: Gateway) -> None:
    """A fault is no guess and charges no source, but a code takes only five of them."""
    token = gateway.token()
    for _ in range(5):
        device = Device(gateway)
        device.csr = csr(device.key, ulid())
        opened = device.begin(device.offer_token(token))
        message = device.answer(opened, "pair-uri", proof=token)
        refusal = device.refused(device.complete, message)
        assert refusal.kind == REFUSED
    late = Device(gateway)
    with gateway.unmoved():
        refusal = late.refused(late.pair_by_token, token)
    assert refusal.kind == ("FAILED_PRECONDITION", "pairing_failed")
