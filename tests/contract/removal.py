"""What every store keeps of devices that were revoked, removed, and allowed again."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from palyra.core.devices import (
    Approved,
    CertificateState,
    Device,
    DeviceState,
    Revocation,
    RevokedCertificate,
)
from palyra.core.identifiers import DeviceId, sha256_hex
from palyra.core.interfaces import RequestQuery
from palyra.core.jobs import JobState
from palyra.core.pairing import CodeMethod, PairingRequest, RequestState
from palyra.errors import CertificateUnknown, DeviceRevoked, NotFound
from tests.contract.ways import Ways
from tests.store.samples import (
    DAY_MS,
    NOW_MS,
    a_certificate,
    a_code,
    a_device,
    a_job,
    a_registration,
    a_renewal,
    a_request,
    an_approval,
    approved,
    dispatch,
    succeed,
    ulid,
)

NEW_KEY = sha256_hex(b"new")


class RemovalContract(Ways):
    """Part of :class:`tests.contract.store.StoreContract`."""

    def approved_at(self, request: PairingRequest, at_ms: int) -> Revocation | None:
        device = attrs.evolve(a_device(request), paired_at_ms=at_ms)
        made: Approved = self.wait(self.store.approve_request(approved(request), device))
        assert made.device == self.wait(self.store.device(request.device_id))
        return made.replaced

    def revocation(self, device_id: DeviceId, **wanted: Any) -> Revocation:
        """The one revocation of a device id that has these values."""
        every: list[Revocation] = self.wait(self.store.revocations())
        (found,) = [
            each
            for each in every
            if each.device_id == device_id
            and all(getattr(each, name) == value for name, value in wanted.items())
        ]
        return found

    # -- revoke -----------------------------------------------------------------------------------

    def test_a_revocation_says_what_a_crl_needs(self) -> None:
        """The device's name, and of each certificate fingerprint, end, serial and issuer."""
        request, certificate = self.paired()
        ca = sha256_hex(b"ca")
        renewal = a_renewal(request, "n", certificate.fingerprint, serial="0c", issuer=ca)
        newer = self.wait(self.store.renew(renewal))
        revocation = self.revoked(request.device_id)
        assert revocation.device_name == "lab-7"
        assert (revocation.removed_at_ms, revocation.allowed_at_ms) == (None, None)
        end_ms = NOW_MS + DAY_MS
        wanted = [
            RevokedCertificate(certificate.fingerprint, end_ms, "0a1b"),
            RevokedCertificate(newer.fingerprint, end_ms, "0c", ca),
        ]
        assert set(revocation.certificates) == set(wanted)
        assert self.wait(self.store.revocations()) == [revocation]

    def test_a_certificate_that_has_run_out_need_not_be_revoked(self) -> None:
        """It is refused by its date; the list of what is refused otherwise stays short."""
        request, certificate = self.paired()
        at_ms = certificate.not_after_ms
        late = {"issued_at_ms": at_ms, "not_after_ms": at_ms + DAY_MS}
        newer = self.wait(self.store.renew(a_renewal(request, "n", None, **late)))
        revocation = self.revoked(request.device_id, at_ms)
        assert [each.fingerprint for each in revocation.certificates] == [newer.fingerprint]
        assert set(self.states(request.device_id).values()) == {CertificateState.REVOKED}

    # -- remove -----------------------------------------------------------------------------------

    def test_removing_a_device_takes_it_away(self) -> None:
        """Record, certificates, requests, approvals and its code; its jobs end and stay."""
        device = self.registered()
        request = self.opened("lab-7", "c2")
        queued, sent = a_job("q", device.device_id), dispatch(a_job("s", device.device_id))
        done = succeed(dispatch(a_job("d", device.device_id)))
        for job in (queued, sent, done):
            self.wait(self.store.accept(job))
        removal = self.removed(device.device_id)
        assert removal.device == device
        assert (removal.certificates, removal.requests) == (1, 2)
        assert self.wait(self.store.device(device.device_id)) is None
        assert self.wait(self.store.devices()) == []
        assert self.wait(self.store.certificates_of(device.device_id)) == []
        assert self.wait(self.store.requests(RequestQuery())) == []
        assert self.wait(self.store.request_by_session(request.session_digest)) is None
        for name in ("code", "c2"):
            assert self.wait(self.store.code_by_digest(a_code(name).digest)) is None
        states = [self.wait(self.store.job(job.call.job_id)).state for job in (queued, sent, done)]
        assert states == [JobState.REJECTED, JobState.OUTCOME_UNKNOWN, JobState.SUCCEEDED]

    def test_removing_a_device_leaves_the_others_alone(self) -> None:
        """Their record, certificates, requests and codes; also a code that nobody used."""
        device = self.registered()
        other, certificate = self.paired("lab-8", "c2")
        unused = a_code("unused")
        self.wait(self.store.add_code(unused))
        self.removed(device.device_id)
        assert self.states(other.device_id) == {certificate.fingerprint: CertificateState.PENDING}
        (kept,) = self.wait(self.store.requests(RequestQuery()))
        assert (kept.request_id, kept.state) == (other.request_id, RequestState.COMPLETED)
        assert self.wait(self.store.code_by_digest(a_code("c2").digest)) is not None
        assert self.wait(self.store.active_codes(NOW_MS)) == [unused]

    def test_removing_needs_no_code(self) -> None:
        """The requests of a device that came back by its key go too."""
        device = self.registered()
        back = a_request("lab-7", a_code("none"), code_id="", method=CodeMethod.REJOIN)
        self.wait(self.store.open_request(back, an_approval(back)))
        assert self.removed(device.device_id).requests == 2

    def test_what_is_removed_stays_refused(self) -> None:
        """The tombstone has key and certificates, who revoked and who removed the device."""
        device = self.registered()
        (certificate,) = self.wait(self.store.live_certificates())
        revocation = self.revoked(device.device_id)
        removal = self.removed(device.device_id, NOW_MS + 70)
        assert removal.device.state is DeviceState.REVOKED
        wanted = attrs.evolve(revocation, removed_at_ms=NOW_MS + 70, removed_by="bo")
        assert removal.tombstones == (wanted,)
        assert self.wait(self.store.revocations()) == [wanted]
        assert [each.fingerprint for each in wanted.certificates] == [certificate.fingerprint]
        registration = a_registration(device.device_id, certificate.fingerprint)
        with pytest.raises(NotFound):
            self.wait(self.store.register(registration))
        with pytest.raises(NotFound):
            self.wait(self.store.remove(device.device_id, "bo", "", NOW_MS))
        with pytest.raises(NotFound):
            self.wait(self.store.revoke(device.device_id, "bo", "", NOW_MS))

    def test_removing_a_paired_device_revokes_it(self) -> None:
        """With the reason of the removal; the answer shows the device as it was."""
        device = self.registered()
        removal = self.removed(device.device_id)
        assert removal.device.state is DeviceState.PAIRED
        (tombstone,) = removal.tombstones
        assert (tombstone.by, tombstone.reason, tombstone.at_ms) == ("bo", "sold", NOW_MS)
        assert (tombstone.removed_by, tombstone.removed_at_ms) == ("bo", NOW_MS)
        assert tombstone.device_name == "lab-7" and len(tombstone.certificates) == 1

    def test_every_key_of_a_device_gets_a_tombstone(self) -> None:
        """Also the one that another key replaced."""
        device = self.registered()
        self.approve(self.opened("lab-7", "c2", identity_fingerprint=NEW_KEY))
        removal = self.removed(device.device_id)
        keys = {each.identity_fingerprint for each in removal.tombstones}
        assert keys == {device.identity_fingerprint, NEW_KEY}
        assert all(each.removed_at_ms == NOW_MS for each in removal.tombstones)

    def test_the_name_of_a_removed_device_is_free(self) -> None:
        """Another device may have it."""
        device = self.registered()
        self.removed(device.device_id)
        other = self.opened("lab-8", "c2", name="lab-7")
        self.approve(other)
        assert self.wait(self.store.device(other.device_id)).name == "lab-7"

    # -- and again --------------------------------------------------------------------------------

    def test_a_removed_device_may_pair_again(self) -> None:
        """Its tombstone says when that was allowed; nothing of the old record comes back."""
        device = self.registered()
        (old,) = self.wait(self.store.live_certificates())
        self.removed(device.device_id, NOW_MS + 70)
        request = self.opened("lab-7", "c2", labels={"floor": "2"})
        assert self.approved_at(request, NOW_MS + 80) is None
        kept = self.wait(self.store.device(device.device_id))
        assert kept == attrs.evolve(a_device(request), paired_at_ms=NOW_MS + 80)
        tombstone = self.revocation(device.device_id)
        assert (tombstone.removed_at_ms, tombstone.allowed_at_ms) == (NOW_MS + 70, NOW_MS + 80)
        assert [each.fingerprint for each in tombstone.certificates] == [old.fingerprint]
        with pytest.raises(CertificateUnknown):
            self.wait(self.store.register(a_registration(device.device_id, old.fingerprint)))

    def test_a_request_alone_allows_nothing(self) -> None:
        """Neither asking nor being refused changes the tombstone."""
        device = self.registered()
        self.removed(device.device_id)
        request = self.opened("lab-7", "c2")
        closed = attrs.evolve(request, state=RequestState.REJECTED)
        self.wait(self.store.close_request(closed))
        assert self.revocation(device.device_id).allowed_at_ms is None

    def test_the_tombstone_of_a_key_and_that_of_an_id_are_both_allowed(self) -> None:
        """One device was removed with that key, another with that id; a third stays as it is."""
        first, second = self.registered("lab-1", "c1"), self.registered("lab-2", "c2")
        third = self.registered("lab-3", "c3")
        for device in (first, second, third):
            self.removed(device.device_id)
        key = first.identity_fingerprint
        request = self.opened("lab-2", "c4", identity_fingerprint=key)
        self.approved_at(request, NOW_MS + 80)
        allowed = {
            each.device_id: each.allowed_at_ms for each in self.wait(self.store.revocations())
        }
        assert allowed == {
            first.device_id: NOW_MS + 80,
            second.device_id: NOW_MS + 80,
            third.device_id: None,
        }

    def test_a_device_that_was_allowed_again_can_be_revoked_again(self) -> None:
        """The tombstone becomes a revocation: certificates of both lives, and no way back."""
        device = self.registered()
        (old,) = self.wait(self.store.live_certificates())
        self.removed(device.device_id, NOW_MS + 70)
        request = self.opened("lab-7", "c2")
        self.approved_at(request, NOW_MS + 80)
        new = a_certificate(request, not_after_ms=NOW_MS + 2 * DAY_MS)
        self.wait(self.store.add_certificate(approved(request), new))
        revocation = self.revoked(device.device_id, NOW_MS + 90)
        assert self.wait(self.store.revocations()) == [revocation]
        fingerprints = {each.fingerprint for each in revocation.certificates}
        assert fingerprints == {old.fingerprint, new.fingerprint}
        assert (revocation.at_ms, revocation.by, revocation.reason) == (NOW_MS + 90, "ana", "lost")
        assert (revocation.removed_at_ms, revocation.removed_by) == (None, "")
        assert revocation.allowed_at_ms is None
        with pytest.raises(DeviceRevoked):
            self.approve(self.opened("lab-7", "c3"))

    def test_a_tombstone_forgets_certificates_that_have_run_out(self) -> None:
        """When the device is revoked again; the first removal of another key stands."""
        device = self.registered()
        self.removed(device.device_id, NOW_MS + 70)
        key = self.opened("lab-7", "c2", identity_fingerprint=NEW_KEY)
        self.approved_at(key, NOW_MS + 80)
        self.removed(device.device_id, NOW_MS + 90)
        old = self.revocation(device.device_id, identity_fingerprint=device.identity_fingerprint)
        assert (old.removed_at_ms, old.allowed_at_ms) == (NOW_MS + 70, NOW_MS + 80)
        same = self.opened("lab-7", "c3")
        self.approved_at(same, NOW_MS + 2 * DAY_MS)
        revocation = self.revoked(device.device_id, NOW_MS + 3 * DAY_MS)
        assert revocation.identity_fingerprint == device.identity_fingerprint
        assert revocation.certificates == ()

    def test_a_key_that_is_revoked_anywhere_is_refused_everywhere(self) -> None:
        """Removing the device it came with first does not free it at another."""
        first: Device = self.registered("lab-1", "c1")
        key = first.identity_fingerprint
        self.removed(first.device_id)
        second = self.opened("lab-2", "c2", identity_fingerprint=key)
        self.approve(second)
        self.revoked(second.device_id)
        with pytest.raises(DeviceRevoked):
            self.approve(self.opened("lab-1", "c3"))
        assert self.wait(self.store.device(first.device_id)) is None

    def test_removing_an_unknown_device_is_refused(self) -> None:
        """There is no record to remove."""
        with pytest.raises(NotFound):
            self.wait(self.store.remove(DeviceId(ulid("ghost")), "bo", "", NOW_MS))
