"""What every store keeps of renewals, rejoins, rotation orders and the age of certificates."""

from __future__ import annotations

import attrs
import pytest

from palyra.core.devices import CertificateState, RotationOrder
from palyra.core.identifiers import DeviceId, Fingerprint, sha256_hex
from palyra.core.pairing import PairingRequest
from palyra.errors import (
    AlreadyKept,
    CertificateRefused,
    CertificateSuperseded,
    CertificateUnknown,
    DeviceRevoked,
    NotBoundToDevice,
    NotFound,
)
from tests.contract.ways import Ways
from tests.store.samples import DAY_MS, NOW_MS, a_code, a_registration, a_renewal, a_request, ulid

CURRENT, PENDING = CertificateState.CURRENT, CertificateState.PENDING
SUPERSEDED, REVOKED = CertificateState.SUPERSEDED, CertificateState.REVOKED


class RenewalContract(Ways):
    """Part of :class:`tests.contract.store.StoreContract`."""

    def in_use(self) -> tuple[PairingRequest, Fingerprint]:
        """A device with a current certificate: its pairing request and that certificate."""
        request, certificate = self.paired()
        self.register(request.device_id, certificate.fingerprint)
        return request, certificate.fingerprint

    def register(self, device_id: DeviceId, fingerprint: Fingerprint) -> None:
        self.wait(self.store.register(a_registration(device_id, fingerprint)))

    # -- renewal ----------------------------------------------------------------------------------

    def test_a_renewed_certificate_is_pending_until_it_registers(self) -> None:
        """Both are live until then; the old one is superseded by that commit."""
        request, old = self.in_use()
        renewal = a_renewal(request, "new", old, issuer=sha256_hex(b"ca"))
        kept = self.wait(self.store.renew(renewal))
        assert kept == renewal.certificate
        assert self.wait(self.store.certificate(kept.fingerprint)) == kept
        assert self.states(request.device_id) == {old: CURRENT, kept.fingerprint: PENDING}
        self.register(request.device_id, old)
        self.register(request.device_id, kept.fingerprint)
        assert self.states(request.device_id) == {old: SUPERSEDED, kept.fingerprint: CURRENT}

    def test_a_renewed_certificate_is_pending_whatever_it_says(self) -> None:
        """Only a registration makes one current."""
        request, old = self.in_use()
        kept = self.wait(self.store.renew(a_renewal(request, "new", old, state=CURRENT)))
        assert kept.state is PENDING

    def test_the_same_csr_gets_the_same_certificate(self) -> None:
        """While that is live, pending or current: a lost answer changes nothing."""
        request, old = self.in_use()
        first = self.wait(self.store.renew(a_renewal(request, "new", old)))
        digest = first.csr_digest
        again = a_renewal(request, "again", old, csr_digest=digest)
        assert self.wait(self.store.renew(again)) == first
        assert self.wait(self.store.certificate(again.certificate.fingerprint)) is None
        assert self.states(request.device_id) == {old: CURRENT, first.fingerprint: PENDING}
        self.register(request.device_id, first.fingerprint)
        over = attrs.evolve(again, over=first.fingerprint)
        current = attrs.evolve(first, state=CURRENT)
        assert self.wait(self.store.renew(over)) == current
        assert self.wait(self.store.renew(attrs.evolve(again, over=None))) == current

    def test_a_superseded_certificate_is_not_given_again(self) -> None:
        """The CSR of one that is over gets a new one; so does that of one that ran out."""
        request, old = self.in_use()
        first = self.wait(self.store.renew(a_renewal(request, "first", old)))
        self.wait(self.store.renew(a_renewal(request, "second", old)))
        assert self.states(request.device_id)[first.fingerprint] is SUPERSEDED
        again = a_renewal(request, "again", old, csr_digest=first.csr_digest)
        assert self.wait(self.store.renew(again)) == again.certificate
        late = a_renewal(
            request,
            "late",
            None,
            csr_digest=first.csr_digest,
            issued_at_ms=NOW_MS + DAY_MS,
            not_after_ms=NOW_MS + 2 * DAY_MS,
        )
        assert self.wait(self.store.renew(late)) == late.certificate

    def test_the_csr_of_another_device_is_another_csr(self) -> None:
        """What one device got is never given to another."""
        request, old = self.in_use()
        other, theirs = self.paired("lab-8", "c2")
        first = self.wait(self.store.renew(a_renewal(request, "new", old)))
        same = a_renewal(other, "new", theirs.fingerprint, csr_digest=first.csr_digest)
        assert self.wait(self.store.renew(same)) == same.certificate

    def test_of_two_racing_renewals_the_later_is_pending(self) -> None:
        """A device has one current and one pending certificate, never a third live one."""
        request, old = self.in_use()
        renewals = [a_renewal(request, name, old) for name in ("one", "two")]
        asked = [self.store.renew(each) for each in renewals]
        one, two = (self.wait(each).fingerprint for each in asked)
        assert self.states(request.device_id) == {old: CURRENT, one: SUPERSEDED, two: PENDING}
        with pytest.raises(CertificateSuperseded):
            self.register(request.device_id, one)

    def test_asking_over_the_pending_certificate_makes_it_current(self) -> None:
        """Its holder uses it, as by a registration: the older one is over."""
        request, old = self.in_use()
        first = self.wait(self.store.renew(a_renewal(request, "one", old))).fingerprint
        second = self.wait(self.store.renew(a_renewal(request, "two", first))).fingerprint
        wanted = {old: SUPERSEDED, first: CURRENT, second: PENDING}
        assert self.states(request.device_id) == wanted

    def test_a_renewal_needs_a_live_certificate_of_its_device(self) -> None:
        """Unknown, foreign, superseded and expired ones are refused, and nothing is kept."""
        request, old = self.in_use()
        _, foreign = self.paired("lab-8", "c2")
        with pytest.raises(CertificateUnknown):
            self.wait(self.store.renew(a_renewal(request, "n", sha256_hex(b"none"))))
        with pytest.raises(NotBoundToDevice):
            self.wait(self.store.renew(a_renewal(request, "n", foreign.fingerprint)))
        late = a_renewal(request, "n", old, issued_at_ms=NOW_MS + DAY_MS)
        with pytest.raises(CertificateRefused):
            self.wait(self.store.renew(late))
        assert self.states(request.device_id) == {old: CURRENT}
        new = self.wait(self.store.renew(a_renewal(request, "n", old))).fingerprint
        self.register(request.device_id, new)
        with pytest.raises(CertificateSuperseded):
            self.wait(self.store.renew(a_renewal(request, "m", old)))
        assert self.states(request.device_id) == {old: SUPERSEDED, new: CURRENT}

    def test_a_certificate_is_renewed_by_the_key_of_its_device(self) -> None:
        """Another key, a revoked and an unknown device get nothing, by renewal or by rejoin."""
        request, old = self.in_use()
        stranger = attrs.evolve(request, identity_fingerprint=sha256_hex(b"other"))
        ghost = a_request("ghost", a_code())
        for over in (old, None):
            with pytest.raises(DeviceRevoked):
                self.wait(self.store.renew(a_renewal(stranger, "n", over)))
            with pytest.raises(NotFound):
                self.wait(self.store.renew(a_renewal(ghost, "n", over)))
        self.revoked(request.device_id)
        for over in (old, None):
            with pytest.raises(DeviceRevoked) as caught:
                self.wait(self.store.renew(a_renewal(request, "n", over)))
            assert caught.value.reason == "lost"
        assert self.states(request.device_id) == {old: REVOKED}

    def test_a_renewal_with_a_known_fingerprint_is_refused(self) -> None:
        """No certificate is overwritten, and the others stay as they were."""
        request, old = self.in_use()
        pending = self.wait(self.store.renew(a_renewal(request, "n", old))).fingerprint
        twice = a_renewal(request, "m", old, fingerprint=pending)
        with pytest.raises(AlreadyKept):
            self.wait(self.store.renew(twice))
        assert self.states(request.device_id) == {old: CURRENT, pending: PENDING}

    # -- rejoin -----------------------------------------------------------------------------------

    def test_a_rejoin_supersedes_every_older_certificate(self) -> None:
        """Current and pending alike, run out or not; the new one is pending."""
        request, old = self.in_use()
        pending = self.wait(self.store.renew(a_renewal(request, "one", old))).fingerprint
        month_ms = NOW_MS + 30 * DAY_MS
        late = {"issued_at_ms": month_ms, "not_after_ms": month_ms + DAY_MS}
        new = self.wait(self.store.renew(a_renewal(request, "two", None, **late)))
        wanted = {old: SUPERSEDED, pending: SUPERSEDED, new.fingerprint: PENDING}
        assert self.states(request.device_id) == wanted
        for over in (old, pending):
            with pytest.raises(CertificateSuperseded):
                self.register(request.device_id, over)
        again = a_renewal(request, "again", None, csr_digest=new.csr_digest, **late)
        assert self.wait(self.store.renew(again)) == new

    # -- rotation ---------------------------------------------------------------------------------

    def test_a_rotation_order_is_noted_with_paired_devices(self) -> None:
        """Revoked and unknown ones are passed over, others are not touched."""
        first, second = self.registered("lab-1", "c1"), self.registered("lab-2", "c2")
        other, gone = self.registered("lab-3", "c3"), self.registered("lab-4", "c4")
        self.revoked(gone.device_id)
        ids = {first.device_id, second.device_id, gone.device_id, DeviceId(ulid("ghost"))}
        order = RotationOrder(frozenset(ids), "operator:ana", NOW_MS + 60)
        ordered = self.wait(self.store.order_rotation(order))
        assert {each.device_id for each in ordered} == {first.device_id, second.device_id}
        for device in ordered:
            assert (device.rotate_asked_at_ms, device.rotate_asked_by) == (
                NOW_MS + 60,
                "operator:ana",
            )
            assert self.wait(self.store.device(device.device_id)) == device
        assert self.wait(self.store.device(other.device_id)) == other
        nobody = attrs.evolve(order, device_ids=frozenset())
        assert self.wait(self.store.order_rotation(nobody)) == []

    def test_an_order_for_very_many_devices(self) -> None:
        """More ids than a statement takes are ordered all the same."""
        device = self.registered()
        ids = frozenset(DeviceId(ulid(f"d{n}")) for n in range(1200)) | {device.device_id}
        (ordered,) = self.wait(self.store.order_rotation(RotationOrder(ids, "ana", NOW_MS)))
        assert ordered.device_id == device.device_id

    def test_a_registration_over_a_newer_certificate_ends_the_order(self) -> None:
        """One over an older certificate does not, however often."""
        request, old = self.in_use()
        order = RotationOrder(frozenset({request.device_id}), "ana", NOW_MS + 60)
        self.wait(self.store.order_rotation(order))
        self.register(request.device_id, old)
        kept = self.wait(self.store.device(request.device_id))
        assert (kept.rotate_asked_at_ms, kept.rotate_asked_by) == (NOW_MS + 60, "ana")
        renewal = a_renewal(request, "new", old, issued_at_ms=NOW_MS + 60)
        new = self.wait(self.store.renew(renewal))
        self.register(request.device_id, new.fingerprint)
        kept = self.wait(self.store.device(request.device_id))
        assert (kept.rotate_asked_at_ms, kept.rotate_asked_by) == (None, "")

    def test_an_order_is_for_one_identity_key(self) -> None:
        """Pairing again with the same key leaves it, another key is not asked for anything."""
        device = self.registered()
        order = RotationOrder(frozenset({device.device_id}), "ana", NOW_MS + 60)
        self.wait(self.store.order_rotation(order))
        self.approve(self.opened("lab-7", "c2"))
        kept = self.wait(self.store.device(device.device_id))
        assert (kept.rotate_asked_at_ms, kept.rotate_asked_by) == (NOW_MS + 60, "ana")
        key = sha256_hex(b"new")
        self.approve(self.opened("lab-7", "c3", identity_fingerprint=key))
        kept = self.wait(self.store.device(device.device_id))
        assert (kept.rotate_asked_at_ms, kept.rotate_asked_by) == (None, "")

    # -- age --------------------------------------------------------------------------------------

    def test_a_device_keeps_its_certificates_after_they_ran_out(self) -> None:
        """How long it was away can be told; another device's are not among them."""
        request, certificate = self.paired()
        self.paired("lab-8", "c2")
        self.now_is(NOW_MS + 40 * DAY_MS)
        assert self.wait(self.store.certificates_of(request.device_id)) == [certificate]
        assert self.wait(self.store.certificates_of(DeviceId(ulid("ghost")))) == []

    def test_old_certificates_are_forgotten(self) -> None:
        """The first to end first; not the last of a device, nor one its pairing can ask for."""
        request, paired = self.in_use()
        other, theirs = self.paired("lab-8", "c2")
        over, fingerprints = paired, []
        for number in range(1, 5):
            ends = {"issued_at_ms": NOW_MS + number, "not_after_ms": NOW_MS + DAY_MS + number}
            over = self.wait(self.store.renew(a_renewal(request, f"{number}", over, **ends)))
            over = over.fingerprint
            fingerprints.append(over)
        ended_ms = NOW_MS + DAY_MS + 4
        assert self.wait(self.store.forget_certificates(NOW_MS + DAY_MS + 1, 9)) == 0
        assert self.wait(self.store.forget_certificates(ended_ms, 2)) == 2
        assert set(self.states(request.device_id)) == {paired, *fingerprints[2:]}
        assert self.wait(self.store.forget_certificates(ended_ms + DAY_MS, 9)) == 1
        assert self.wait(self.store.forget_certificates(ended_ms + DAY_MS, 9)) == 0
        assert set(self.states(request.device_id)) == {paired, fingerprints[3]}
        assert set(self.states(other.device_id)) == {theirs.fingerprint}
