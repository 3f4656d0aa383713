"""Tests of :mod:`palyra.node.leaving`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from palyra.config.addresses import HostPort
from palyra.core.frames import GatewayFrame, Welcome
from palyra.core.jobs import Outcome, Report, Standing
from palyra.core.transports import GrpcFallback, Preference, TransportChoice
from palyra.errors import (
    CertificateExpired,
    CertificateSuperseded,
    CertificateUnknown,
    GatewayUnreachable,
    NotPaired,
    PalyraError,
    PinNotChecked,
    RemoteRefusal,
)
from palyra.node.delivering import DELIVER_S, Delivery
from palyra.node.files import HostFile, NodeFiles
from palyra.node.identity import ClientFile, Credential
from palyra.node.leaving import IN_ALL_S, Leaving, Told, leave
from palyra.node.routes import Routes
from tests.node.fakes import DEVICE_ID, FakeChannel, FakeQuic, Turns, attempt, dispatch

NOW_MS = 50_000
GOOD = Credential("cert", "key", NOW_MS + 1_000_000)
NEXT = Credential("next", "key", NOW_MS + 2_000_000)
OVER = Credential("over", "key", NOW_MS - 1)
REVOKED = RemoteRefusal("device_revoked", "This device was revoked.", final=True)


def away(where: str = "gw.example:7444") -> GatewayUnreachable:
    return GatewayUnreachable(where, "connection refused")


def routes(host: str, clock: Clock, preference: Preference = Preference.AUTO) -> Routes:
    choice = TransportChoice(
        preference,
        GrpcFallback.UNREACHABLE,
        quic_known=True,
        last=None,
        now_s=0,
        jitter=lambda low, high: high,
    )
    return Routes(
        grpc=HostPort(host, 7444),
        open_grpc=FakeChannel,
        open_quic=FakeQuic,
        elapsed_s=clock.seconds,
        choice=choice,
    )


@attrs.define
class Device:
    """One that leaves."""

    clock: Clock
    result: Any = None
    error: Any = None

    def leaves(
        self,
        *gateways: Routes,
        current: Credential,
        next: Any = None,
        delivery: Delivery | None = None,
    ) -> Device:
        client = ClientFile(1, "ca", current, next)
        told: Deferred[Told] = Leaving(
            DEVICE_ID,
            client,
            gateways or [routes("gw.example", self.clock)],
            reactor=self.clock,
            elapsed_s=self.clock.seconds,
            reason="sold",
            delivery=delivery,
        ).tell()

        def over(result: Any) -> None:
            self.result = result

        told.addCallbacks(over, lambda failure: setattr(self, "error", failure.value))
        return self

    def answer(self, error: PalyraError | None = None) -> None:
        """To the call that is open."""
        channel = FakeChannel.made[-1]
        if error is None:
            channel.revoked.callback(None)
        else:
            channel.revoked.errback(error)


@pytest.fixture
def device() -> Iterator[Device]:
    FakeChannel.made = []
    clock = Clock()
    clock.advance(NOW_MS / 1000)
    yield Device(clock)
    assert all(each.closed for each in FakeChannel.made)
    assert clock.getDelayedCalls() == []


def tried() -> list[str]:
    """On which ways it was tried, with which certificate."""
    return [
        f"{'quic' if isinstance(each, FakeQuic) else 'grpc'} {each.address.host} "
        f"{each.identity[1].decode()}"
        for each in FakeChannel.made
    ]


def test_told(device: Device) -> None:
    """Over the first way that works; the gateway hears who leaves and why."""
    device.leaves(current=GOOD).answer()
    assert device.result == Told("quic gw.example:7444")
    assert FakeChannel.made[0].leaving == (DEVICE_ID, "sold")
    assert FakeChannel.made[0].ca_pem == b"ca"


def test_every_way(device: Device) -> None:
    """Every address, transport and certificate, before it is given up; the first cause is told."""
    gateways = [routes(host, device.clock) for host in ("one", "two")]
    device.leaves(*gateways, current=GOOD, next=NEXT)
    for _ in range(8):
        device.answer(away(FakeChannel.made[-1].address.host))
    assert tried() == [
        f"{transport} {host} {certificate}"
        for certificate in ("next", "cert")
        for host in ("one", "two")
        for transport in ("quic", "grpc")
    ]
    assert isinstance(device.error, GatewayUnreachable) and device.error.address == "one"


@pytest.mark.parametrize(
    "error", [REVOKED, RemoteRefusal("not_found", "No such device.")], ids=lambda e: e.remote_code
)
def test_gone_already(device: Device, error: PalyraError) -> None:
    """A gateway that knows it, or has forgotten the device, need not be told."""
    device.leaves(current=GOOD).answer(error)
    assert device.result == Told("quic gw.example:7444", already=True)


def test_a_certificate_that_nobody_knows(device: Device) -> None:
    """The other one may be known; where none is, the device is not."""
    device.leaves(routes("gw", device.clock, Preference.GRPC), current=GOOD, next=NEXT)
    device.answer(CertificateUnknown())
    device.answer()
    assert device.result == Told("grpc gw:7444")
    again = Device(device.clock)
    again.leaves(routes("gw", device.clock, Preference.GRPC), current=GOOD)
    again.answer(CertificateUnknown())
    assert again.result == Told("grpc gw:7444", already=True)


def test_a_certificate_that_is_over(device: Device) -> None:
    """It is shown all the same, for this clock may be wrong; then that is what is said."""
    device.leaves(routes("gw", device.clock, Preference.GRPC), current=OVER)
    device.answer(GatewayUnreachable("gw:7444", "it closed the connection"))
    assert tried() == ["grpc gw over"]
    assert isinstance(device.error, CertificateExpired)


def test_what_the_gateway_says_counts_more(device: Device) -> None:
    """Than that it was not reached on another way."""
    device.leaves(current=GOOD)
    device.answer(away())
    device.answer(CertificateSuperseded())
    assert isinstance(device.error, CertificateSuperseded)


def test_a_network_that_swallows_packets(device: Device) -> None:
    """Costs its share of ten seconds on each way, and ten in all."""
    device.leaves(current=GOOD)
    device.clock.pump([1.0] * 4)
    assert len(FakeChannel.made) == 2
    device.clock.pump([1.0] * 6)
    assert device.clock.seconds() == NOW_MS / 1000 + IN_ALL_S
    assert isinstance(device.error, GatewayUnreachable)
    assert "no answer" in device.error.sentence


def test_a_way_that_may_not_be_used(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pin that gRPC cannot check is no reason to break it."""
    only = routes("gw", device.clock, Preference.GRPC)

    def refuse(*_: Any, **__: Any) -> None:
        raise PinNotChecked()

    monkeypatch.setattr(only, "open", refuse)
    device.leaves(only, current=GOOD)
    assert isinstance(device.error, PinNotChecked)


def test_a_device_that_is_not_paired(tmp_path: Path) -> None:
    """There is nobody to tell."""
    files = NodeFiles(tmp_path)
    with pytest.raises(NotPaired):
        leave(tmp_path, "sold", Clock())
    files.make()
    files.identity.open(NOW_MS, os.urandom, DEVICE_ID)
    files.keep_host(HostFile(1, "gw:7444", DEVICE_ID, 500, "", 1, 1))
    (tmp_path / "palyra.toml").write_text("nonsense")
    with pytest.raises(NotPaired):
        leave(tmp_path, "sold", Clock())


# -- what is left to say -------------------------------------------------------------------------

WELCOME = Welcome(DEVICE_ID, "e", 1, 15_000, NOW_MS, "", (), "pi", "1")


@pytest.fixture
def delivery(device: Device) -> Delivery:
    """Two results that the gateway has not confirmed, one of them of an attempt that died."""
    reports = [Report(attempt(1), Outcome.SUCCEEDED, b"{}"), Report(attempt(2), Outcome.DIED)]
    return Delivery(
        DEVICE_ID,
        memory_id="m",
        reports={each.attempt_id: each for each in reports},
        standings={attempt(1): Standing.FINISHED, attempt(2): Standing.DIED},
        reactor=device.clock,
        elapsed_s=device.clock.seconds,
    )


def said(channel: FakeChannel) -> list[tuple[str, Outcome]]:
    """The reports on that channel's session."""
    reports: list[tuple[str, Outcome]] = []
    while (event := channel.session.take_event()) is not None:
        reports += [(each.attempt_id, each.outcome) for each in event.reports]
    return reports


def test_results_come_first(device: Device, delivery: Delivery) -> None:
    """The gateway is told when it has confirmed every result, and what it sent that never began is
    said to be so: no job of a device that leaves ends as unknown where somebody knows."""
    device.leaves(current=GOOD, delivery=delivery)
    session = FakeChannel.made[0]
    assert session.hello is not None and session.hello.capabilities == ()
    assert (session.hello.memory_id, len(session.hello.attempts)) == ("m", 2)
    session.registered.callback(WELCOME)
    assert said(session) == [
        (attempt(1), Outcome.SUCCEEDED),
        (attempt(2), Outcome.DIED),
    ]
    session.session.received(GatewayFrame(dispatches=[dispatch(3)], acknowledged=[attempt(1)]))
    device.clock.advance(0)
    assert said(session) == [(attempt(3), Outcome.REJECTED)] and session.leaving is None
    session.session.received(GatewayFrame(acknowledged=[attempt(2), attempt(3)]))
    assert not session.closed
    device.clock.advance(0)
    assert session.closed and FakeChannel.made[1].leaving == (DEVICE_ID, "sold")
    device.answer()
    assert device.result == Told("quic gw.example:7444")


def test_results_that_are_not_confirmed(device: Device, delivery: Delivery) -> None:
    """Are counted, after their time or where the session breaks; the device leaves all the same."""
    device.leaves(current=GOOD, delivery=delivery)
    FakeChannel.made[0].registered.callback(WELCOME)
    FakeChannel.made[0].session.received(GatewayFrame(acknowledged=[attempt(1)]))
    device.clock.pump([1.0] * int(DELIVER_S))
    device.answer()
    assert device.result == Told("quic gw.example:7444", undelivered=1)


def test_a_session_that_breaks(device: Device, delivery: Delivery) -> None:
    """As one that takes too long."""
    device.leaves(current=GOOD, delivery=delivery)
    FakeChannel.made[0].registered.callback(WELCOME)
    FakeChannel.made[0].streamed.callback(None)
    device.answer()
    assert device.result == Told("quic gw.example:7444", undelivered=2)


def test_nobody_hears_the_results(device: Device, delivery: Delivery) -> None:
    """They are offered on the next way; a refusal to hear them is none to be told."""
    device.leaves(current=GOOD, delivery=delivery)
    device.clock.pump([1.0] * 4)
    FakeChannel.made[1].registered.errback(RemoteRefusal("internal", "Not now."))
    assert FakeChannel.made[2].leaving is not None
    device.answer()
    assert device.result == Told("grpc gw.example:7444", undelivered=2)
    device.leaves(current=GOOD, delivery=delivery)
    for _ in range(2):
        FakeChannel.made[-1].registered.errback(away())
    assert device.error is not None and FakeChannel.made[-1].leaving is None


def test_what_was_kept(tmp_path: Path) -> None:
    """Is read from the file of attempts; one that is damaged is no reason to stay."""
    files, turns = NodeFiles(tmp_path), Turns()
    turns.seconds = lambda: NOW_MS / 1000  # type: ignore[attr-defined]

    def of() -> Delivery | None:
        return Delivery.of(DEVICE_ID, files, reactor=turns, elapsed_s=time.monotonic, entropy=bytes)

    assert of() is None
    files.make()
    memory = turns.memory(files.attempts, NOW_MS)
    turns.wait(memory.accepted(attempt(1), durable=True, now_ms=NOW_MS, remaining_ms=1000))
    turns.wait(memory.accepted(attempt(2), durable=True, now_ms=NOW_MS, remaining_ms=1000))
    turns.wait(memory.finished(Report(attempt(1), Outcome.SUCCEEDED, b"1"), durable=True))
    memory.stop()
    found = of()
    assert found is not None and found.left == 2
    files.attempts.write_bytes(b"nonsense" * 512)
    assert of() is None
