"""What the authority signs, and for how long."""

from __future__ import annotations

import ipaddress
import os

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store

from palyra.core.identifiers import sha256_hex
from palyra.errors import CertificateRefused, Malformed
from palyra.pki.authority import (
    DAY_MS,
    HOUR_MS,
    MINUTE_MS,
    Authority,
    IssuedCertificate,
    gateway_names,
)
from palyra.pki.certificates import Role, Subject, read_certificate

from .conftest import DEVICE, NOW_MS, Forger, moment


def parsed(issued: IssuedCertificate) -> x509.Certificate:
    return x509.load_der_x509_certificate(issued.der)


def test_root(authority: Authority) -> None:
    """The root is P-256, ten years long, signs certificates and CRLs, and bears its key id."""
    root = authority.ca_certificate
    usage = root.extensions.get_extension_for_class(x509.KeyUsage)
    basic = root.extensions.get_extension_for_class(x509.BasicConstraints)
    assert usage.critical and usage.value.key_cert_sign and usage.value.crl_sign
    assert not usage.value.digital_signature
    assert basic.critical and basic.value.ca and basic.value.path_length == 0
    assert 3649 <= (root.not_valid_after_utc - root.not_valid_before_utc).days <= 3651
    assert root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)


def test_root_hash(authority: Authority) -> None:
    """The CA hash is SHA-256 of the certificate's DER, in DER and PEM the same certificate."""
    assert authority.ca_hash == authority.ca_fingerprint == sha256_hex(authority.ca_der)
    pem = x509.load_pem_x509_certificate(authority.ca_pem)
    assert pem.public_bytes(Encoding.DER) == authority.ca_der


def test_roots_differ(authority: Authority) -> None:
    """Two roots have distinct names and key ids, so that rotation can tell them apart."""
    other = Authority.create(trust_domain="palyra.test", now_ms=NOW_MS, entropy=os.urandom)
    assert other.ca_certificate.subject != authority.ca_certificate.subject
    assert other.ca_hash != authority.ca_hash


def test_constructor_refuses(authority: Authority, key: ec.EllipticCurvePrivateKey) -> None:
    """An authority is a root with its own key, nothing else."""
    with pytest.raises(Malformed, match="ca_key"):
        Authority(authority.ca_certificate, key, trust_domain="t", entropy=os.urandom)
    leaf = parsed(authority.issue_device(key.public_key(), DEVICE, NOW_MS))
    with pytest.raises(CertificateRefused):
        Authority(leaf, key, trust_domain="t", entropy=os.urandom)


def test_device(authority: Authority, key: ec.EllipticCurvePrivateKey) -> None:
    """A device gets 24 hours from five minutes ago, one URI SAN and clientAuth only."""
    late = NOW_MS + 90 * DAY_MS
    issued = authority.issue_device(key.public_key(), DEVICE, late + 999)
    assert issued.not_before_ms == late - 5 * MINUTE_MS
    assert issued.not_after_ms == late + DAY_MS
    assert issued.issuer == authority.ca_hash
    certificate = parsed(issued)
    assert f"{certificate.serial_number:x}" == issued.serial
    assert certificate.public_key() == key.public_key()
    extensions = certificate.extensions
    eku = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(eku) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    basic = extensions.get_extension_for_class(x509.BasicConstraints)
    assert basic.critical and not basic.value.ca
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical and usage.value.digital_signature
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    uri = f"spiffe://palyra.test/device/{DEVICE}"
    assert list(names) == [x509.UniformResourceIdentifier(uri)]
    assert read_certificate(issued.pem).der == issued.der


def test_operator(authority: Authority, key: ec.EllipticCurvePrivateKey) -> None:
    """An operator gets 30 days, clientAuth only, and a URI SAN of the operator role."""
    issued = authority.issue_operator(key.public_key(), "ada", NOW_MS + DAY_MS)
    peer = read_certificate(issued.pem)
    assert peer.subject == Subject(Role.OPERATOR, "ada", "palyra.test")
    assert peer.not_after_ms == NOW_MS + 31 * DAY_MS
    assert peer.eku == (ExtendedKeyUsageOID.CLIENT_AUTH.dotted_string,)


def test_gateway(authority: Authority, key: ec.EllipticCurvePrivateKey) -> None:
    """A gateway gets 30 days from an hour ago, serverAuth only, and every name once."""
    names = ["Gate.Example.org", "10.0.0.7", "::1", "localhost", "bücher.example"]
    issued = authority.issue_gateway(key.public_key(), "g1", names, NOW_MS + DAY_MS)
    peer = read_certificate(issued.pem)
    assert peer.subject == Subject(Role.GATEWAY, "g1", "palyra.test")
    assert peer.eku == (ExtendedKeyUsageOID.SERVER_AUTH.dotted_string,)
    assert peer.not_before_ms == NOW_MS + DAY_MS - HOUR_MS
    assert peer.not_after_ms == NOW_MS + 31 * DAY_MS
    sans = peer.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert sans.get_values_for_type(x509.DNSName) == [
        "palyrad-node-rpc",
        "localhost",
        "gate.example.org",
        "xn--bcher-kva.example",
    ]
    addresses = [ipaddress.ip_address("10.0.0.7"), ipaddress.ip_address("::1")]
    assert sans.get_values_for_type(x509.IPAddress) == addresses


def test_chain_by_another_verifier(authority: Authority, key: ec.EllipticCurvePrivateKey) -> None:
    """A gateway's chain holds for a verifier that is not ours, under the fixed TLS name."""
    issued = authority.issue_gateway(key.public_key(), "g1", [], NOW_MS)
    store = Store([authority.ca_certificate])
    verifier = PolicyBuilder().store(store).time(moment(NOW_MS))
    chain = verifier.build_server_verifier(x509.DNSName("palyrad-node-rpc"))
    assert chain.verify(parsed(issued), [])[-1] == authority.ca_certificate


@pytest.mark.parametrize("bad", ["", "a b", "-x", "a..b", "x" * 64, "*", "a/b", "host\n"])
def test_names_refused(bad: str) -> None:
    """What is neither a host name nor an address never gets into a certificate."""
    with pytest.raises(Malformed, match="names"):
        gateway_names([bad])


def test_dates_stay_inside_the_root(authority: Authority, key: ec.EllipticCurvePrivateKey) -> None:
    """No leaf outlives its root, and an expired root signs nothing."""
    end = authority.issue_device(key.public_key(), DEVICE, NOW_MS, life_ms=5000 * DAY_MS)
    assert end.not_after_ms == authority.ca_not_after_ms == NOW_MS + 3650 * DAY_MS
    with pytest.raises(CertificateRefused, match="expired"):
        authority.issue_device(key.public_key(), DEVICE, NOW_MS + 3651 * DAY_MS)


def test_clock_behind_the_root(authority: Authority, key: ec.EllipticCurvePrivateKey) -> None:
    """A clock that stepped back before the root began still gets an answer, if a useless one."""
    issued = authority.issue_device(key.public_key(), DEVICE, NOW_MS - 30 * DAY_MS)
    assert issued.not_after_ms < NOW_MS


def test_serials_differ(authority: Authority, key: ec.EllipticCurvePrivateKey) -> None:
    """Serial numbers are positive, of one length, and drawn from entropy."""
    public = key.public_key()
    serials = {authority.issue_device(public, DEVICE, NOW_MS).serial for _ in range(4)}
    assert len(serials) == 4 and {len(serial) for serial in serials} == {32}


def test_input_refused(authority: Authority, mint: Forger) -> None:
    """A key of another curve and an id that is no ULID are refused before anything is signed."""
    other = ec.generate_private_key(ec.SECP384R1()).public_key()
    with pytest.raises(Malformed, match="P-256"):
        authority.issue_device(other, DEVICE, NOW_MS)
    with pytest.raises(Malformed, match="device_id"):
        authority.issue_device(mint.key.public_key(), "laptop", NOW_MS)
