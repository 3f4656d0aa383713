"""The inventory: how devices are found, and which of their certificates are believed."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from palyra.core.devices import (
    CertificateRecord,
    CertificateState,
    Device,
    DeviceState,
    Removal,
    Revocation,
    RevokedCertificate,
)
from palyra.core.identifiers import DeviceId, Fingerprint
from palyra.errors import (
    AmbiguousTarget,
    CertificateSuperseded,
    DeviceRevoked,
    NotFound,
)
from palyra.gateway.inventory import KEPT_AFTER_END_MS, Inventory
from palyra.pki.trust import ChainVerifier
from tests.store.samples import NOW_MS, a_certificate, a_code, a_device, a_request

C = CertificateState
PI = DeviceId("01M80NKQCNX4K7QM2ZT9B3FVHD")
NAS = DeviceId("01M80NKQCNX4K7TQ2ZT9B3FVHD")


def device(device_id: DeviceId, name: str, **changes: Any) -> Device:
    return attrs.evolve(a_device(a_request(name, a_code())), device_id=device_id, **changes)


def certificate(label: str, device_id: DeviceId = PI, **changes: Any) -> CertificateRecord:
    made = a_certificate(a_request("pi", a_code()), label)
    return attrs.evolve(made, device_id=device_id, **changes)


def revocation(device: Device, *certificates: CertificateRecord) -> Revocation:
    ended = tuple(RevokedCertificate(each.fingerprint, each.not_after_ms) for each in certificates)
    return Revocation(device.device_id, device.identity_fingerprint, ended, NOW_MS, "ana", "lost")


@pytest.fixture
def inventory() -> Inventory:
    made = Inventory(ChainVerifier([], "palyra.test"))
    made.load([device(PI, "pi"), device(NAS, "nas")], [], [])
    return made


@pytest.mark.parametrize("target", [PI, PI.lower(), "pi", "X4K7QM", "x4k7qm", PI[10:]])
def test_a_device_is_found(inventory: Inventory, target: str) -> None:
    """By its id, its name, or the beginning of its id's random part, in either case."""
    assert inventory.resolve(target).device_id == PI


@pytest.mark.parametrize("target", ["", "PI", "x4k", "X4K7QMU", "nobody", "\x00", "01M80NKQCN"])
def test_nothing_fits(inventory: Inventory, target: str) -> None:
    """Names are exact, a prefix has four characters or more, and the time part is none."""
    with pytest.raises(NotFound):
        inventory.resolve(target)


def test_several_fit(inventory: Inventory) -> None:
    """An ambiguous prefix names what it may mean."""
    with pytest.raises(AmbiguousTarget) as caught:
        inventory.resolve("X4K7")
    assert caught.value.candidates == ("X4K7QM pi", "X4K7TQ nas")


def test_a_name_that_looks_like_a_prefix(inventory: Inventory) -> None:
    """A name never hides another device's id, nor an id a name."""
    other = device(DeviceId("01M80NKQCNAAAAAA2ZT9B3FVHD"), "x4k7qm")
    inventory.put(other)
    with pytest.raises(AmbiguousTarget):
        inventory.resolve("x4k7qm")
    assert inventory.resolve("X4K7QM").device_id == PI


def test_a_renamed_device(inventory: Inventory) -> None:
    """Its old name is free at once."""
    inventory.put(device(PI, "kitchen"))
    assert inventory.names() == {"kitchen", "nas"}
    assert inventory.resolve("kitchen").device_id == PI
    with pytest.raises(NotFound):
        inventory.resolve("pi")
    assert len(inventory.devices()) == 2


def test_only_paired_devices_may_be_used(inventory: Inventory) -> None:
    """A revoked device is listed, and refused with its reason."""
    assert inventory.paired(PI).name == "pi"
    with pytest.raises(NotFound):
        inventory.paired(DeviceId("01M80NKQCNAAAAAA2ZT9B3FVHD"))
    revoked = device(PI, "pi", state=DeviceState.REVOKED)
    inventory.put(revoked)
    with pytest.raises(DeviceRevoked):
        inventory.paired(PI)
    inventory.revoke(revocation(revoked))
    with pytest.raises(DeviceRevoked) as caught:
        inventory.paired(PI)
    assert caught.value.reason == "lost"
    assert inventory.revocation(PI) is not None and inventory.revocation(NAS) is None


def test_supersession(inventory: Inventory) -> None:
    """A registration over a pending certificate makes it current and refuses the one before."""
    old, new = certificate("old"), certificate("new", not_after_ms=NOW_MS + 2)
    inventory.put_certificate(old)
    inventory.registered_over(old.fingerprint)
    inventory.put_certificate(new)
    newest = inventory.newest_certificate(PI)
    assert newest is not None and newest.fingerprint == old.fingerprint
    inventory.registered_over(old.fingerprint)
    inventory.revoked.check_certificate(old.fingerprint)
    inventory.registered_over(new.fingerprint)
    with pytest.raises(CertificateSuperseded):
        inventory.revoked.check_certificate(old.fingerprint)
    newest = inventory.newest_certificate(PI)
    assert newest is not None and newest.fingerprint == new.fingerprint
    assert inventory.newest_certificate(NAS) is None


def test_a_device_has_one_pending_certificate(inventory: Inventory) -> None:
    """A second one issued before the first was used takes its place, as in the store."""
    first, second = certificate("first"), certificate("second")
    inventory.put_certificate(first)
    inventory.put_certificate(first)
    inventory.revoked.check_certificate(first.fingerprint)
    inventory.put_certificate(second)
    with pytest.raises(CertificateSuperseded):
        inventory.revoked.check_certificate(first.fingerprint)
    inventory.revoked.check_certificate(second.fingerprint)


def test_revocation(inventory: Inventory) -> None:
    """Device, key and every certificate are refused; another device is not touched."""
    mine, other = certificate("mine"), certificate("other", NAS)
    inventory.put_certificate(mine)
    inventory.put_certificate(other)
    pi = inventory.paired(PI)
    inventory.revoke(revocation(pi, mine))
    index = inventory.revoked
    for check in (
        lambda: index.check_device(PI),
        lambda: index.check_key(pi.identity_fingerprint),
        lambda: index.check_certificate(mine.fingerprint),
    ):
        with pytest.raises(DeviceRevoked):
            check()
    assert inventory.newest_certificate(PI) is None
    index.check_device(NAS)
    index.check_certificate(other.fingerprint)


def test_an_identity_change(inventory: Inventory) -> None:
    """The old key and its certificates are refused, the device id lives on."""
    old = certificate("old")
    inventory.put_certificate(old)
    pi = inventory.paired(PI)
    inventory.revoke(revocation(pi, old), identity_only=True)
    inventory.revoked.check_device(PI)
    with pytest.raises(DeviceRevoked):
        inventory.revoked.check_key(pi.identity_fingerprint)
    with pytest.raises(DeviceRevoked):
        inventory.revoked.check_certificate(old.fingerprint)


def test_loading() -> None:
    """A start knows what the store remembers: states, revocations, and who has paired anew."""
    gone = device(PI, "pi", state=DeviceState.REVOKED)
    again = device(NAS, "nas")
    superseded = certificate("old", NAS, state=C.SUPERSEDED)
    current = certificate("now", NAS, state=C.CURRENT)
    inventory = Inventory(ChainVerifier([], "palyra.test"))
    former = attrs.evolve(revocation(again), identity_fingerprint=gone.identity_fingerprint)
    inventory.load([gone, again], [superseded, current], [revocation(gone), former])
    with pytest.raises(DeviceRevoked):
        inventory.revoked.check_device(PI)
    inventory.revoked.check_device(NAS)
    with pytest.raises(CertificateSuperseded):
        inventory.revoked.check_certificate(superseded.fingerprint)
    newest = inventory.newest_certificate(NAS)
    assert newest is not None and newest.fingerprint == current.fingerprint


# -- renewal, rejoin, removal ---------------------------------------------------


def held(inventory: Inventory) -> dict[str, CertificateState]:
    """The certificates of the device, by the label they were made with."""
    labels = {certificate(label).fingerprint: label for label in ("old", "new", "other")}
    return {labels[each.fingerprint]: each.state for each in inventory.certificates()}


def test_a_renewal(inventory: Inventory) -> None:
    """The certificate it was asked over is in use; the new one is pending, and the only one."""
    inventory.put_certificate(certificate("old"))
    inventory.renewed(certificate("old").fingerprint, certificate("new"))
    assert held(inventory) == {"old": C.CURRENT, "new": C.PENDING}
    inventory.renewed(certificate("old").fingerprint, certificate("other"))
    assert held(inventory) == {"old": C.CURRENT, "new": C.SUPERSEDED, "other": C.PENDING}


def test_a_rejoin(inventory: Inventory) -> None:
    """Current and pending are over; devices of other ids keep theirs."""
    inventory.put_certificate(certificate("old", state=C.CURRENT))
    inventory.put_certificate(certificate("new"))
    theirs = certificate("theirs", NAS, state=C.CURRENT)
    inventory.put_certificate(theirs)
    inventory.rejoined(certificate("other"))
    for label in ("old", "new"):
        with pytest.raises(CertificateSuperseded):
            inventory.revoked.check_certificate(certificate(label).fingerprint)
    inventory.revoked.check_certificate(certificate("other").fingerprint)
    current = inventory.current_certificate(NAS)
    assert current == theirs and inventory.current_certificate(PI) is None


def test_the_newest_certificate(inventory: Inventory) -> None:
    """The one that lasts longest; of two that end in the same second, the later one."""
    first = certificate("old", state=C.CURRENT)
    for label in ("new", "other"):
        later = certificate(label, issued_at_ms=first.issued_at_ms + 1)
        inventory.put_certificate(first)
        inventory.put_certificate(later)
        assert inventory.newest_certificate(PI) == later
    assert inventory.certificate(first.fingerprint) == first


def test_a_certificate_is_forgotten_when_it_has_ended(inventory: Inventory) -> None:
    """Its dates refuse it from its end on; it is known for a week more, lest a clock that is set
    back lets it in again."""
    inventory.put_certificate(certificate("old", not_after_ms=NOW_MS))
    inventory.put_certificate(certificate("new", state=C.CURRENT, not_after_ms=NOW_MS + 1))
    inventory.forget_expired(NOW_MS + KEPT_AFTER_END_MS)
    assert set(held(inventory)) == {"old", "new"}
    inventory.forget_expired(NOW_MS + 1 + KEPT_AFTER_END_MS)
    assert held(inventory) == {"new": C.CURRENT}
    assert inventory.is_current(PI, certificate("new").csr_digest)
    assert not inventory.is_current(PI, "other") and not inventory.is_current(NAS, "other")


def test_a_removal(inventory: Inventory) -> None:
    """Every key it had may ask again, none of its certificates is believed; its name is free."""
    pi, mine = inventory.paired(PI), certificate("old")
    inventory.put_certificate(mine)
    former = attrs.evolve(revocation(pi), identity_fingerprint=Fingerprint("f" * 64))
    inventory.revoke(former, identity_only=True)
    stones = tuple(
        attrs.evolve(each, removed_at_ms=NOW_MS) for each in (former, revocation(pi, mine))
    )
    inventory.remove(Removal(pi, stones, 1, 0))
    inventory.revoked.check_device(PI)
    for stone in stones:
        inventory.revoked.check_key(stone.identity_fingerprint)
        assert inventory.revocation_of_key(stone.identity_fingerprint) == stone
    with pytest.raises(DeviceRevoked):
        inventory.revoked.check_certificate(mine.fingerprint)
    assert inventory.names() == {"nas"} and inventory.certificates() == []


def test_an_allowed_tombstone(inventory: Inventory) -> None:
    """By its id or by its key; of others nothing changes, and of a revocation neither."""
    pi, nas = inventory.paired(PI), inventory.paired(NAS)
    key = attrs.evolve(revocation(pi), removed_at_ms=NOW_MS)
    revoked_one = attrs.evolve(revocation(nas), identity_fingerprint=Fingerprint("f" * 64))
    other = attrs.evolve(
        revocation(nas), identity_fingerprint=Fingerprint("e" * 64), removed_at_ms=NOW_MS
    )
    for each in (key, revoked_one, other):
        inventory.revoke(each)
    anew = attrs.evolve(pi, device_id=DeviceId("01M80NKQCNAAAAAA2ZT9B3FVHD"), paired_at_ms=NOW_MS)
    inventory.allowed(anew)
    allowed = {each.identity_fingerprint for each in inventory.revocations() if each.allowed_at_ms}
    assert allowed == {pi.identity_fingerprint}
    inventory.allowed(attrs.evolve(nas, paired_at_ms=NOW_MS))
    found = {each.identity_fingerprint for each in inventory.revocations() if each.allowed_at_ms}
    assert found == {pi.identity_fingerprint, other.identity_fingerprint}
