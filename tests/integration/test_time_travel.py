"""Days, months and years away: the clocks of real processes are moved under their feet.

grpcio and OpenSSL read the time of day themselves, so only a moved clock shows what they make of a
certificate that ran out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial

import pytest
from cryptography import x509

from palyra.console.models import Check, Health
from tests.integration.clocks import INSTALL, Clock, available
from tests.integration.house import LONG, Gateway, House, NodeHost, opened
from tests.integration.processes import eventually

pytestmark = pytest.mark.skipif(not available(), reason=INSTALL)


class Travellers:
    """A gateway and a node whose clocks are one, and a label that must outlive every journey."""

    def __init__(self, house: House) -> None:
        self.clock = Clock(house.path / "clock")
        self.gateway = house.gateway()
        self.gateway.env = self.clock.env
        self.gateway.start()
        self.node: NodeHost = house.node("pi")
        self.node.env = self.clock.env
        self.node.pair(self.gateway)
        self.device_id = self.node.device_id
        assert self.gateway.cli("nodes", "label", "pi", "site=prague").code == 0

    def away(self, *, days: int = 0, hours: int = 0) -> None:
        """The node is switched off, and on again that much later."""
        self.node.process.terminate()
        self.clock.move(days=days, hours=hours)
        self.node.start()

    def check_is_back(self) -> None:
        """It is the device that it was, its certificate is a new one, and it works."""
        assert self.node.device_id == self.device_id
        self.gateway.online(self.device_id)
        (device,) = self.gateway.nodes()
        assert (device.name, device.labels) == ("pi", {"site": "prague"})
        echoes(self.gateway, self.device_id)


@pytest.fixture(scope="module")
def travellers() -> Iterator[Travellers]:
    """One pair for all journeys; each begins where the one before it has ended."""
    with opened() as house:
        yield Travellers(house)


def echoes(gateway: Gateway, device_id: str) -> None:
    """The device runs a job."""
    ended = gateway.ended(gateway.submit(device_id, "echo", b'{"text":"still here"}'))
    assert ended.job.state == "succeeded", ended.job
    assert json.loads(bytes(ended.output_json))["echo"] == {"text": "still here"}


def check_named(gateway: Gateway, name: str) -> Check:
    """What the gateway says of itself under a name."""
    found = gateway.console.get("doctor", Health).value.checks
    (check,) = (each for each in found if each.name == name)
    return check


def own_certificate(gateway: Gateway) -> x509.Certificate:
    """The certificate that the listeners show."""
    return x509.load_pem_x509_certificate((gateway.root / "identity" / "gateway.pem").read_bytes())


def test_a_node_that_was_off_for_a_day_comes_back_by_itself(travellers: Travellers) -> None:
    """After 25 hours its certificate has run out: its identity key is enough, nobody is asked."""
    before, requests = travellers.node.client.current, travellers.gateway.requests()
    travellers.away(hours=25)
    travellers.node.process.says("rejoined")
    travellers.check_is_back()
    assert travellers.node.client.current != before
    assert travellers.gateway.requests() == requests


def test_both_come_back_after_a_month(travellers: Travellers) -> None:
    """After 40 days without power the gateway's own certificate has run out too: it starts with
    a fresh one of the same CA, and the node comes back as after a day."""
    gateway = travellers.gateway
    before, requests = own_certificate(gateway), gateway.requests()
    gateway.process.terminate()
    travellers.away(days=40)
    gateway.start()
    travellers.node.process.says("rejoined")
    travellers.check_is_back()
    assert gateway.requests() == requests
    after = own_certificate(gateway)
    assert after.not_valid_before_utc > before.not_valid_after_utc
    assert after.issuer == before.issuer
    assert check_named(gateway, "certificate").verdict == "ok"


def test_a_node_that_was_off_for_too_long_needs_an_approval(travellers: Travellers) -> None:
    """After 400 days it asks again: the operator sees which device it was, with the same key, and
    since when its certificate is over; with a yes it is the same device, labels and all."""
    gateway, node = travellers.gateway, travellers.node
    gateway.process.terminate()
    travellers.away(days=400)
    gateway.start()
    request_id = node.asks()
    listed = gateway.cli("pairing", "list")
    assert request_id in listed.out and "pending_approval" in listed.out, listed
    (request,) = (each for each in gateway.requests() if each.request_id == request_id)
    assert (request.method, request.device_id) == ("rejoin", travellers.device_id)
    assert request.seen_before.kind == "same_key"
    assert request.seen_before.certificate_ended_unix_ms is not None

    approved = gateway.cli("pairing", "approve", request_id)
    assert approved.code == 0, approved
    assert "same key; its certificate ran out" in approved.out, approved
    travellers.check_is_back()


@LONG
def test_a_node_that_slept_comes_back_by_itself(travellers: Travellers) -> None:
    """A laptop that was closed for days: the process lives on, and its clock has leapt."""
    gateway, node = travellers.gateway, travellers.node
    for days in (2, 40):
        before = rejoins(node)
        gateway.process.terminate()
        travellers.clock.move(days=days)
        gateway.start()
        eventually(partial(rejoined_since, node, before), "it rejoined")
        travellers.check_is_back()


def rejoins(node: NodeHost) -> int:
    """How often a node host has rejoined since it was started."""
    return node.process.said().count("rejoined")


def rejoined_since(node: NodeHost, before: int) -> bool:
    """Whether it has rejoined once more."""
    return rejoins(node) == before + 1


@pytest.mark.parametrize("minutes", [10, -10], ids=["ahead", "behind"])
def test_a_clock_that_is_minutes_off_is_only_told(
    house: House, gateway: Gateway, minutes: int
) -> None:
    """The device pairs and works, and says it; the gateway's doctor names it."""
    clock = Clock(house.path / "clock")
    clock.move(minutes=minutes)
    side = "ahead of" if minutes > 0 else "behind"
    node = house.node(f"clock-{'fast' if minutes > 0 else 'slow'}")
    node.env = clock.env
    node.pair(gateway)
    assert f"This clock is 10 min {side} the gateway's." in node.process.output()
    echoes(gateway, node.device_id)
    told = check_named(gateway, "clocks")
    assert told.verdict == "warn" and node.name in told.finding, told
    assert "timedatectl set-ntp true" in told.hint
    ahead_ms = gateway.node(node.device_id).clock_ahead_ms
    assert ahead_ms is not None and abs(ahead_ms - minutes * 60_000) < 10_000


def test_a_clock_that_is_hours_behind_is_named(house: House, gateway: Gateway) -> None:
    """Three hours before the gateway's certificate begins TLS cannot work: both times are said,
    nothing is stored, and the PIN is still good."""
    clock = Clock(house.path / "clock")
    clock.move(hours=-3)
    node = house.node("dead-battery")
    node.env = clock.env
    pin = gateway.pin()
    assert node.start_with_pin(gateway, pin).process.wait() == 1
    said = node.process.output()
    assert "This clock (" in said and ") is before the gateway's certificate begins (" in said
    assert "timedatectl set-ntp true" in said
    assert not (node.root / "node-host" / "node-host.json").exists()
    clock.move(hours=3)
    node.start_with_pin(gateway, pin)
    gateway.approve(node.asks())
    gateway.online(node.device_id)
