"""Tests of :mod:`palyra.mcp.door` and of where :mod:`palyra.mcp.http` listens."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

pytest.importorskip("mcp")

from palyra.config.addresses import HostPort
from palyra.errors import McpNotLoopback
from palyra.mcp.door import Allowed, Door
from palyra.mcp.http import bound, listening
from tests.mcp.world import asynchronously

TOKEN = b"t" * 43
ALLOWED = Allowed.of(HostPort("127.0.0.1", 7), TOKEN, ["Proxy:7"], ["https://page.example"])
GOOD = {"host": "localhost:7", "authorization": f"Bearer {TOKEN.decode()}"}


def asked(headers: list[tuple[str, str]], kind: str = "http") -> tuple[int, dict[bytes, bytes]]:
    """The status that comes back (200: it was let in), and the headers."""
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        sent.append({"status": 200, "headers": []})

    async def send(message: Any) -> None:
        sent.append(message)

    async def act() -> None:
        pairs = [(name.encode(), value.encode()) for name, value in headers]
        await Door(app, ALLOWED)({"type": kind, "headers": pairs}, None, send)  # type: ignore[arg-type]

    asynchronously(act)
    return sent[0]["status"], dict(sent[0]["headers"])


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, 200),
        ({"host": "127.0.0.1:7"}, 200),
        ({"host": "[::1]:7"}, 200),
        ({"host": "PROXY:7"}, 200),
        ({"origin": "http://localhost:7"}, 200),
        ({"origin": "https://page.example"}, 200),
        ({"authorization": f"bearer {TOKEN.decode()}"}, 200),
        ({"host": "localhost"}, 421),
        ({"host": "localhost:8"}, 421),
        ({"host": "evil.example:7"}, 421),
        ({"host": "localhost:7.evil.example"}, 421),
        ({"host": ""}, 421),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "https://localhost:7"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": ""}, 403),
        ({"authorization": ""}, 401),
        ({"authorization": "Bearer"}, 401),
        ({"authorization": f"Bearer {'t' * 42}"}, 401),
        ({"authorization": f"Bearer {'t' * 44}"}, 401),
        ({"authorization": f"Basic {TOKEN.decode()}"}, 401),
    ],
)
def test_who_comes_in(changes: dict[str, str], status: int) -> None:
    """The right host, no other page's origin, and the token."""
    found, headers = asked(list((GOOD | changes).items()))
    assert found == status
    assert (headers.get(b"www-authenticate") == b"Bearer") == (status == 401)


@pytest.mark.parametrize(("name", "status"), [("host", 421), ("authorization", 401)])
def test_a_header_that_comes_twice_is_none(name: str, status: int) -> None:
    """What is in front might have looked at the other one."""
    assert asked([*GOOD.items(), (name, GOOD[name])])[0] == status
    assert asked([item for item in GOOD.items() if item[0] != name])[0] == status


def test_nothing_but_http() -> None:
    """No websocket gets past the token."""
    assert asked(list(GOOD.items()), "websocket")[0] == 404
    assert "t" * 43 not in repr(ALLOWED)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com", "2001:db8::1"])
def test_only_this_machine_is_served(host: str) -> None:
    """No option changes that."""
    with pytest.raises(McpNotLoopback, match="loopback"):
        listening(HostPort(host, 0))


def test_any_port() -> None:
    """Port 0 is one that is free; localhost is 127.0.0.1."""
    with contextlib.closing(listening(HostPort("localhost", 0))) as listener:
        assert bound(listener).host == "127.0.0.1" and bound(listener).port > 0
        with pytest.raises(OSError):
            listening(bound(listener))
