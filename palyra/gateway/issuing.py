"""Issuing: certificates for devices, in the form in which they are kept and answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from palyra.core.devices import CertificateRecord
from palyra.core.identifiers import DeviceId, Fingerprint, sha256_hex
from palyra.pki.authority import Authority
from palyra.pki.csr import check_csr, make_csr

LEFT_AT_RENEWAL = 3
"""A certificate is renewed with a third of its life left."""


class Trust(Protocol):
    """The gateway's CAs, as far as devices are concerned (:class:`GatewayIdentity`)."""

    @property
    def issuing(self) -> Authority:
        """The CA that signs new certificates."""

    @property
    def ca_bundle_pem(self) -> bytes:
        """Every CA that is trusted."""

    @property
    def ca_hashes(self) -> Sequence[bytes]:
        """SHA-256 of the DER of each of them."""


class Issuer:
    """Signs devices' keys.  ``life_ms`` is how long a certificate lives."""

    def __init__(self, *, trust: Trust, life_ms: int, now_ms: Callable[[], int]) -> None:
        self.trust = trust
        self._life_ms = life_ms
        self._now_ms = now_ms

    def issue(self, device_id: DeviceId, csr_der: bytes) -> CertificateRecord:
        """A certificate to the key of a CSR; it counts once it is on record.

        :raises VerificationFailed: the CSR is not acceptable.
        """
        key = check_csr(csr_der, device_id)
        now_ms = self._now_ms()
        authority = self.trust.issuing
        issued = authority.issue_device(key, device_id, now_ms, life_ms=self._life_ms)
        return CertificateRecord(
            fingerprint=issued.fingerprint,
            device_id=device_id,
            serial=issued.serial,
            pem=issued.pem.decode(),
            csr_digest=sha256_hex(csr_der),
            not_before_ms=issued.not_before_ms,
            not_after_ms=issued.not_after_ms,
            issued_at_ms=now_ms,
            issuer=Fingerprint(authority.ca_hash),
        )

    def renew_after_s(self, certificate: CertificateRecord) -> int:
        """In how many seconds its holder should ask for the next one."""
        return max(0, renewal_ms(certificate) - self._now_ms()) // 1000

    @property
    def ca_bundle_pem(self) -> str:
        """What devices are to trust."""
        return self.trust.ca_bundle_pem.decode()


def renewal_ms(certificate: CertificateRecord) -> int:
    """When (Unix ms) a third of a certificate's life is left."""
    life_ms = certificate.not_after_ms - certificate.issued_at_ms
    return certificate.not_after_ms - life_ms // LEFT_AT_RENEWAL


def made_key(device_id: DeviceId) -> tuple[bytes, bytes]:
    """A private key (PKCS #8 PEM) and its CSR for a version-1 device, which makes none."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem, make_csr(key, device_id)
