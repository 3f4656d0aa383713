"""A node that lives on QUIC alone, over a network that is as bad as networks are."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import msgspec
import pytest

from palyra.console.models import Invoke, InvokeAnswer, Revoke, RevokeAnswer
from tests.integration.errands import ONCE, REPEATABLE, counted
from tests.integration.faraway import FarPair, configured, epoch_of, far_pair
from tests.integration.house import Gateway, House, NodeHost
from tests.integration.netns import Link, laid
from tests.integration.processes import Process, eventually, free_port
from tests.integration.relay import DOWN, UP
from tests.integration.test_rotation import Callers, current, has_moved_on, ordered, rotate
from tests.integration.udprelay import CLEAR, Weather

JOBS = int(os.environ.get("KILLS", "1")) * 256
BOTH = (REPEATABLE, ONCE)
STORM = Weather(loss=0.05, doubled=0.05, late=0.1, late_s=0.05, delay_s=0.1)
"""5 % lost, 5 % twice, a tenth overtaken, 100 ms each way."""
NETEM = ("delay", "100ms", "20ms", "loss", "5%", "duplicate", "2%", "reorder", "10%")
LARGE = 2 * 1024 * 1024
REVOKED_S = 2.0
FALLBACK_S = 20.0
"""The first handshake over QUIC has ten seconds, then gRPC is tried."""


@pytest.fixture(scope="module")
def walled() -> Iterator[FarPair]:
    """A node with ``--transport auto`` behind a firewall that eats UDP; it has just been paired,
    and is given the time in which it finds out."""
    with far_pair("auto") as pair:
        pair.air.cut()
        yield pair.approved()


@pytest.fixture(scope="module")
def pair(walled: FarPair) -> Iterator[FarPair]:
    """A node with ``--transport quic`` that was paired over a network in order."""
    with far_pair() as pair:
        pair.approved().moved_to("quic")
        yield pair


@pytest.fixture(autouse=True)
def fine(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test begins in fine weather, with a node that is online."""
    if "pair" in request.fixturenames:
        pair: FarPair = request.getfixturevalue("pair")
        pair.air.mend()
        pair.air.turn(CLEAR)
        pair.ready()
    yield


def ran(pair: FarPair, count: int) -> list[str]:
    """So many errands accepted from sixteen callers at once; their ids."""
    calls = [pair.call(BOTH[number % 2], None) for number in range(count)]
    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(pair.submit, calls))


def states(pair: FarPair, job_ids: list[str]) -> set[str]:
    """How these jobs have ended."""
    return {pair.ledger[job_id].ended for job_id in job_ids}


# -- in order -------------------------------------------------------------------------------------


def test_a_node_lives_on_quic_alone(pair: FarPair) -> None:
    """It says so, operators see it, its jobs run, and not a byte goes to the gRPC listener."""
    assert "quic" in pair.node.process.says("online ")
    assert pair.transport() == "quic"
    job_ids = ran(pair, 20)
    pair.ended()
    assert pair.account() == [] and states(pair, job_ids) == {"succeeded"}
    assert pair.relay.passed(UP) == pair.relay.passed(DOWN) == 0


def test_no_job_fails_because_of_a_renewal(pair: FarPair) -> None:
    """New certificates are handed over under the load of sixteen callers, over QUIC."""
    gateway, node, device_id = pair.gateway, pair.node, pair.device_id
    with Callers(gateway, device_id) as callers:
        for _ in range(2):
            used = current(node)
            callers.more(32)
            rotate(gateway, "node")
            eventually(partial(has_moved_on, node, used), "there is a new certificate")
            eventually(lambda: not ordered(gateway, device_id), "the order is done")
        callers.more(32)
    assert callers.failed == []
    assert "offline" not in node.process.said()
    assert pair.transport() == "quic" and pair.relay.passed(UP) == 0
    assert gateway.certificates(device_id)[current(node).certificate_pem] == "current"


def test_large_payloads_let_others_through(pair: FarPair) -> None:
    """2 MiB go there and come back, from several callers, while small calls are answered."""
    text = "x" * (LARGE - 2)
    body = Invoke("echo", msgspec.Raw(msgspec.json.encode(text)))
    path = f"nodes/{pair.device_id}/invoke"

    def large(_: int) -> InvokeAnswer:
        return pair.gateway.console.post(path, body, InvokeAnswer).value

    epoch = pair.session_epoch()
    pair.air.turn(Weather(delay_s=0.02))
    with Callers(pair.gateway, pair.device_id) as callers, ThreadPoolExecutor(2) as pool:
        for answer in pool.map(large, range(2)):
            assert answer.success, (answer.state, answer.error)
            assert msgspec.json.decode(answer.output_json)["echo"] == text
        callers.more(32)
    assert callers.failed == []
    assert pair.session_epoch() == epoch and "offline" not in pair.node.process.said()


# -- the choice -----------------------------------------------------------------------------------


def test_auto_goes_by_grpc_where_udp_is_blocked_and_moves_back(walled: FarPair) -> None:
    """The node is online over gRPC within seconds.  When the firewall is gone it moves to QUIC, and
    a job that ran meanwhile is answered there."""
    pair, gate = walled, walled.path / "gate"
    pair.moved_to("grpc", FALLBACK_S)
    slow = pair.submit(pair.call(ONCE, gate))
    eventually(lambda: pair.has_begun(slow), "it runs")
    pair.air.mend()
    pair.moved_to("quic", FALLBACK_S)
    gate.touch()
    assert pair.gateway.ended(slow).job.state == "succeeded"
    ran(pair, 20)
    pair.ended()
    assert pair.account() == [] and states(pair, list(pair.ledger)) == {"succeeded"}
    assert "offline" not in pair.node.process.said()


# -- out of order ---------------------------------------------------------------------------------


def test_a_nat_that_forgets_does_not_end_the_session(pair: FarPair) -> None:
    """From another port the same session goes on: no new registration, and a job that ran then
    is answered there."""
    epoch, gate = pair.session_epoch(), pair.path / "gate-nat"
    slow = pair.submit(pair.call(ONCE, gate))
    eventually(lambda: pair.has_begun(slow), "it runs")
    ports = pair.air.sources
    pair.air.rebind()
    pair.gateway.ended(ran(pair, 5)[-1])
    gate.touch()
    pair.ended()
    assert pair.air.sources and not set(pair.air.sources) & set(ports)
    assert pair.account() == [] and states(pair, list(pair.ledger)) == {"succeeded"}
    assert pair.session_epoch() == epoch and "offline" not in pair.node.process.said()


def test_nothing_is_lost_in_a_storm(pair: FarPair) -> None:
    """Hundreds of jobs over a network that loses, doubles, delays and overtakes: each one is
    answered and took effect once, in one session."""
    epoch, before = pair.session_epoch(), {way: pair.air.seen(way) for way in (UP, DOWN)}
    pair.air.turn(STORM)
    calls = [pair.call(BOTH[number % 2], None) for number in range(JOBS)]

    def answered(call: Invoke) -> str:
        return pair.gateway.ended(pair.submit(call)).job.state

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(answered, calls)) == {"succeeded"}
    pair.ended()
    assert pair.account() == []
    assert set(counted(pair.effects).values()) == {1}
    assert pair.session_epoch() == epoch and "offline" not in pair.node.process.said()
    for way, seen in before.items():
        suffered = pair.air.seen(way) - seen
        assert all(suffered[what] for what in ("lost", "doubled", "late")), suffered


@pytest.mark.parametrize("victim", ["gateway", "node"])
def test_a_kill_in_a_storm_loses_nothing(pair: FarPair, victim: str) -> None:
    """SIGKILL while jobs are on their way: the node is back over QUIC, every job that was accepted
    is listed and has ended, and none took effect twice."""
    pair.air.turn(STORM)
    before = set(pair.ledger)
    begun = ran(pair, 40)
    eventually(lambda: any(map(pair.has_begun, begun)), "some run")
    pair.kill(victim)
    pair.ready()
    job_ids = ran(pair, 20)
    pair.ended()
    assert pair.account() == []
    assert states(pair, job_ids) == {"succeeded"}
    assert states(pair, list(set(pair.ledger) - before)) <= {"succeeded", "outcome_unknown"}
    assert pair.transport() == "quic" and pair.relay.passed(UP) == 0


def test_a_gateway_that_restarts_gets_its_node_back(pair: FarPair) -> None:
    """SIGTERM and a new start: the node registers again, and its running job is not lost."""
    gate = pair.path / "gate-restart"
    slow = pair.submit(pair.call(ONCE, gate))
    eventually(lambda: pair.has_begun(slow), "it runs")
    pair.gateway.process.terminate()
    pair.gateway.start()
    pair.moved_to("quic")
    gate.touch()
    assert pair.gateway.ended(slow).job.state == "succeeded"
    assert pair.account() == []


# -- networks of the kernel -----------------------------------------------------------------------


class Away(House):
    """A house whose processes run at the far end of a link."""

    def __init__(self, link: Link) -> None:
        super().__init__()
        self._link = link

    def start(self, command: Sequence[str], *more: Any, **named: Any) -> Process:
        return super().start(self._link.command(*command), *more, **named)


@contextlib.contextmanager
def linked(link: Link, house: House) -> Iterator[tuple[Gateway, NodeHost]]:
    """A gateway here and a node at the far end, which is online over QUIC."""
    quic = f"{link.near}:{free_port()}"
    gateway = house.gateway(config=configured(link.near, quic))
    gateway.enrolment = f"{link.near}:{free_port()}"
    gateway.node_rpc = f"{link.near}:{free_port()}"
    gateway.start()
    with contextlib.closing(Away(link)) as away:
        node = away.node()
        node.options = ["--transport", "quic"]
        yield gateway, node.pair(gateway)


def test_a_device_that_changes_its_network_keeps_its_session(house: House) -> None:
    """Its address is taken away under it and it gets another one: the session goes on."""
    with laid() as link, linked(link, house) as (gateway, node):
        epoch = epoch_of(gateway, node.device_id)
        with Callers(gateway, node.device_id) as callers:
            callers.more(32)
            link.move()
            callers.more(32)
        assert callers.failed == []
        assert epoch_of(gateway, node.device_id) == epoch
        assert "offline" not in node.process.said()


def test_nothing_is_lost_in_the_kernels_weather(house: House) -> None:
    """5 % loss, 100 ms each way, copies and overtaking by netem: no call fails."""
    with laid(*NETEM) as link, linked(link, house) as (gateway, node):
        with Callers(gateway, node.device_id) as callers:
            callers.more(JOBS)
        assert callers.failed == []
        assert "offline" not in node.process.said()


# -- the end of the shared pair -------------------------------------------------------------------


def test_a_revoked_node_says_why(pair: FarPair) -> None:
    """Within a second of the revocation it knows, says so, and gives up."""
    pair.node.process.terminate()
    pair.node.start().process.says("online ")
    body = Revoke("laptop stolen")
    pair.gateway.console.post(f"devices/{pair.device_id}/revoke", body, RevokeAnswer)
    pair.node.process.says("This device was revoked", REVOKED_S)
    assert "laptop stolen" in pair.node.process.said()
    eventually(lambda: not pair.node.process.alive, "it gives up")
