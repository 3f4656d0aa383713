"""Orders to fetch a new certificate now, followed until each device has done it."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred

from palyra.core.devices import ClientKind, Device
from palyra.core.frames import Renew
from palyra.testing.carrier import ScriptedNode
from tests.gateway.applicants import (
    admitted,
    device_of,
    online,
    renewal,
    renewed,
)
from tests.gateway.enrolling import Applicant, Gateway
from tests.gateway.house import result_of

# -- orders ---------------------------------------------------


def order(gateway: Gateway, *devices: Device, reason: str = "") -> list[Device]:
    return result_of(Deferred.fromCoroutine(gateway.renewals.order(devices, "ana", reason)))


def connected(node: ScriptedNode) -> int | None:
    """When a node is told to renew as it registers."""
    welcome = result_of(node.register())
    node.attach(welcome.session_epoch)
    return welcome.renew_after_s


def test_the_welcome_says_when_to_renew(gateway: Gateway) -> None:
    """As an interval, which needs no clock of the device; less, the later it registers."""
    node = online(gateway, Applicant())
    assert connected(node) == pytest.approx(16 * 3_600, abs=1)
    gateway.pass_time(3_600)
    assert connected(node) == pytest.approx(15 * 3_600, abs=2)
    gateway.pass_time(16 * 3_600)
    assert connected(node) == 0


def test_an_order_to_a_device_online(gateway: Gateway) -> None:
    """It is told at once, with the reason; the order stands until it has registered over a
    certificate that was issued after it."""
    applicant = Applicant()
    node = online(gateway, applicant)
    old = node.peer
    gateway.pass_time(1)
    ordered = order(gateway, device_of(gateway, applicant), reason="new\x1b policy")
    assert [each.device_id for each in ordered] == [applicant.device_id]
    frame = node.take()
    assert frame.renew == Renew("new\\u001b policy", 20)
    device = device_of(gateway, applicant)
    assert (device.rotate_asked_at_ms, device.rotate_asked_by) == (gateway.now_ms(), "ana")
    gateway.pass_time(1)
    assert connected(node) == 0, "it was restarted before it had done it"
    answer = renewed(gateway, old, renewal(applicant, old))
    assert device_of(gateway, applicant).rotate_asked_at_ms is not None
    node.peer = admitted(gateway, answer)
    assert connected(node) == pytest.approx(16 * 3_600, abs=1)
    device = device_of(gateway, applicant)
    assert (device.rotate_asked_at_ms, device.rotate_asked_by) == (None, "")


def test_an_order_to_a_device_that_is_away(gateway: Gateway) -> None:
    """It is told when it comes back, also to a gateway that was restarted."""
    applicant = Applicant()
    node = online(gateway, applicant)
    node.hang_up()
    gateway.pass_time(1)
    order(gateway, device_of(gateway, applicant))
    gateway.restart()
    assert device_of(gateway, applicant).rotate_asked_by == "ana"
    assert connected(node) == 0


def test_a_registration_over_the_old_certificate_is_no_obedience(gateway: Gateway) -> None:
    """Nor is a pending certificate from before the order."""
    applicant = Applicant()
    node = online(gateway, applicant)
    gateway.pass_time(1)
    answer = renewed(gateway, node.peer, renewal(applicant, node.peer))
    gateway.pass_time(1)
    order(gateway, device_of(gateway, applicant))
    node.peer = admitted(gateway, answer)
    assert connected(node) == 0
    assert device_of(gateway, applicant).rotate_asked_at_ms is not None


def test_an_order_to_many(gateway: Gateway) -> None:
    """They are told to spread over a time that grows with their number, ten minutes at most."""
    devices = [gateway.device(f"pi{number}") for number in range(12)]
    nodes = [gateway.node(device) for device in devices[:3]]
    for node in nodes:
        result_of(node.connect())
        node.take()
    order(gateway, *devices)
    assert [node.take().renew for node in nodes] == [Renew("", 240)] * 3
    kept = result_of(gateway.store.devices())
    assert all(each.rotate_asked_at_ms is not None for each in kept)


def test_an_order_goes_to_paired_nodes_only(gateway: Gateway) -> None:
    """A revoked one, or a client that has no session, is not waited for."""
    pi, gone = gateway.device("pi"), gateway.device("gone")
    client = gateway.device("cli", kind=ClientKind.CLI)
    result_of(Deferred.fromCoroutine(gateway.revoker.revoke(gone, "ana", "lost")))
    assert [each.name for each in order(gateway, pi, gone, client)] == ["pi"]


def test_an_order_that_is_not_kept_is_not_given(gateway: Gateway) -> None:
    """Nobody is told what a restart would not remember."""
    applicant = Applicant()
    node = online(gateway, applicant)
    gateway.store.holding = True
    ordered = Deferred.fromCoroutine(
        gateway.renewals.order([device_of(gateway, applicant)], "ana", "")
    )
    assert node.take().renew is None and not ordered.called
    gateway.store.release()
    gateway.store.holding = False
    result_of(ordered)
    assert node.take().renew is not None
