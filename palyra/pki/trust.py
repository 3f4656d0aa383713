"""Whom to believe: chain, dates, role and EKU, and the gate that asks revocation too.

The TLS handshake is not enough: a resumed session carries calls of a certificate that has expired
meanwhile, and revocation knows no handshake.  So every call passes the gate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import attrs
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from palyra.core.identifiers import DeviceId, Fingerprint
from palyra.errors import (
    CertificateRefused,
    CertificateSuperseded,
    CertificateUnknown,
    NotBoundToDevice,
)
from palyra.pki.certificates import PeerCertificate, Role, read_certificate, read_root, unix_ms
from palyra.pki.revocation import RevocationIndex

__all__ = [
    "Admitted",
    "CertificateState",
    "ChainVerifier",
    "RevocationIndex",
    "TrustGate",
    "check_dates",
]

DEFAULT_CACHE_SIZE = 16_384

_CLIENT = (ExtendedKeyUsageOID.CLIENT_AUTH.dotted_string,)
_SERVER = (ExtendedKeyUsageOID.SERVER_AUTH.dotted_string,)
_EKU = {Role.GATEWAY: _SERVER, Role.DEVICE: _CLIENT, Role.OPERATOR: _CLIENT}


class ChainVerifier:
    """Believes leaves that one of ``roots`` signed directly; there are no intermediates."""

    def __init__(self, roots: Sequence[x509.Certificate], trust_domain: str) -> None:
        """:class:`CertificateRefused` when a root is not fit to be one."""
        self._roots = tuple(read_root(root.public_bytes(Encoding.DER)) for root in roots)
        self._trust_domain = trust_domain

    def verify(self, peer: PeerCertificate, now_ms: int, role: Role, *, grace_ms: int = 0) -> None:
        """Return if ``peer`` may act as ``role`` now, else :class:`CertificateRefused`.

        Reasons: ``foreign_ca``, ``wrong_trust_domain``, ``wrong_role``, ``wrong_eku``,
        ``not_yet_valid``, ``expired``.  The signature is looked at first, so that the other
        reasons speak of certificates which the authority did sign.  ``grace_ms`` is how long
        after its end a certificate is still taken.
        """
        root = self._issuer_of(peer)
        if peer.subject.trust_domain != self._trust_domain:
            raise CertificateRefused("wrong_trust_domain")
        if peer.subject.role is not role:
            raise CertificateRefused("wrong_role")
        if peer.eku != _EKU[role]:
            raise CertificateRefused("wrong_eku")
        check_dates(peer.not_before_ms, peer.not_after_ms + grace_ms, now_ms)
        root_end_ms = unix_ms(root.not_valid_after_utc) + grace_ms
        check_dates(unix_ms(root.not_valid_before_utc), root_end_ms, now_ms)

    def _issuer_of(self, peer: PeerCertificate) -> x509.Certificate:
        for root in self._roots:
            try:
                peer.certificate.verify_directly_issued_by(root)
            except (InvalidSignature, ValueError, TypeError):
                continue
            return root
        raise CertificateRefused("foreign_ca")


def check_dates(not_before_ms: int, not_after_ms: int, now_ms: int) -> None:
    """Both ends belong to the life of a certificate (RFC 5280, 4.1.2.5)."""
    if now_ms < not_before_ms:
        raise CertificateRefused("not_yet_valid")
    if now_ms > not_after_ms:
        raise CertificateRefused("expired")


@attrs.frozen
class CertificateState:
    """What the store recorded of a certificate: its place in the device's life, and whose it is."""

    state: Literal["current", "pending", "superseded"]
    device_id: str


@attrs.frozen
class Admitted:
    """A device peer that passed.  Its session ends with ``not_after_ms``."""

    device_id: DeviceId
    fingerprint: Fingerprint
    not_after_ms: int


@attrs.define
class _Passed:
    """An admitted peer and the generation under which it was last asked about."""

    admitted: Admitted
    not_before_ms: int
    not_after_ms: int
    generation: int


class TrustGate:
    """Admits device peers of the node listeners; asked on every call and every stream start.

    ``known`` answers what was recorded of a certificate.  Its answers are kept until the
    generation of ``revocations`` changes; going from pending to current needs no change.  Chain,
    role and EKU cannot change for the same bytes and are checked once.
    """

    def __init__(
        self,
        chain: ChainVerifier,
        revocations: RevocationIndex,
        known: Callable[[Fingerprint], CertificateState | None],
        *,
        cache_size: int = DEFAULT_CACHE_SIZE,
    ) -> None:
        self._chain = chain
        self._revocations = revocations
        self._known = known
        self._cache_size = cache_size
        self._cache: dict[bytes, _Passed] = {}

    def replace_chain(self, chain: ChainVerifier) -> None:
        """Trust other roots from now on (CA rotation); every peer is verified anew."""
        self._chain = chain
        self._cache.clear()

    def admit(self, pem: bytes, now_ms: int, claimed_device_id: str | None) -> Admitted:
        """The device that ``pem`` speaks for now.

        :class:`CertificateRefused` (also Unknown, Superseded), :class:`DeviceRevoked`, or
        :class:`NotBoundToDevice` when it speaks for another device than the claimed one.
        """
        passed = self._cache.get(pem)
        if passed is None:
            passed = self._examine(pem, now_ms)
        else:
            if not passed.not_before_ms <= now_ms <= passed.not_after_ms:
                check_dates(passed.not_before_ms, passed.not_after_ms, now_ms)
            if passed.generation != self._revocations.generation:
                self._ask_again(passed)
        admitted = passed.admitted
        if claimed_device_id is not None and claimed_device_id != admitted.device_id:
            raise NotBoundToDevice(claimed_device_id)
        return admitted

    def _examine(self, pem: bytes, now_ms: int) -> _Passed:
        peer = read_certificate(pem)
        self._chain.verify(peer, now_ms, Role.DEVICE)
        device_id = DeviceId(peer.subject.id)
        admitted = Admitted(device_id, peer.fingerprint, peer.not_after_ms)
        passed = _Passed(admitted, peer.not_before_ms, peer.not_after_ms, -1)
        self._ask_again(passed)
        # Only what passed is kept: a stranger cannot push devices out of the cache.
        while len(self._cache) >= self._cache_size:
            del self._cache[next(iter(self._cache))]
        self._cache[pem] = passed
        return passed

    def _ask_again(self, passed: _Passed) -> None:
        """What the generation guards: revocation, supersession, the record and its device."""
        generation = self._revocations.generation
        device_id, fingerprint = passed.admitted.device_id, passed.admitted.fingerprint
        self._revocations.check_device(device_id)
        self._revocations.check_certificate(fingerprint)
        recorded = self._known(fingerprint)
        if recorded is None:
            raise CertificateUnknown()
        if recorded.state == "superseded":
            raise CertificateSuperseded()
        if recorded.device_id != device_id:
            raise NotBoundToDevice(device_id)
        passed.generation = generation
