"""Metrics over HTTP: for operators, and on a listener of their own."""

from __future__ import annotations

import socket
from typing import Any

import attrs
import pytest
import pytest_twisted
import treq
from twisted.internet.threads import deferToThread

from palyra.config.addresses import HostPort
from palyra.console.metricsite import MetricsListener
from palyra.errors import PortTaken
from tests.console.asking import ANA, Console


def exposition(accept: str) -> tuple[str, bytes]:
    return "text/plain", f"for {accept}".encode()


def listener(port: int = 0) -> MetricsListener:
    from twisted.internet import reactor

    return MetricsListener(reactor, HostPort("127.0.0.1", port), exposition)


@pytest_twisted.ensureDeferred
async def test_a_listener_of_its_own() -> None:
    """It answers /metrics in the format that is accepted, to anybody, and nothing else."""
    served = listener()
    served.bind()
    get: Any = treq.get
    try:
        base = f"http://{served.address}"
        answer = await get(f"{base}/metrics", headers={"accept": "a"}, persistent=False)
        assert await answer.content() == b"for a"
        assert answer.headers.getRawHeaders("content-type") == ["text/plain"]
        other = await get(f"{base}/console/v1/nodes", persistent=False)
        assert other.code == 404
        await other.content()
    finally:
        await served.stop()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:9464", b"200"),
        ("localhost", b"200"),
        ("[::1]:9464", b"200"),
        ("evil.example", b"421"),
        ("", b"421"),
    ],
)
async def test_only_who_names_this_machine(host: str, status: bytes) -> None:
    """A page whose name was made to lead here reads nothing; no answer names the server."""
    served = listener()
    served.bind()

    def ask() -> bytes:
        with socket.create_connection(("127.0.0.1", served.address.port), timeout=10) as link:
            line = f"host: {host}\r\n" if host else ""
            link.sendall(f"GET /metrics HTTP/1.1\r\n{line}connection: close\r\n\r\n".encode())
            received = b""
            while data := link.recv(65_536):
                received += data
            return received

    try:
        answer = await deferToThread(ask)
    finally:
        await served.stop()
    assert answer.split()[1] == status
    assert b"server:" not in answer.lower()


@pytest.mark.usefixtures("collected")
def test_a_port_that_is_taken() -> None:
    """The error names the listener and the port."""
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(PortTaken) as caught:
        listener(taken.getsockname()[1]).bind()
    assert caught.value.listener == "metrics"


def test_operators_read_them_from_the_console() -> None:
    """A viewer may; a stranger may not."""
    found = Console().fetch("/metrics", prefix="")
    assert (found[0], found[1]) == (200, b"metrics")
    stranger = Console(attrs.evolve(ANA, role=None))
    assert stranger.fetch("/metrics", prefix="")[0] == 403
