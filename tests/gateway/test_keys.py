"""Idempotency keys: a repeated call is made once."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from palyra.core.interfaces import MAX_KEY, JobQuery, KeyUse
from palyra.core.jobs import Job
from palyra.errors import AlreadyKept, DeviceOffline, IdempotencyConflict, Malformed
from palyra.gateway.fanouts import FanoutView
from palyra.gateway.keys import Keys, key_for
from tests.gateway.house import House, fired, result_of
from tests.gateway.test_fanouts import fleet, order


def submit(house: House, device: Any, key: str = "k", scope: str = "ana", **changes: Any) -> Any:
    order = house.order(device, **changes)
    call = house.submission.to_one(lambda: order, scope, key, (device.name, repr(changes)))
    return Deferred.fromCoroutine(call)


def many(house: House, devices: list[Any], expression: str = "", **changes: Any) -> Any:
    wanted = order(devices, expression=expression, **changes)
    asked = expression or [each.name for each in devices], repr(changes)
    return Deferred.fromCoroutine(house.submission.to_many(lambda: wanted, "ana", "k", asked))


def count(house: House) -> int:
    return len(result_of(house.store.jobs(JobQuery())))


def test_a_repeated_call(house: House) -> None:
    """It is answered with the same job, now and by the next life of the gateway."""
    device, _ = house.online()
    first: Job = result_of(submit(house, device))
    assert result_of(submit(house, device)).call.job_id == first.call.job_id
    house.restart()
    again: Job = result_of(submit(house, device))
    assert again.call.job_id == first.call.job_id and again.call.idempotency_key == "k"
    assert count(house) == 1


def test_another_call_with_the_key(house: House) -> None:
    """It is refused, names the first one, and nothing is sent; another operator's key is free."""
    device, _ = house.online()
    other, _ = house.online("other")
    first: Job = result_of(submit(house, device))
    for changed in ({"input_json": b"1"}, {"timeout_ms": 2_000}, {"ttl_ms": 9}):
        with pytest.raises(IdempotencyConflict, match=first.call.job_id[10:16]):
            result_of(submit(house, device, **changed))
    with pytest.raises(IdempotencyConflict):
        result_of(submit(house, other))
    assert count(house) == 1
    result_of(submit(house, other, scope="bo"))
    result_of(submit(house, other, key="another"))
    result_of(submit(house, other, key=""))
    result_of(submit(house, other, key=""))
    assert count(house) == 5


def test_repetitions_at_the_same_time(house: House) -> None:
    """They wait for the first one's commit."""
    device, _ = house.online()
    house.store.holding = True
    calls = [submit(house, device) for _ in range(3)]
    assert house.store.waiting == 1
    house.store.release()
    assert len({result_of(call).call.job_id for call in calls}) == 1
    assert count(house) == 1


def test_a_refused_call_uses_no_key(house: House) -> None:
    """The same call may be tried again when the device is there."""
    device = house.device()
    with pytest.raises(DeviceOffline):
        result_of(submit(house, device))
    result_of(house.node(device).connect())
    assert fired(submit(house, device))


def test_a_fan_out(house: House) -> None:
    """The same expression is the same call, whatever it matches by then; a changed one is not."""
    devices, _ = fleet(house, 3)
    first: FanoutView = result_of(many(house, devices, "name ~ pi"))
    again: FanoutView = result_of(many(house, devices[:1], "name ~ pi"))
    assert again.fanout == first.fanout and again.fanout.targets == 3
    for wrong in (many(house, devices, "name ~ p"), many(house, devices, "name ~ pi", batch=1)):
        with pytest.raises(IdempotencyConflict, match="fan-out"):
            result_of(wrong)
    with pytest.raises(IdempotencyConflict):
        result_of(many(house, devices))


@pytest.mark.parametrize("key", ["x" * (MAX_KEY + 1), "line\nbreak", "\x00"])
def test_keys_are_bounded(key: str) -> None:
    """At most 128 printable characters."""
    with pytest.raises(Malformed):
        key_for("ana", key, ())
    assert key_for("ana", "x" * MAX_KEY, ()).key == "x" * MAX_KEY


def test_another_gateway_is_faster(house: House) -> None:
    """A key that is taken between the look and the commit answers with what took it."""
    keys = Keys(house.store)
    mine, use = key_for("ana", "k", 1), KeyUse(key_for("ana", "k", 1).digest)
    looks: list[KeyUse | None] = [None, use]
    house.store.key_use = lambda scope, key: Deferred.fromCoroutine(_value(looks.pop(0)))

    async def taken(_: Any) -> str:
        raise AlreadyKept()

    async def found(kept: KeyUse) -> str:
        return kept.digest

    assert result_of(Deferred.fromCoroutine(keys.once(mine, taken, found))) == use.digest
    looks[:] = [None, None]
    with pytest.raises(AlreadyKept):
        result_of(Deferred.fromCoroutine(keys.once(mine, taken, found)))


async def _value(value: Any) -> Any:
    return value
