"""A CSR proves a key and carries nothing else."""

from __future__ import annotations

import contextlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AttributeOID, NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra.errors import VerificationFailed
from palyra.pki.csr import MAX_CSR_BYTES, check_csr, make_csr

from .conftest import DEVICE, name

KEY = ec.generate_private_key(ec.SECP256R1())
GOOD = make_csr(KEY, DEVICE)
BUILDER = x509.CertificateSigningRequestBuilder()


def signed(
    builder: x509.CertificateSigningRequestBuilder, key: ec.EllipticCurvePrivateKey
) -> bytes:
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def refusal(der: bytes) -> str:
    with pytest.raises(VerificationFailed) as refused:
        check_csr(der, DEVICE)
    return refused.value.what


def test_round_trip() -> None:
    """A device's own CSR yields exactly its key."""
    assert check_csr(GOOD, DEVICE) == KEY.public_key()


def test_subject() -> None:
    """The subject is one CN, equal to the device id."""
    twice = x509.Name([*name(DEVICE), *name(DEVICE)])
    organization = x509.NameAttribute(NameOID.ORGANIZATION_NAME, DEVICE)
    for subject in (
        name("x"),
        x509.Name([]),
        twice,
        x509.Name([organization]),
        x509.Name([organization, *name(DEVICE)]),
    ):
        assert "subject" in refusal(signed(BUILDER.subject_name(subject), KEY))


def test_nothing_else() -> None:
    """Requested extensions and other attributes are refused."""
    plain = BUILDER.subject_name(name(DEVICE))
    constraints = x509.BasicConstraints(ca=True, path_length=None)
    assert "more" in refusal(signed(plain.add_extension(constraints, critical=True), KEY))
    challenge = plain.add_attribute(AttributeOID.CHALLENGE_PASSWORD, b"x")
    assert "more" in refusal(signed(challenge, KEY))


def test_key() -> None:
    """Only ECDSA P-256 keys are taken."""
    plain = BUILDER.subject_name(name(DEVICE))
    assert "P-256" in refusal(signed(plain, ec.generate_private_key(ec.SECP384R1())))
    other = plain.sign(rsa.generate_private_key(65537, 2048), hashes.SHA256())
    assert "P-256" in refusal(other.public_bytes(Encoding.DER))


def test_signature() -> None:
    """A CSR whose signature does not hold proves no key."""
    twin = make_csr(ec.generate_private_key(ec.SECP256R1()), DEVICE)
    assert "signature" in refusal(GOOD.replace(_point(GOOD), _point(twin)))


def test_size() -> None:
    """Over 4 KiB nothing is parsed; trailing bytes do not parse."""
    assert "4 KiB" in refusal(GOOD + b"\0" * MAX_CSR_BYTES)
    assert "parse" in refusal(GOOD + b"\0")


@settings(max_examples=100, deadline=None)
@given(at=st.integers(0, 2000), piece=st.binary(max_size=3), noise=st.binary(max_size=200))
def test_outside_bytes(at: int, piece: bytes, noise: bytes) -> None:
    """Damaged or random bytes yield the key itself or VerificationFailed, never another key."""
    place = at % len(GOOD)
    for der in (GOOD[:place] + piece + GOOD[place + 1 :], noise):
        with contextlib.suppress(VerificationFailed):
            assert check_csr(der, DEVICE) == KEY.public_key()


def _point(der: bytes) -> bytes:
    """The uncompressed point in a CSR."""
    start = der.index(b"\x03\x42\x00\x04") + 4
    return der[start : start + 64]
