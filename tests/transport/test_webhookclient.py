"""Delivering a webhook to a real HTTPS server on loopback."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from twisted.internet import ssl
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from palyra.pki.authority import Authority
from palyra.transport.webhookclient import NotDelivered, Target, WebhookClient
from tests.store.samples import ulid

NOW_MS = 1_790_000_000_000


class Receiver(Resource):
    """Remembers what it was sent, and answers as it is told."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.got: list[tuple[bytes, dict[bytes, bytes], bytes]] = []
        self.code = 204
        self.body = b""
        self.headers: dict[bytes, bytes] = {}
        self.silent = False

    def render_POST(self, request: Any) -> Any:
        given = request.requestHeaders.getAllRawHeaders()
        fields = {name.lower(): values[0] for name, values in given}
        self.got.append((request.uri, fields, request.content.read()))
        request.setResponseCode(self.code)
        for name, value in self.headers.items():
            request.setHeader(name, value)
        return NOT_DONE_YET if self.silent else self.body

    render_GET = render_POST


class Served:
    """A receiver over HTTPS, and the CA that signed its certificate for ``localhost``."""

    def __init__(self, tmp_path: Path) -> None:
        import os
        import time

        from twisted.internet import reactor

        now_ms = int(time.time() * 1000)
        authority = Authority.create(trust_domain="t", now_ms=now_ms, entropy=os.urandom)
        key = ec.generate_private_key(ec.SECP256R1())
        issued = authority.issue_gateway(key.public_key(), ulid("g"), ["localhost"], now_ms)
        files = tmp_path / "key.pem", tmp_path / "certificate.pem"
        files[0].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        files[1].write_bytes(issued.pem)
        context = ssl.DefaultOpenSSLContextFactory(*map(str, files))
        self.receiver = Receiver()
        any_reactor: Any = reactor
        self.port = any_reactor.listenSSL(0, Site(self.receiver), context, interface="127.0.0.1")
        self.number = self.port.getHost().port
        ca_file = tmp_path / "ca.pem"
        ca_file.write_bytes(authority.ca_pem)
        self.target = Target.of(f"https://localhost:{self.number}/hook", True, str(ca_file))
        self.client = WebhookClient(reactor, resolved("127.0.0.1"))


def resolved(*addresses: str) -> Any:
    """A resolver that answers these, whatever it is asked."""
    return lambda host, port: [(0, 0, 0, "", (address, port)) for address in addresses]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    made = Served(tmp_path)
    yield made
    pytest_twisted.blockon(made.port.stopListening())


HEADERS = {"webhook-id": "w1", "webhook-signature": "v1,x"}


@pytest_twisted.ensureDeferred
async def test_a_message_arrives(served: Served) -> None:
    """With its body, its type and the headers it was signed with."""
    await served.client.deliver(served.target, HEADERS, b'{"a":1}')
    ((uri, fields, body),) = served.receiver.got
    assert (uri, body) == (b"/hook", b'{"a":1}')
    assert fields[b"webhook-id"] == b"w1" and fields[b"content-type"] == b"application/json"
    assert fields[b"host"] == f"localhost:{served.number}".encode()


@pytest.mark.parametrize("code", [199 + 101, 301, 307, 400, 500, 503])
@pytest_twisted.inlineCallbacks
def test_what_is_no_yes_is_tried_again(served: Served, code: int) -> Any:
    """Redirects too: where they lead was never looked at."""
    served.receiver.code = code
    served.receiver.headers = {b"location": f"https://localhost:{served.number}/b".encode()}
    with pytest.raises(NotDelivered, match=str(code)):
        yield served.client.deliver(served.target, HEADERS, b"{}")
    assert [uri for uri, _, _ in served.receiver.got] == [b"/hook"]


@pytest.mark.parametrize("found", [["127.0.0.1"], ["8.8.8.8", "10.0.0.1"], ["169.254.169.254"]])
@pytest_twisted.inlineCallbacks
def test_private_addresses_are_refused(served: Served, found: list[str]) -> Any:
    """Also where only one of several is private; nothing is connected to."""
    from twisted.internet import reactor

    client = WebhookClient(reactor, resolved(*found))
    with pytest.raises(NotDelivered, match="private"):
        yield client.deliver(Target(served.target.url), HEADERS, b"{}")
    assert served.receiver.got == []


@pytest_twisted.ensureDeferred
async def test_the_name_is_resolved_once(served: Served) -> None:
    """What it would resolve to a moment later does not matter."""
    from twisted.internet import reactor

    answers = iter([["127.0.0.1"]])
    client = WebhookClient(reactor, lambda host, port: resolved(*next(answers))(host, port))
    await client.deliver(served.target, HEADERS, b"{}")
    assert len(served.receiver.got) == 1


@pytest_twisted.ensureDeferred
async def test_a_certificate_of_somebody_else(served: Served) -> None:
    """Nothing is sent to whom the system does not know, nor under another name."""
    for target in (
        Target(served.target.url, True),
        Target(f"https://example.org:{served.number}/", True, served.target.ca_file),
    ):
        with pytest.raises(NotDelivered):
            await served.client.deliver(target, HEADERS, b"{}")
    assert served.receiver.got == []


@pytest_twisted.ensureDeferred
async def test_a_long_answer_is_not_read(served: Served) -> None:
    """Its status counts; the rest is not worth the memory."""
    served.receiver.code, served.receiver.body = 200, b"x" * 10_000_000
    await served.client.deliver(served.target, HEADERS, b"{}")


@pytest_twisted.ensureDeferred
async def test_nobody_there(served: Served) -> None:
    """A port on which nobody listens, in words."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
    with pytest.raises(NotDelivered, match="refused"):
        await served.client.deliver(Target(f"https://localhost:{number}/", True), HEADERS, b"{}")


def test_a_ca_file_that_holds_none(tmp_path: Path) -> None:
    """Found when the configuration is read, not when the first message is sent."""
    file = tmp_path / "ca.pem"
    with pytest.raises(OSError):
        Target.of("https://a.example/", False, str(file))
    file.write_text("no certificate")
    with pytest.raises(ValueError):
        Target.of("https://a.example/", False, str(file))
