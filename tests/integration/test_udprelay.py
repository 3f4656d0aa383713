"""The bad network itself, with plain sockets: it does what it was told, the same for each seed."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator

import pytest

from tests.integration.processes import HOST, eventually
from tests.integration.udprelay import CLEAR, DOWN, UP, UdpRelay, Weather

COUNT = 200
LIMIT_S = 10.0


def bound() -> socket.socket:
    """A socket that never waits for ever."""
    wire = socket.socket(type=socket.SOCK_DGRAM)
    wire.settimeout(LIMIT_S)
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    wire.bind((HOST, 0))
    return wire


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """Who is at the other end."""
    with bound() as wire:
        yield wire


@pytest.fixture
def client() -> Iterator[socket.socket]:
    """Who speaks first."""
    with bound() as wire:
        yield wire


@contextlib.contextmanager
def relaying(server: socket.socket, client: socket.socket, seed: int = 7) -> Iterator[UdpRelay]:
    """A relay between the two."""
    with contextlib.closing(UdpRelay(f"{HOST}:{server.getsockname()[1]}", seed)) as relay:
        client.connect((HOST, int(relay.address.rpartition(":")[2])))
        yield relay


def arriving(relay: UdpRelay, server: socket.socket, client: socket.socket) -> list[int]:
    """Send numbered datagrams up; the numbers that arrive, in their order."""
    before = relay.seen(UP)
    for number in range(COUNT):
        client.send(number.to_bytes(2, "big"))
    eventually(lambda: (relay.seen(UP) - before)["all"] == COUNT, "the relay has seen them all")
    seen = relay.seen(UP) - before
    expected = COUNT - seen["lost"] + seen["doubled"]
    return [int.from_bytes(server.recv(64), "big") for _ in range(expected)]


def test_in_clear_weather_everything_passes(server: socket.socket, client: socket.socket) -> None:
    """Both ways, in order, once, to the client that was meant."""
    with relaying(server, client) as relay, bound() as other:
        assert arriving(relay, server, client) == list(range(COUNT))
        other.connect(client.getpeername())
        for wire, said in ((client, b"one"), (other, b"two")):
            wire.send(said)
            data, back = server.recvfrom(64)
            assert data == said
            server.sendto(data.upper(), back)
            assert wire.recv(64) == said.upper()
        assert len(relay.sources) == 2
        assert relay.seen(DOWN) == {"all": 2}


def test_loss_copies_and_delays_are_drawn_from_the_seed(
    server: socket.socket, client: socket.socket
) -> None:
    """The same datagrams suffer the same under the same seed, and others under another one."""
    storm = Weather(loss=0.1, doubled=0.1, late=0.1, late_s=0.3)
    fates = []
    for seed in (7, 7, 8):
        with relaying(server, client, seed) as relay:
            relay.turn(storm)
            arrived = arriving(relay, server, client)
            assert arrived != sorted(arrived), "none was overtaken"
            fates.append((sorted(arrived), relay.seen(UP)))
    assert fates[0] == fates[1] != fates[2]
    for name in ("lost", "doubled", "late"):
        assert 5 <= fates[0][1][name] <= 40, (name, fates[0][1])


def test_a_delay_is_of_one_direction(server: socket.socket, client: socket.socket) -> None:
    """What is delayed arrives after the delay, and the other way nothing is."""
    with relaying(server, client) as relay:
        relay.turn(Weather(delay_s=0.2), UP)
        begun = time.monotonic()
        client.send(b"up")
        _, back = server.recvfrom(64)
        assert time.monotonic() - begun >= 0.2
        relay.turn(CLEAR)
        server.sendto(b"down", back)
        assert client.recv(64) == b"down"


def test_a_cut_loses_and_does_not_hold(server: socket.socket, client: socket.socket) -> None:
    """What is sent into a cut never arrives, also after it is mended."""
    with relaying(server, client) as relay:
        relay.cut(UP)
        client.send(b"lost")
        eventually(lambda: relay.seen(UP)["lost"] > 0, "it is lost")
        relay.mend()
        client.send(b"found")
        assert server.recv(64) == b"found"


def test_after_a_rebinding_the_server_sees_another_port(
    server: socket.socket, client: socket.socket
) -> None:
    """A NAT forgets: the old port leads nowhere, and the new one leads to the same client."""
    with relaying(server, client) as relay:
        client.send(b"before")
        _, old = server.recvfrom(64)
        relay.rebind()
        server.sendto(b"to the old port", old)
        client.send(b"after")
        _, new = server.recvfrom(64)
        assert new != old and [new[1]] == relay.sources
        server.sendto(b"to the new port", new)
        assert client.recv(64) == b"to the new port"


def test_a_rebinding_in_the_middle_of_traffic_ends_nothing(
    server: socket.socket, client: socket.socket
) -> None:
    """Mapping after mapping is forgotten while datagrams come from both sides."""
    with relaying(server, client) as relay:
        for number in range(COUNT):
            client.send(b"up")
            _, back = server.recvfrom(64)
            for _ in range(4):
                server.sendto(b"down", back)
            relay.rebind()
            assert len(relay.sources) <= 1, number
        client.send(b"the last")
        assert server.recv(64) == b"the last"
