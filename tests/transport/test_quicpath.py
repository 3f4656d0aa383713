"""Tests of :mod:`palyra.transport.quicpath`, on a network of memory."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from palyra.config.addresses import HostPort
from palyra.core.frames import HEARTBEAT, GatewayFrame, NodeEvent
from palyra.errors import GatewayUnreachable, PalyraError, PinMismatch, Unreached
from palyra.node.routes import is_unreached
from palyra.pki.authority import DAY_MS, Authority
from palyra.transport import quicpath
from palyra.transport.chain import TLS_NAME
from palyra.transport.quictrust import NO_GATEWAY
from palyra.transport.statuses import OUT_OF_DATE, STRANGE, is_cut
from tests.adversarial.forging import Signer, pem_of
from tests.gateway.enrolling import wall_ms
from tests.transport.quicpeer import GATEWAY, PORT, listen
from tests.transport.quicworld import (
    ADDRESS,
    HELLO,
    STRANGER,
    Over,
    World,
    large,
    unreachable,
)
from tests.transport.serving import AUTHORITY, DEVICE, KEY, KEY_PEM, device_pair, gateway_pair


@pytest.fixture
def world() -> Any:
    made = World()
    yield made
    made.end()


def pin_of(pem: bytes) -> bytes:
    """SHA-256 of the DER of the first certificate."""
    first = x509.load_pem_x509_certificates(pem)[0]
    return hashlib.sha256(first.public_bytes(Encoding.DER)).digest()


# -- the gateway's certificate ----------------------------------------------------------------


def served(authority: Authority, when_ms: int | None = None) -> Callable[[], tuple[bytes, bytes]]:
    """What a gateway shows that this authority has certified."""
    leaf = authority.issue_gateway(KEY.public_key(), "g1", [], when_ms or wall_ms())
    return lambda: (KEY_PEM, leaf.pem + authority.ca_pem)


def refusal(certificate: Callable[[], tuple[bytes, bytes]], **changes: Any) -> PalyraError:
    """How a device refuses to talk to a gateway that shows that; it said nothing to it."""
    world = World(certificate=certificate)
    error = world.ask(world.channel(**changes).register(HELLO))
    assert isinstance(error, PalyraError) and not is_cut(error) and not is_unreached(error)
    world.network.run(2.0)
    assert world.desk.asked == []
    assert not world.listener._shaking, "the alert told it"
    assert world.network.clock.seconds() < wall_ms() / 1000 + 5
    world.end()
    return error


def refused(certificate: Callable[[], tuple[bytes, bytes]], **changes: Any) -> str:
    """The cause of that."""
    return unreachable(refusal(certificate, **changes))


def test_a_gateway_of_another_ca() -> None:
    """It is not believed, also where its CA is in the chain that it shows."""
    assert refused(served(STRANGER)) == STRANGE


def test_a_bundle_of_roots(world: World) -> None:
    """Any root of it may have signed the gateway's certificate."""
    channel = world.channel(ca_pem=STRANGER.ca_pem + AUTHORITY.ca_pem)
    assert world.ask(channel.register(HELLO)).session_epoch == 3


@pytest.mark.parametrize("days", [40, -40], ids=["not yet", "ended"])
def test_a_gateway_whose_dates_do_not_hold(days: int) -> None:
    """The cause is the date, so that a person looks at the clocks and not at the CA."""
    root = Authority.create(
        trust_domain="palyra.test", now_ms=wall_ms() - 400 * DAY_MS, entropy=os.urandom
    )
    certificate = served(root, wall_ms() + days * DAY_MS)
    assert refused(certificate, ca_pem=root.ca_pem) == OUT_OF_DATE


def test_a_device_is_no_gateway() -> None:
    """A certificate of the same CA does not make a gateway: its name is another one's."""
    assert refused(lambda: device_pair()) == NO_GATEWAY


def test_a_device_with_the_name_of_a_gateway() -> None:
    """Its CA and its name are right, and it is no gateway all the same."""
    signer = Signer(AUTHORITY.ca_certificate, AUTHORITY.ca_key)
    leaf = signer.issue(KEY.public_key(), "device", DEVICE, dns=(TLS_NAME,))
    assert refused(lambda: (KEY_PEM, pem_of(leaf))) == NO_GATEWAY


def test_the_pin(world: World) -> None:
    """The gateway's own certificate, or the CA that signed it; nothing else will do."""
    pair = gateway_pair()
    pins = [pin_of(pair[1]), pin_of(AUTHORITY.ca_pem)]
    bundle = STRANGER.ca_pem + AUTHORITY.ca_pem
    world.end()
    for pin in pins:
        pinned = World(certificate=lambda: pair)
        assert pinned.ask(pinned.channel(ca_pem=bundle, pin=pin).health()).ok
        pinned.end()
    for pin in (pin_of(STRANGER.ca_pem), b"\0" * 32):
        error = refusal(lambda: pair, ca_pem=bundle, pin=pin)
        assert isinstance(error, PinMismatch)
        assert error.sentence.startswith(f"The gateway at quic {ADDRESS} shows another certificate")
        assert "server_pin" in error.sentence and "server_pin" in error.hint


# -- reaching it ------------------------------------------------------------------------------


def test_nobody_listens(world: World) -> None:
    """The system says so at once."""
    began_s = world.network.clock.seconds()
    error = world.ask(world.channel(address=ADDRESS.with_port(9)).register(HELLO))
    assert isinstance(error, GatewayUnreachable) and error.cause == Unreached.REFUSED
    assert error.sentence == f"Cannot reach quic {GATEWAY}:9: connection refused."
    assert error.hint == "let 9/udp through to it, or take --transport auto or grpc"
    assert world.network.clock.seconds() - began_s < 0.1


def test_a_gateway_that_swallows_everything(world: World) -> None:
    """The handshake may take as long as was said; every call that waits is told."""
    world.network.silent.add(GATEWAY)
    channel = world.channel(handshake_timeout_s=2.0)
    began_s = world.network.clock.seconds()
    calls = [Over(channel.health()), Over(channel.register(HELLO))]  # type: ignore[arg-type]
    world.network.run(2.1)
    assert [unreachable(call.error) for call in calls] == [Unreached.NO_ANSWER] * 2
    assert unreachable(world.ask(channel.health())) == "no answer"
    assert world.network.clock.seconds() - began_s < 2.2


def test_the_address_that_answers_wins(world: World) -> None:
    """A name with an IPv6 address that leads nowhere costs a quarter of a second."""
    world.network.names["gw"] = ["2001:db8::1", GATEWAY]
    world.network.silent.add("2001:db8::1")
    world.device.move("10.0.0.2", "2001:db8::2")
    began_s = world.network.clock.seconds()
    assert world.ask(world.channel(address=HostPort("gw", PORT)).health()).ok
    assert world.network.clock.seconds() - began_s < 0.35
    assert len(world.device.ports) == 1


def test_no_such_name(world: World) -> None:
    """It is told as such."""
    error = world.ask(world.channel(address=HostPort("nobody", PORT)).health())
    assert unreachable(error) == "the name is not known"


def test_no_network(world: World) -> None:
    """Where there is no way at all, nothing is waited for."""
    error = world.ask(world.channel(address=HostPort("2001:db8::1", PORT)).health())
    assert unreachable(error) == "network is unreachable"


def test_a_full_gateway() -> None:
    """It refuses with the first packet: another route may be tried."""
    world = World(max_connections=1)
    assert world.ask(world.channel().health()).ok
    assert unreachable(world.ask(world.channel().health())) == "connection refused"
    world.end()


def test_closed_while_it_is_being_made(world: World) -> None:
    """What waits is told; nothing is left."""
    world.network.silent.add(GATEWAY)
    channel = world.channel()
    call = Over(channel.register(HELLO))  # type: ignore[arg-type]
    world.network.run(0.5)
    world.ask(channel.close())
    assert unreachable(call.error) == "the connection was closed"
    assert world.device.ports == []
    assert unreachable(world.ask(channel.health())) == "the connection was closed"


def test_a_channel_that_was_never_used(world: World) -> None:
    """There is nothing to close, however often."""
    channel = world.channel()
    assert world.ask(channel.close()) is None
    assert world.ask(channel.close()) is None


def test_another_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    """A QUIC server under our certificate that does not speak ours is told so, and nothing else."""
    monkeypatch.setattr(quicpath, "ALPN", "palyra-quic-v2")
    assert refused(gateway_pair) == quicpath.NO_PALYRA


# -- its life ---------------------------------------------------------------------------------


def test_an_idle_session_lives(world: World) -> None:
    """A sign of life every five seconds keeps it, and costs little."""
    _, over = world.carry(world.channel())
    before = world.network.carried
    world.network.run(300.0)
    assert not over.called
    assert world.network.carried - before <= 4 * 60 + 10


def test_a_gateway_that_falls_silent(world: World) -> None:
    """After thirty seconds the session is over."""
    _, over = world.carry(world.channel())
    world.network.silent.add(GATEWAY)
    world.network.run(25.0)
    assert not over.called
    world.network.run(11.0)
    assert unreachable(over.error) == "no answer"


def test_a_gateway_that_was_killed(world: World) -> None:
    """The system says that nobody listens any more: nobody waits for thirty seconds."""
    session, over = world.carry(world.channel())
    world.network.run(3.0)
    world.listener._port.stopListening()
    session.say(NodeEvent(HEARTBEAT, 3))
    world.network.run(1.5)
    assert unreachable(over.error) == "connection refused"


def test_a_word_of_nobody_is_not_believed(world: World) -> None:
    """Where the gateway goes on to answer, it is there, whatever somebody says."""
    _, over = world.carry(world.channel())
    for _ in range(3):
        world.device.ports[0].unreachable((GATEWAY, PORT))
        world.network.run(3.0)
    assert not over.called


def test_a_gateway_that_was_started_anew() -> None:
    """The new one says that it knows nothing of the session."""
    world = World(reset_key=b"k" * 32)
    session, over = world.carry(world.channel())
    world.network.run(1.0)
    world.listener._port.stopListening()
    world.network.run(0.1)
    world.listener = listen(world.network, world.desk, reset_key=b"k" * 32)
    session.say(NodeEvent(HEARTBEAT, 3))
    world.network.run(1.0)
    assert unreachable(over.error) == "the connection was closed"
    world.end()


def test_a_gateway_that_stops(world: World) -> None:
    """Its sessions end normally."""
    channel = world.channel()
    _, over = world.carry(channel)
    stopping = world.listener.stop(0.5)
    world.network.run(3.0)
    assert over.error is None
    world.ask(stopping)


# -- another network --------------------------------------------------------------------------


def test_the_network_changes(world: World) -> None:
    """The session goes on from another address, at once; the desk never heard of it."""
    session, over = world.carry(world.channel())
    served = world.served
    world.network.run(3.0)
    (before,) = world.device.ports
    world.device.move("172.16.0.9")
    session.say(NodeEvent(HEARTBEAT, 3))
    world.network.run(2.0)
    assert len(served.received_events) == 1
    served.say(GatewayFrame(acknowledged=["A"]))
    world.network.run(2.0)
    assert len(session.frames) == 1
    (after,) = world.device.ports
    assert after is not before and after.address[0] == "172.16.0.9"
    assert not over.called and served.reasons == []


def test_the_network_changes_under_load(world: World) -> None:
    """What was on its way is sent again over the other socket, and soon."""
    session, over = world.carry(world.channel())
    served = world.served
    session.say(*(large(number) for number in range(20)))
    world.network.run(5.0, lambda: len(served.received_events) >= 5)
    world.device.move("172.16.0.9")
    began_s = world.network.clock.seconds()
    world.network.run(20.0, lambda: len(served.received_events) == 20)
    assert len(served.received_events) == 20
    assert world.network.clock.seconds() - began_s < 3.0
    assert not over.called


def test_a_way_that_went_silent(world: World) -> None:
    """After ten seconds without an answer another socket is tried, and the session goes on."""
    _, over = world.carry(world.channel())
    world.network.run(1.0)
    (dead,) = world.device.ports
    gone = dead.address
    world.network.fate = lambda data, source, target: [] if gone in (source, target) else [0.001]
    world.network.run(17.0)
    assert world.device.ports[0] is not dead
    world.network.run(60.0)
    assert not over.called


def test_no_network_for_a_while(world: World) -> None:
    """Other sockets are tried every five seconds, not more often, until there is a way."""
    _, over = world.carry(world.channel())
    world.network.run(1.0)
    tried: list[float] = []
    listen_udp = world.device.listenUDP

    def listening(*arguments: Any, **named: Any) -> Any:
        tried.append(world.network.clock.seconds())
        return listen_udp(*arguments, **named)

    world.device.listenUDP = listening  # type: ignore[method-assign]
    world.device.move()
    world.network.run(21.0)
    assert 2 <= len(tried) <= 5
    assert all(later - sooner >= 4.99 for sooner, later in itertools.pairwise(tried))
    world.device.move("10.0.0.2")
    world.network.run(6.0)
    assert not over.called
    world.network.run(30.0)
    assert not over.called
