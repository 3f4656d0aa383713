"""The gateway's own certificate authority: one root, three roles, short lives.

Pure: keys and certificates come in, certificates go out.  Keeping them is
:mod:`palyra.pki.keystore`.  Times are Unix milliseconds; certificates round down to seconds.
"""

from __future__ import annotations

import datetime
import ipaddress
import re
from collections.abc import Iterable

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from palyra.core.identifiers import Entropy, Fingerprint, sha256_hex
from palyra.errors import CertificateRefused, Malformed
from palyra.pki.certificates import GATEWAY_TLS_NAME, Role, Subject, moment, read_root, unix_ms

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
DEVICE_LIFE_MS = DAY_MS
GATEWAY_LIFE_MS = 30 * DAY_MS
OPERATOR_LIFE_MS = 30 * DAY_MS
DEVICE_BACKDATE_MS = 5 * MINUTE_MS
"""How far before now a certificate begins, for peers whose clocks are behind."""
GATEWAY_BACKDATE_MS = HOUR_MS

_CA_YEARS = 10
_HOST = re.compile(r"(?=.{1,253}\Z)(?!-)[A-Za-z0-9_-]{1,63}(\.(?!-)[A-Za-z0-9_-]{1,63})*\Z")
_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


@attrs.frozen
class IssuedCertificate:
    """A certificate of ours.  ``serial`` is lower-case hex; times are Unix milliseconds.

    ``issuer`` is the fingerprint of the CA certificate that signed it.
    """

    der: bytes = attrs.field(repr=False)
    pem: bytes = attrs.field(repr=False)
    fingerprint: Fingerprint
    not_before_ms: int
    not_after_ms: int
    serial: str
    issuer: Fingerprint


class Authority:
    """Signs leaves with one CA key.  ``entropy`` draws serial numbers."""

    def __init__(
        self,
        certificate: x509.Certificate,
        key: ec.EllipticCurvePrivateKey,
        *,
        trust_domain: str,
        entropy: Entropy,
    ) -> None:
        """:class:`CertificateRefused` for a certificate that may not be a root, and
        :class:`Malformed` for a key that is not its own."""
        self.ca_der = certificate.public_bytes(Encoding.DER)
        self.ca_pem = certificate.public_bytes(Encoding.PEM)
        self.ca_certificate = read_root(self.ca_der)
        if key.public_key() != certificate.public_key():
            raise Malformed("ca_key", "is not the key of the CA certificate")
        self.ca_hash = sha256_hex(self.ca_der)
        self.trust_domain = trust_domain
        self._key = key
        self._entropy = entropy

    @classmethod
    def create(cls, *, trust_domain: str, now_ms: int, entropy: Entropy) -> Authority:
        """A new root: P-256, ten years, a subject name that no other root of ours has."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Palyra"),
                x509.NameAttribute(NameOID.COMMON_NAME, f"Palyra CA {entropy(8).hex()}"),
            ]
        )
        begin = moment(now_ms - GATEWAY_BACKDATE_MS)
        end = moment(now_ms + _CA_YEARS * 365 * DAY_MS)
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        builder = _builder(name, name, key.public_key(), begin, end, _serial(entropy))
        certificate = (
            builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage("key_cert_sign", "crl_sign"), critical=True)
            .add_extension(identifier, critical=False)
            .sign(key, hashes.SHA256())
        )
        return cls(certificate, key, trust_domain=trust_domain, entropy=entropy)

    @property
    def ca_fingerprint(self) -> Fingerprint:
        """SHA-256 of the CA certificate's DER, as every certificate's fingerprint."""
        return self.ca_hash

    @property
    def ca_not_after_ms(self) -> int:
        """When the root's own life is over; nothing it signs lives longer."""
        return unix_ms(self.ca_certificate.not_valid_after_utc)

    @property
    def ca_key(self) -> ec.EllipticCurvePrivateKey:
        """The signing key, for those in this room who seal it or sign CRLs with it."""
        return self._key

    def issue_device(
        self,
        public_key: ec.EllipticCurvePublicKey,
        device_id: str,
        now_ms: int,
        *,
        life_ms: int = DEVICE_LIFE_MS,
    ) -> IssuedCertificate:
        """A client certificate for a device, valid from five minutes ago."""
        return self._issue(
            public_key,
            Subject(Role.DEVICE, device_id, self.trust_domain),
            begin_ms=now_ms - DEVICE_BACKDATE_MS,
            end_ms=now_ms + life_ms,
        )

    def issue_operator(
        self,
        public_key: ec.EllipticCurvePublicKey,
        operator_id: str,
        now_ms: int,
        *,
        life_ms: int = OPERATOR_LIFE_MS,
    ) -> IssuedCertificate:
        """A client certificate for a person or program that may administer the gateway."""
        return self._issue(
            public_key,
            Subject(Role.OPERATOR, operator_id, self.trust_domain),
            begin_ms=now_ms - DEVICE_BACKDATE_MS,
            end_ms=now_ms + life_ms,
        )

    def issue_gateway(
        self,
        public_key: ec.EllipticCurvePublicKey,
        gateway_id: str,
        names: Iterable[str],
        now_ms: int,
        *,
        life_ms: int = GATEWAY_LIFE_MS,
    ) -> IssuedCertificate:
        """A server certificate for the fixed TLS name, ``localhost`` and each of ``names``.

        A name is a host name or an IP address; :class:`Malformed` otherwise.
        """
        return self._issue(
            public_key,
            Subject(Role.GATEWAY, gateway_id, self.trust_domain),
            begin_ms=now_ms - GATEWAY_BACKDATE_MS,
            end_ms=now_ms + life_ms,
            names=gateway_names(names),
        )

    def _issue(
        self,
        public_key: ec.EllipticCurvePublicKey,
        subject: Subject,
        *,
        begin_ms: int,
        end_ms: int,
        names: Iterable[x509.GeneralName] = (),
    ) -> IssuedCertificate:
        """Every leaf of ours: one URI SAN, one EKU, never a CA, never outliving its root.

        :class:`CertificateRefused` ``expired`` when the root's own life is over.
        """
        if not isinstance(public_key.curve, ec.SECP256R1):
            raise Malformed("public_key", "must be ECDSA P-256")
        root = self.ca_certificate
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject.id)])
        end = min(moment(end_ms), root.not_valid_after_utc)
        begin = moment(begin_ms)
        if end <= begin:
            raise CertificateRefused("expired")
        builder = _builder(
            name, root.subject, public_key, begin, end, _serial(self._entropy)
        ).add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        for value, critical in self._leaf_extensions(public_key, subject, names):
            builder = builder.add_extension(value, critical=critical)
        return _issued(builder.sign(self._key, hashes.SHA256()), self.ca_hash)

    def _leaf_extensions(
        self,
        public_key: ec.EllipticCurvePublicKey,
        subject: Subject,
        names: Iterable[x509.GeneralName],
    ) -> Iterable[tuple[x509.ExtensionType, bool]]:
        gateway = subject.role is Role.GATEWAY
        usage = ExtendedKeyUsageOID.SERVER_AUTH if gateway else ExtendedKeyUsageOID.CLIENT_AUTH
        root_key = self._key.public_key()
        uri = x509.UniformResourceIdentifier(subject.uri)
        yield _key_usage("digital_signature"), True
        yield x509.ExtendedKeyUsage([usage]), False
        yield x509.SubjectAlternativeName([*names, uri]), False
        yield x509.SubjectKeyIdentifier.from_public_key(public_key), False
        yield x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key), False


def gateway_names(names: Iterable[str]) -> list[x509.GeneralName]:
    """The SANs of a gateway certificate besides its URI, each once, in a stable order."""
    wanted = [_general_name(name) for name in (GATEWAY_TLS_NAME, "localhost", *names)]
    return list(dict.fromkeys(wanted))


def _general_name(name: str) -> x509.GeneralName:
    """An IP SAN for an address, else a DNS SAN; names beyond ASCII become A-labels."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        label = name.encode("idna").decode("ascii").lower()
    except UnicodeError:
        label = ""
    if not _HOST.match(label):
        raise Malformed("names", f"{name!r} is neither a host name nor an IP address")
    return x509.DNSName(label)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    begin: datetime.datetime,
    end: datetime.datetime,
    serial: int,
) -> x509.CertificateBuilder:
    return x509.CertificateBuilder(
        issuer_name=issuer,
        subject_name=subject,
        public_key=public_key,
        serial_number=serial,
        not_valid_before=begin,
        not_valid_after=end,
    )


def _serial(entropy: Entropy) -> int:
    """127 bits, the top one set: positive, never zero, of one length (RFC 5280, 4.1.2.2)."""
    return int.from_bytes(entropy(16), "big") >> 2 | 1 << 126


def _key_usage(*granted: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{usage: usage in granted for usage in _USAGES})


def _issued(certificate: x509.Certificate, issuer: Fingerprint) -> IssuedCertificate:
    der = certificate.public_bytes(Encoding.DER)
    return IssuedCertificate(
        der=der,
        pem=certificate.public_bytes(Encoding.PEM),
        fingerprint=sha256_hex(der),
        not_before_ms=unix_ms(certificate.not_valid_before_utc),
        not_after_ms=unix_ms(certificate.not_valid_after_utc),
        serial=f"{certificate.serial_number:x}",
        issuer=issuer,
    )
