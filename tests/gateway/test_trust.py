"""Revocation: committed first, then felt everywhere."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail

from palyra.console import models
from palyra.core.devices import DeviceState, PresenceState, Removal, Revocation
from palyra.core.jobs import JobState
from palyra.errors import DeviceRevoked, DiskFull, KeyInUse, NotFound, PairingSessionUnknown
from tests.gateway.applicants import admitted, device_of, online, rejoin, renewal, renewed
from tests.gateway.enrolling import HOME, Applicant, Gateway
from tests.gateway.house import result_of


def revoke(gateway: Gateway, applicant: Applicant, reason: str = "lost") -> Revocation:
    device = device_of(gateway, applicant)
    return result_of(Deferred.fromCoroutine(gateway.revoker.revoke(device, "ana", reason)))


def remove(gateway: Gateway, applicant: Applicant, reason: str = "sold") -> Removal:
    device = gateway.inventory.device(applicant.device_id)
    assert device is not None
    return result_of(Deferred.fromCoroutine(gateway.revoker.remove(device, "bob", reason)))


def seen(gateway: Gateway, request_id: str) -> models.SeenBefore:
    return result_of(gateway.control.pairing_request(request_id)).request.seen_before


def test_a_revocation_is_felt_at_once(gateway: Gateway) -> None:
    """Sessions and jobs end, certificates are refused, and the snapshot says so before the
    operator is answered."""
    applicant = Applicant()
    pem = applicant.pair(gateway).certificate_pem.encode()
    device = gateway.inventory.paired(applicant.device_id)
    node = gateway.node(device)
    result_of(node.connect())
    answer = gateway.dispatcher.run(gateway.order(device))
    node.take()
    revoked = Deferred.fromCoroutine(gateway.revoker.revoke(device, "ana", "lost\x1b[31m"))
    revocation = result_of(revoked)
    assert (revocation.by, "\x1b" in revocation.reason) == ("ana", False)
    assert len(revocation.certificates) == 1 and gateway.snapshots == 1
    assert result_of(answer).state is JobState.OUTCOME_UNKNOWN
    (error,) = node.carrier.closed
    assert isinstance(error, DeviceRevoked)
    with pytest.raises(DeviceRevoked):
        gateway.node_desk.admit(pem, None, HOME, "grpc")
    kept = gateway.inventory.device(device.device_id)
    assert kept is not None and kept.state is DeviceState.REVOKED
    assert gateway.board.state(device.device_id) is PresenceState.OFFLINE


def test_nothing_is_felt_before_the_commit(gateway: Gateway) -> None:
    """Until the store has it, the device works on."""
    device, node = gateway.online()
    gateway.store.holding = True
    revoked = Deferred.fromCoroutine(gateway.revoker.revoke(device, "ana", "lost"))
    assert node.carrier.closed == [] and not revoked.called
    gateway.store.release()
    gateway.store.holding = False
    assert len(node.carrier.closed) == 1
    result_of(revoked)


def test_a_second_revocation_is_the_first(gateway: Gateway) -> None:
    """It answers what was done, and by whom."""
    device, _ = gateway.online()
    first = result_of(Deferred.fromCoroutine(gateway.revoker.revoke(device, "ana", "lost")))
    again = result_of(Deferred.fromCoroutine(gateway.revoker.revoke(device, "bob", "found")))
    assert again == first


def test_an_unknown_device(gateway: Gateway) -> None:
    """There is nothing to revoke."""
    device, _ = gateway.online()
    gateway.restart()
    gateway.store.store._devices.clear()
    with pytest.raises(NotFound):
        result_of(Deferred.fromCoroutine(gateway.revoker.revoke(device, "ana", "lost")))


def test_a_certificate_is_not_handed_out_again(gateway: Gateway) -> None:
    """Neither to a device that was revoked after it had fetched it, nor to one whose id was paired
    with another key since."""
    lost, old = Applicant(1), Applicant(2, name="nas")
    lost.pair(gateway)
    old.pair(gateway)
    revoke(gateway, lost)
    anew = Applicant(3, device_id=old.device_id)
    gateway.approve(anew.apply(gateway).request_id, accept_new_identity=True)
    for applicant in (lost, old):
        with pytest.raises((DeviceRevoked, PairingSessionUnknown)):
            gateway.status(applicant.question())
    assert gateway.status(anew.question()).certificate_pem


# -- remove ---------------------------------------------------


def test_removing_is_felt_at_once(gateway: Gateway) -> None:
    """As a revocation is: sessions and jobs end, and the answer comes after the snapshot."""
    applicant = Applicant()
    node = online(gateway, applicant)
    device = device_of(gateway, applicant)
    running = gateway.dispatcher.run(gateway.order(device))
    node.take()
    removal = remove(gateway, applicant)
    assert (removal.certificates, removal.requests, gateway.snapshots) == (1, 1, 1)
    assert removal.device.state is DeviceState.PAIRED
    assert [type(each) for each in node.carrier.closed] == [DeviceRevoked]
    assert result_of(running).state is JobState.OUTCOME_UNKNOWN
    assert gateway.board.state(device.device_id) is PresenceState.OFFLINE


def test_what_goes_and_what_stays(gateway: Gateway) -> None:
    """The record, its name and its pairing history go; every certificate stays refused, also after
    a restart, and its session has nothing more to say."""
    applicant = Applicant()
    node = online(gateway, applicant)
    old = result_of(gateway.store.certificate(node.peer.fingerprint)).pem
    gateway.pass_time(1)
    new = renewed(gateway, node.peer, renewal(applicant, node.peer))
    remove(gateway, applicant)
    for _ in range(2):
        for pem in (old, new.certificate_pem):
            with pytest.raises(DeviceRevoked):
                gateway.node_desk.admit(pem.encode(), None, HOME, "grpc")
        with pytest.raises(NotFound):
            gateway.inventory.paired(applicant.device_id)
        with pytest.raises(PairingSessionUnknown):
            gateway.status(applicant.question())
        assert gateway.inventory.devices() == [] and gateway.inventory.names() == set()
        assert gateway.all_requests() == []
        gateway.restart()
    assert result_of(gateway.store.certificates_of(applicant.device_id)) == []


def test_pairing_after_removal(gateway: Gateway) -> None:
    """It reaches an approval that shows who revoked and removed it, when and why; a yes makes a
    device again, and from then on that is no news."""
    applicant = Applicant()
    first = applicant.pair(gateway)
    revocation = revoke(gateway, applicant)
    gateway.pass_time(60)
    remove(gateway, applicant)
    for _ in range(2):
        request_id = applicant.apply(gateway).request_id
        before = seen(gateway, request_id)
        assert (before.kind, before.by, before.reason) == ("revoked", "ana", "lost")
        assert (before.name, before.at_unix_ms) == ("pi", revocation.at_ms)
        assert before.removed_at_unix_ms == gateway.inventory.revocations()[0].removed_at_ms
        assert before.identity_fingerprint == revocation.identity_fingerprint
        gateway.restart()
    gateway.approve(request_id)
    assert admitted(gateway, gateway.status(applicant.question()))
    assert seen(gateway, applicant.apply(gateway).request_id).kind == "same_key"
    with pytest.raises(DeviceRevoked):
        gateway.node_desk.admit(first.certificate_pem.encode(), None, HOME, "grpc")


def test_the_key_of_a_removed_device_under_another_id(gateway: Gateway) -> None:
    """The tombstone is found by the key too; once it was answered, it is over, restart or not."""
    first = Applicant(1)
    first.pair(gateway)
    remove(gateway, first, "stolen")
    second = Applicant(1, name="nas", device_id=Applicant(2).device_id)
    request_id = second.apply(gateway).request_id
    before = seen(gateway, request_id)
    assert (before.kind, before.name, before.reason) == ("revoked", "pi", "stolen")
    gateway.approve(request_id)
    request_id = second.apply(gateway).request_id
    for _ in range(2):
        assert seen(gateway, request_id).kind == "same_key"
        gateway.restart()


def test_a_key_is_one_device(gateway: Gateway) -> None:
    """A paired device's key cannot pair under another id, nor be approved there: its revocation
    must end everything that the key can do."""
    first = Applicant(1)
    second = Applicant(1, name="nas", device_id=Applicant(2).device_id)
    asked = [applicant.apply(gateway).request_id for applicant in (first, second)]
    gateway.approve(asked[0])
    with pytest.raises(KeyInUse) as caught:
        gateway.approve(asked[1])
    assert caught.value.device == "pi"
    with pytest.raises(KeyInUse):
        second.apply(gateway)
    gateway.restart()
    with pytest.raises(KeyInUse):
        gateway.approve(asked[1])
    first.apply(gateway)  # under its own id it may pair again


def test_another_key_under_a_removed_id(gateway: Gateway) -> None:
    """The operator sees that this id was somebody else."""
    first = Applicant(1)
    first.pair(gateway)
    remove(gateway, first)
    second = Applicant(2, device_id=first.device_id)
    before = seen(gateway, second.apply(gateway).request_id)
    assert before.kind == "revoked"
    gateway.approve(gateway.all_requests()[0].request_id)
    assert admitted(gateway, gateway.status(second.question()))


def test_the_key_of_a_revoked_device_under_another_id(gateway: Gateway) -> None:
    """While it is only revoked there is no approval to reach."""
    first = Applicant(1)
    first.pair(gateway)
    revoke(gateway, first, "stolen")
    second = Applicant(1, name="nas", device_id=Applicant(2).device_id)
    for _ in range(2):
        with pytest.raises(DeviceRevoked) as caught:
            second.apply(gateway)
        assert caught.value.reason == "stolen" and gateway.all_requests()[1:] == []
        gateway.restart()


def test_revoked_again_after_it_came_back(gateway: Gateway) -> None:
    """Removed, paired again, revoked again: refused as at the first time, with the new reason, and
    removed once more."""
    applicant = Applicant()
    applicant.pair(gateway)
    remove(gateway, applicant)
    applicant.pair(gateway)
    again = applicant.pair(gateway)
    revoke(gateway, applicant, "again")
    for _ in range(2):
        with pytest.raises(DeviceRevoked):
            gateway.node_desk.admit(again.certificate_pem.encode(), None, HOME, "grpc")
        for ask in (applicant.apply, lambda each: rejoin(applicant, each)):
            with pytest.raises(DeviceRevoked) as caught:
                ask(gateway)
            assert caught.value.reason == "again"
        gateway.restart()
    remove(gateway, applicant)
    before = seen(gateway, applicant.apply(gateway).request_id)
    assert (before.kind, before.reason) == ("revoked", "again")


def test_a_removal_that_cannot_be_kept(gateway: Gateway) -> None:
    """Nothing of it is true, and what the device said meanwhile is heard on its next session."""
    applicant = Applicant()
    node = online(gateway, applicant)
    job = gateway.submit(device_of(gateway, applicant))
    node.take()
    gateway.store.holding = True
    removed = Deferred.fromCoroutine(
        gateway.revoker.remove(device_of(gateway, applicant), "ana", "")
    )
    node.finish(next(iter(node.running)))
    store: Any = gateway.store.store
    store.remove = _no_room
    gateway.store.release()
    gateway.store.holding = False
    with pytest.raises(DiskFull):
        result_of(removed)
    del store.remove
    assert device_of(gateway, applicant).state is DeviceState.PAIRED
    assert [type(each) for each in node.carrier.closed] == [type(None)]
    node.notice()
    result_of(node.connect())
    assert gateway.kept(job).state is JobState.SUCCEEDED


def _no_room(*_: object) -> Deferred[Any]:
    return fail(DiskFull("/var/lib/palyra"))


def test_nothing_remains_of_what_was_said_of_it(gateway: Gateway) -> None:
    """Certificates that ended long ago leave the index; the tombstone of its key stays."""
    applicant = Applicant()
    applicant.pair(gateway)
    remove(gateway, applicant)
    gateway.pass_time(10 * 86_400)
    gateway.inventory.forget_expired(gateway.now_ms())
    assert gateway.inventory.revoked._certificates == {}
    assert seen(gateway, applicant.apply(gateway).request_id).kind == "revoked"
