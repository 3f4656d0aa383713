"""Tests of :mod:`palyra.node.leaving`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from palyra.config.addresses import HostPort
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
from palyra.node.files import HostFile, NodeFiles
from palyra.node.identity import ClientFile, Credential
from palyra.node.leaving import IN_ALL_S, Leaving, Told, leave
from palyra.node.routes import Routes
from tests.node.fakes import DEVICE_ID, FakeChannel, FakeQuic

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

    def leaves(self, *gateways: Routes, current: Credential, next: Any = None) -> Device:
        client = ClientFile(1, "ca", current, next)
        told: Deferred[Told] = Leaving(
            DEVICE_ID,
            client,
            gateways or [routes("gw.example", self.clock)],
            reactor=self.clock,
            elapsed_s=self.clock.seconds,
            reason="sold",
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
