"""Revocation: committed first, then felt everywhere."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred

from palyra.core.devices import DeviceState, PresenceState
from palyra.core.jobs import JobState
from palyra.errors import DeviceRevoked, NotFound
from tests.gateway.enrolling import HOME, Applicant, Gateway
from tests.gateway.house import result_of


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
