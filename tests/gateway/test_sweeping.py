"""What is forgotten of pairing: requests that led to nothing, their codes, and keys made here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail

from palyra.console import models
from palyra.core.pairing import RequestState
from palyra.core.pairing_uri import spell_token
from palyra.errors import DiskFull, PairingSessionUnknown
from palyra.gateway import requests as requests_module
from palyra.gateway.requests import FORGET_REQUESTS_MS
from tests.callers import ANA
from tests.gateway.applicants import VersionOne, admitted, device_of, rejoin
from tests.gateway.enrolling import Applicant, Gateway
from tests.gateway.house import result_of

WEEK_S = FORGET_REQUESTS_MS / 1000


@pytest.fixture
def lenient() -> Iterator[Gateway]:
    """A gateway that makes keys for version-1 devices."""
    made = Gateway(allow_v1_codes=True, allow_gateway_made_keys=True)
    yield made
    made.end()


def sweep(gateway: Gateway) -> None:
    result_of(Deferred.fromCoroutine(gateway.requests.sweep()))


def kept(gateway: Gateway) -> tuple[int, int, int]:
    """How many requests, approvals and codes the store holds."""
    store = gateway.store.store
    return len(store._requests), len(store._approvals), len(store._codes)


def sealed(gateway: Gateway) -> int:
    """How many keys that were made here are kept."""
    return sum(bool(each.sealed_key) for each in gateway.all_requests())


# -- requests ---------------------------------------------------


def test_what_came_to_nothing_is_forgotten(gateway: Gateway) -> None:
    """A week after a no, or after nobody decided: the request, its approval and its code.  What
    was approved, and what still waits, stays."""
    gateway.reject(Applicant(1).apply(gateway).request_id)
    Applicant(2, name="nobody").apply(gateway)
    paired = Applicant(3, name="nas")
    paired.pair(gateway)
    gateway.pass_time(WEEK_S - 10)
    sweep(gateway)
    assert kept(gateway) == (3, 3, 3)
    gateway.pass_time(700)
    waiting = Applicant(4, name="lamp").apply(gateway).request_id
    sweep(gateway)
    assert kept(gateway) == (2, 2, 2)
    states = {str(each.request_id): each.state for each in gateway.all_requests()}
    assert states.pop(waiting) is RequestState.PENDING
    assert list(states.values()) == [RequestState.COMPLETED]
    gateway.restart()
    assert device_of(gateway, paired).name == "nas"


def test_codes_that_nobody_used(gateway: Gateway) -> None:
    """They go a week after their end, used, burnt or neither; one that is active stays."""
    for _ in range(3):
        gateway.code()
    gateway.pass_time(WEEK_S)
    active = gateway.pin()
    gateway.pass_time(1)
    sweep(gateway)
    assert len(gateway.store.store._codes) == 4
    gateway.pass_time(601)
    sweep(gateway)
    (left,) = gateway.store.store._codes.values()
    assert left.nameplate == active.nameplate


def test_rejoins_that_nobody_decides_do_not_pile_up(gateway: Gateway) -> None:
    """A device that was away for too long asks again and again: what it asked more than a week
    ago is gone."""
    applicant = Applicant()
    applicant.pair(gateway)
    gateway.pass_time(100 * 86_400)
    for _ in range(20):
        rejoin(applicant, gateway)
        gateway.pass_time(86_400)
        sweep(gateway)
    assert len(gateway.all_requests()) <= 1 + 8


def test_more_than_one_round(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep does not end before everything is gone, in rounds that hold nobody up."""
    for seed in range(1, 6):
        gateway.reject(Applicant(seed).apply(gateway).request_id)
    gateway.code()
    monkeypatch.setattr(requests_module, "MAX_SWEPT", 2)
    gateway.pass_time(WEEK_S + 700)
    sweep(gateway)
    assert kept(gateway) == (0, 0, 0)


# -- keys that were made here ---------------------------------------------------


def asked(gateway: Gateway, old: VersionOne) -> str:
    """A version-1 device that waits for a person."""
    token = spell_token(gateway.code().token)
    return gateway.complete(old.old_proof(gateway.open(token), token)).request_id


def test_a_key_behind_many_requests(lenient: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is found however many newer requests there are, of which none has a key."""
    monkeypatch.setattr(requests_module, "MAX_SWEPT", 2)
    lenient.approve(asked(lenient, VersionOne(1)))
    lenient.pass_time(86_401)
    for seed in range(2, 7):
        Applicant(seed, name=f"pi{seed}").pair(lenient)
    assert sealed(lenient) == 1
    sweep(lenient)
    assert sealed(lenient) == 0


@pytest.mark.parametrize("fetched", [False, True])
def test_the_key_of_a_revoked_device(lenient: Gateway, fetched: bool) -> None:
    """It is erased by the next sweep, whether the device has fetched it or not."""
    old = VersionOne()
    lenient.approve(asked(lenient, old))
    if fetched:
        lenient.status(old.old_question())
    result_of(lenient.control.revoke(old.device_id, models.Revoke("lost"), ANA))
    sweep(lenient)
    assert sealed(lenient) == 0


def test_a_key_that_cannot_be_erased_keeps_nobody_out(lenient: Gateway) -> None:
    """The device is registered, on record and here, and its stream opens; what was not erased for
    want of room is erased by a sweep."""
    old = VersionOne()
    lenient.approve(asked(lenient, old))
    answer = lenient.status(old.old_question())
    node = lenient.node(device_of(lenient, old))
    node.peer = admitted(lenient, answer)
    store: Any = lenient.store
    store.forget_key = lambda _: fail(DiskFull("/var/lib/palyra"))
    result_of(node.connect())
    assert lenient.sessions.owner(old.device_id) is not None and sealed(lenient) == 1
    del store.forget_key
    with pytest.raises(PairingSessionUnknown):
        lenient.pass_time(301)
        lenient.status(old.old_question())
    sweep(lenient)
    assert sealed(lenient) == 0
