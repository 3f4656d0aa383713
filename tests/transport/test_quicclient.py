"""Tests of :mod:`palyra.transport.quicclient` against our listener."""

from __future__ import annotations

import os
import socket
import time
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

from palyra._reactor import TimeOfDay
from palyra.config.addresses import HostPort
from palyra.core.frames import HEARTBEAT, STARTED, NodeEvent
from palyra.errors import (
    CertificateRefused,
    CertificateSuperseded,
    CertificateUnknown,
    DeviceRevoked,
    GatewayUnreachable,
    LimitReached,
    PinMismatch,
    RemoteRefusal,
)
from palyra.node.link import Channel
from palyra.node.routes import is_unreached
from palyra.transport.asyncbridge import call_soon
from palyra.transport.quicclient import QuicChannel
from palyra.transport.quicconnection import HANDSHAKE_S
from palyra.transport.quicframes import Health
from palyra.transport.quiclistener import QuicListener
from palyra.wire.pairing import RenewalAsked, Renewed
from tests.gateway.enrolling import wall_ms
from tests.node.awaiting import awaiting
from tests.transport.quicpeer import GATEWAY, PORT
from tests.transport.quicworld import (
    HELLO,
    Over,
    Session,
    World,
    unreachable,
)
from tests.transport.serving import AUTHORITY, DEVICE, device_pair, gateway_pair
from tests.transport.test_quicserver import Desk


@pytest.fixture
def world() -> Any:
    made = World()
    yield made
    made.end()


# -- calls ------------------------------------------------------------------------------------


def test_a_registration(world: World) -> None:
    """The same question and the same answer as over gRPC; the desk sees the device."""
    welcome = world.ask(world.channel().register(HELLO))
    assert (welcome.session_epoch, welcome.granted) == (3, ("echo",))
    ((peer, hello),) = world.desk.asked
    assert hello == HELLO
    assert (peer.device_id, peer.transport, peer.address) == (DEVICE, "quic", "10.0.0.2")


def test_a_renewal(world: World) -> None:
    """What is asked and what is answered arrive as they are; a refusal as its own error."""
    channel = world.channel()
    asked = RenewalAsked(DEVICE, b"csr", b"s" * 64)
    world.desk.answer = renewed = Renewed("CERT", "CA", 9_000, 57_600)
    assert world.ask(channel.renew(asked)) == renewed
    assert world.desk.asked[0][1] == asked
    world.desk.answer = CertificateUnknown()
    assert isinstance(world.ask(channel.renew(asked)), CertificateUnknown)


def test_leaving(world: World) -> None:
    """The gateway hears who leaves and why; a refusal is its own error."""
    assert world.ask(world.channel().revoke(DEVICE, "sold")) is None
    assert world.desk.asked == [(DEVICE, "sold")]
    world.desk.kept_out = DeviceRevoked(DEVICE)
    error = world.ask(world.channel().revoke(DEVICE, "sold"))
    assert isinstance(error, RemoteRefusal) and error.final


def test_health(world: World) -> None:
    """The question that shows whether QUIC works at all."""
    channel = world.channel()
    assert world.ask(channel.health()) == Health(node_rpc_mtls_required=True)


def test_connecting_first(world: World) -> None:
    """The gateway has let the device in by then, and has heard nothing; what is asked next goes
    over the same connection."""
    channel: Channel = world.channel()
    assert world.ask(channel.connect()) is None
    assert world.desk.asked == []
    assert world.ask(channel.register(HELLO)).session_epoch == 3
    assert world.listener.count() == 1


def test_connecting_with_a_certificate_that_is_refused(world: World) -> None:
    """The refusal is known before anything is asked."""
    world.desk.kept_out = CertificateSuperseded()
    assert isinstance(world.ask(world.channel().connect()), CertificateSuperseded)


def test_connecting_to_nobody(world: World) -> None:
    """Is over with the patience of the handshake, and earlier where it is called off."""
    world.network.silent.add(GATEWAY)
    channel = world.channel(handshake_timeout_s=3.0)
    calls = [Over(channel.connect()) for _ in range(2)]
    calls[0].stream.cancel()
    assert isinstance(calls[0].error, CancelledError)
    world.network.run(4.0)
    assert unreachable(calls[1].error) == "no answer"


def test_one_connection_for_several_calls(world: World) -> None:
    """Those that come while it is being made wait for it; one of them may be called off."""
    channel = world.channel()
    calls = [Over(channel.health()) for _ in range(3)]  # type: ignore[arg-type]
    calls[1].stream.cancel()
    world.network.run(1.0)
    assert isinstance(calls[1].error, CancelledError)
    assert calls[0].error is None and calls[2].error is None
    assert world.listener.count() == 1


@pytest.mark.parametrize(
    "refusal",
    [CertificateUnknown(), CertificateSuperseded(), CertificateRefused("expired")],
    ids=lambda error: error.code,
)
def test_a_certificate_that_the_gateway_refuses(world: World, refusal: CertificateRefused) -> None:
    """Said where the connection is closed, and the same error as over gRPC: the node acts on it."""
    world.desk.kept_out = refusal
    error = world.ask(world.channel().register(HELLO))
    assert type(error) is type(refusal)
    assert error.reason == refusal.reason


def test_a_revoked_device(world: World) -> None:
    """Trying again is of no use until a person acts."""
    world.desk.kept_out = DeviceRevoked(DEVICE)
    error = world.ask(world.channel().register(HELLO))
    assert isinstance(error, RemoteRefusal)
    assert error.final and error.remote_code == "device_revoked"


def test_a_registration_that_is_refused(world: World) -> None:
    """The gateway's words, and when to come back."""
    channel = world.channel()
    assert world.ask(channel.health()).ok
    world.desk.refusal = LimitReached("sessions", 3)
    error = world.ask(channel.register(HELLO))
    assert isinstance(error, RemoteRefusal) and error.remote_code == LimitReached.code
    assert error.transient and "sessions" in error.sentence


def test_a_call_that_nobody_answers(world: World) -> None:
    """It ends after fifteen seconds; the connection goes on."""
    channel = world.channel()
    world.desk.registering = Deferred()
    began_s = world.network.clock.seconds()
    assert unreachable(world.ask(channel.register(HELLO))) == "no answer"
    assert 15.0 <= world.network.clock.seconds() - began_s < 15.5
    assert world.ask(channel.health()).ok


def test_another_registration(world: World) -> None:
    """The one before it is given up; the session is the last one's."""
    channel = world.channel()
    assert world.ask(channel.register(HELLO)).session_epoch == 3
    session, over = world.carry(channel)
    assert world.desk.attached.called and not over.called
    session.carrier.close(None)


# -- real sockets ---------------------------------------------------------------------------------


@awaiting
async def test_over_real_sockets() -> None:
    """A name, a UDP socket, a registration, a session and its end."""
    from twisted.internet import reactor

    desk = Desk()
    listener = QuicListener(
        name="quic",
        address=HostPort("127.0.0.1", 0),
        desk=desk,
        certificate=gateway_pair,
        reactor=reactor,
        elapsed_s=time.monotonic,
        soon=call_soon,
        entropy=os.urandom,
        now_ms=wall_ms,
    )
    listener.bind()
    address = HostPort("localhost", listener.address.port)
    channel = QuicChannel(TimeOfDay(reactor), address, AUTHORITY.ca_pem, device_pair())
    try:
        assert (await channel.register(HELLO)).session_epoch == 3
        events = [NodeEvent(STARTED, 3), NodeEvent(HEARTBEAT, 3)]
        over = channel.stream(lambda carrier: Session(carrier, events), DEVICE)
        served = await desk.attached
        assert (await served.heard).name == HEARTBEAT
        served.carrier.close(None)
        await over
    finally:
        await channel.close()
        await listener.stop(0)


@pytest.mark.parametrize("telling", [True, False])
def test_one_address_is_strange_and_one_is_silent(telling: bool) -> None:
    """What the first one was is told at the end of patience, and it is no reason for another
    transport; where nobody was reached, that is told."""
    world = World()
    world.network.names["gw"] = [GATEWAY, "10.0.0.9"]
    world.network.silent.add("10.0.0.9")
    port = PORT if telling else 9
    channel = world.channel(address=HostPort("gw", port), pin=b"\0" * 32)
    error = world.ask(channel.health())
    assert isinstance(error, PinMismatch if telling else GatewayUnreachable)
    assert is_unreached(error) is not telling
    world.end()


def test_a_name_on_which_the_resolver_hangs() -> None:
    """Costs what a handshake may take, and another way may be tried; or it is called off."""
    world = World()
    world.network.slow["gw"] = []
    for called_off in (False, True):
        channel = world.channel(address=HostPort("gw", PORT))
        if called_off:
            asked = channel.health()
            world.ask(channel.close())
            assert isinstance(world.ask(asked), GatewayUnreachable)
        else:
            began_s = world.network.clock.seconds()
            error = world.ask(channel.health())
            assert is_unreached(error)
            assert world.network.clock.seconds() - began_s == pytest.approx(HANDSHAKE_S)
    world.end()


@awaiting
async def test_a_real_port_where_nobody_listens() -> None:
    """ICMP says so at once."""
    from twisted.internet import reactor

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        address = HostPort("127.0.0.1", taken.getsockname()[1])
    channel = QuicChannel(TimeOfDay(reactor), address, AUTHORITY.ca_pem, device_pair())
    try:
        with pytest.raises(GatewayUnreachable) as caught:
            await channel.health()
    finally:
        await channel.close()
    assert caught.value.cause == "connection refused"
