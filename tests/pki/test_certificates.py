"""What is taken for a certificate at all."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra.errors import CertificateRefused, Malformed, PalyraError
from palyra.pki.authority import Authority
from palyra.pki.certificates import (
    GATEWAY_TLS_NAME,
    Role,
    Subject,
    certificate_fingerprint,
    parse_subject,
    read_certificate,
    read_root,
)

from .conftest import DEVICE, NOW_MS, Forger, moment, name, usage

OTHER_CURVE = ec.generate_private_key(ec.SECP384R1()).public_key()
GATEWAY_URI = ["spiffe://palyra.test/gateway/g1"]
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")


def test_subject_round_trip() -> None:
    """A subject's URI names the same subject again, for each role."""
    for role in Role:
        subject = Subject(role, DEVICE, "palyra.test")
        assert subject.uri == f"spiffe://palyra.test/{role.value}/{DEVICE}"
        assert parse_subject(subject.uri) == subject


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "https://palyra.test/device/" + DEVICE,
        "spiffe://palyra.test/device",
        "spiffe://palyra.test/device/",
        f"spiffe://palyra.test/device/{DEVICE}/x",
        f"spiffe://palyra.test/device/{DEVICE}\n",
        f"spiffe://palyra.test/device/{DEVICE}?x=1",
        f"spiffe://palyra.test/device/{DEVICE.lower()}",
        "spiffe://palyra.test/device/not-a-ulid",
        "spiffe://palyra.test/admin/x",
        "spiffe://palyra.test/operator/..",
        "spiffe://palyra.test/operator/" + "x" * 65,
        f"spiffe://Palyra.test/device/{DEVICE}",
        f"spiffe://u@palyra.test/device/{DEVICE}",
    ],
)
def test_uri_refused(uri: str) -> None:
    """A URI that is not exactly a trust domain, a role and an id is malformed."""
    with pytest.raises(CertificateRefused) as refused:
        parse_subject(uri)
    assert refused.value.reason == "malformed"


def test_subject_refuses_what_has_no_uri() -> None:
    """A subject that could not be read back cannot be made."""
    with pytest.raises(Malformed, match="trust_domain"):
        Subject(Role.GATEWAY, "g1", "a/b")
    with pytest.raises(Malformed, match="gateway_id"):
        Subject(Role.GATEWAY, "a/b", "palyra.test")


def test_read_issued(authority: Authority, key: ec.EllipticCurvePrivateKey) -> None:
    """What the authority issued is read back as what it was issued for."""
    issued = authority.issue_device(key.public_key(), DEVICE, NOW_MS)
    peer = read_certificate(issued.pem)
    assert peer.subject == Subject(Role.DEVICE, DEVICE, "palyra.test")
    assert (peer.not_before_ms, peer.not_after_ms) == (issued.not_before_ms, issued.not_after_ms)
    assert peer.eku == (ExtendedKeyUsageOID.CLIENT_AUTH.dotted_string,)
    assert peer.public_key == key.public_key()
    assert peer.fingerprint == issued.fingerprint
    assert certificate_fingerprint(peer.certificate) == certificate_fingerprint(peer.der)
    assert "BEGIN" not in repr(peer) and "\\x" not in repr(peer)


@pytest.mark.parametrize(
    "asked",
    [
        {"uris": []},
        {"uris": [f"spiffe://palyra.test/device/{DEVICE}", *GATEWAY_URI]},
        {"uris": [f"spiffe://palyra.test/device/{DEVICE}"] * 2},
        {"names": [x509.DNSName(GATEWAY_TLS_NAME)]},
        {"names": [x509.RFC822Name("a@b.test")]},
        {"uris": GATEWAY_URI},
        {"uris": GATEWAY_URI, "names": [x509.DNSName("localhost")]},
        {"extensions": {x509.SubjectAlternativeName: None}},
        {"extensions": {x509.ExtendedKeyUsage: None}},
        {"extensions": {x509.BasicConstraints: None}},
        {"extensions": {x509.BasicConstraints: x509.BasicConstraints(True, 0)}},
        {"extensions": {x509.KeyUsage: None}},
        {"extensions": {x509.KeyUsage: usage("key_agreement")}},
        {"extensions": {x509.KeyUsage: usage("digital_signature", "key_cert_sign")}},
        {"extensions": {x509.KeyUsage: usage("digital_signature", "crl_sign")}},
        {"extensions": {object: UNKNOWN}},
        {"public_key": OTHER_CURVE},
        {"public_key": ed25519.Ed25519PrivateKey.generate().public_key()},
    ],
)
def test_shape_refused(mint: Forger, asked: dict[str, Any]) -> None:
    """More or less than one role in one P-256 leaf is malformed, whoever signed it."""
    with pytest.raises(CertificateRefused) as refused:
        read_certificate(mint.sign(**asked))
    assert refused.value.reason == "malformed"


def test_unknown_extension_that_is_not_critical(mint: Forger) -> None:
    """An extension that is not critical may be unknown."""
    pem = mint.sign(extensions={object: UNKNOWN}, critical=False)
    assert read_certificate(pem).subject.id == DEVICE


def test_one_certificate_only(mint: Forger) -> None:
    """Two certificates in one PEM, none, or an overlong PEM are malformed."""
    pem = mint.sign()
    for wrong in (pem + pem, b"", b"\n" * 17_000 + pem):
        with pytest.raises(CertificateRefused, match="malformed"):
            read_certificate(wrong)


def test_root_read(authority: Authority) -> None:
    """The authority's own certificate is fit to be an only root."""
    assert read_root(authority.ca_der) == authority.ca_certificate


def root(key: Any, **asked: Any) -> bytes:
    """The DER of something like a root."""
    builder = x509.CertificateBuilder(
        issuer_name=asked.get("issuer", name("root")),
        subject_name=name("root"),
        public_key=asked.get("public_key", key.public_key()),
        serial_number=7,
        not_valid_before=moment(NOW_MS),
        not_valid_after=moment(NOW_MS + 1000),
    )
    constraints = asked.get("constraints", x509.BasicConstraints(True, 0))
    builder = builder.add_extension(constraints, critical=True)
    builder = builder.add_extension(asked.get("usage", usage("key_cert_sign")), critical=True)
    for extension in asked.get("more", []):
        builder = builder.add_extension(extension, critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


@pytest.mark.parametrize(
    "asked",
    [
        {"constraints": x509.BasicConstraints(False, None)},
        {"constraints": x509.BasicConstraints(True, None)},
        {"constraints": x509.BasicConstraints(True, 1)},
        {"usage": usage("digital_signature")},
        {"issuer": name("another")},
        {"more": [UNKNOWN]},
    ],
)
def test_root_refused(key: ec.EllipticCurvePrivateKey, asked: dict[str, Any]) -> None:
    """Only a self-signed P-256 certificate of an authority without intermediates is a root."""
    assert read_root(root(key))
    with pytest.raises(CertificateRefused, match="malformed"):
        read_root(root(key, **asked))


def test_root_forged(authority: Authority, key: ec.EllipticCurvePrivateKey) -> None:
    """A root that carries the right key, made by one who has not that key, is no root."""
    with pytest.raises(CertificateRefused, match="malformed"):
        read_root(root(key, public_key=authority.ca_key.public_key()))
    with pytest.raises(CertificateRefused, match="malformed"):
        read_root(root(ec.generate_private_key(ec.SECP384R1())))


@pytest.fixture(scope="module")
def leaf_pem(mint: Forger) -> bytes:
    return mint.sign()


@settings(max_examples=100, deadline=None)
@given(at=st.integers(0, 2000), piece=st.binary(max_size=3), noise=st.binary(max_size=200))
def test_outside_bytes(
    at: int, piece: bytes, noise: bytes, leaf_pem: bytes, authority: Authority
) -> None:
    """No bytes, random or a damaged certificate, raise anything but our own errors."""
    for good, read in ((leaf_pem, read_certificate), (authority.ca_der, read_root)):
        place = at % len(good)
        for encoded in (good[:place] + piece + good[place + 1 :], noise):
            with contextlib.suppress(PalyraError):
                read(encoded)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=80) | st.from_regex(r"spiffe://[^/]*/[a-z]*/[0-9A-Z]{0,27}"))
def test_outside_uris(text: str) -> None:
    """A URI is a subject that writes itself the same way, or malformed."""
    try:
        assert parse_subject(text).uri == text
    except CertificateRefused as refused:
        assert refused.reason == "malformed"
