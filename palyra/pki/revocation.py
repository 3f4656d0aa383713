"""Who is believed no longer: revoked devices, keys and certificates, superseded certificates."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping

import attrs

from palyra.core.identifiers import Fingerprint
from palyra.errors import CertificateSuperseded, DeviceRevoked


@attrs.frozen
class Revocation:
    """What is kept of a revocation.  ``certificates`` maps fingerprints to their notAfter.

    ``blocks_device`` is false when only an identity of the device was retired: the device paired
    anew with another key, or was removed and may ask again.  ``blocks_key`` is false once an
    operator allowed the identity key again.
    """

    device_id: str
    key: Fingerprint | None
    certificates: Mapping[Fingerprint, int]
    when_ms: int
    reason: str
    blocks_device: bool = True
    blocks_key: bool = True


class RevocationIndex:
    """All that is revoked or superseded, in memory, for one thread.

    ``generation`` rises at every change; what was decided under another generation is asked again.
    """

    def __init__(self) -> None:
        self.generation = 0
        self._devices: dict[str, Revocation] = {}
        self._keys: dict[Fingerprint, Revocation] = {}
        self._certificates: dict[Fingerprint, tuple[int, Revocation]] = {}
        self._superseded: dict[Fingerprint, int] = {}

    def load(
        self, revocations: Iterable[Revocation], superseded: Mapping[Fingerprint, int]
    ) -> None:
        """Replace everything by what the store remembers; one change of generation."""
        for table in (self._devices, self._keys, self._certificates, self._superseded):
            table.clear()
        for revocation in revocations:
            self._enter(revocation)
        self._superseded.update(superseded)
        self.generation += 1

    def revoke(
        self,
        device_id: str,
        key_fp: Fingerprint | None,
        cert_fps: Mapping[Fingerprint, int],
        when_ms: int,
        reason: str,
    ) -> Revocation:
        """Refuse the device, its identity key and its certificates (fingerprint to notAfter)."""
        return self._record(Revocation(device_id, key_fp, dict(cert_fps), when_ms, reason))

    def retire_identity(
        self,
        device_id: str,
        key_fp: Fingerprint | None,
        cert_fps: Mapping[Fingerprint, int],
        when_ms: int,
        reason: str,
    ) -> Revocation:
        """Refuse an old key and its certificates while the device id lives on with another."""
        certificates = dict(cert_fps)
        return self._record(
            Revocation(device_id, key_fp, certificates, when_ms, reason, blocks_device=False)
        )

    def supersede(self, fingerprint: Fingerprint, not_after_ms: int) -> None:
        """Refuse a certificate whose successor has registered."""
        self._superseded[fingerprint] = not_after_ms
        self.generation += 1

    def readmit_device(self, device_id: str) -> None:
        """Let a removed device's id ask for pairing again; key and certificates stay refused."""
        if self._devices.pop(device_id, None) is not None:
            self.generation += 1

    def readmit_key(self, key_fp: Fingerprint) -> None:
        """An operator allowed the identity key again."""
        if self._keys.pop(key_fp, None) is not None:
            self.generation += 1

    def forget_expired(self, now_ms: int) -> None:
        """Drop the fingerprints of certificates that their dates refuse by now."""
        certificates = [fp for fp, (end, _) in self._certificates.items() if end < now_ms]
        superseded = [fp for fp, end in self._superseded.items() if end < now_ms]
        for fingerprint in certificates:
            del self._certificates[fingerprint]
        for fingerprint in superseded:
            del self._superseded[fingerprint]
        if certificates or superseded:
            self.generation += 1

    def check_device(self, device_id: str) -> None:
        """:class:`DeviceRevoked` if the device id is refused."""
        if (revocation := self._devices.get(device_id)) is not None:
            raise _refusal(revocation)

    def check_key(self, key_fp: Fingerprint) -> None:
        """:class:`DeviceRevoked` if the identity key is refused, under whatever device id."""
        if (revocation := self._keys.get(key_fp)) is not None:
            raise _refusal(revocation)

    def refuses(self, device_id: str, key_fp: Fingerprint) -> bool:
        """Whether the device id or the identity key is refused."""
        return device_id in self._devices or key_fp in self._keys

    def check_certificate(self, fingerprint: Fingerprint) -> None:
        """:class:`DeviceRevoked` or :class:`CertificateSuperseded` if it is refused."""
        if (found := self._certificates.get(fingerprint)) is not None:
            raise _refusal(found[1])
        if fingerprint in self._superseded:
            raise CertificateSuperseded()

    def _record(self, revocation: Revocation) -> Revocation:
        self._enter(revocation)
        self.generation += 1
        return revocation

    def _enter(self, revocation: Revocation) -> None:
        if revocation.blocks_device:
            self._devices[revocation.device_id] = revocation
        if revocation.blocks_key and revocation.key is not None:
            self._keys[revocation.key] = revocation
        for fingerprint, not_after_ms in revocation.certificates.items():
            self._certificates[fingerprint] = (not_after_ms, revocation)


def _refusal(revocation: Revocation) -> DeviceRevoked:
    when = datetime.datetime.fromtimestamp(revocation.when_ms / 1000, datetime.UTC)
    return DeviceRevoked(revocation.device_id, when.date().isoformat(), revocation.reason)
