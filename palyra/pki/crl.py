"""Certificate revocation lists (RFC 5280, section 5), for verifiers other than the gateway.

The gateway itself asks its revocation index on every call.  A list is signed by one CA and speaks
of the certificates of that CA only, so while the CA is rotated there are two lists.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from palyra.errors import Malformed
from palyra.pki.authority import Authority
from palyra.pki.certificates import moment


@attrs.frozen
class RevokedEntry:
    """A certificate that is no longer good: ``serial`` is hex, ``at_ms`` Unix milliseconds.

    ``superseded`` when the device itself moved on to another certificate.
    """

    serial: str
    at_ms: int
    superseded: bool


def make_crl(
    authority: Authority,
    entries: Iterable[RevokedEntry],
    now_ms: int,
    *,
    number: int,
    life_ms: int,
) -> bytes:
    """The PEM of a version-2 CRL of ``authority``, whose own certificates ``entries`` are.

    ``number`` must be higher than that of any list it signed before; the next list is promised for
    ``now_ms + life_ms``.  A serial that occurs twice is listed once, as revoked rather than as
    superseded.  :class:`Malformed` for a serial or a number that cannot be in a CRL.
    """
    if not 0 <= number < 1 << 159:
        raise Malformed("number", "must be from 0 to 2**159 - 1")
    key_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.ca_key.public_key())
    # All at once: adding one by one copies the list each time.
    builder = x509.CertificateRevocationListBuilder(
        issuer_name=authority.ca_certificate.subject,
        last_update=moment(now_ms),
        next_update=moment(now_ms + life_ms),
        revoked_certificates=[_listed(*each) for each in _by_serial(entries).items()],
    )
    signed = (
        builder.add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(key_id, critical=False)
        .sign(authority.ca_key, hashes.SHA256())
    )
    return signed.public_bytes(Encoding.PEM)


def _by_serial(entries: Iterable[RevokedEntry]) -> dict[int, RevokedEntry]:
    kept: dict[int, RevokedEntry] = {}
    for entry in entries:
        serial = _serial(entry.serial)
        if serial not in kept or (kept[serial].superseded and not entry.superseded):
            kept[serial] = entry
    return kept


def _serial(text: str) -> int:
    try:
        serial = int(text, 16)
    except ValueError as cause:
        raise Malformed("serial", "is not a hexadecimal number") from cause
    if not 0 < serial < 1 << 159:
        raise Malformed("serial", "must be from 1 to 2**159 - 1")
    return serial


def _listed(serial: int, entry: RevokedEntry) -> x509.RevokedCertificate:
    builder = x509.RevokedCertificateBuilder(serial, moment(entry.at_ms))
    # Of a revocation nobody here knows whether the key was compromised or the device is only gone,
    # and RFC 5280, 5.3.1 wants no reason at all where the only one would be "unspecified".
    if entry.superseded:
        reason = x509.CRLReason(x509.ReasonFlags.superseded)
        builder = builder.add_extension(reason, critical=False)
    return builder.build()
