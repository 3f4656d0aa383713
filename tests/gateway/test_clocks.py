"""A wall clock that leaps and is put right again: devices keep what they have, orders end."""

from __future__ import annotations

import pytest

from palyra.console import models
from palyra.pki.trust import ChainVerifier
from palyra.testing.carrier import ScriptedNode
from tests.callers import ANA
from tests.gateway.applicants import admitted, device_of, online, rejoin, renewal, renewed
from tests.gateway.enrolling import DOMAIN, Applicant, Gateway
from tests.gateway.house import result_of

HOUR_S = 3_600
DAY_S = 86_400


def leap(gateway: Gateway, seconds: float) -> None:
    """The clock is set: no time passes by it."""
    gateway.clock.rightNow += seconds


def order(gateway: Gateway) -> None:
    result_of(gateway.control.rotate(models.Rotate(everything=True), ANA))


def asked(gateway: Gateway, applicant: Applicant) -> bool:
    return device_of(gateway, applicant).rotate_asked_at_ms is not None


def welcomed(node: ScriptedNode) -> int | None:
    """In how many seconds a node that registers is told to renew."""
    return result_of(node.register()).renew_after_s


# -- forward and back ---------------------------------------------------


def test_a_leap_forward_forgets_no_certificate(gateway: Gateway) -> None:
    """Two days ahead, and the hourly sweep comes: once the clock is right the device is as it
    was, with no rejoin and no person."""
    applicant = Applicant()
    answer = applicant.pair(gateway)
    admitted(gateway, answer)
    leap(gateway, 2 * DAY_S)
    gateway.inventory.forget_expired(gateway.now_ms())
    leap(gateway, -2 * DAY_S)
    gateway.inventory.gate.replace_chain(ChainVerifier(gateway.identity.roots, DOMAIN))
    assert admitted(gateway, answer).device_id == applicant.device_id


# -- orders ---------------------------------------------------


@pytest.mark.parametrize("back_s", [1, HOUR_S])
def test_an_order_and_a_clock_that_is_set_back(gateway: Gateway, back_s: float) -> None:
    """The next certificate of the device is the one that was ordered, whatever the clock says; it
    is not told to renew again and again."""
    applicant = Applicant()
    node = online(gateway, applicant)
    gateway.pass_time(1)
    order(gateway)
    leap(gateway, -back_s)
    assert welcomed(node) == 0
    node.peer = admitted(gateway, renewed(gateway, node.peer, renewal(applicant, node.peer)))
    after_s = welcomed(node)
    assert after_s is not None and after_s > 10 * HOUR_S
    assert not asked(gateway, applicant)
    gateway.restart()
    assert not asked(gateway, applicant)


def test_an_order_that_a_rejoin_obeys(gateway: Gateway) -> None:
    """It came back by its identity key, under a clock that was set back: that is done too."""
    applicant = Applicant()
    node = online(gateway, applicant)
    node.hang_up()
    gateway.pass_time(1)
    order(gateway)
    leap(gateway, -HOUR_S)
    node.peer = admitted(gateway, rejoin(applicant, gateway))
    assert welcomed(node)
    assert not asked(gateway, applicant)


def test_a_new_order_is_a_new_one(gateway: Gateway) -> None:
    """The certificate that obeyed the first order obeys none that was given after it."""
    applicant = Applicant()
    node = online(gateway, applicant)
    gateway.pass_time(1)
    order(gateway)
    leap(gateway, -HOUR_S)
    node.peer = admitted(gateway, renewed(gateway, node.peer, renewal(applicant, node.peer)))
    welcomed(node)
    gateway.pass_time(HOUR_S + 10)
    order(gateway)
    assert welcomed(node) == 0 and asked(gateway, applicant)
