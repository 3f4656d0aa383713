"""A CSR proves a key and carries nothing else."""

from __future__ import annotations

import base64
import contextlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AttributeOID, ExtendedKeyUsageOID, NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra.errors import VerificationFailed
from palyra.pki.csr import MAX_CSR_BYTES, check_csr, make_csr

from .conftest import DEVICE, name, usage

KEY = ec.generate_private_key(ec.SECP256R1())
GOOD = make_csr(KEY, DEVICE)
BUILDER = x509.CertificateSigningRequestBuilder()
EXPLICIT_CURVE = base64.b64decode(
    "MIIB1TCCAXsCAQAwJTEjMCEGA1UEAwwaMDFKQzAwMDAwMDAwMDAwMDAwMDAwMDBBQUEwggFLMIIB"
    "AwYHKoZIzj0CATCB9wIBATAsBgcqhkjOPQEBAiEA/////wAAAAEAAAAAAAAAAAAAAAD/////////"
    "//////8wWwQg/////wAAAAEAAAAAAAAAAAAAAAD///////////////wEIFrGNdiqOpPns+u9VXaY"
    "hrxlHQawzFOw9jvOPD4n0mBLAxUAxJ02CIbnBJNqZnjhE50mt4GffpAEQQRrF9Hy4SxCR/i85uVj"
    "pEDydwN9gS3rM6D0oTlF2JjClk/jQuL+Gn+bjufrSnwPnhYrzjNXazFezsu2QGg3v1H1AiEA////"
    "/wAAAAD//////////7zm+q2nF56E87nKwvxjJVECAQEDQgAE6fkxMi1EcdFIthrAmESvBIXwqTpl"
    "0gAWMJvQpp0uAtjyxFGaa6Ij6fG7xgpDerccPpBsnmkGIjnp30VnOCph4KAAMAoGCCqGSM49BAMC"
    "A0gAMEUCIEnZUsMsmjzPtYDxly4z8kqJwc59AC1E2MDuan2yswQCAiEA6Vc46+IAzuL1Rii5WF4n"
    "C+KAk8qERin79WLxn5e7GI8="
)
"""A CSR of DEVICE by ``openssl req`` whose key spells the curve out: -param_enc explicit."""


def signed(
    builder: x509.CertificateSigningRequestBuilder, key: ec.EllipticCurvePrivateKey
) -> bytes:
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def refusal(der: bytes) -> str:
    with pytest.raises(VerificationFailed) as refused:
        check_csr(der, DEVICE)
    return refused.value.what


def test_round_trip() -> None:
    """A device's own CSR yields exactly its key."""
    assert check_csr(GOOD, DEVICE) == KEY.public_key()


def test_subject() -> None:
    """The subject is one CN, equal to the device id."""
    twice = x509.Name([*name(DEVICE), *name(DEVICE)])
    organization = x509.NameAttribute(NameOID.ORGANIZATION_NAME, DEVICE)
    for subject in (
        name("x"),
        x509.Name([]),
        twice,
        x509.Name([organization]),
        x509.Name([organization, *name(DEVICE)]),
    ):
        assert "subject" in refusal(signed(BUILDER.subject_name(subject), KEY))


def test_other_device() -> None:
    """A CSR made for another device, in whatever case, is not this one's."""
    for other in ("01JC0000000000000000000AAB", DEVICE.lower(), DEVICE + " ", DEVICE + "\0"):
        assert "subject" in refusal(make_csr(KEY, other))


@pytest.mark.parametrize(
    "extension",
    [
        x509.BasicConstraints(ca=True, path_length=None),
        x509.BasicConstraints(ca=False, path_length=None),
        usage("key_cert_sign", "crl_sign"),
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]),
        x509.SubjectAlternativeName([x509.DNSName("palyrad-node-rpc")]),
        x509.SubjectAlternativeName([x509.UniformResourceIdentifier("spiffe://palyra/gateway/g")]),
        x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"x"),
    ],
    ids=lambda extension: type(extension).__name__,
)
@pytest.mark.parametrize("critical", [True, False])
def test_no_extension(extension: x509.ExtensionType, critical: bool) -> None:
    """Every requested extension is refused, also one that would ask for nothing."""
    asked = BUILDER.subject_name(name(DEVICE)).add_extension(extension, critical=critical)
    assert "more" in refusal(signed(asked, KEY))


def test_no_attribute() -> None:
    """Other attributes, a challenge password for one, are refused."""
    asked = BUILDER.subject_name(name(DEVICE))
    assert "more" in refusal(signed(asked.add_attribute(AttributeOID.CHALLENGE_PASSWORD, b""), KEY))


@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP521R1(), ec.SECP256K1(), ec.SECP224R1()])
def test_other_curves(curve: ec.EllipticCurve) -> None:
    """ECDSA keys on any curve but P-256 are refused."""
    assert "P-256" in refusal(make_csr(ec.generate_private_key(curve), DEVICE))


def test_other_keys() -> None:
    """RSA keys, strong or weak, and Edwards keys are refused."""
    plain = BUILDER.subject_name(name(DEVICE))
    for bits in (1024, 2048):
        weak = plain.sign(rsa.generate_private_key(65537, bits), hashes.SHA256())
        assert "P-256" in refusal(weak.public_bytes(Encoding.DER))
    edwards = plain.sign(ed25519.Ed25519PrivateKey.generate(), None)
    assert "P-256" in refusal(edwards.public_bytes(Encoding.DER))


def test_curve_spelled_out() -> None:
    """P-256 by its parameters and not by its name is refused, though they are the right ones."""
    # Older parsers do not take it at all.
    assert refusal(EXPLICIT_CURVE) in (
        "the CSR's key is not encoded as named P-256",
        "the CSR does not parse",
    )


def test_signature() -> None:
    """A CSR whose signature does not hold proves no key."""
    twin = make_csr(ec.generate_private_key(ec.SECP256R1()), DEVICE)
    assert "signature" in refusal(GOOD.replace(_point(GOOD), _point(twin)))


def test_size() -> None:
    """Over 4 KiB nothing is parsed, however good it begins."""
    assert "4 KiB" in refusal(GOOD + b"\0" * MAX_CSR_BYTES)
    assert "parse" in refusal(b"\0" * MAX_CSR_BYTES)


@pytest.mark.parametrize("extra", [b"\0", b"\n", b"\x30\x00", GOOD])
def test_trailing_bytes(extra: bytes) -> None:
    """What follows a CSR makes it another text with the same meaning, and is refused."""
    assert "parse" in refusal(GOOD + extra)


def test_pem_is_not_der() -> None:
    """The same CSR as PEM is not taken."""
    pem = x509.load_der_x509_csr(GOOD).public_bytes(Encoding.PEM)
    assert "parse" in refusal(pem)


@settings(max_examples=100, deadline=None)
@given(at=st.integers(0, 2000), piece=st.binary(max_size=3), noise=st.binary(max_size=200))
def test_outside_bytes(at: int, piece: bytes, noise: bytes) -> None:
    """Damaged or random bytes yield the key itself or VerificationFailed, never another key."""
    place = at % len(GOOD)
    for der in (GOOD[:place] + piece + GOOD[place + 1 :], noise):
        with contextlib.suppress(VerificationFailed):
            assert check_csr(der, DEVICE) == KEY.public_key()


def _point(der: bytes) -> bytes:
    """The uncompressed point in a CSR."""
    start = der.index(b"\x03\x42\x00\x04") + 4
    return der[start : start + 64]
