"""Whether the server of a QUIC handshake is our gateway.

aioquic's client looks at the chain, the dates and the name only: a device's certificate of the same
CA that carried the name would pass (PROTOCOL: Trust; tested).  So the rest is looked at here, when
the handshake is complete and before anything is said.
"""

from __future__ import annotations

import hashlib

import attrs
from aioquic.quic.packet import QuicErrorCode
from aioquic.tls import AlertDescription
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding

from palyra.errors import CertificateRefused
from palyra.pki.certificates import Role, peer_certificate
from palyra.pki.trust import ChainVerifier
from palyra.transport.statuses import OUT_OF_DATE, STRANGE

NO_GATEWAY = "its certificate is not one of a gateway"
"""The cause where the CA signed it, but not for this."""
NOT_PINNED = "its certificate is not the pinned one"
_EXPIRED = AlertDescription.certificate_expired
_DATES = ("not valid yet", "no longer valid", "not yet valid", "has expired")
"""How aioquic, and OpenSSL of a CA, speak of dates."""
_NAMES = ("hostname", "Mismatch")
"""How aioquic, and service-identity where there is no name at all, speak of another name."""


class NotOurGateway(Exception):
    """A server's certificate was refused: the TLS alert that says so, and the cause in words."""

    def __init__(self, cause: str, alert: AlertDescription) -> None:
        super().__init__(cause)
        self.cause = cause
        self.alert = alert


@attrs.frozen
class GatewayTrust:
    """``ca_pem`` (one CA or more) is all that is believed; ``pin`` the SHA-256 of the DER of the
    gateway's certificate, or of the CA of ``ca_pem`` that signed it."""

    ca_pem: bytes = attrs.field(repr=False)
    pin: bytes | None = None

    def check(self, leaf: x509.Certificate, now_ms: int) -> None:
        """Return if ``leaf`` is a gateway's now (Unix milliseconds), and the pinned one's.

        :raises NotOurGateway: it is not.
        """
        try:
            roots = x509.load_pem_x509_certificates(self.ca_pem)
            peer = peer_certificate(leaf)
            verifier = ChainVerifier(roots, peer.subject.trust_domain)
            verifier.verify(peer, now_ms, Role.GATEWAY)
        except CertificateRefused as error:
            raise _refused(error.reason) from error
        if self.pin is not None and self.pin not in _pins(leaf, roots):
            raise NotOurGateway(NOT_PINNED, AlertDescription.bad_certificate)


def cause_of_alert(error_code: int, words: str) -> str | None:
    """Why aioquic did not take a server's certificate in the handshake; None where it was not that.

    ``words`` are its own, of the alert that it sent.
    """
    if error_code == QuicErrorCode.CRYPTO_ERROR + _EXPIRED:
        return OUT_OF_DATE
    if error_code != QuicErrorCode.CRYPTO_ERROR + AlertDescription.bad_certificate:
        return None
    if any(dates in words for dates in _DATES):
        return OUT_OF_DATE
    return NO_GATEWAY if any(name in words for name in _NAMES) else STRANGE


def _refused(reason: str) -> NotOurGateway:
    if reason in ("expired", "not_yet_valid"):
        return NotOurGateway(OUT_OF_DATE, _EXPIRED)
    if reason == "foreign_ca":
        return NotOurGateway(STRANGE, AlertDescription.unknown_ca)
    return NotOurGateway(NO_GATEWAY, AlertDescription.bad_certificate)


def _pins(leaf: x509.Certificate, roots: list[x509.Certificate]) -> set[bytes]:
    pinnable = {_sha256(leaf)}
    for root in roots:
        try:
            leaf.verify_directly_issued_by(root)
        except (InvalidSignature, ValueError, TypeError):
            continue
        pinnable.add(_sha256(root))
    return pinnable


def _sha256(certificate: x509.Certificate) -> bytes:
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest()
