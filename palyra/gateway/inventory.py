"""The inventory: every device, its certificates and whether it is trusted, in memory.

The store is the record; this is what every call asks.  It changes only after the store has
committed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import attrs

from palyra.core.devices import (
    CertificateRecord,
    CertificateState,
    Device,
    DeviceState,
    Removal,
    Revocation,
)
from palyra.core.identifiers import DeviceId, Fingerprint, as_prefix, has_prefix, short_id
from palyra.errors import AmbiguousTarget, DeviceRevoked, KeyInUse, NotFound
from palyra.pki import revocation as revocation_index
from palyra.pki import trust

KEPT_AFTER_END_MS = 7 * 86_400_000


class Inventory:
    """Devices by id and by name, certificates by fingerprint, and the trust they have."""

    def __init__(self, chain: trust.ChainVerifier) -> None:
        self.revoked = revocation_index.RevocationIndex()
        self.gate = trust.TrustGate(chain, self.revoked, self._known)
        self.watchers: list[Callable[[DeviceId], object]] = []
        """Hear of each device that was put or removed, or that has another certificate."""
        self._devices: dict[DeviceId, Device] = {}
        self._names: dict[str, DeviceId] = {}
        self._keys: dict[Fingerprint, DeviceId] = {}
        self._certificates: dict[Fingerprint, CertificateRecord] = {}
        self._of_device: dict[DeviceId, set[Fingerprint]] = {}
        self._revocations: dict[DeviceId, Revocation] = {}
        self._of_key: dict[Fingerprint, dict[DeviceId, Revocation]] = {}

    def load(
        self,
        devices: Iterable[Device],
        certificates: Iterable[CertificateRecord],
        revocations: Iterable[Revocation],
    ) -> None:
        """Take over what the store holds, at start."""
        for device in devices:
            self.put(device)
        superseded = {}
        for certificate in certificates:
            self.put_certificate(certificate)
            if certificate.state is CertificateState.SUPERSEDED:
                superseded[certificate.fingerprint] = certificate.not_after_ms
        kept = sorted(revocations, key=lambda item: item.at_ms)
        for item in kept:
            self._note(item)
        self.revoked.load([self._as_trust(item) for item in kept], superseded)

    # -- devices ----------------------------------------------------------------------------

    def put(self, device: Device) -> None:
        """Keep a device as the store has just committed it."""
        before = self._devices.get(device.device_id)
        if before is not None:
            self._names.pop(before.name, None)
            self._free_key(before)
        self._devices[device.device_id] = device
        self._names[device.name] = device.device_id
        if device.state is DeviceState.PAIRED:
            self._keys[device.identity_fingerprint] = device.device_id
        self._changed(device.device_id)

    def device(self, device_id: DeviceId) -> Device | None:
        """The device of that id, in whatever state."""
        return self._devices.get(device_id)

    def devices(self) -> list[Device]:
        """Every device that was not removed."""
        return list(self._devices.values())

    def names(self) -> set[str]:
        """The names that are taken."""
        return set(self._names)

    def paired(self, device_id: DeviceId) -> Device:
        """The device, if it may be used.

        :raises NotFound: no such device.
        :raises DeviceRevoked: it was revoked.
        """
        device = self._devices.get(device_id)
        if device is None:
            raise NotFound("device", device_id)
        if device.state is not DeviceState.PAIRED:
            self.revoked.check_device(device_id)
            raise DeviceRevoked(short_id(device_id))
        return device

    def _free_key(self, device: Device) -> None:
        if self._keys.get(device.identity_fingerprint) == device.device_id:
            del self._keys[device.identity_fingerprint]

    def refuse_key_of_another(self, device_id: DeviceId, fingerprint: Fingerprint) -> None:
        """An identity key is one device: with its revocation everything must end.

        :raises KeyInUse: another device is paired with it.
        """
        holder = self._keys.get(fingerprint)
        if holder is not None and holder != device_id:
            raise KeyInUse(self._devices[holder].name)

    def resolve(self, target: str) -> Device:
        """A device by full id, exact name, or a prefix (4 or more) of its id's random part.

        :raises NotFound: nothing fits.
        :raises AmbiguousTarget: several fit, or a name and another device's prefix.
        """
        exact = self._devices.get(DeviceId(target.upper()))
        if exact is not None:
            return exact
        found = {self._names[target]} if target in self._names else set()
        prefix = as_prefix(target)
        if prefix is not None:
            found |= {device_id for device_id in self._devices if has_prefix(device_id, prefix)}
        if not found:
            raise NotFound("device", target[:64])
        if len(found) > 1:
            names = sorted(f"{short_id(each)} {self._devices[each].name}" for each in found)
            raise AmbiguousTarget("device", target[:64], tuple(names))
        return self._devices[found.pop()]

    # -- certificates -----------------------------------------------------------------------

    def put_certificate(self, certificate: CertificateRecord) -> None:
        """Keep a certificate as the store has just committed it; a device has one pending one."""
        if certificate.state is CertificateState.PENDING:
            self._supersede(certificate, CertificateState.PENDING)
        self._certificates[certificate.fingerprint] = certificate
        self._of_device.setdefault(certificate.device_id, set()).add(certificate.fingerprint)
        self._changed(certificate.device_id)

    def newest_certificate(self, device_id: DeviceId) -> CertificateRecord | None:
        """The live certificate of a device that lasts longest."""
        live = (CertificateState.CURRENT, CertificateState.PENDING)
        held = [item for item in self._held(device_id) if item.state in live]
        # Certificates end on whole seconds: of two that end together the later one counts.
        return max(held, key=lambda item: (item.not_after_ms, item.issued_at_ms), default=None)

    def current_certificate(self, device_id: DeviceId) -> CertificateRecord | None:
        """The certificate that the device registered with last, as long as it lives."""
        held = self._held(device_id)
        return next((item for item in held if item.state is CertificateState.CURRENT), None)

    def certificate(self, fingerprint: Fingerprint) -> CertificateRecord | None:
        """A certificate that is not past its end."""
        return self._certificates.get(fingerprint)

    def superseded(self, fingerprint: Fingerprint) -> bool:
        """Whether a newer certificate of the device has taken the place of that one."""
        certificate = self.certificate(fingerprint)
        return certificate is not None and certificate.state is CertificateState.SUPERSEDED

    def issued_to(self, device_id: DeviceId, csr_digest: str) -> CertificateRecord | None:
        """The certificate of that CSR, if it is live."""
        live = (CertificateState.CURRENT, CertificateState.PENDING)
        held = [each for each in self._held(device_id) if each.csr_digest == csr_digest]
        return next((each for each in held if each.state in live), None)

    def is_current(self, device_id: DeviceId, csr_digest: str) -> bool:
        """Whether the device registered with the certificate of that CSR."""
        current = self.current_certificate(device_id)
        return current is not None and current.csr_digest == csr_digest

    def certificates(self) -> list[CertificateRecord]:
        """Every certificate that is known here."""
        return list(self._certificates.values())

    def renewed(self, over: Fingerprint, kept: CertificateRecord) -> None:
        """A certificate was issued over another one, which is in use at least from now on."""
        if over in self._certificates and over != kept.fingerprint:
            self.registered_over(over)
        self.put_certificate(kept)

    def rejoined(self, kept: CertificateRecord) -> None:
        """A device came back by its identity key: every older certificate of it is over."""
        for state in (CertificateState.CURRENT, CertificateState.PENDING):
            if kept.state is not state:
                self._supersede(kept, state)
        self.put_certificate(kept)

    def forget_expired(self, now_ms: int) -> None:
        """Drop what dates refuse by now, and will even when this clock is set back by days."""
        before_ms = now_ms - KEPT_AFTER_END_MS
        self.revoked.forget_expired(before_ms)
        for each in [item for item in self._certificates.values() if item.not_after_ms < before_ms]:
            del self._certificates[each.fingerprint]
            self._of_device[each.device_id].discard(each.fingerprint)

    def registered_over(self, fingerprint: Fingerprint) -> None:
        """A registration made this certificate current: the one it replaces is superseded."""
        registered = self._certificates[fingerprint]
        if registered.state is CertificateState.CURRENT:
            return
        self._supersede(registered, CertificateState.CURRENT)
        self.put_certificate(_in_state(registered, CertificateState.CURRENT))

    def _supersede(self, newer: CertificateRecord, state: CertificateState) -> None:
        for other in self._held(newer.device_id):
            if other.state is state and other.fingerprint != newer.fingerprint:
                self.put_certificate(_in_state(other, CertificateState.SUPERSEDED))
                self.revoked.supersede(other.fingerprint, other.not_after_ms)

    def _held(self, device_id: DeviceId) -> list[CertificateRecord]:
        return [self._certificates[each] for each in self._of_device.get(device_id, ())]

    def revoke(self, revocation: Revocation, *, identity_only: bool = False) -> None:
        """Refuse a device from now on; with ``identity_only`` just its old key and certificates."""
        self._note(revocation)
        known = self._devices.get(revocation.device_id)
        if known is not None and not identity_only:
            self.put(
                attrs.evolve(
                    known,
                    state=DeviceState.REVOKED,
                    revoked_at_ms=revocation.at_ms,
                    revoke_reason=revocation.reason,
                )
            )
        enter = self.revoked.retire_identity if identity_only else self.revoked.revoke
        enter(
            revocation.device_id,
            revocation.identity_fingerprint,
            _ends(revocation),
            revocation.at_ms,
            revocation.reason,
        )
        for fingerprint in self._of_device.pop(revocation.device_id, set()):
            del self._certificates[fingerprint]

    def remove(self, removal: Removal) -> None:
        """Forget a device; its certificates stay refused, its id and key may ask for approval."""
        device_id = removal.device.device_id
        for tombstone in removal.tombstones:
            self.revoke(tombstone)
        for tombstone in removal.tombstones:
            if not self._still_refused(tombstone.identity_fingerprint):
                self.revoked.readmit_key(tombstone.identity_fingerprint)
        self.revoked.readmit_device(device_id)
        for fingerprint in self._of_device.pop(device_id, set()):
            del self._certificates[fingerprint]
        gone = self._devices.pop(device_id, None)
        if gone is not None:
            self._free_key(gone)
        if gone is not None and self._names.get(gone.name) == device_id:
            del self._names[gone.name]
        self._changed(device_id)

    def _changed(self, device_id: DeviceId) -> None:
        for watcher in self.watchers:
            watcher(device_id)

    def allowed(self, device: Device) -> None:
        """An operator approved a device: the tombstones of its id and its key are answered."""
        for each in sorted(self.revocations(), key=lambda item: item.at_ms):
            if each.removed_at_ms is not None and (
                each.device_id == device.device_id
                or each.identity_fingerprint == device.identity_fingerprint
            ):
                self._note(attrs.evolve(each, allowed_at_ms=device.paired_at_ms))

    def revocation(self, device_id: DeviceId) -> Revocation | None:
        """The last revocation of that device id."""
        return self._revocations.get(device_id)

    def revocation_of_key(self, fingerprint: Fingerprint) -> Revocation | None:
        """The last revocation of that identity key, under whatever device id."""
        of_key = self._of_key.get(fingerprint, {}).values()
        return max(of_key, key=lambda each: each.at_ms, default=None)

    def _still_refused(self, fingerprint: Fingerprint) -> bool:
        """Whether a device that was not removed was revoked with that key."""
        of_key = self._of_key.get(fingerprint, {}).values()
        return any(each.removed_at_ms is None for each in of_key)

    def revocations(self) -> list[Revocation]:
        """Every revocation, of each device and each of its identity keys."""
        return [each for of_key in self._of_key.values() for each in of_key.values()]

    def _note(self, revocation: Revocation) -> None:
        self._revocations[revocation.device_id] = revocation
        of_key = self._of_key.setdefault(revocation.identity_fingerprint, {})
        of_key[revocation.device_id] = revocation

    def _known(self, fingerprint: Fingerprint) -> trust.CertificateState | None:
        record = self._certificates.get(fingerprint)
        if record is None or record.state is CertificateState.REVOKED:
            return None
        return trust.CertificateState(record.state.value, record.device_id)

    def _as_trust(self, revocation: Revocation) -> revocation_index.Revocation:
        device = self._devices.get(revocation.device_id)
        return revocation_index.Revocation(
            device_id=revocation.device_id,
            key=revocation.identity_fingerprint,
            certificates=_ends(revocation),
            when_ms=revocation.at_ms,
            reason=revocation.reason,
            # A device that has paired anew since lives on, under this key or another one; one
            # that was removed may ask again.
            blocks_device=revocation.removed_at_ms is None
            and (device is None or device.state is not DeviceState.PAIRED),
            blocks_key=revocation.removed_at_ms is None,
        )


def _ends(revocation: Revocation) -> dict[Fingerprint, int]:
    return {each.fingerprint: each.not_after_ms for each in revocation.certificates}


def _in_state(certificate: CertificateRecord, state: CertificateState) -> CertificateRecord:
    return attrs.evolve(certificate, state=state)
