"""The CA certificates that a device trusts: one, or two while the gateway changes its CA."""

from __future__ import annotations

import hashlib

import attrs
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import Certificate, load_pem_x509_certificates

from palyra.errors import CertificateRefused, PinNotChecked, VerificationFailed
from palyra.pki.certificates import read_root

MAX_ROOTS = 8
MAX_BUNDLE = 64 * 1024


@attrs.frozen
class Root:
    """One CA certificate, fit to be an only root."""

    certificate: Certificate = attrs.field(repr=False)

    @property
    def pem(self) -> str:
        """As TLS takes it."""
        return self.certificate.public_bytes(Encoding.PEM).decode()

    @property
    def hash(self) -> bytes:
        """SHA-256 of its DER: the CA of every exchange (PROTOCOL: Exchanges, COMMON)."""
        return hashlib.sha256(self.certificate.public_bytes(Encoding.DER)).digest()


@attrs.frozen
class Roots:
    """A CA bundle, in its order."""

    each: tuple[Root, ...]

    @classmethod
    def read(cls, bundle_pem: str) -> Roots:
        """The roots in a PEM bundle.

        :raises VerificationFailed: there is none, one of them is not fit to be one, or there are
            too many.
        """
        if len(bundle_pem) > MAX_BUNDLE:
            raise VerificationFailed("the CA bundle is too long")
        try:
            found = load_pem_x509_certificates(bundle_pem.encode())
            roots = [Root(read_root(each.public_bytes(Encoding.DER))) for each in found]
        except (ValueError, CertificateRefused) as error:
            raise VerificationFailed("the CA bundle holds something else than a CA") from error
        if len(roots) > MAX_ROOTS:
            raise VerificationFailed("the CA bundle is too long")
        return cls(tuple(roots))

    @property
    def first(self) -> Root:
        """The one that a renewal is signed for."""
        return self.each[0]

    def issued(self, certificate: Certificate) -> bool:
        """Whether one of them signed that leaf."""
        for root in self.each:
            try:
                certificate.verify_directly_issued_by(root.certificate)
            except (InvalidSignature, ValueError, TypeError):
                continue
            return True
        return False

    def pinned(self, pin: bytes) -> Root:
        """The one with that hash.

        :raises PinNotChecked: there is none.
        """
        for root in self.each:
            if root.hash == pin:
                return root
        raise PinNotChecked()

    def check_successor(self, bundle: Roots) -> None:
        """Whether trust may move from this bundle to that one.

        It came over a connection that this bundle verified; one that has nothing in common with
        it is refused all the same: trust moves in steps, and never to strangers.

        :raises VerificationFailed: it may not.
        """
        if not set(self.each) & set(bundle.each):
            raise VerificationFailed("the CA bundle has no CA that this device trusts")
