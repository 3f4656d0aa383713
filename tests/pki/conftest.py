"""One authority for the room's tests, and a forger that signs whatever it is asked to."""

from __future__ import annotations

import datetime
import os
from typing import Any

import attrs
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from palyra.pki.authority import DAY_MS, Authority

NOW_MS = 1_790_000_000_000
DEVICE = "01JC0000000000000000000AAA"
POSIX_ONLY = pytest.mark.skipif(os.name != "posix", reason="modes mean nothing here")
USAGES = [
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
]


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def moment(unix_ms: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(unix_ms // 1000, datetime.UTC)


def usage(*granted: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{each: each in granted for each in USAGES})


@attrs.define
class Forger:
    """Signs a leaf like a device's, except for what a test asks to be different."""

    key: ec.EllipticCurvePrivateKey
    issuer: x509.Name

    def sign(self, **asked: Any) -> bytes:
        """The PEM.  ``extensions`` replaces or (as None) removes extensions by their class."""
        builder = x509.CertificateBuilder(
            issuer_name=asked.get("issuer", self.issuer),
            subject_name=asked.get("subject", name(DEVICE)),
            public_key=asked.get("public_key", self.key.public_key()),
            serial_number=7,
            not_valid_before=moment(NOW_MS - asked.get("before_ms", 1000)),
            not_valid_after=moment(NOW_MS + asked.get("after_ms", DAY_MS)),
        )
        for value, critical in self._extensions(asked):
            builder = builder.add_extension(value, critical=critical)
        certificate = builder.sign(self.key, hashes.SHA256())
        return certificate.public_bytes(Encoding.PEM)

    def _extensions(self, asked: dict[str, Any]) -> list[tuple[x509.ExtensionType, bool]]:
        uris = asked.get("uris", [f"spiffe://palyra.test/device/{DEVICE}"])
        general = [x509.UniformResourceIdentifier(uri) for uri in uris]
        wanted: dict[type, x509.ExtensionType | None] = {
            x509.BasicConstraints: x509.BasicConstraints(ca=False, path_length=None),
            x509.KeyUsage: usage("digital_signature"),
            x509.ExtendedKeyUsage: x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]),
            x509.SubjectAlternativeName: x509.SubjectAlternativeName(
                [*general, *asked.get("names", [])]
            ),
        }
        wanted.update(asked.get("extensions", {}))
        critical = asked.get("critical", True)
        return [(value, critical) for value in wanted.values() if value is not None]


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority.create(trust_domain="palyra.test", now_ms=NOW_MS, entropy=os.urandom)


@pytest.fixture(scope="session")
def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture(scope="session")
def mint(authority: Authority) -> Forger:
    """Signs with the real authority's key, as only a fault of ours could."""
    return Forger(authority.ca_key, authority.ca_certificate.subject)


@pytest.fixture(scope="session")
def stranger(authority: Authority) -> Forger:
    """Signs with another key under the real authority's name."""
    return Forger(ec.generate_private_key(ec.SECP256R1()), authority.ca_certificate.subject)
