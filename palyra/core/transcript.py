"""What both ends sign and hash in a pairing handshake (PROTOCOL: Exchanges; CONTRACT: Wire).

Text is UTF-8 and SHA-256 the only hash.  The version-1 payloads are the published ones, without
separators; every payload of our own length-prefixes each of its fields.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Callable, Sequence

import attrs
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from palyra.core.devices import ClientKind
from palyra.core.identifiers import DeviceId, Fingerprint
from palyra.core.pairing import CodeMethod
from palyra.errors import VerificationFailed

_VERSION = (1).to_bytes(4, "little")
_FIELD_PRIME = 2**255 - 19
_SIGN_BIT = 1 << 255
# The y coordinates of the eight points of small order: one fixed signature would verify for every
# message with such a key.
_SMALL_ORDER = frozenset(
    int.from_bytes(bytes.fromhex(encoded), "little")
    for encoded in (
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    )
)


class Purpose(enum.Enum):
    """What an identity signature is for; part of what is signed."""

    PAIR_PIN = "pair-pin"
    PAIR_URI = "pair-uri"
    REJOIN = "rejoin"

    @classmethod
    def of(cls, method: CodeMethod) -> Purpose:
        """The purpose of pairing by that method."""
        return _PURPOSES[method]


_PURPOSES = {
    CodeMethod.PIN: Purpose.PAIR_PIN,
    CodeMethod.QR: Purpose.PAIR_URI,
    CodeMethod.REJOIN: Purpose.REJOIN,
}


@attrs.frozen
class Enrolment:
    """What a device sends beyond version 1, as sent."""

    csr_der: bytes
    identity_signature: bytes
    announcement: bytes = b""
    pake_share: bytes = b""
    """X and cA of PIN pairing; empty in any other."""
    pake_confirm: bytes = attrs.field(default=b"", repr=False)


@attrs.frozen
class DeviceProof:
    """CompletePairingSession as the device fills it; ``enrolment`` is None from version 1."""

    session_id: str = attrs.field(repr=False)
    device_id: DeviceId
    client_kind: ClientKind
    proof: str = attrs.field(repr=False)
    """The code itself in version-1 and URI pairing; empty for PIN and rejoin."""
    identity_public: bytes
    x25519_public: bytes
    challenge_signature: bytes = attrs.field(repr=False)
    transcript_mac: bytes = attrs.field(repr=False)
    enrolment: Enrolment | None = None


def lp(*fields: bytes) -> bytes:
    """LP(x, ...): each field as its length (4 bytes, little-endian) and its bytes; injective."""
    return b"".join(len(field).to_bytes(4, "little") + field for field in fields)


def v1_signature_payload(
    session_id: str,
    challenge: bytes,
    gateway_public: bytes,
    device_id: str,
    client_kind: ClientKind,
    proof: str,
) -> bytes:
    """What ``challenge_signature`` (Ed25519) is made over; published, without separators."""
    head = b"palyra-pairing-v1" + _VERSION + session_id.encode()
    who = f"{device_id}{client_kind.value}{proof}".encode()
    return head + challenge + gateway_public + who


def v1_transcript_mac(
    shared: bytes, challenge: bytes, session_id: str, device_id: str, client_kind: ClientKind
) -> bytes:
    """``transcript_mac``: 32 bytes of HKDF-SHA256 from the X25519 ``shared`` secret."""
    who = f"{device_id}{client_kind.value}".encode()
    info = b"palyra-mtls-transcript-v1" + session_id.encode() + _VERSION + who
    return HKDF(algorithm=SHA256(), length=32, salt=challenge, info=info).derive(shared)


def identity_payload(
    purpose: Purpose,
    session_id: str,
    challenge: bytes,
    ca_hash: bytes,
    device_id: str,
    client_kind: ClientKind,
    identity_public: bytes,
    csr_der: bytes,
    announcement: bytes,
) -> bytes:
    """What SIG is made over: who asks, for what, under which CA, with which key and CSR."""
    return lp(
        b"palyra-identity-v1",
        purpose.value.encode(),
        session_id.encode(),
        challenge,
        ca_hash,
        device_id.encode(),
        client_kind.value.encode(),
        identity_public,
        _sha256(csr_der),
        _sha256(announcement),
    )


def status_payload(session_id: str, device_id: str, ca_hash: bytes, counter: int) -> bytes:
    """What a StatusProof is made over; ``counter`` is 8 bytes, little-endian, and only rises."""
    counted = counter.to_bytes(8, "little")
    return lp(b"palyra-status-v1", session_id.encode(), device_id.encode(), ca_hash, counted)


def renewal_payload(device_id: str, ca_hash: bytes, over: Fingerprint, csr_der: bytes) -> bytes:
    """What a renewal is signed over; ``over`` is the certificate of this connection."""
    certificate, csr = bytes.fromhex(over), _sha256(csr_der)
    return lp(b"palyra-renew-v1", device_id.encode(), ca_hash, certificate, csr)


def bound_fields(proof: DeviceProof) -> bytes:
    """R of PROTOCOL: every field of the device's message; from version 1 the last three are empty.

    The code is left out: ``challenge_signature`` covers it.
    """
    enrolment = proof.enrolment or Enrolment(b"", b"")
    return lp(
        proof.client_kind.value.encode(),
        proof.device_id.encode(),
        proof.identity_public,
        proof.x25519_public,
        proof.challenge_signature,
        proof.transcript_mac,
        enrolment.csr_der,
        enrolment.identity_signature,
        enrolment.announcement,
    )


def request_digest(
    purpose: Purpose,
    session_id: str,
    challenge: bytes,
    gateway_public: bytes,
    ca_hash: bytes,
    proof: DeviceProof,
) -> str:
    """SHA-256 (hex) over the whole transcript: what an approval is bound to."""
    bound = lp(
        b"palyra-request-v1",
        purpose.value.encode(),
        session_id.encode(),
        challenge,
        gateway_public,
        ca_hash,
        bound_fields(proof),
    )
    return _sha256(bound).hex()


def is_proper_point(encoded: bytes) -> bool:
    """Whether 32 bytes can be the one encoding of a point of edwards25519 that is not of small
    order; that such a point exists is not said."""
    y = int.from_bytes(encoded, "little") % _SIGN_BIT
    return y < _FIELD_PRIME and y not in _SMALL_ORDER


def check_identity_key(public: bytes) -> Ed25519PublicKey:
    """A raw Ed25519 public key, refused where it is of small order or not canonically encoded.

    :raises VerificationFailed: it is one of those, or not 32 bytes.
    """
    if len(public) != 32:
        raise VerificationFailed("the identity key is not 32 bytes")
    if not is_proper_point(public):
        raise VerificationFailed("the identity key is not acceptable")
    return Ed25519PublicKey.from_public_bytes(public)


def verify_identity_signature(
    identity_public: bytes, signature: bytes, payload: bytes, what: str = "identity signature"
) -> None:
    """Check an Ed25519 signature by an acceptable key; ``what`` names it in the refusal.

    :raises VerificationFailed: the key is not acceptable or the signature does not hold.
    """
    key = check_identity_key(identity_public)
    try:
        key.verify(signature, payload)
    except InvalidSignature as cause:
        raise VerificationFailed(f"the {what} does not hold") from cause


def verify_under_any(
    ca_hashes: Sequence[bytes],
    payload: Callable[[bytes], bytes],
    identity_public: bytes,
    signature: bytes,
    what: str = "identity signature",
) -> bytes:
    """The CA hash under which a signature holds: several are trusted while the CA is rotated.

    ``payload`` gives what is signed for a CA hash.

    :raises VerificationFailed: it holds under none of them.
    """
    refused = VerificationFailed("no CA of this gateway is given")
    for ca_hash in ca_hashes:
        try:
            verify_identity_signature(identity_public, signature, payload(ca_hash), what)
        except VerificationFailed as cause:
            refused = cause
        else:
            return ca_hash
    raise refused


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
