"""Callers at the desk: whose key is whose, and how long each waits."""

from __future__ import annotations

import attrs
import pytest

from palyra.core.devices import INVOKE_OTHERS, ClientKind
from palyra.core.frames import Wanted
from palyra.core.jobs import Job, JobState
from palyra.errors import JobStillRunning, NotFound
from palyra.transport.interfaces import Peer
from tests.gateway.enrolling import Gateway
from tests.gateway.house import fired, result_of

S = JobState


def a_client(gateway: Gateway, name: str) -> Peer:
    """A client that may run on other devices."""
    granted = frozenset({INVOKE_OTHERS})
    return gateway.peer(gateway.device(name, kind=ClientKind.CLI, grants=granted).device_id)


def test_a_key_belongs_to_its_caller(gateway: Gateway) -> None:
    """Another caller with the same key makes a call of its own, and never gets the first one's."""
    device, node = gateway.online()
    wanted = Wanted(device.device_id, "echo", b"{}", idempotency_key="k")
    ana, bo = a_client(gateway, "ana"), a_client(gateway, "bo")
    accepted: list[Job] = []
    for peer in (ana, bo, ana):
        gateway.node_desk.run(peer, wanted, accepted.append).addErrback(lambda _: None)
    first, others, again = accepted
    assert again.call.job_id == first.call.job_id != others.call.job_id
    assert others.call.requested_by != first.call.requested_by == again.call.requested_by
    node.take()
    assert len(node.started) == 2
    with pytest.raises(NotFound):
        result_of(gateway.node_desk.cancel(ana, others.call.job_id))


@pytest.mark.parametrize("key", ["", "k"])
def test_a_caller_waits_as_long_as_its_job_may(gateway: Gateway, key: str) -> None:
    """Its time to live for a device that is away, with its run time and a margin after it."""
    device, node = gateway.online()
    node.disconnect()
    gateway.pass_time(30)
    wanted = Wanted(
        device.device_id, "echo", b"{}", timeout_ms=10_000, ttl_ms=60_000, idempotency_key=key
    )
    answer, expires = (
        gateway.node_desk.run(node.peer, attrs.evolve(wanted, ttl_ms=ttl_ms, idempotency_key=of))
        for ttl_ms, of in ((60_000, key), (40_000, key and "other"))
    )
    gateway.pass_time(39)
    assert not fired(answer) and not fired(expires)
    gateway.pass_time(2)
    assert result_of(expires).state is S.EXPIRED
    gateway.pass_time(14)
    result_of(node.connect())
    node.take()
    gateway.pass_time(4)
    assert not fired(answer)
    node.finish(next(iter(node.running)))
    assert result_of(answer).state is S.SUCCEEDED


@pytest.mark.parametrize("key", ["", "k"])
def test_a_caller_does_not_wait_for_ever(gateway: Gateway, key: str) -> None:
    """After all that time it is told that the job goes on."""
    device, node = gateway.online()
    wanted = Wanted(
        device.device_id, "echo", b"{}", timeout_ms=10_000, ttl_ms=60_000, idempotency_key=key
    )
    answer = gateway.node_desk.run(node.peer, wanted)
    node.take()
    node.disconnect()
    gateway.pass_time(84)
    assert not fired(answer)
    gateway.pass_time(2)
    with pytest.raises(JobStillRunning):
        result_of(answer)
