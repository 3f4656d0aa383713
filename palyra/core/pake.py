"""SPAKE2 for PIN pairing, bound to everything both ends said (PROTOCOL: PIN PAIRING).

The device confirms first: whoever stands between the two learns public values and has one guess.
An exchange costs some milliseconds of Python at each step; a gateway runs it in a thread of its
own.  Sizes: a share is 33 bytes, a confirmation 32, all keys 32.
"""

from __future__ import annotations

import hashlib
import hmac

import attrs
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from spake2 import SPAKE2_A, SPAKE2_B

from palyra.core.handshake import Begun
from palyra.core.identifiers import Entropy
from palyra.core.transcript import DeviceProof, bound_fields, is_proper_point, lp
from palyra.errors import VerificationFailed

SUITE = 1
"""SPAKE2 over Ed25519 as the library spake2 has it, HKDF and HMAC with SHA-256."""
SHARE_BYTES = 33
CONFIRM_BYTES = 32
_DEVICE = b"palyra-pake-v1 device"
_GATEWAY = b"palyra-pake-v1 gateway"


class DevicePake:
    """The device's side of one run.  The PIN is dropped with this object."""

    def __init__(self, pin: str, entropy: Entropy) -> None:
        self._spake = SPAKE2_A(pin.encode(), idA=_DEVICE, idB=_GATEWAY, entropy_f=entropy)
        self.share: bytes = self._spake.start()

    def finish(self, gateway_share: bytes) -> bytes:
        """The shared key K, once.

        :raises VerificationFailed: the gateway's share is not acceptable.
        """
        return _finished(self._spake, gateway_share)


class GatewayPake:
    """The gateway's side of one run: for an active code its PIN, else a random one."""

    def __init__(self, pin: str, entropy: Entropy) -> None:
        self._spake = SPAKE2_B(pin.encode(), idA=_DEVICE, idB=_GATEWAY, entropy_f=entropy)
        self.share: bytes = self._spake.start()

    def finish(self, device_share: bytes) -> bytes:
        """The shared key K, once.

        :raises VerificationFailed: the device's share is not acceptable.
        """
        return _finished(self._spake, device_share)


@attrs.frozen
class PakeTranscript:
    """What both ends confirm, with the fields of PROTOCOL's T."""

    begun: Begun
    nameplate: int
    ca_hash: bytes
    """SHA-256 of the DER of the CA certificate that the device uses as its only root."""
    gateway_share: bytes
    device_share: bytes
    proof: DeviceProof

    def digest(self) -> bytes:
        """T: SHA-256 over all of it, 32 bytes."""
        fields = lp(
            b"palyra-pake-v1",
            self.begun.session_id.encode(),
            self.nameplate.to_bytes(4, "little"),
            self.begun.challenge,
            self.begun.gateway_public,
            self.ca_hash,
            self.gateway_share,
            self.device_share,
            bound_fields(self.proof),
        )
        return hashlib.sha256(fields).digest()


@attrs.frozen(repr=False)
class Confirmations:
    """Both confirmations of one run under one transcript."""

    device: bytes
    """cA: what the device sends, and the gateway checks before it says anything keyed."""
    gateway: bytes
    """cB: what the gateway answers, and the device checks before it believes anything."""

    @classmethod
    def of(cls, key: bytes, transcript: PakeTranscript) -> Confirmations:
        """From the shared key K and the transcript."""
        digest = transcript.digest()
        derived = HKDF(
            algorithm=SHA256(), length=64, salt=digest, info=b"palyra-pake-v1 confirm"
        ).derive(key)
        device = _mac(derived[:32], digest)
        return cls(device, _mac(derived[32:], lp(digest, device)))


def with_pake(proof: DeviceProof, share: bytes, confirm: bytes) -> DeviceProof:
    """The device's message with X and cA in it."""
    assert proof.enrolment is not None, "a device that has a PIN is not a version-1 device"
    enrolment = attrs.evolve(proof.enrolment, pake_share=share, pake_confirm=confirm)
    return attrs.evolve(proof, enrolment=enrolment)


def confirms(given: bytes, expected: bytes) -> bool:
    """Compare a confirmation, or another secret, in constant time."""
    return hmac.compare_digest(given, expected)


def _finished(spake: SPAKE2_A | SPAKE2_B, share: bytes) -> bytes:
    # The library takes the neutral element where it is not written canonically.
    if len(share) != SHARE_BYTES or not is_proper_point(share[1:]):
        raise VerificationFailed("the PAKE share is not acceptable")
    try:
        key: bytes = spake.finish(share)
    except Exception as cause:  # the library has no common base for what it refuses
        raise VerificationFailed("the PAKE share is not acceptable") from cause
    return key


def _mac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")
