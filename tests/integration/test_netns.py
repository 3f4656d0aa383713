"""The network of its own: what is sent at the far end arrives from there, and nothing is left."""

from __future__ import annotations

import socket
import subprocess
import sys

from tests.integration.netns import Link, laid

LIMIT_S = 10.0
_SEND = """
import socket, sys
with socket.socket(type=socket.SOCK_DGRAM) as wire:
    wire.sendto(b"hello", (sys.argv[1], int(sys.argv[2])))
"""


def source(link: Link, server: socket.socket) -> str:
    """From which address a datagram of the far end arrives."""
    _, port = server.getsockname()
    command = link.command(sys.executable, "-S", "-c", _SEND, link.near, str(port))
    subprocess.run(command, check=True, timeout=LIMIT_S)
    data, (host, _) = server.recvfrom(64)
    assert data == b"hello"
    return str(host)


def test_the_far_end_can_move() -> None:
    """It is at another address then, and the old one is gone."""
    with laid() as link, socket.socket(type=socket.SOCK_DGRAM) as server:
        server.settimeout(LIMIT_S)
        server.bind((link.near, 0))
        before = link.far
        assert source(link, server) == before
        link.move()
        assert source(link, server) == link.far != before


def test_nothing_is_left() -> None:
    """Neither namespace nor wire, also after a test that failed."""

    def there() -> set[str]:
        """The wires of this machine."""
        return {name for _, name in socket.if_nameindex()}

    before = there()
    try:
        with laid():
            assert there() != before
            raise LookupError
    except LookupError:
        assert there() == before


def test_bad_weather_is_of_the_kernel() -> None:
    """netem takes what these tests tell it, where the kernel has it."""
    with laid("delay", "1ms", "loss", "0.1%") as link:
        link.worsen()
