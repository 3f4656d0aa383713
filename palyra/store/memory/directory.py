"""Devices, certificates and revocations in memory."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from palyra.core.devices import (
    CertificateRecord,
    CertificateState,
    Device,
    DeviceChange,
    DeviceState,
    Registration,
    Revocation,
)
from palyra.core.identifiers import DeviceId, Fingerprint
from palyra.core.pairing import PairingRequest, RequestState
from palyra.errors import AlreadyKept, DeviceRevoked
from palyra.store import rules
from palyra.store.memory.records import Records, fired


class DeviceDirectory(Records):
    """Provides :class:`palyra.core.interfaces.IDeviceDirectory`."""

    @fired
    def devices(self) -> list[Device]:
        return self._list_devices()

    @fired
    def device(self, device_id: DeviceId) -> Device | None:
        kept = self._devices.get(device_id)
        return None if kept is None else rules.own_device(kept)

    @fired
    def register(self, registration: Registration) -> Device:
        kept = self._devices.get(registration.device_id)
        over = self._certificates.get(registration.fingerprint)
        now = self._devices[registration.device_id] = rules.registered(kept, over, registration)
        if over is not None and over.state is CertificateState.PENDING:
            self._supersede(now.device_id, CertificateState.CURRENT)
            self._set_state(over, CertificateState.CURRENT)
        return rules.own_device(now)

    @fired
    def heard(self, times: Mapping[DeviceId, int]) -> None:
        for device_id, at_ms in times.items():
            kept = self._devices.get(device_id)
            if kept is not None and (kept.last_heard_ms is None or kept.last_heard_ms < at_ms):
                self._devices[device_id] = attrs.evolve(kept, last_heard_ms=at_ms)

    @fired
    def add_certificate(
        self, request: PairingRequest, certificate: CertificateRecord
    ) -> CertificateRecord:
        request_id = request.request_id
        if request_id in self._issued:
            return self._certificates[self._issued[request_id]]
        kept = self._requests.get(request_id)
        kept = rules.require_state(kept, request_id, RequestState.APPROVED)
        rules.refuse_pick_up(kept, self._devices.get(kept.device_id))
        if certificate.fingerprint in self._certificates:
            raise AlreadyKept()
        if certificate.state is CertificateState.PENDING:
            self._supersede(certificate.device_id, CertificateState.PENDING)
        self._certificates[certificate.fingerprint] = certificate
        self._issued[request_id] = certificate.fingerprint
        self._decide(kept, attrs.evolve(kept, state=RequestState.COMPLETED))
        return certificate

    @fired
    def certificate(self, fingerprint: Fingerprint) -> CertificateRecord | None:
        return self._certificates.get(fingerprint)

    @fired
    def live_certificates(self) -> list[CertificateRecord]:
        now_ms = self._now_ms()
        return self._certificates_where(
            lambda each: each.state in rules.RECOGNISED and each.not_after_ms > now_ms
        )

    @fired
    def change(self, change: DeviceChange) -> Device:
        kept = self._devices.get(change.device_id)
        now = rules.changed(kept, change, self._names_of_others(change.device_id))
        self._devices[change.device_id] = now
        return rules.own_device(now)

    @fired
    def revoke(self, device_id: DeviceId, by: str, reason: str, now_ms: int) -> Revocation:
        kept = rules.revocable(self._devices.get(device_id), device_id)
        if kept.state is DeviceState.REVOKED:
            return self._revocations[device_id, kept.identity_fingerprint]
        revocation = self._revoke_key(kept, by, reason, now_ms)
        self._devices[device_id] = rules.revoked(kept, revocation)
        sentence = rules.device_revoked(kept.name, revocation).sentence
        self._end_jobs(device_id, DeviceRevoked.code, sentence, now_ms)
        return revocation

    @fired
    def revocations(self) -> list[Revocation]:
        return self._list_revocations()

    def _supersede(self, device_id: DeviceId, state: CertificateState) -> None:
        for each in self._certificates_where(lambda each: each.device_id == device_id):
            if each.state is state:
                self._set_state(each, CertificateState.SUPERSEDED)
