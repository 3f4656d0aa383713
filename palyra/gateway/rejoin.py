"""Rejoin: a device whose certificate ran out comes back by its identity key (PROTOCOL: REJOIN)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.logger import Logger

from palyra.core.devices import Device, DeviceState, Renewal
from palyra.core.handshake import GatewayHandshake, Verified
from palyra.core.identifiers import DeviceId, short_id
from palyra.core.interfaces import IDeviceDirectory
from palyra.core.transcript import DeviceProof, Purpose
from palyra.core.windows import Windows
from palyra.errors import (
    DeviceRevoked,
    LimitReached,
    Malformed,
    PairingFailed,
    RejoinRefused,
    VerificationFailed,
)
from palyra.gateway.inventory import Inventory
from palyra.gateway.issuing import Issuer
from palyra.gateway.proofs import Office, Stranger
from palyra.gateway.renewals import after_order
from palyra.gateway.requests import Opening
from palyra.pki.csr import check_csr
from palyra.wire.pairing import Completed

MAX_AN_HOUR = 6
_HOUR_MS = 3_600_000
_NOBODY = b"\x00" * 32
"""No device's key: whoever asks for an unknown device is refused by the same checks."""


class Rejoins:
    """Lets devices back in."""

    _log = Logger()

    def __init__(
        self,
        *,
        directory: IDeviceDirectory,
        inventory: Inventory,
        issuer: Issuer,
        grace_ms: int,
        old_sessions: Callable[[DeviceId], object],
        changed: Callable[[], object],
    ) -> None:
        """``old_sessions`` ends what the device still has open under its older certificates."""
        self._directory = directory
        self._inventory = inventory
        self._issuer = issuer
        self._grace_ms = grace_ms
        self._old_sessions = old_sessions
        self._changed = changed
        self._lately = Windows(MAX_AN_HOUR, _HOUR_MS)

    def key_of(self, device_id: DeviceId) -> bytes:
        """The recorded identity key of a device, or one that nobody has."""
        device = self._inventory.device(device_id)
        return device.identity_public if device is not None else _NOBODY

    def check_kind(self, verified: Verified) -> None:
        """What a client is was fixed when it was approved.

        :raises VerificationFailed: it says that it is something else.
        """
        device = self._inventory.device(verified.device_id)
        if device is not None and device.client_kind is not verified.client_kind:
            raise VerificationFailed("the client kind is not the recorded one")

    async def admit(
        self, verified: Verified, now_ms: int, ask: Callable[[], Awaitable[Completed]]
    ) -> Completed:
        """A device has proved its recorded identity key: its certificate, or, when it was away for
        too long, a request that waits for an operator (``ask``).

        :raises DeviceRevoked: it may not come back.
        :raises LimitReached: it comes too often.
        """
        device = self._inventory.device(verified.device_id)
        assert device is not None, "its key was compared with the recorded one"
        self._inventory.revoked.check_device(device.device_id)
        self._inventory.revoked.check_key(verified.identity_fingerprint)
        if device.state is not DeviceState.PAIRED:
            raise DeviceRevoked(short_id(device.device_id), reason=device.revoke_reason)
        self._guard(device.device_id, now_ms)
        ended_ms = await self._ended_ms(device)
        if now_ms > ended_ms + self._grace_ms:
            return await ask()
        return await self._issue(device, verified)

    async def _issue(self, device: Device, verified: Verified) -> Completed:
        offered = after_order(device, self._issuer.issue(device.device_id, verified.csr_der))
        kept = await self._directory.renew(Renewal(offered, device.identity_fingerprint, over=None))
        if self._inventory.certificate(kept.fingerprint) is None:  # no answer given once more
            self._inventory.rejoined(kept)
            self._old_sessions(device.device_id)
            self._log.info("{name} rejoined by its identity key", name=device.name)
        self._changed()
        return Completed(
            request_id="",
            identity_fingerprint=verified.identity_fingerprint,
            transcript_hash=verified.transcript_hash,
            certificate_pem=kept.pem,
            ca_pem=self._issuer.ca_bundle_pem,
            certificate_expires_at_ms=kept.not_after_ms,
            renew_after_s=self._issuer.renew_after_s(kept),
        )

    async def _ended_ms(self, device: Device) -> int:
        """When the last certificate of a device ran out, or will."""
        held = await self._directory.certificates_of(device.device_id)
        ends = [each.not_after_ms for each in held]
        return max(ends, default=device.paired_at_ms)

    def _guard(self, device_id: DeviceId, now_ms: int) -> None:
        wait_ms = self._lately.wait_ms(device_id, now_ms)
        if wait_ms:
            raise LimitReached("rejoins of one device in an hour", MAX_AN_HOUR, wait_ms / 1000)
        self._lately.add(device_id, now_ms)


class ByIdentity:
    """A rejoin: the recorded identity key, and nothing else."""

    purpose = Purpose.REJOIN
    share = b""

    def __init__(self, office: Office, rejoins: Rejoins, device_id: DeviceId) -> None:
        self._office = office
        self._rejoins = rejoins
        self._device_id = device_id

    async def check(
        self, handshake: GatewayHandshake, message: DeviceProof, peer: Stranger
    ) -> Completed:
        verified = self._verified(handshake, message)
        opening = Opening(verified, handshake.session_id, peer.address)
        return await self._rejoins.admit(
            verified, self._office.now_ms(), lambda: self._office.requests.open(opening)
        )

    def _verified(self, handshake: GatewayHandshake, message: DeviceProof) -> Verified:
        """Whoever cannot prove the key learns nothing: not even whether there is such a device."""
        try:
            if message.device_id != self._device_id or message.enrolment is None:
                handshake.fail()
                raise RejoinRefused()
            verified = handshake.verify(
                message,
                ca_hashes=self._office.verifier.ca_hashes(),
                proof_expected="",
                now_ms=self._office.now_ms(),
                recorded_identity=self._rejoins.key_of(self._device_id),
            )
        except (PairingFailed, VerificationFailed, Malformed) as refusal:
            raise RejoinRefused() from refusal
        check_csr(verified.csr_der, verified.device_id)
        self._rejoins.check_kind(verified)
        return verified
