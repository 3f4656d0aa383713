"""Certificate signing requests (PKCS #10, RFC 2986): proof of a key, and nothing but the key."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from palyra.errors import VerificationFailed

MAX_CSR_BYTES = 4 * 1024


def make_csr(key: ec.EllipticCurvePrivateKey, device_id: str) -> bytes:
    """The DER of a CSR for ``key``: self-signed, subject ``CN=<device id>``, no extensions."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, device_id)])
    csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return csr.public_bytes(Encoding.DER)


def check_csr(der: bytes, expected_cn: str) -> ec.EllipticCurvePublicKey:
    """The P-256 key that asks for a certificate, or :class:`VerificationFailed`.

    Attributes (requested extensions, challenge passwords) are refused and not ignored: a device
    that asks for more than its key may not believe that it got it.
    """
    if len(der) > MAX_CSR_BYTES:
        raise VerificationFailed(f"the CSR is over {MAX_CSR_BYTES // 1024} KiB")
    try:
        return _checked(x509.load_der_x509_csr(der), expected_cn)
    except VerificationFailed:
        raise
    except Exception as cause:  # cryptography has no common base for what its parsers raise
        raise VerificationFailed("the CSR does not parse") from cause


def _checked(csr: x509.CertificateSigningRequest, expected_cn: str) -> ec.EllipticCurvePublicKey:
    key = csr.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise VerificationFailed("the CSR's key is not ECDSA P-256")
    # The parser also takes a curve that is spelled out.  Where that is not compared field by field
    # it names a generator of the sender's choice (CVE-2020-0601), so only the name is taken.
    named = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if named not in csr.tbs_certrequest_bytes:
        raise VerificationFailed("the CSR's key is not encoded as named P-256")
    if not csr.is_signature_valid:
        raise VerificationFailed("the CSR's signature does not hold")
    if [(each.oid, each.value) for each in csr.subject] != [(NameOID.COMMON_NAME, expected_cn)]:
        raise VerificationFailed("the CSR's subject is not CN=<device id> alone")
    if list(csr.attributes):
        raise VerificationFailed("the CSR asks for more than a certificate of its key")
    return key
