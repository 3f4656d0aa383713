"""The pairing handshake at both ends, without I/O (CONTRACT: Wire; PROTOCOL: Exchanges).

A gateway opens a :class:`GatewayHandshake`, a device answers it with its
:class:`DeviceHandshake`, and the gateway verifies that answer once.  The CSR is handed on as it
came; SPAKE2 is checked before, with the same values.
"""

from __future__ import annotations

import enum
import hmac
import re
from collections.abc import Sequence
from typing import Protocol

import attrs
from automat import TypeMachineBuilder
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from palyra.core.announcement import Announcement, decode_announcement
from palyra.core.devices import ClientKind
from palyra.core.identifiers import DeviceId, Entropy, Fingerprint, parse_ulid, sha256_hex
from palyra.core.pairing import SESSION_WINDOW_MS
from palyra.core.transcript import (
    DeviceProof,
    Enrolment,
    Purpose,
    identity_payload,
    request_digest,
    status_payload,
    v1_signature_payload,
    v1_transcript_mac,
    verify_identity_signature,
    verify_under_any,
)
from palyra.errors import (
    Malformed,
    PairingFailed,
    PairingSessionUnknown,
    VerificationFailed,
    VersionOneRefused,
)

CHALLENGE_BYTES = 32
SESSION_ID_BYTES = 16
_SESSION_ID = re.compile(r"[0-9a-f]{32}\Z", re.ASCII)


class HandshakeState(enum.Enum):
    """A pairing session at the gateway, from Begin to the one Complete it takes."""

    OPENED = "opened"
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"


@attrs.frozen
class Begun:
    """What the gateway answers to Begin."""

    session_id: str = attrs.field(repr=False)
    challenge: bytes
    gateway_public: bytes


@attrs.frozen
class Verified:
    """What a verified proof says.  The CSR is the device's word still: pki checks it."""

    device_id: DeviceId
    client_kind: ClientKind
    identity_public: bytes
    identity_fingerprint: Fingerprint
    transcript_hash: str
    """SHA-256 (hex) of the version-1 transcript MAC."""
    digest: str
    """SHA-256 (hex) of the whole transcript: what an approval is bound to."""
    announcement: Announcement
    csr_der: bytes
    """As sent; empty from a version-1 device."""


class HandshakeInputs(Protocol):
    """What happens to a pairing session."""

    def completed(self) -> None:
        """The device's proof holds."""

    def failed(self) -> None:
        """The device's proof does not hold."""

    def time_passed(self) -> None:
        """Its five minutes are over."""


@attrs.define
class GatewayHandshake:
    """One open pairing session.  ``session_id`` and the ephemeral key are secrets."""

    client_kind: ClientKind
    purpose: Purpose
    session_id: str = attrs.field(repr=False)
    challenge: bytes
    expires_at_ms: int
    _private: X25519PrivateKey = attrs.field(repr=False)
    state: HandshakeState = HandshakeState.OPENED

    @classmethod
    def begin(
        cls, client_kind: ClientKind, purpose: Purpose, entropy: Entropy, now_ms: int
    ) -> GatewayHandshake:
        """Open a session; ``now_ms`` is Unix milliseconds."""
        return cls(
            client_kind=client_kind,
            purpose=purpose,
            session_id=entropy(SESSION_ID_BYTES).hex(),
            challenge=entropy(CHALLENGE_BYTES),
            expires_at_ms=now_ms + SESSION_WINDOW_MS,
            private=X25519PrivateKey.from_private_bytes(entropy(32)),
        )

    @property
    def begun(self) -> Begun:
        """What the device is told."""
        public = self._private.public_key().public_bytes_raw()
        return Begun(self.session_id, self.challenge, public)

    def verify(
        self,
        message: DeviceProof,
        *,
        ca_hashes: Sequence[bytes],
        proof_expected: str,
        now_ms: int,
        recorded_identity: bytes | None = None,
        allow_version_one: bool = False,
    ) -> Verified:
        """Check the one proof this session takes; whatever is refused ends the session.

        ``ca_hashes`` are SHA-256 of the gateway's own CA certificates, several while the CA is
        rotated.  ``recorded_identity`` is the key of the device record, for a rejoin.

        :raises PairingSessionUnknown: the session was used before, is over, or is another one.
        :raises PairingFailed: the proof is not ``proof_expected``: a guess.
        :raises VersionOneRefused: no CSR, and version 1 is not allowed.
        :raises VerificationFailed: a signature, the MAC or a binding does not hold.
        :raises Malformed: a field has the wrong length or the announcement does not parse.
        """
        self._still_open(now_ms)
        machine = handshake_machine(self)
        try:
            verified = self._check(
                message, ca_hashes, proof_expected, recorded_identity, allow_version_one
            )
        except Exception:
            machine.failed()
            raise
        machine.completed()
        return verified

    def fail(self) -> None:
        """End the session: the proof was refused before it came to :meth:`verify`."""
        handshake_machine(self).failed()

    def time_passed(self, now_ms: int) -> None:
        """End the session where its five minutes are over; nothing where it ended before."""
        if self.state is HandshakeState.OPENED and now_ms >= self.expires_at_ms:
            handshake_machine(self).time_passed()

    def _still_open(self, now_ms: int) -> None:
        self.time_passed(now_ms)
        if self.state is not HandshakeState.OPENED:
            raise PairingSessionUnknown()

    def _check(
        self,
        message: DeviceProof,
        ca_hashes: Sequence[bytes],
        proof_expected: str,
        recorded_identity: bytes | None,
        allow_version_one: bool,
    ) -> Verified:
        self._check_form(message)
        if not _same(message.proof.encode(), proof_expected.encode()):
            raise PairingFailed()
        if message.enrolment is None and not allow_version_one:
            raise VersionOneRefused()
        if recorded_identity is not None and message.identity_public != recorded_identity:
            raise VerificationFailed("the identity key is not the recorded one")
        self._check_version_one(message)
        ca_hash = self._check_enrolment(message, ca_hashes)
        return self._verified(message, ca_hash)

    def _check_form(self, message: DeviceProof) -> None:
        if not _same(message.session_id.encode(), self.session_id.encode()):
            raise PairingSessionUnknown()
        if message.client_kind is not self.client_kind:
            raise VerificationFailed("the client kind changed")
        parse_ulid(message.device_id, "device_id")
        _sized("device_signing_public", message.identity_public, 32)
        _sized("device_x25519_public", message.x25519_public, 32)
        _sized("challenge_signature", message.challenge_signature, 64)
        _sized("transcript_mac", message.transcript_mac, 32)
        if message.enrolment is not None and not message.enrolment.csr_der:
            raise Malformed("csr_der", "is empty")

    def _check_version_one(self, message: DeviceProof) -> None:
        begun, kind = self.begun, self.client_kind
        payload = v1_signature_payload(
            begun.session_id,
            begun.challenge,
            begun.gateway_public,
            message.device_id,
            kind,
            message.proof,
        )
        verify_identity_signature(
            message.identity_public, message.challenge_signature, payload, "challenge signature"
        )
        shared = _agree(self._private, message.x25519_public)
        expected = v1_transcript_mac(
            shared, begun.challenge, begun.session_id, message.device_id, kind
        )
        if not _same(message.transcript_mac, expected):
            raise VerificationFailed("the transcript MAC does not hold")

    def _check_enrolment(self, message: DeviceProof, ca_hashes: Sequence[bytes]) -> bytes:
        """The CA hash that SIG was made with; empty for version 1, which binds none."""
        if message.enrolment is None:
            return b""
        enrolment = message.enrolment

        def payload(ca_hash: bytes) -> bytes:
            return identity_payload(
                self.purpose,
                self.session_id,
                self.challenge,
                ca_hash,
                message.device_id,
                self.client_kind,
                message.identity_public,
                enrolment.csr_der,
                enrolment.announcement,
            )

        return verify_under_any(
            ca_hashes, payload, message.identity_public, enrolment.identity_signature
        )

    def _verified(self, message: DeviceProof, ca_hash: bytes) -> Verified:
        begun, enrolment = self.begun, message.enrolment
        return Verified(
            device_id=message.device_id,
            client_kind=self.client_kind,
            identity_public=message.identity_public,
            identity_fingerprint=sha256_hex(message.identity_public),
            transcript_hash=sha256_hex(message.transcript_mac),
            digest=request_digest(
                self.purpose,
                begun.session_id,
                begun.challenge,
                begun.gateway_public,
                ca_hash,
                message,
            ),
            announcement=decode_announcement(enrolment.announcement if enrolment else b""),
            csr_der=enrolment.csr_der if enrolment else b"",
        )


_builder = TypeMachineBuilder(HandshakeInputs, GatewayHandshake)
_opened = _builder.state("opened")
_completed = _builder.state("completed")
_failed = _builder.state("failed")
_expired = _builder.state("expired")
_STATES = {
    HandshakeState.OPENED: _opened,
    HandshakeState.COMPLETED: _completed,
    HandshakeState.FAILED: _failed,
    HandshakeState.EXPIRED: _expired,
}


@_opened.upon(HandshakeInputs.completed).to(_completed)
def _complete(_: HandshakeInputs, handshake: GatewayHandshake) -> None:
    handshake.state = HandshakeState.COMPLETED


@_opened.upon(HandshakeInputs.failed).to(_failed)
def _fail(_: HandshakeInputs, handshake: GatewayHandshake) -> None:
    handshake.state = HandshakeState.FAILED


@_opened.upon(HandshakeInputs.time_passed).to(_expired)
def _expire(_: HandshakeInputs, handshake: GatewayHandshake) -> None:
    handshake.state = HandshakeState.EXPIRED


_machine = _builder.build()


def handshake_machine(handshake: GatewayHandshake) -> HandshakeInputs:
    """The machine of a pairing session: every input but the first raises NoTransition."""
    return _machine(handshake, _STATES[handshake.state])


@attrs.frozen
class DeviceHandshake:
    """The device's end: its identity key, its id and what it is."""

    identity_key: Ed25519PrivateKey = attrs.field(repr=False)
    device_id: DeviceId
    client_kind: ClientKind = ClientKind.NODE

    def complete(
        self,
        begun: Begun,
        *,
        proof: str,
        ca_hash: bytes,
        csr_der: bytes,
        announcement: bytes,
        purpose: Purpose,
        entropy: Entropy,
    ) -> DeviceProof:
        """Answer the gateway's Begin; ``ca_hash`` is SHA-256 of the DER of the only root in use.

        :raises Malformed: the gateway's answer has fields of wrong length.
        :raises VerificationFailed: the gateway's ephemeral key is not acceptable.
        """
        _check_begun(begun)
        private = X25519PrivateKey.from_private_bytes(entropy(32))
        shared = _agree(private, begun.gateway_public)
        session_id, challenge = begun.session_id, begun.challenge
        identity_public = self.identity_key.public_key().public_bytes_raw()
        me, kind = self.device_id, self.client_kind
        signed = v1_signature_payload(session_id, challenge, begun.gateway_public, me, kind, proof)
        enrolled = identity_payload(
            purpose,
            session_id,
            challenge,
            ca_hash,
            me,
            kind,
            identity_public,
            csr_der,
            announcement,
        )
        return DeviceProof(
            session_id=session_id,
            device_id=me,
            client_kind=kind,
            proof=proof,
            identity_public=identity_public,
            x25519_public=private.public_key().public_bytes_raw(),
            challenge_signature=self.identity_key.sign(signed),
            transcript_mac=v1_transcript_mac(shared, challenge, session_id, me, kind),
            enrolment=Enrolment(csr_der, self.identity_key.sign(enrolled), announcement),
        )

    def status_proof(self, session_id: str, ca_hash: bytes, counter: int) -> bytes:
        """The signature of a StatusProof; ``counter`` is higher at every call of a session."""
        return self.identity_key.sign(status_payload(session_id, self.device_id, ca_hash, counter))


def _check_begun(begun: Begun) -> None:
    if not _SESSION_ID.match(begun.session_id):
        raise Malformed("session_id", "must be 32 hex digits")
    _sized("challenge", begun.challenge, CHALLENGE_BYTES)
    _sized("gateway_ephemeral_public", begun.gateway_public, 32)


def _sized(field: str, value: bytes, size: int) -> None:
    if len(value) != size:
        raise Malformed(field, f"must be {size} bytes (got {len(value)})")


def _agree(private: X25519PrivateKey, public: bytes) -> bytes:
    try:
        return private.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError as cause:
        raise VerificationFailed("the ephemeral key is not acceptable") from cause


def _same(left: bytes, right: bytes) -> bool:
    return hmac.compare_digest(left, right)
