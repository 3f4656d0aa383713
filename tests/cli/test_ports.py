"""Tests of :mod:`palyra.cli.ports`."""

from __future__ import annotations

import os
import socket

from palyra._listeners import listener_of
from palyra.cli import ports


def test_a_free_port_is_taken_as_wanted() -> None:
    """The default port where nobody has it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert ports.free_port("127.0.0.1", port) == port
    assert ports.free_port("127.0.0.1", port, but=frozenset({port})) != port


def test_a_port_that_is_taken() -> None:
    """Another one, and whoever has it is known by pid where the system tells."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert not ports.can_bind("127.0.0.1", port)
        assert ports.free_port("127.0.0.1", port) != port
        assert listener_of(port)[1] in (os.getpid(), 0)
    assert listener_of(port) == ("", 0)


def test_an_address_that_is_not_ours() -> None:
    """Nothing can listen there."""
    assert not ports.can_bind("192.0.2.1", 0)


def test_a_port_for_datagrams_too() -> None:
    """One that is taken for datagrams is free for TCP alone."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        assert not ports.can_bind_udp("127.0.0.1", port)
        assert ports.free_port("127.0.0.1", port) == port
        other = ports.free_port("127.0.0.1", port, udp=True)
        assert other != port
        assert ports.can_bind_udp("127.0.0.1", other)
