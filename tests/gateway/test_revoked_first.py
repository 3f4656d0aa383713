"""A revocation is felt before anything else is done; what is done to others undoes none of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
from cryptography import x509
from twisted.internet.defer import Deferred, fail

from palyra.console import models
from palyra.core.devices import DeviceState, Removal
from palyra.errors import DeviceRevoked, DiskFull, StoreUnavailable
from palyra.gateway.crl import RevocationLists
from tests.callers import ANA
from tests.gateway.applicants import admitted, device_of, online
from tests.gateway.enrolling import Applicant, Gateway, at_once
from tests.gateway.house import fired, result_of

READS = ("device", "devices", "certificates_of", "revocations", "live_certificates", "requests")


def revoke(gateway: Gateway, applicant: Applicant) -> Deferred[Any]:
    device = device_of(gateway, applicant)
    return Deferred.fromCoroutine(gateway.revoker.revoke(device, "ana", "lost"))


def remove(gateway: Gateway, applicant: Applicant) -> Removal:
    device = gateway.inventory.device(applicant.device_id)
    assert device is not None
    return result_of(Deferred.fromCoroutine(gateway.revoker.remove(device, "ana", "")))


@pytest.mark.parametrize("how", ["never", "with an error"])
def test_no_read_comes_before_it(gateway: Gateway, how: str) -> None:
    """A store that has committed and then answers no question keeps no revoked device in."""
    applicant = Applicant()
    node = online(gateway, applicant)
    pem = result_of(gateway.store.certificate(node.peer.fingerprint)).pem.encode()
    store: Any = gateway.store.store
    for name in READS:
        lost = (lambda *_: Deferred()) if how == "never" else _gone
        setattr(store, name, lost)
    revoked = revoke(gateway, applicant)
    assert [type(each) for each in node.carrier.closed] == [DeviceRevoked]
    with pytest.raises(DeviceRevoked):
        gateway.node_desk.admit(pem, None, node.peer.address, "grpc")
    known = gateway.inventory.device(applicant.device_id)
    assert known is not None and known.state is DeviceState.REVOKED
    assert result_of(revoked).reason == "lost"


def _gone(*_: object) -> Deferred[Any]:
    return fail(StoreUnavailable("db", "gone"))


def test_it_is_felt_before_the_snapshot(gateway: Gateway) -> None:
    """A disk that is full keeps the operator's answer back, and nobody in."""
    applicant = Applicant()
    node = online(gateway, applicant)
    revoker: Any = gateway.revoker
    revoker._snapshot = lambda: fail(DiskFull("/var/lib/palyra"))
    with pytest.raises(DiskFull):
        result_of(revoke(gateway, applicant))
    assert [type(each) for each in node.carrier.closed] == [DeviceRevoked]
    with pytest.raises(DeviceRevoked):
        gateway.inventory.paired(applicant.device_id)


# -- two devices with one key ---------------------------------------------------


def one_key(gateway: Gateway) -> tuple[Applicant, Applicant, list[int]]:
    """Two revoked devices with one identity key, as an older record may hold them, and the serial
    numbers of their certificates."""
    first, second = Applicant(1), Applicant(2, name="nas")
    pems = [each.pair(gateway).certificate_pem for each in (first, second)]
    mine, other = device_of(gateway, first), device_of(gateway, second)
    same = attrs.evolve(
        other,
        identity_public=mine.identity_public,
        identity_fingerprint=mine.identity_fingerprint,
    )
    gateway.store.store._devices[other.device_id] = same
    gateway.inventory.put(same)
    for applicant in (first, second):
        result_of(revoke(gateway, applicant))
    return first, second, [serial(pem) for pem in pems]


def serial(pem: str) -> int:
    return x509.load_pem_x509_certificate(pem.encode()).serial_number


def listed(gateway: Gateway, file: Path) -> list[int]:
    """The serial numbers on the published list."""
    made = RevocationLists(
        file,
        identity=gateway.identity,
        inventory=gateway.inventory,
        now_ms=gateway.now_ms,
        in_thread=at_once,
    )
    made.publish()
    assert fired(made.when_published())
    return sorted(each.serial_number for each in x509.load_pem_x509_crl(made.pem))


@pytest.mark.parametrize("gone", [0, 1])
def test_removing_one_of_two_with_one_key(gateway: Gateway, tmp_path: Path, gone: int) -> None:
    """The other is as revoked as before: its key, its certificate, its place on the list; also
    after a restart.  With the second removal the key may ask again."""
    *both, serials = one_key(gateway)
    first, second = both
    key = gateway.inventory.revocations()[0].identity_fingerprint
    remove(gateway, both[gone])
    for _ in range(2):
        with pytest.raises(DeviceRevoked):
            gateway.inventory.revoked.check_key(key)
        with pytest.raises(DeviceRevoked):
            gateway.inventory.revoked.check_device(both[1 - gone].device_id)
        assert listed(gateway, tmp_path / "crl.pem") == sorted(serials)
        with pytest.raises(DeviceRevoked):
            first.apply(gateway)
        gateway.restart()
    remove(gateway, both[1 - gone])
    for _ in range(2):
        gateway.inventory.revoked.check_key(key)
        assert listed(gateway, tmp_path / "crl.pem") == sorted(serials)
        gateway.restart()
    assert second.device_id != first.device_id and first.apply(gateway).request_id


# -- several at once ---------------------------------------------------


def revoked_ones(gateway: Gateway, count: int) -> list[Applicant]:
    made = [Applicant(seed, name=f"pi{seed}") for seed in range(1, count + 1)]
    for each in made:
        admitted(gateway, each.pair(gateway))
        result_of(revoke(gateway, each))
    return made


def test_clearing_writes_one_snapshot(gateway: Gateway) -> None:
    """However many are removed: the snapshot and the list are written once, at the end."""
    revoked_ones(gateway, 4)
    snapshots, published = gateway.snapshots, gateway.published
    answer = result_of(gateway.control.clear(models.Remove("tidy"), ANA))
    assert len(answer.removed) == 4 and gateway.inventory.devices() == []
    assert (gateway.snapshots, gateway.published) == (snapshots + 1, published + 1)


def test_clearing_what_is_gone_by_then(gateway: Gateway) -> None:
    """Another operator was faster with one of them: the others are removed all the same."""
    made = revoked_ones(gateway, 3)
    devices = gateway.inventory.devices()
    remove(gateway, made[1])
    act = gateway.revoker.remove_all(devices, "ana", "tidy")
    removals = result_of(Deferred.fromCoroutine(act))
    assert [each.device.name for each in removals] == ["pi1", "pi3"]
    assert gateway.inventory.devices() == []
