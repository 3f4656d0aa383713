"""Renewal over mutual TLS: only of oneself, only over a live certificate, once a request."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from tests.adversarial import forging
from tests.adversarial.device import Device, der_of
from tests.adversarial.forging import csr, fresh_key
from tests.adversarial.house import Gateway
from tests.adversarial.wire import CALL_S, lp, messages, ulid

REFUSED = ("FAILED_PRECONDITION", "verification_failed")
SUPERSEDED = ("PERMISSION_DENIED", "certificate_superseded")


@pytest.fixture
def pi(gateway: Gateway) -> Device:
    """A device that is paired and has registered."""
    device = Device(gateway, "pi").enrol()
    assert device.register().accepted
    return device


def live(gateway: Gateway, device: Device) -> list[str]:
    """The states of a device's certificates that could still be used."""
    rows = gateway.rows("certificates", "device_id, state")
    return sorted(s for d, s in rows if d == device.device_id and s in ("current", "pending"))


def test_a_renewal_overlaps_and_then_replaces(gateway: Gateway, pi: Device) -> None:
    """The old certificate works until the new one has registered, and is superseded then."""
    key = fresh_key()
    answer = pi.rotate(pi.renewal(key))
    assert answer.rotated and not answer.mtls_client_private_key_pem and answer.renew_after_s > 0
    assert answer.ca_bundle_pem.encode() == gateway.ca_pem
    old_pem, old_key = pi.certificate_pem, pi.key
    assert live(gateway, pi) == ["current", "pending"]
    assert pi.register().accepted
    pi.key = key
    pi.accept(answer)
    assert pi.certificate_pem != old_pem
    assert pi.register().accepted
    assert live(gateway, pi) == ["current"]
    with gateway.unmoved():
        assert pi.refused(pi.register, old_pem, old_key).kind == SUPERSEDED


def test_the_same_request_gets_the_same_certificate(gateway: Gateway, pi: Device) -> None:
    """A lost answer changes nothing; two at once neither."""
    message = pi.renewal()
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: pi.rotate(message), range(4)))
    with gateway.unmoved():
        answers.append(pi.rotate(message))
    assert len({answer.mtls_client_certificate_pem for answer in answers}) == 1
    assert live(gateway, pi) == ["current", "pending"]


def test_there_are_never_more_than_two(gateway: Gateway, pi: Device) -> None:
    """Each further request replaces the one that was never used."""
    answers = [pi.rotate(pi.renewal()) for _ in range(3)]
    assert live(gateway, pi) == ["current", "pending"]
    assert len({answer.mtls_client_certificate_pem for answer in answers}) == 3
    assert pi.register().accepted


def other_ca(device: Device) -> messages.RotateDeviceCertificateRequest:
    """Signed for another gateway."""
    stranger = Device(device.gateway, device_id=device.device_id)
    stranger.identity, stranger.ca_der = device.identity, forging.strange_root().der
    return stranger.renewal(over=device.certificate_pem)


def other_key(device: Device) -> messages.RotateDeviceCertificateRequest:
    """Signed by somebody else's identity key."""
    thief = Device(device.gateway, device_id=device.device_id)
    return thief.renewal(over=device.certificate_pem)


def tls_key(device: Device) -> messages.RotateDeviceCertificateRequest:
    """Signed by the key of the certificate, as a thief of the TLS key could."""
    message = device.renewal()
    signature = device.key.sign(b"palyra-renew-v1", ec.ECDSA(SHA256()))
    message.identity_signature = signature[:64].ljust(64, b"\x00")
    return message


def other_connection(device: Device) -> messages.RotateDeviceCertificateRequest:
    """Signed for the connection of another certificate."""
    other = Device(device.gateway).enrol()
    return device.renewal(over=other.certificate_pem)


def without_prefixes(device: Device) -> messages.RotateDeviceCertificateRequest:
    """The same fields signed without their lengths."""
    message = device.renewal()
    fields = (b"palyra-renew-v1", device.device_id.encode(), device.ca)
    message.identity_signature = device.identity.sign(b"".join(fields))
    return message


def other_purpose(device: Device) -> messages.RotateDeviceCertificateRequest:
    """A status proof's payload in the place of a renewal's."""
    message = device.renewal()
    message.identity_signature = device.identity.sign(
        lp(b"palyra-status-v1", b"0" * 32, device.device_id.encode(), device.ca, bytes(8))
    )
    return message


def swapped(device: Device) -> messages.RotateDeviceCertificateRequest:
    """Another request than the one that was signed."""
    message = device.renewal()
    message.csr_der = csr(fresh_key(), device.device_id)
    return message


def asking(make: Callable[[Device], bytes]) -> Callable[[Device], Any]:
    """An honest signature over a strange request."""
    return lambda device: device.renewal(csr=make(device))


STRANGE: dict[str, Callable[[Device], messages.RotateDeviceCertificateRequest]] = {
    "for another CA": other_ca,
    "by another key": other_key,
    "by the TLS key": tls_key,
    "for another connection": other_connection,
    "without prefixes": without_prefixes,
    "of another purpose": other_purpose,
    "swapped": swapped,
    "of another device": asking(lambda device: csr(fresh_key(), ulid())),
    "to be a CA": asking(
        lambda device: csr(fresh_key(), device.device_id, x509.BasicConstraints(True, None))
    ),
    "RSA": asking(lambda device: csr(rsa.generate_private_key(65537, 2048), device.device_id)),
    "garbage": asking(lambda device: bytes(100)),
    "more after it": asking(lambda device: csr(fresh_key(), device.device_id) + b"\x00"),
}


def test_a_strange_renewal_is_refused(gateway: Gateway, pi: Device) -> None:
    """Whatever does not hold changes nothing: the device goes on with what it has."""
    for what, make in STRANGE.items():
        message = make(pi)
        with gateway.unmoved():
            refusal = pi.refused(pi.rotate, message)
        assert refusal.kind == REFUSED, (what, refusal)
    assert pi.register().accepted


def test_a_renewal_of_another_form_is_refused(gateway: Gateway, pi: Device) -> None:
    """No request, no signature, too much of either, and an id that is none."""
    changes: list[Callable[[Any], object]] = [
        lambda m: setattr(m, "identity_signature", b""),
        lambda m: setattr(m, "identity_signature", bytes(63)),
        lambda m: setattr(m, "identity_signature", bytes(65)),
        lambda m: setattr(m, "csr_der", m.csr_der.ljust(4_097, b"\x00")),
        lambda m: setattr(m, "v", 2),
        lambda m: setattr(m.device_id, "ulid", "nobody"),
    ]
    with gateway.unmoved():
        for change in changes:
            message = pi.renewal()
            change(message)
            refusal = pi.refused(pi.rotate, message)
            assert refusal.status == "INVALID_ARGUMENT", (message, refusal)
        version_1 = messages.RotateDeviceCertificateRequest(v=1)
        version_1.device_id.ulid = pi.device_id
        refusal = pi.refused(pi.rotate, version_1)
        assert refusal.kind == ("FAILED_PRECONDITION", "csr_required")


def test_nobody_renews_for_another_device(gateway: Gateway, pi: Device) -> None:
    """Another id over one's own certificate, whoever signed it."""
    victim = Device(gateway, "victim").enrol()
    theirs = victim.renewal(over=pi.certificate_pem)
    mine = pi.renewal()
    mine.device_id.ulid = victim.device_id
    with gateway.unmoved():
        for message in (theirs, mine):
            refusal = pi.refused(pi.rotate, message)
            assert refusal.kind == ("PERMISSION_DENIED", "device_mismatch")


def test_a_recorded_renewal_is_worthless_over_another_certificate(
    gateway: Gateway, pi: Device
) -> None:
    """The signature names the connection: replayed over the new certificate it does not hold."""
    key = fresh_key()
    recorded = pi.renewal(key)
    answer = pi.rotate(recorded)
    pi.key = key
    pi.accept(answer)
    assert pi.register().accepted
    with gateway.unmoved():
        assert pi.refused(pi.rotate, recorded).kind == REFUSED


def test_a_superseded_certificate_renews_nothing(gateway: Gateway, pi: Device) -> None:
    """Its holder, thief or clone, is told to rejoin; the owner's certificate stays."""
    old_pem, old_key, key = pi.certificate_pem, pi.key, fresh_key()
    answer = pi.rotate(pi.renewal(key))
    pi.key = key
    pi.accept(answer)
    assert pi.register().accepted
    message = pi.renewal(over=old_pem)
    with gateway.unmoved(), pi.node_rpc(old_pem, old_key) as stub:
        refusal = pi.refused(stub.RotateDeviceCertificate, message, timeout=CALL_S)
    assert refusal.kind == SUPERSEDED
    assert pi.register().accepted


def test_a_revoked_device_renews_nothing(gateway: Gateway, pi: Device) -> None:
    """Neither over the current nor over the pending certificate."""
    key = fresh_key()
    pending = pi.rotate(pi.renewal(key)).mtls_client_certificate_pem.encode()
    gateway.revoke(pi.device_id, "stolen")
    current, over_pending = pi.renewal(), pi.renewal(over=pending)
    with gateway.unmoved():
        assert pi.refused(pi.rotate, current).code == "device_revoked"
        with pi.node_rpc(pending, key) as stub:
            refusal = pi.refused(stub.RotateDeviceCertificate, over_pending, timeout=CALL_S)
        assert refusal.code == "device_revoked"
        assert pi.refused(pi.register, pending, key).code == "device_revoked"


def test_a_renewed_certificate_says_no_more_than_the_first(gateway: Gateway, pi: Device) -> None:
    """One URI SAN, clientAuth, no CA, at most a day, begun minutes ago: whatever was asked."""
    leaf = x509.load_der_x509_certificate(
        der_of(pi.rotate(pi.renewal()).mtls_client_certificate_pem)
    )
    extension = leaf.extensions.get_extension_for_class
    names = extension(x509.SubjectAlternativeName).value
    assert [type(name) for name in names] == [x509.UniformResourceIdentifier]
    assert names[0].value == f"spiffe://palyra/device/{pi.device_id}"
    assert list(extension(x509.ExtendedKeyUsage).value) == [forging.CLIENT]
    assert extension(x509.BasicConstraints).value.ca is False
    assert leaf.not_valid_after_utc <= forging.now() + forging.DAY
    assert leaf.not_valid_before_utc <= forging.now() - 4 * forging.HOUR / 60
