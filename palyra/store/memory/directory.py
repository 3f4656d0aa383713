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
    Offering,
    Registration,
    Removal,
    Renewal,
    Revocation,
    RotationOrder,
)
from palyra.core.identifiers import DeviceId, Fingerprint
from palyra.core.pairing import PairingRequest, RequestState
from palyra.errors import AlreadyKept, DeviceRevoked
from palyra.store import audited, facts, revocation, rules
from palyra.store.memory.records import Records, fired
from palyra.store.renewal import RECOGNISED, renewed


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
        self._note(facts.registered(registration))
        self._note_turns(kept, now, registration.at_ms)
        return rules.own_device(now)

    @fired
    def offer(self, offering: Offering) -> Device:
        kept = self._devices.get(offering.device_id)
        now = self._devices[offering.device_id] = rules.offered(kept, offering)
        self._note_turns(kept, now, offering.at_ms)
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
        self._note(facts.issued(certificate))
        self._audit(audited.issued(certificate, kept.name))
        return certificate

    @fired
    def certificate(self, fingerprint: Fingerprint) -> CertificateRecord | None:
        return self._certificates.get(fingerprint)

    @fired
    def renew(self, renewal: Renewal) -> CertificateRecord:
        offered = renewal.certificate
        held = self._held(offered.device_id)
        over = None if renewal.over is None else self._certificates.get(renewal.over)
        wanted = renewed(self._devices.get(offered.device_id), held, over, renewal)
        if not wanted.is_new:
            return wanted.answer
        if offered.fingerprint in self._certificates:
            raise AlreadyKept()
        for each in held:
            self._set_state(each, wanted.states.get(each.fingerprint, each.state))
        self._certificates[offered.fingerprint] = wanted.answer
        self._note(facts.issued(wanted.answer))
        return wanted.answer

    @fired
    def order_rotation(self, order: RotationOrder) -> list[Device]:
        ordered = []
        for kept in self._list_devices():
            if kept.device_id in order.device_ids and kept.state is DeviceState.PAIRED:
                self._devices[kept.device_id] = attrs.evolve(
                    kept, rotate_asked_at_ms=order.at_ms, rotate_asked_by=order.by
                )
                ordered.append(rules.own_device(self._devices[kept.device_id]))
                self._note(facts.renewal_ordered(kept.device_id, order))
        self._audit(audited.rotation_ordered(order, ordered))
        return ordered

    @fired
    def certificates_of(self, device_id: DeviceId) -> list[CertificateRecord]:
        return self._held(device_id)

    @fired
    def forget_certificates(self, before_ms: int, limit: int) -> int:
        def age(certificate: CertificateRecord) -> tuple[int, str]:
            return certificate.not_after_ms, certificate.fingerprint

        last = {
            each.device_id: each.fingerprint
            for each in sorted(self._certificates.values(), key=age)
        }
        spared = {*last.values(), *self._issued.values()}
        over = [each for each in self._certificates.values() if each.not_after_ms < before_ms]
        gone = [each for each in sorted(over, key=age) if each.fingerprint not in spared][:limit]
        for each in gone:
            del self._certificates[each.fingerprint]
        return len(gone)

    @fired
    def live_certificates(self) -> list[CertificateRecord]:
        now_ms = self._now_ms()
        return self._certificates_where(
            lambda each: each.state in RECOGNISED and each.not_after_ms > now_ms
        )

    @fired
    def change(self, change: DeviceChange) -> Device:
        kept = revocation.present(self._devices.get(change.device_id), change.device_id)
        now = rules.changed(kept, change, self._names_of_others(change.device_id))
        self._devices[change.device_id] = now
        changed = facts.changed(kept, now, self._now_ms())
        if changed is not None:
            self._note(changed)
        self._audit(audited.changed(kept, now, self._now_ms()))
        return rules.own_device(now)

    @fired
    def revoke(self, device_id: DeviceId, by: str, reason: str, now_ms: int) -> Revocation:
        return self._revoke(device_id, by, reason, now_ms)

    @fired
    def remove(self, device_id: DeviceId, by: str, reason: str, now_ms: int) -> Removal:
        before = revocation.present(self._devices.get(device_id), device_id)
        self._revoke(device_id, by, reason, now_ms)
        theirs = [each for each in self._list_revocations() if each.device_id == device_id]
        tombstones = tuple(revocation.tombstone(each, by, now_ms) for each in theirs)
        for each in tombstones:
            self._keep_revocation(each)
        requests = self._delete_requests(device_id)
        held = self._held(device_id)
        for certificate in held:
            del self._certificates[certificate.fingerprint]
        del self._devices[device_id]
        self._journals.pop(device_id, None)
        self._erase(device_id)
        removal = Removal(rules.own_device(before), tombstones, len(held), requests)
        self._audit(audited.removed(removal, by, reason, now_ms))
        return removal

    @fired
    def revocations(self) -> list[Revocation]:
        return self._list_revocations()

    def _revoke(self, device_id: DeviceId, by: str, reason: str, now_ms: int) -> Revocation:
        kept = revocation.present(self._devices.get(device_id), device_id)
        first = self._revocations.get((device_id, kept.identity_fingerprint))
        if first is not None and kept.state is DeviceState.REVOKED:
            return first
        made = self._revoke_key(kept, by, reason, now_ms)
        self._devices[device_id] = revocation.revoked(kept, made)
        self._note(facts.revoked(made))
        self._audit(audited.revoked(made))
        sentence = revocation.device_revoked(kept.name, made).sentence
        self._end_jobs(device_id, DeviceRevoked.code, sentence, now_ms)
        return made

    def _note_turns(self, kept: Device | None, now: Device, at_ms: int) -> None:
        if kept is not None:
            for each in facts.reoffered(kept, now, at_ms):
                self._note(each)
            self._audit(*audited.reoffered(kept, now, at_ms))

    def _delete_requests(self, device_id: DeviceId) -> int:
        gone = [each for each in self._requests.values() if each.device_id == device_id]
        for each in gone:
            del self._requests[each.request_id]
            del self._approvals[each.approval_id]
            self._issued.pop(each.request_id, None)
        left = {each.code_id for each in self._requests.values()}
        for code_id in {each.code_id for each in gone} - left - {""}:
            del self._codes[code_id]
        return len(gone)

    def _held(self, device_id: DeviceId) -> list[CertificateRecord]:
        return self._certificates_where(lambda each: each.device_id == device_id)

    def _supersede(self, device_id: DeviceId, state: CertificateState) -> None:
        for each in self._held(device_id):
            if each.state is state:
                self._set_state(each, CertificateState.SUPERSEDED)
