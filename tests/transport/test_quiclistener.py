"""Tests of :mod:`palyra.transport.quiclistener`: strangers, limits, and other lives."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest
from aioquic.buffer import Buffer
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import QuicFrameType, QuicPacketType, pull_quic_header
from aioquic.quic.packet_builder import QuicPacketBuilder
from twisted.internet.error import CannotListenError
from twisted.logger import capturedLogs

from palyra.config.addresses import HostPort
from palyra.errors import CannotBind, PortTaken
from palyra.transport import quicframes as frames
from palyra.transport import quiclistener, quicselfcheck
from palyra.transport.quicconnection import HANDSHAKE_S
from palyra.transport.quiclistener import (
    MAX_OF_DEVICE,
    MAX_OPEN_HANDSHAKES,
    RETRY_FROM,
    RETRY_TOKEN_S,
)
from tests.transport.desks import FakeDesk
from tests.transport.quicpeer import GATEWAY, PORT, QuicPeer, door, listen
from tests.transport.serving import device_pair, gateway_pair
from tests.transport.udp import Network


@pytest.fixture
def network() -> Network:
    return Network(now_s=1_000.0)


@pytest.fixture
def desk() -> FakeDesk:
    return FakeDesk()


def ulid(number: int) -> str:
    return f"01M80NKQCNX4K7QM2ZT9B{number:05d}"


def retries(network: Network) -> list[bytes]:
    """Every Retry that the gateway sends from now on."""
    seen: list[bytes] = []

    def fate(datagram: bytes, source: Any, target: Any) -> list[float]:
        header = pull_quic_header(Buffer(data=datagram), host_cid_length=8)
        if source[0] == GATEWAY and header.packet_type is QuicPacketType.RETRY:
            seen.append(datagram)
        return [network.delay_s]

    network.fate = fate
    return seen


class Mute(QuicPeer):
    """Sends its first packet, and says nothing more."""

    def took(self, datagram: bytes, addr: tuple[str, int]) -> None:
        pass


class Half(QuicPeer):
    """Proves its address when it is asked to, and then never ends its handshake."""

    def took(self, datagram: bytes, addr: tuple[str, int]) -> None:
        answer = Buffer(data=datagram)
        header = pull_quic_header(answer, host_cid_length=8)
        if header.packet_type is QuicPacketType.RETRY or len(datagram) < 100:
            super().took(datagram, addr)


# -- binding --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cause", "refused"),
    [
        (OSError(errno.EADDRINUSE, "Address already in use"), PortTaken),
        (OSError(errno.EACCES, "Permission denied"), CannotBind),
    ],
)
def test_an_address_that_cannot_be_had(
    network: Network,
    desk: FakeDesk,
    monkeypatch: pytest.MonkeyPatch,
    cause: OSError,
    refused: type[Exception],
) -> None:
    """The listener's name and the cause are in the sentence."""

    def listen_udp(self: Any, port: int, *_: Any) -> None:
        raise CannotListenError(GATEWAY, port, cause)

    monkeypatch.setattr("tests.transport.udp.Host.listenUDP", listen_udp)
    with pytest.raises(refused) as told:
        listen(network, desk)
    assert "7444" in str(told.value)


def test_a_name_that_nobody_has(network: Network, desk: FakeDesk) -> None:
    """Cannot be listened on."""
    with pytest.raises(CannotBind, match=r"no-such-host\.invalid"):
        listen(network, desk, address=HostPort("no-such-host.invalid", PORT))


def test_an_aioquic_that_asks_nobody(
    network: Network, desk: FakeDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Is found before the listener opens: it would let everybody's handshake succeed."""
    from aioquic.quic.connection import QuicConnection

    monkeypatch.setattr(quicselfcheck.Engine, "_initialize", QuicConnection._initialize)
    with pytest.raises(CannotBind, match="does not show client certificates"):
        listen(network, desk)


# -- strangers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 20, 1_199, 1_200, 1_500])
def test_noise(network: Network, desk: FakeDesk, size: int) -> None:
    """Is dropped; nothing is kept of it, and the next peer is served."""
    listener = listen(network, desk)
    port = door(network, "10.0.0.9")
    for seed in range(64):
        port.write(bytes([seed * 4 % 256]) + os.urandom(size), (GATEWAY, PORT))
    network.run(1)
    assert len(listener._routes) == 0
    assert QuicPeer(network).run().connected


def test_a_handshake_full_of_holes(network: Network, desk: FakeDesk) -> None:
    """Is closed before anybody has to walk over them; aioquic looks at each for each frame."""
    listener = listen(network, desk)
    cid, crypto = os.urandom(8), CryptoPair()
    crypto.setup_initial(cid=cid, is_client=True, version=1)
    builder = QuicPacketBuilder(
        host_cid=b"", peer_cid=cid, is_client=True, version=1, max_datagram_size=1_200
    )
    builder.start_packet(QuicPacketType.INITIAL, crypto)
    for number in range(100):
        frame = builder.start_frame(QuicFrameType.CRYPTO, capacity=8)
        frame.push_uint_var(1_000 + 2 * number)
        frame.push_uint_var(1)
        frame.push_bytes(b"x")
    (datagram,), _ = builder.flush()
    listener.datagramReceived(datagram.ljust(1_200, b"\0"), ("10.0.0.9", 5_555))
    assert len(listener._shaking) == 0
    network.run(60)
    assert listener._routes == {}


def test_another_version(network: Network, desk: FakeDesk) -> None:
    """Is answered with those that we speak."""
    listen(network, desk)
    peer = QuicPeer(network, supported_versions=[0xABCD, 1], original_version=0xABCD).run()
    assert peer.connected


def test_a_handshake_has_ten_seconds(network: Network, desk: FakeDesk) -> None:
    """Then its place is free again."""
    listener = listen(network, desk)
    Mute(network)
    network.run(HANDSHAKE_S - 1)
    assert len(listener._shaking) == 1
    network.run(2)
    assert len(listener._shaking) == 0
    assert listener.refused["handshake_timeout"] == 1
    network.run(60)
    assert listener._routes == {}
    assert network.clock.getDelayedCalls() == []


def test_under_load_an_address_must_be_proven(network: Network, desk: FakeDesk) -> None:
    """By a Retry, which costs no memory; an honest peer comes in all the same."""
    listener = listen(network, desk)
    for number in range(RETRY_FROM):
        Mute(network, f"10.1.0.{number}")
    seen = retries(network)
    for number in range(30):
        Mute(network, f"10.2.0.{number}")
    network.run(0.5)
    assert len(seen) >= 30
    assert len(listener._shaking) == RETRY_FROM
    before = len(seen)
    assert QuicPeer(network).run().connected
    assert len(seen) > before


def test_a_token_is_for_its_address(network: Network, desk: FakeDesk) -> None:
    """And lives ten seconds: another's, or an old one, is INVALID_TOKEN."""
    listen(network, desk)
    for number in range(RETRY_FROM):
        Mute(network, f"10.1.0.{number}")
    tokens: list[bytes] = []

    def fate(datagram: bytes, source: Any, target: Any) -> list[float]:
        header = pull_quic_header(Buffer(data=datagram), host_cid_length=8)
        if header.packet_type is QuicPacketType.INITIAL and header.token:
            tokens.append(datagram)
            return []
        return [network.delay_s]

    network.fate = fate
    first = QuicPeer(network)
    network.run(0.2)
    assert tokens
    network.fate = lambda *_: [network.delay_s]
    thief = door(network, "10.3.0.1", first.took)
    thief.write(tokens[0], (GATEWAY, PORT))
    network.run(0.2)
    assert first.over == (0xB, "")
    network.fate = fate
    second = QuicPeer(network, "10.0.0.3")
    tokens.clear()
    network.run(RETRY_TOKEN_S + 0.5)
    assert second.over is None
    network.fate = lambda *_: [network.delay_s]
    second.port.write(tokens[0], (GATEWAY, PORT))
    network.run(0.2)
    assert second.over == (0xB, "")


def test_open_handshakes_are_bounded(network: Network, desk: FakeDesk) -> None:
    """Also those that proved their addresses: the oldest of the heaviest source makes room, and an
    honest peer comes in though the crowd comes again and again."""
    listener = listen(network, desk)
    for n in range(MAX_OPEN_HANDSHAKES + 10):
        Half(network, f"10.5.{n // 8}.{n % 8}")
    network.run(1)
    assert len(listener._shaking) == MAX_OPEN_HANDSHAKES
    assert listener.refused["handshakes"] >= 10
    assert QuicPeer(network).run().connected


def test_a_handshake_that_is_under_way_is_not_pushed_out(network: Network, desk: FakeDesk) -> None:
    """A fleet behind one address comes back at once, on a slow network: who is in stays in, and the
    others come a moment later."""
    network.delay_s = 0.05
    listener = listen(network, desk, max_connections=200)
    fleet = [QuicPeer(network, "10.0.0.77", device_pair(ulid(n))) for n in range(100)]
    network.run(0.45)
    assert sum(peer.connected for peer in fleet) >= 32
    network.run(9)
    assert sum(peer.connected for peer in fleet) == 100
    assert listener.count() == 100


def test_a_source_that_only_begins_costs_little(network: Network, desk: FakeDesk) -> None:
    """So many a second are begun, and what had to make room is forgotten at once."""
    listener = listen(network, desk)
    engines: list[int] = []
    for _ in range(5):
        for _ in range(100):
            Half(network, "10.0.0.66")
        network.run(1)
        engines.append(len(set(listener._routes.values())))
    assert max(engines) <= quiclistener.MAX_HANDSHAKES_OF_SOURCE
    assert QuicPeer(network, "10.0.0.67").run().connected


def test_forged_packets_keep_nobody_out(network: Network, desk: FakeDesk) -> None:
    """Whatever comes from an address that has proven nothing costs it a Retry, not its place."""
    listen(network, desk)
    forger = door(network, "10.0.0.78")
    for _ in range(200):
        forger.write(b"\xc0\x00\x00\x00\x01\x08" + os.urandom(1_300), (GATEWAY, PORT))
        network.run(0.005)
    assert QuicPeer(network, "10.0.0.78").run(0.2).connected


def test_a_crowd_that_goes_on_keeps_nobody_out(network: Network, desk: FakeDesk) -> None:
    """Several sources that stall as fast as they may: another one finds a place at once."""
    listener = listen(network, desk)
    honest: list[QuicPeer] = []
    for step in range(40):
        for source in range(4):
            for _ in range(5):
                Half(network, f"10.0.6.{source}")
        if step % 4 == 3:
            honest.append(QuicPeer(network, f"10.0.7.{step}", device_pair(ulid(step))))
        network.run(0.05)
    network.run(1)
    assert len(listener._shaking) <= MAX_OPEN_HANDSHAKES
    assert [peer.connected for peer in honest] == [True] * 10


def test_the_log_tells_who_is_turned_away(network: Network, desk: FakeDesk) -> None:
    """Once a minute for each reason."""
    with capturedLogs() as logs:
        listen(network, desk)
        for number in range(5):
            QuicPeer(network, f"10.0.3.{number}", identity=(b"", b"")).run()
    lines = [each["log_format"].format(**each) for each in logs if "reason" in each]
    assert lines == ["quic: 10.0.3.0 is not let in: no_certificate (1 so far)"]


def test_one_source_has_its_share(network: Network, desk: FakeDesk) -> None:
    """One machine alone cannot keep the others out."""
    listener = listen(network, desk)
    for _ in range(40):
        Half(network, "10.0.0.66")
    network.run(1)
    assert len(listener._shaking) == quiclistener.MAX_HANDSHAKES_OF_SOURCE
    assert QuicPeer(network, "10.0.0.67").run().connected


def test_no_more_connections_than_configured(network: Network, desk: FakeDesk) -> None:
    """What is beyond is refused at its first packet; a place that gets free is given again."""
    listener = listen(network, desk, max_connections=2)
    inside = [QuicPeer(network, f"10.0.1.{n}", device_pair(ulid(n))).run() for n in range(2)]
    outside = QuicPeer(network, "10.0.1.9").run()
    assert outside.over == (0x2, "")
    assert listener.refused == {"full": 1}
    inside[0].link.close(0)
    network.run(1)
    assert QuicPeer(network, "10.0.1.10").run().connected
    assert listener.count() == 2


def test_one_device_has_its_share(network: Network, desk: FakeDesk) -> None:
    """Its oldest connection ends when it opens too many."""
    listener = listen(network, desk)
    peers = [QuicPeer(network, f"10.0.1.{n}").run() for n in range(MAX_OF_DEVICE + 1)]
    assert peers[0].over is not None
    assert [peer.over for peer in peers[1:]] == [None] * MAX_OF_DEVICE
    assert listener.count() == MAX_OF_DEVICE


def test_answers_to_strangers_are_bounded(network: Network, desk: FakeDesk) -> None:
    """Their addresses may be forged: in a second so many are answered, and no more."""
    listen(network, desk)
    port = door(network, "10.0.0.9")
    before = network.carried
    for _ in range(1_000):
        port.write(b"\x40" + os.urandom(60), (GATEWAY, PORT))
    network.run(0.5)
    assert network.carried - before == 1_000 + quiclistener.MAX_ANSWERS


# -- while it lives, and after it -------------------------------------------------------------


def test_certificates_are_renewed_while_it_runs(network: Network, desk: FakeDesk) -> None:
    """The next handshake gets the next one; what is open stays."""
    served = [gateway_pair("g1")]
    listen(network, desk, certificate=lambda: served[-1])
    first = QuicPeer(network).run()
    served.append(gateway_pair("g2"))
    second = QuicPeer(network).run()
    names = [str(peer.engine.peer_certificate.subject) for peer in (first, second)]  # type: ignore[union-attr]
    assert names[0] != names[1]
    assert first.over is None


def test_an_address_that_changes_keeps_the_connection(network: Network, desk: FakeDesk) -> None:
    """A NAT forgot its peer: the session goes on from another address, and from none before."""
    listener = listen(network, desk)
    peer = QuicPeer(network).run()
    stream = peer.begin_session()
    peer.rebind("10.9.9.9")
    for _ in range(3):
        peer.heartbeat(stream)
    session = desk.attached.result
    assert len(session.received_events) == 3
    assert peer.over is None
    assert listener.count() == 1
    session.say(_answer())
    network.run(1)
    assert peer.answers[stream]
    assert session.addresses == ["10.9.9.9"]


def test_another_life_of_the_gateway_says_so(network: Network, desk: FakeDesk) -> None:
    """A peer whose connection died with its gateway learns it from its next packet."""
    key = b"k" * 32
    first = listen(network, desk, reset_key=key)
    peer = QuicPeer(network).run()
    first._port.stopListening()
    network.run(0)
    listen(network, FakeDesk(), reset_key=key)
    resets: list[bytes] = []
    peer.port._protocol._took = lambda datagram, addr: resets.append(datagram)
    peer.link.ping()
    network.run(0.1)
    assert resets
    assert all(map(peer.engine.is_reset, resets))
    assert all(len(each) <= 43 for each in resets)


def test_a_reset_of_nobody(network: Network, desk: FakeDesk) -> None:
    """With another key it says nothing to a peer."""
    first = listen(network, desk, reset_key=b"k" * 32)
    peer = QuicPeer(network).run()
    first._port.stopListening()
    network.run(0)
    listen(network, FakeDesk(), reset_key=b"l" * 32)
    seen: list[bytes] = []
    peer.port._protocol._took = lambda datagram, addr: seen.append(datagram)
    peer.link.ping()
    network.run(0.1)
    assert seen
    assert not any(map(peer.engine.is_reset, seen))


def test_the_listener_stops(network: Network, desk: FakeDesk) -> None:
    """Sessions end normally, connections are closed with a word, and no timer is left."""
    listener = listen(network, desk)
    peer = QuicPeer(network).run()
    stream = peer.begin_session()
    stopped = listener.stop(0.2)
    network.run(0.05)
    assert stream in peer.finished
    network.run(1)
    assert stopped.called
    assert peer.over == (0, "")
    assert desk.attached.result.reasons == ["closed by the gateway"]
    network.run(60)
    assert network.clock.getDelayedCalls() == []


def test_a_listener_that_never_opened_stops(network: Network, desk: FakeDesk) -> None:
    """At once."""
    listener = listen(network, desk)
    other = quiclistener.QuicListener(
        name="quic",
        address=listener.address,
        desk=desk,
        certificate=gateway_pair,
        reactor=network.host("10.0.0.7"),
        elapsed_s=network.clock.seconds,
        soon=lambda act: None,
        entropy=os.urandom,
        now_ms=lambda: 0,
    )
    assert other.stop(1).called


def test_who_breaks_the_rules_of_quic_gives_up_its_place(network: Network, desk: FakeDesk) -> None:
    """At once: its session is told, though aioquic still repeats why."""
    listener = listen(network, desk)
    peer = QuicPeer(network).run()
    peer.begin_session()
    peer.engine._remote_max_streams_bidi = 1_000
    peer.link.write(4 * 500, b"x")
    network.run(0.01)
    assert listener.count() == 0
    assert desk.attached.result.reasons == ["connection lost"]
    network.run(0.1)
    assert peer.over is not None
    assert peer.over[0] == 0x4


def test_a_fault_ends_one_connection(
    network: Network, desk: FakeDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever breaks, the peer is told, and the next one is served."""
    listen(network, desk)
    peer = QuicPeer(network).run()
    stream = peer.link.open_stream()

    def broken(*_: Any) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr("palyra.transport.quicserver.ServedConnection.received", broken)
    peer.link.write(stream, frames.write_request(frames.HEALTH))
    network.run(1)
    assert peer.over is not None
    assert peer.over[0] == 0x1
    monkeypatch.undo()
    assert QuicPeer(network).run().ask(frames.HEALTH) == 0


def _answer() -> Any:
    from palyra.core.frames import GatewayFrame

    return GatewayFrame(acknowledged=["01A"])
