"""Certificates as the rest of the house sees them: one role, one subject, one fingerprint.

Every leaf is an X.509-SVID with exactly one URI SAN, ``spiffe://<trust domain>/<role>/<id>``.
What is read here is well-formed but not yet trusted; that is :mod:`palyra.pki.trust`.
"""

from __future__ import annotations

import contextlib
import datetime
import enum
import re
from collections.abc import Iterator

import attrs
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from palyra.core.identifiers import Fingerprint, is_ulid, sha256_hex
from palyra.errors import CertificateRefused, Malformed

GATEWAY_TLS_NAME = "palyrad-node-rpc"
"""The DNS SAN of every gateway certificate and of no other; devices check this name only."""

MAX_CERTIFICATE_BYTES = 16 * 1024

_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}\Z", re.ASCII)
_SEGMENT = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,64}\Z", re.ASCII)
_URI = re.compile(r"spiffe://([^/]+)/(gateway|device|operator)/([^/]+)\Z", re.ASCII)
_UNDERSTOOD = frozenset(
    {
        x509.BasicConstraints.oid,
        x509.KeyUsage.oid,
        x509.ExtendedKeyUsage.oid,
        x509.SubjectAlternativeName.oid,
    }
)


class Role(enum.StrEnum):
    """What the holder of a certificate may be."""

    GATEWAY = "gateway"
    DEVICE = "device"
    OPERATOR = "operator"


@attrs.frozen
class Subject:
    """The identity in a certificate.  :class:`Malformed` where it cannot be written as a URI."""

    role: Role
    id: str
    trust_domain: str

    def __attrs_post_init__(self) -> None:
        if not _TRUST_DOMAIN.match(self.trust_domain):
            raise Malformed("trust_domain", "must be 1-255 of a-z, 0-9, dot, dash, underscore")
        if not _SEGMENT.match(self.id) or (self.role is Role.DEVICE and not is_ulid(self.id)):
            raise Malformed(f"{self.role.value}_id", "does not fit into a certificate's URI")

    @property
    def uri(self) -> str:
        """``spiffe://<trust domain>/<role>/<id>`` (SPIFFE-ID, section 2)."""
        return f"spiffe://{self.trust_domain}/{self.role.value}/{self.id}"


def parse_subject(uri: str) -> Subject:
    """The subject that ``uri`` names, or :class:`CertificateRefused` ``malformed``."""
    match = _URI.match(uri)
    if match is None:
        raise CertificateRefused("malformed")
    with _malformed():
        return Subject(Role(match[2]), match[3], match[1])


@attrs.frozen
class PeerCertificate:
    """A well-formed leaf.  Times are Unix milliseconds; ``eku`` are dotted OIDs as they stand."""

    der: bytes = attrs.field(repr=False)
    fingerprint: Fingerprint
    subject: Subject
    not_before_ms: int
    not_after_ms: int
    eku: tuple[str, ...]
    public_key: ec.EllipticCurvePublicKey = attrs.field(repr=False, eq=False)
    certificate: x509.Certificate = attrs.field(repr=False, eq=False)


def certificate_fingerprint(certificate: x509.Certificate | bytes) -> Fingerprint:
    """SHA-256 of the DER of a certificate, which may be given as that DER."""
    if isinstance(certificate, bytes):
        return sha256_hex(certificate)
    return sha256_hex(certificate.public_bytes(Encoding.DER))


def read_certificate(pem: bytes) -> PeerCertificate:
    """The one leaf in ``pem``; anything that is not exactly that is ``malformed``."""
    _check_size(pem)
    with _malformed():
        certificates = x509.load_pem_x509_certificates(pem)
        _require(len(certificates) == 1)
        return peer_certificate(certificates[0])


def peer_certificate(certificate: x509.Certificate) -> PeerCertificate:
    """``certificate`` as a leaf: P-256, not a CA, for signatures, one role; else ``malformed``."""
    with _malformed():
        public_key = _p256(certificate)
        extensions = certificate.extensions
        _check_shape(extensions)
        der = certificate.public_bytes(Encoding.DER)
        eku = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        return PeerCertificate(
            der=der,
            fingerprint=sha256_hex(der),
            subject=_subject_of(extensions),
            not_before_ms=unix_ms(certificate.not_valid_before_utc),
            not_after_ms=unix_ms(certificate.not_valid_after_utc),
            eku=tuple(usage.dotted_string for usage in eku),
            public_key=public_key,
            certificate=certificate,
        )


def read_root(der: bytes) -> x509.Certificate:
    """A certificate fit to be an only root: self-signed, P-256, CA:TRUE, path length 0.

    Whoever pins a root pins :func:`certificate_fingerprint` of it, never a hash of its key: a
    forged root that carries the right key would pass such a pin.
    """
    _check_size(der)
    with _malformed():
        certificate = x509.load_der_x509_certificate(der)
        _p256(certificate)
        certificate.verify_directly_issued_by(certificate)
        basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
        _require(basic.value.ca and basic.value.path_length == 0 and usage.key_cert_sign)
        _check_critical(certificate.extensions)
        return certificate


def unix_ms(moment: datetime.datetime) -> int:
    """An aware time as Unix milliseconds; certificates carry whole seconds."""
    return int(moment.timestamp()) * 1000


def moment(unix_milliseconds: int) -> datetime.datetime:
    """Unix milliseconds as an aware time, rounded down to the whole seconds of certificates."""
    return datetime.datetime.fromtimestamp(unix_milliseconds // 1000, datetime.UTC)


def _subject_of(extensions: x509.Extensions) -> Subject:
    """The subject of the only URI SAN; host names stand beside it for a gateway only."""
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    _require(len(uris) == 1)
    subject = parse_subject(uris[0])
    if subject.role is Role.GATEWAY:
        _require(GATEWAY_TLS_NAME in names.get_values_for_type(x509.DNSName))
    else:
        _require(len(list(names)) == 1)
    return subject


def _check_shape(extensions: x509.Extensions) -> None:
    """Not a CA, signs only as itself, and no critical extension that is not understood."""
    basic = extensions.get_extension_for_class(x509.BasicConstraints).value
    usage = extensions.get_extension_for_class(x509.KeyUsage).value
    _require(not basic.ca and usage.digital_signature)
    _require(not usage.key_cert_sign and not usage.crl_sign)
    _check_critical(extensions)


def _check_critical(extensions: x509.Extensions) -> None:
    """RFC 5280 section 4.2: an unknown critical extension is a refusal."""
    _require(all(each.oid in _UNDERSTOOD for each in extensions if each.critical))


def _p256(certificate: x509.Certificate) -> ec.EllipticCurvePublicKey:
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise CertificateRefused("malformed")
    return key


def _check_size(encoded: bytes) -> None:
    _require(len(encoded) <= MAX_CERTIFICATE_BYTES)


def _require(holds: bool) -> None:
    if not holds:
        raise CertificateRefused("malformed")


@contextlib.contextmanager
def _malformed() -> Iterator[None]:
    """Whatever the parser raises is one refusal: cryptography has no common base for it."""
    try:
        yield
    except CertificateRefused:
        raise
    except Exception as cause:
        raise CertificateRefused("malformed") from cause
