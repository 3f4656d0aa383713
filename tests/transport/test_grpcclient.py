"""Tests of :mod:`palyra.transport.grpcclient` over real sockets."""

from __future__ import annotations

import itertools
import os
import socket
from typing import Any

import pytest
from twisted.internet.defer import CancelledError

from palyra.config.addresses import HostPort
from palyra.core.devices import AnnouncedCapability
from palyra.core.frames import Hello
from palyra.errors import CertificateUnknown, GatewayUnreachable, Unreached
from palyra.node.link import Channel
from palyra.pki.authority import DAY_MS, Authority
from palyra.transport.grpcclient import GatewayChannel
from palyra.transport.statuses import OUT_OF_DATE, is_cut
from palyra.wire.pairing import RenewalAsked, Renewed
from tests.gateway.enrolling import wall_ms
from tests.integration.processes import free_port
from tests.node.awaiting import awaiting
from tests.transport.desks import FakeDesk
from tests.transport.serving import (
    AUTHORITY,
    DEVICE,
    KEY,
    KEY_PEM,
    LOOPBACK,
    device_pair,
    gateway_pair,
    serve,
)
from tests.transport.test_grpcserver import node_servicer

HELLO = Hello(DEVICE, "linux", (AnnouncedCapability("echo"),), extended=True)
STRANGER = Authority.create(trust_domain="palyra.test", now_ms=wall_ms(), entropy=os.urandom)


async def refusal(call: Any) -> Exception:
    """What a call fails with."""
    try:
        answer = await call
    except Exception as error:
        return error
    raise AssertionError(f"it was not refused but answered {answer!r}")


@awaiting
async def test_a_renewal(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked and what is answered arrive as they are; a refusal as its own error."""
    desk = FakeDesk()
    listener = await serve(monkeypatch, node_servicer(desk), mutual=True)
    channel = GatewayChannel(listener.address, AUTHORITY.ca_pem, device_pair())
    asked = RenewalAsked(DEVICE, b"csr", b"s" * 64)
    desk.answer = renewed = Renewed("CERT", "CA", 9_000, 57_600)
    try:
        assert await channel.renew(asked) == renewed
        assert desk.asked[0][1] == asked
        desk.answer = CertificateUnknown()
        assert isinstance(await refusal(channel.renew(asked)), CertificateUnknown)
    finally:
        await channel.close()
        await listener.stop(0)


@awaiting
async def test_leaving(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway hears who leaves and why; that it was not done is an error."""
    desk = FakeDesk()
    listener = await serve(monkeypatch, node_servicer(desk), mutual=True)
    channel = GatewayChannel(listener.address, AUTHORITY.ca_pem, device_pair())
    try:
        assert await channel.revoke(DEVICE, "sold") is None
        assert desk.asked == [(DEVICE, "sold")]
    finally:
        await channel.close()
        await listener.stop(0)


@awaiting
async def test_connecting_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway has heard nothing by then; what is asked next goes over the same connection."""
    handshakes: list[None] = []

    def certificate() -> tuple[bytes, bytes]:
        handshakes.append(None)
        return pair

    pair, desk = gateway_pair(), FakeDesk()
    listener = await serve(monkeypatch, node_servicer(desk), mutual=True, certificate=certificate)
    channel: Channel = GatewayChannel(listener.address, AUTHORITY.ca_pem, device_pair())
    handshakes.clear()
    try:
        await channel.connect()
        assert desk.asked == []
        assert (await channel.register(HELLO)).session_epoch == 3
        assert len(handshakes) == 1
    finally:
        await channel.close()
        await listener.stop(0)


@awaiting
async def test_connecting_where_nobody_listens() -> None:
    """The cause is told as by any call."""
    address = LOOPBACK.with_port(free_port())
    channel = GatewayChannel(address, AUTHORITY.ca_pem, device_pair())
    error = await refusal(channel.connect())
    await channel.close()
    assert isinstance(error, GatewayUnreachable) and error.cause == "connection refused"


@awaiting
async def test_a_silent_gateway_costs_little_where_there_is_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The connection has a limit of its own, which a gateway that answers does not meet, nor one
    that refuses."""
    listener = await serve(monkeypatch, node_servicer(FakeDesk()), mutual=True)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        away = LOOPBACK.with_port(free_port())
        for address, limit_s, cause in (
            (HostPort("127.0.0.1", port), 0.1, Unreached.NO_ANSWER),
            (away, 15.0, Unreached.REFUSED),
            (listener.address, 15.0, None),
        ):
            channel = GatewayChannel(address, AUTHORITY.ca_pem, device_pair(), None, limit_s)
            if cause is None:
                assert (await channel.register(HELLO)).session_epoch == 3
            else:
                error = await refusal(channel.register(HELLO))
                assert isinstance(error, GatewayUnreachable) and error.cause == cause
            await channel.close()
    await listener.stop(0)


@awaiting
async def test_connecting_to_a_silent_gateway() -> None:
    """It waits, and can be called off."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = HostPort("127.0.0.1", silent.getsockname()[1])
        channel = GatewayChannel(address, AUTHORITY.ca_pem, device_pair())
        connected = channel.connect()
        connected.cancel()
        assert isinstance(await refusal(connected), CancelledError)
        await channel.close()


@awaiting
async def test_a_bundle_of_roots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any root of it may have signed the gateway's certificate."""
    listener = await serve(monkeypatch, node_servicer(FakeDesk()), mutual=True)
    bundle = STRANGER.ca_pem + AUTHORITY.ca_pem
    channel = GatewayChannel(listener.address, bundle, device_pair())
    alone = GatewayChannel(listener.address, STRANGER.ca_pem, device_pair())
    try:
        assert (await channel.register(HELLO)).session_epoch == 3
        error = await refusal(alone.register(HELLO))
        assert isinstance(error, GatewayUnreachable)
        assert not is_cut(error)
    finally:
        await channel.close()
        await alone.close()
        await listener.stop(0)


@awaiting
async def test_a_certificate_that_the_handshake_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that ran out, and one of another CA: a node takes either for what it may be, whether it
    connects first or not, and however long it would wait for that."""
    listener = await serve(monkeypatch, node_servicer(FakeDesk()), mutual=True)
    foreign = STRANGER.issue_device(KEY.public_key(), DEVICE, wall_ms()).pem
    expired = device_pair(now_ms=wall_ms() - 3 * DAY_MS)
    try:
        for identity in (expired, (KEY_PEM, foreign)):
            asks = (GatewayChannel.connect, lambda channel: channel.register(HELLO))
            for ask, limit_s in itertools.product(asks, (None, 15.0)):
                channel = GatewayChannel(
                    listener.address, AUTHORITY.ca_pem, identity, connect_s=limit_s
                )
                error = await refusal(ask(channel))
                await channel.close()
                assert isinstance(error, GatewayUnreachable)
                assert is_cut(error), error.cause
    finally:
        await listener.stop(0)


@pytest.mark.parametrize("days", [40, -40], ids=["not yet", "ended"])
@awaiting
async def test_a_gateway_whose_dates_tls_refuses(
    monkeypatch: pytest.MonkeyPatch, days: int
) -> None:
    """The cause is the date, so that a person looks at the clocks and not at the CA."""
    when_ms = wall_ms() + days * DAY_MS
    root = Authority.create(
        trust_domain="palyra.test", now_ms=wall_ms() - 400 * DAY_MS, entropy=os.urandom
    )
    leaf = root.issue_gateway(KEY.public_key(), "g1", [], when_ms)
    pair = (KEY_PEM, leaf.pem + root.ca_pem)
    servicer = node_servicer(FakeDesk())
    listener = await serve(monkeypatch, servicer, mutual=True, certificate=lambda: pair)
    channel = GatewayChannel(listener.address, root.ca_pem, device_pair())
    try:
        error = await refusal(channel.register(HELLO))
        assert isinstance(error, GatewayUnreachable) and error.cause == OUT_OF_DATE
    finally:
        await channel.close()
        await listener.stop(0)
