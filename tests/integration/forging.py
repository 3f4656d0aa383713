"""What an attacker with a CA of his own can make."""

from __future__ import annotations

import os

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from palyra.pki.authority import Authority


def root_like(real: x509.Certificate) -> Authority:
    """A root with another key that says word for word what ``real`` says."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateBuilder(
        issuer_name=real.issuer,
        subject_name=real.subject,
        public_key=key.public_key(),
        serial_number=real.serial_number,
        not_valid_before=real.not_valid_before_utc,
        not_valid_after=real.not_valid_after_utc,
    )
    for extension in real.extensions:
        builder = builder.add_extension(extension.value, critical=extension.critical)
    forged = builder.sign(key, hashes.SHA256())
    return Authority(forged, key, trust_domain="palyra", entropy=os.urandom)
