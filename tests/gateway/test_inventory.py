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
    Revocation,
)
from palyra.core.identifiers import DeviceId
from palyra.errors import (
    AmbiguousTarget,
    CertificateSuperseded,
    DeviceRevoked,
    NotFound,
)
from palyra.gateway.inventory import Inventory
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
    spans = tuple((each.fingerprint, each.not_after_ms) for each in certificates)
    return Revocation(device.device_id, device.identity_fingerprint, spans, NOW_MS, "ana", "lost")


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
