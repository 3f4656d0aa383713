"""The key of an operator's next certificate, and what is kept when that has come."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from palyra._files import check_private, write_atomic
from palyra.afar.contexts import CA, Context, Contexts
from palyra.console.models import OperatorCertificateAnswer
from palyra.core.operator_uri import enrolment_payload
from palyra.pki.csr import make_csr
from palyra.pki.keypair import key_pem

CSR_NAME = "operator"
"""The subject of the CSR; the gateway makes the id and takes the key only."""


class Pending:
    """A key with its CSR that no certificate is there for yet.

    It is on the disk before it is sent: after a lost answer the same CSR gets the same answer.
    """

    def __init__(self, file: Path) -> None:
        """Read what is there, or make and keep a new one."""
        self._file = file
        pem = self._kept() or self._made()
        key = load_pem_private_key(pem, None)
        assert isinstance(key, ec.EllipticCurvePrivateKey), "we wrote it"
        self.key = key
        csr = x509.load_pem_x509_csr(pem)
        self.csr_der = csr.public_bytes(Encoding.DER)
        self.csr_pem = csr.public_bytes(Encoding.PEM).decode()

    def _kept(self) -> bytes:
        if not self._file.exists():
            return b""
        check_private(self._file)
        pem = self._file.read_bytes()
        try:
            load_pem_private_key(pem, None)
            x509.load_pem_x509_csr(pem)
        except (ValueError, TypeError):
            return b""
        return pem

    def _made(self) -> bytes:
        key = ec.generate_private_key(ec.SECP256R1())
        csr = x509.load_der_x509_csr(make_csr(key, CSR_NAME))
        pem = key_pem(key) + csr.public_bytes(Encoding.PEM)
        write_atomic(self._file, pem)
        return pem

    def signature(self, ca_hash: bytes, token: bytes) -> bytes:
        """What accepts an invitation with this key."""
        payload = enrolment_payload(ca_hash, token, self.csr_der)
        return self.key.sign(payload, ec.ECDSA(hashes.SHA256()))

    def pair(self, certificate_pem: str) -> bytes:
        """The key with its certificate, as it is kept."""
        return key_pem(self.key) + certificate_pem.encode()


def keep(
    context: Context, contexts: Contexts, pending: Pending, answer: OperatorCertificateAnswer
) -> None:
    """Keep a certificate that came for a pending key, and the CAs that it came with."""
    ca_file = contexts.directory(context.name) / CA
    ca_pem = ca_file.read_bytes() if context.own_roots else answer.ca_bundle_pem.encode()
    contexts.add(context, ca_pem, pending.pair(answer.certificate_pem))
