"""Keys, requests and certificates that no honest device or gateway would make."""

from __future__ import annotations

import datetime
import os
from typing import Any

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
SERVER = ExtendedKeyUsageOID.SERVER_AUTH
HOUR = datetime.timedelta(hours=1)
DAY = datetime.timedelta(days=1)


def now() -> datetime.datetime:
    """UTC, in whole seconds, as certificates have it."""
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)


def fresh_key() -> ec.EllipticCurvePrivateKey:
    """A TLS key."""
    return ec.generate_private_key(ec.SECP256R1())


def csr(key: Any, name: str, *extensions: x509.ExtensionType) -> bytes:
    """The DER of a request for ``CN=name``, signed by its own key."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, digest).public_bytes(Encoding.DER)


@attrs.frozen
class Signer:
    """Whoever signs certificates: a certificate and its key."""

    certificate: x509.Certificate
    key: Any = attrs.field(repr=False)

    @property
    def pem(self) -> bytes:
        """The certificate as TLS libraries take it."""
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def der(self) -> bytes:
        """The certificate as it is hashed."""
        return self.certificate.public_bytes(Encoding.DER)

    def issue(
        self,
        public_key: Any,
        role: str = "device",
        identity: str = "",
        *,
        begin: datetime.datetime | None = None,
        end: datetime.datetime | None = None,
        usage: x509.ObjectIdentifier = CLIENT,
        is_ca: bool = False,
        domain: str = "palyra",
        dns: tuple[str, ...] = (),
    ) -> x509.Certificate:
        """A certificate with one URI SAN ``spiffe://palyra/ROLE/IDENTITY``."""
        begin = begin or now() - HOUR
        uri = x509.UniformResourceIdentifier(f"spiffe://{domain}/{role}/{identity}")
        names = [uri, *(x509.DNSName(name) for name in dns)]
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, identity)])
        basic = x509.BasicConstraints(is_ca, 0 if is_ca else None)
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        return (
            _builder(subject, self.certificate.subject, public_key, begin, end or now() + DAY)
            .add_extension(basic, critical=True)
            .add_extension(_key_usage(is_ca), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(authority, critical=False)
            .sign(self.key, hashes.SHA256())
        )


def pem_of(certificate: x509.Certificate) -> bytes:
    """A certificate as TLS libraries take it."""
    return certificate.public_bytes(Encoding.PEM)


def strange_root(name: str = "Palyra CA 0123456789abcdef") -> Signer:
    """A CA of the attacker's own."""
    key = fresh_key()
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Palyra"),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )
    builder = _builder(subject, subject, key.public_key(), now() - DAY, now() + 3650 * DAY)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        builder.add_extension(x509.BasicConstraints(True, 0), critical=True)
        .add_extension(_key_usage(True), critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )
    return Signer(certificate, key)


def root_with_the_key_of(real: x509.Certificate) -> x509.Certificate:
    """A root that says what ``real`` says, with its public key, signed by somebody else.

    TLS libraries do not look at a root's own signature: leaves of the real CA verify under it.
    """
    builder = x509.CertificateBuilder(
        issuer_name=real.issuer,
        subject_name=real.subject,
        public_key=real.public_key(),
        serial_number=real.serial_number ^ 1,
        not_valid_before=real.not_valid_before_utc,
        not_valid_after=real.not_valid_after_utc,
    )
    for extension in real.extensions:
        builder = builder.add_extension(extension.value, critical=extension.critical)
    return builder.sign(fresh_key(), hashes.SHA256())


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: Any,
    begin: datetime.datetime,
    end: datetime.datetime,
) -> x509.CertificateBuilder:
    serial = int.from_bytes(os.urandom(16), "big") >> 1
    return x509.CertificateBuilder(issuer, subject, public_key, serial, begin, end)


def _key_usage(is_ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        encipher_only=False,
        decipher_only=False,
    )
