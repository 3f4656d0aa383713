"""The console over the network: who may speak to it, in which bounds, and what answers say."""

from __future__ import annotations

import contextlib
import gzip
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_twisted
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from palyra.config import Config
from palyra.config.addresses import HostPort
from palyra.config.console import ConsoleSection
from palyra.config.endpoints import Place
from palyra.config.gateway import GatewaySection
from palyra.console import bounds
from palyra.console.bounds import HEADERS
from palyra.console.reading import MAX_BODY, MAX_INPUT_BODY
from palyra.console.site import PER_SECOND, PER_SECOND_LOOPBACK, WINDOW_MS
from palyra.errors import (
    ConsoleCertificateUnusable,
    Draining,
    KeyFilePermission,
    OperatorRevoked,
    PortTaken,
)
from palyra.gateway.consoledoor import ConsoleDoor
from palyra.pki.authority import DAY_MS, Authority
from palyra.transport import consoletls

from .doorstep import OPERATOR, Answer, Doorstep

JSON = "content-type: application/json"


@pytest_twisted.async_yield_fixture
async def doorstep(tmp_path: Path) -> AsyncIterator[Doorstep]:
    opened = Doorstep(tmp_path)
    yield opened
    await opened.door.stop()


async def soon() -> None:
    """The reactor turns."""
    from twisted.internet import reactor

    await deferLater(reactor, 0)


# -- TLS and plain on one port ---------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_both_on_loopback(doorstep: Doorstep) -> None:
    """The same port answers TLS and, bound to loopback, plain HTTP; both get every header."""
    plain = await doorstep.get("/healthz")
    over_tls = await doorstep.get("/healthz", tls=doorstep.client())
    for answer in (plain, over_tls):
        assert (answer.status, answer.body) == (200, b'{"status":"ok"}')
        for name, value in HEADERS.items():
            assert answer.headers[name.decode()] == value.decode()
        assert "server" not in answer.headers


@pytest_twisted.ensureDeferred
async def test_plain_is_refused_beyond_loopback(
    doorstep: Doorstep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plain request gets one sentence and the end; TLS goes on."""
    monkeypatch.setattr(HostPort, "is_loopback", False)
    answer = await doorstep.get("/healthz")
    assert (answer.status, answer.body) == (400, b"this port speaks HTTPS\nopen it with https://\n")
    assert (await doorstep.get("/healthz", tls=doorstep.client())).status == 200
    assert doorstep.refused == ["not_tls"]


@pytest_twisted.ensureDeferred
async def test_rubbish_is_no_request(doorstep: Doorstep) -> None:
    """What is neither TLS nor HTTP gets a 400, broken TLS an alert; both connections end."""
    assert (await doorstep.ask(b"\x00\xff\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
    assert b"HTTP" not in await doorstep.ask(b"\x16\x03\x01\x00\x05hello" + b"x" * 600)
    assert doorstep.refused == ["tls_handshake_failed"], "and it is counted"


@pytest_twisted.ensureDeferred
async def test_who_says_nothing_is_cut(doorstep: Doorstep, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection without a byte ends, and so does a handshake that is not finished."""
    monkeypatch.setattr(consoletls, "HANDSHAKE_S", 0.2)
    assert await doorstep.ask() == b""
    assert await doorstep.ask(b"\x16\x03\x01\x02\x00\x01") == b""


@pytest_twisted.ensureDeferred
async def test_a_handshake_that_is_done_is_not_hurried(
    doorstep: Doorstep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once TLS stands nothing of its time limit is left."""
    monkeypatch.setattr(consoletls, "HANDSHAKE_S", 0.3)

    def slowly() -> bytes:
        with doorstep.connect(doorstep.client()) as link:
            link.sendall(b"GET /healthz HTTP/1.1\r\n")
            time.sleep(0.6)
            link.sendall(f"host: localhost:{doorstep.port}\r\nconnection: close\r\n\r\n".encode())
            return link.recv(65_536)

    assert (await deferToThread(slowly)).startswith(b"HTTP/1.1 200 ")


@pytest_twisted.ensureDeferred
async def test_too_many_connections(doorstep: Doorstep) -> None:
    """Beyond the limit a connection is closed at once; those that are open stay."""

    def crowd() -> bytes:
        links = [doorstep.connect() for _ in range(32)]
        try:
            for link in links:
                link.sendall(b"G")
            time.sleep(0.2)
            with doorstep.connect() as late:
                return late.recv(1)
        finally:
            for link in links:
                link.close()

    assert await deferToThread(crowd) == b""
    assert doorstep.refused == ["too_many_connections"]


@pytest_twisted.ensureDeferred
async def test_nobody_holds_every_connection(
    doorstep: Doorstep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source that is not this machine gets a quarter of them; what it closes is free again."""
    telling = doorstep.door._telling
    whole = telling.buildProtocol
    monkeypatch.setattr(
        telling, "buildProtocol", lambda address: whole(IPv4Address("TCP", "192.0.2.7", 4711))
    )

    def crowd() -> tuple[bytes, bytes]:
        links = [doorstep.connect() for _ in range(8)]
        try:
            for link in links:
                link.sendall(b"G")
            time.sleep(0.2)
            with doorstep.connect() as late:
                refused = late.recv(1)
        finally:
            for link in links:
                link.close()
        time.sleep(0.2)
        with doorstep.connect() as later:
            later.sendall(doorstep.head("GET", "/healthz"))
            return refused, later.recv(65_536)

    refused, served = await deferToThread(crowd)
    assert (refused, served[:12]) == (b"", b"HTTP/1.1 200")
    assert doorstep.refused == ["too_many_of_source"]


# -- client certificates ---------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_an_operator_certificate_reaches_the_admission(doorstep: Doorstep) -> None:
    """A certificate of our CA makes a caller; without one nobody is signed in."""
    tls = doorstep.client(doorstep.operator())
    assert (await doorstep.get("/console/v1/nodes", tls=tls)).status == 200
    assert len(set(doorstep.admission.shown)) == 1
    nobody = await doorstep.get("/console/v1/nodes", tls=doorstep.client())
    assert (nobody.status, nobody.code) == (401, "sign_in_required")


@pytest_twisted.ensureDeferred
async def test_foreign_and_expired_certificates_are_seen(doorstep: Doorstep) -> None:
    """They do not end the handshake: the admission sees them, and says 401 in JSON."""
    now_ms = int(time.time() * 1000)
    stranger = Authority.create(trust_domain="palyra", now_ms=now_ms, entropy=os.urandom)
    old = doorstep.operator(now_ms=now_ms - 100 * DAY_MS)
    for file in (doorstep.operator(stranger), old):
        answer = await doorstep.get("/console/v1/nodes", tls=doorstep.client(file))
        assert answer.status == 200  # the fake admission takes whatever it is shown
    assert len(set(doorstep.admission.shown)) == 2


@pytest_twisted.ensureDeferred
async def test_the_handshake_offers_nothing_old(doorstep: Doorstep) -> None:
    """HTTP/1.1 alone, and no session is resumed, under either version of TLS."""

    def look(version: ssl.TLSVersion) -> tuple[Any, ...]:
        context = doorstep.client()
        context.minimum_version = context.maximum_version = version
        context.set_alpn_protocols(["h2", "http/1.1"])
        with doorstep.connect(context) as link:
            assert isinstance(link, ssl.SSLSocket)
            link.sendall(doorstep.head("GET", "/healthz"))
            while link.recv(65_536):
                pass
            return link.selected_alpn_protocol(), link.session, context

    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        alpn, session, context = await deferToThread(look, version)
        assert alpn == "http/1.1"

        def again(context: ssl.SSLContext = context, session: Any = session) -> bool | None:
            link = socket.create_connection(("127.0.0.1", doorstep.port), timeout=10)
            with context.wrap_socket(link, server_hostname="localhost", session=session) as wrapped:
                return wrapped.session_reused

        assert await deferToThread(again) is False


@pytest_twisted.ensureDeferred
async def test_a_renewed_certificate_is_served_at_once(doorstep: Doorstep) -> None:
    """New connections see it; nothing has to be restarted."""
    tls = doorstep.client()

    def shown() -> bytes | None:
        with doorstep.connect(tls) as link:
            assert isinstance(link, ssl.SSLSocket)
            return link.getpeercert(True)

    before = await deferToThread(shown)
    assert doorstep.identity.refresh(int(time.time() * 1000) + 25 * DAY_MS)
    after = await deferToThread(shown_whatever, doorstep.port)
    assert before != after
    assert after == doorstep.identity.gateway_certificate.der


def shown_whatever(port: int) -> bytes | None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    link = socket.create_connection(("127.0.0.1", port), timeout=10)
    with context.wrap_socket(link, server_hostname="localhost") as wrapped:
        return wrapped.getpeercert(True)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("waits", [False, True])
async def test_dropping_the_connections_of_an_operator(doorstep: Doorstep, waits: bool) -> None:
    """What is kept alive by them is closed, and so is what waits for an answer; others stay."""
    tls = doorstep.client(doorstep.operator())
    host = f"HTTP/1.1\r\nhost: localhost:{doorstep.port}\r\n\r\n"

    def kept() -> tuple[bytes, bytes]:
        with doorstep.connect(tls) as theirs, doorstep.connect(doorstep.client()) as other:
            other.sendall(f"GET /healthz {host}".encode())
            assert other.recv(65_536)
            theirs.sendall(f"GET /console/v1/nodes {host}".encode())
            assert theirs.recv(65_536)
            if waits:
                doorstep.control.answers["nodes"] = Deferred()
                theirs.sendall(f"GET /console/v1/nodes {host}".encode())
                time.sleep(0.2)
            from twisted.internet import reactor

            any_reactor: Any = reactor
            any_reactor.callFromThread(
                doorstep.door.drop, lambda caller: caller.operator_id == OPERATOR
            )
            try:
                left = theirs.recv(1)
            except OSError:
                left = b""
            other.sendall(doorstep.head("GET", "/healthz"))
            return left, other.recv(65_536)

    left, answer = await deferToThread(kept)
    assert left == b""
    assert answer.startswith(b"HTTP/1.1 200 ")


@pytest_twisted.ensureDeferred
async def test_whoever_ends_themselves_hears_of_it(doorstep: Doorstep) -> None:
    """What waits for the end of a change is not cut: it may be the caller's own revocation."""
    done: Deferred[None] = Deferred()
    doorstep.control.answers["revoke"] = done
    head = doorstep.head("POST", "/console/v1/operators/bo/revoke", JSON, "content-length: 2")
    asked = doorstep.ask(head, b"{}", tls=doorstep.client(doorstep.operator()))
    answer = Deferred.fromCoroutine(asked)
    while not any(channel._busy for channel in doorstep.door._site.channels):
        await soon()
    doorstep.door.drop(lambda caller: caller.operator_id == OPERATOR)
    await soon()
    done.errback(OperatorRevoked("bo"))
    assert Answer.of(await answer).code == "operator_revoked"


@pytest_twisted.ensureDeferred
async def test_a_certificate_of_ones_own(tmp_path: Path) -> None:
    """It is shown instead, and read again when it changes; what cannot be shown stops the start."""
    other = Doorstep(tmp_path / "other")
    await other.door.stop()
    key, chain = other.identity.served
    (tmp_path / "key.pem").write_bytes(key)
    (tmp_path / "key.pem").chmod(0o600)
    (tmp_path / "chain.pem").write_bytes(chain)
    own = {"certificate": str(tmp_path / "chain.pem"), "private_key": str(tmp_path / "key.pem")}
    doorstep = Doorstep(tmp_path / "ours", **own)
    try:
        shown = await deferToThread(shown_whatever, doorstep.port)
        assert shown == other.identity.gateway_certificate.der
        assert doorstep.door.fingerprint == other.identity.gateway_certificate.fingerprint
        (tmp_path / "chain.pem").write_bytes(b"half a certifi")
        assert await deferToThread(shown_whatever, doorstep.port) == shown
    finally:
        await doorstep.door.stop()
    with pytest.raises(ConsoleCertificateUnusable):
        Doorstep(tmp_path / "third", **own)
    (tmp_path / "chain.pem").write_bytes(doorstep.identity.served[1])
    with pytest.raises(ConsoleCertificateUnusable):
        Doorstep(tmp_path / "fourth", **own)
    (tmp_path / "key.pem").chmod(0o644)
    with pytest.raises(KeyFilePermission):
        Doorstep(tmp_path / "fifth", **own)
    (tmp_path / "key.pem").unlink()
    with pytest.raises(ConsoleCertificateUnusable):
        Doorstep(tmp_path / "sixth", **own)


# -- the host -------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "HOME.example.org"])
@pytest_twisted.ensureDeferred
async def test_names_of_ours(doorstep: Doorstep, host: str) -> None:
    """The configured names and loopback's, with our port."""
    assert (await doorstep.get("/healthz", f"host: {host}:{doorstep.port}")).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example:{port}", "localhost", "localhost:1", "", "localhost:{port}@evil", "[::1"]
)
@pytest_twisted.ensureDeferred
async def test_other_names(doorstep: Doorstep, host: str) -> None:
    """Another name or port is misdirected, whatever is asked; nobody was asked who they are."""
    for path in ("/", "/healthz", "/console/v1/nodes"):
        answer = await doorstep.get(path, "host: " + host.format(port=doorstep.port))
        assert (answer.status, answer.code) == (421, "wrong_host")
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert doorstep.admission.addresses == []


@pytest_twisted.ensureDeferred
async def test_two_hosts(doorstep: Doorstep) -> None:
    """A request that names two is refused, and so is one that names none."""
    ours = f"host: localhost:{doorstep.port}"
    assert (await doorstep.get("/healthz", ours, ours)).status in (400, 421)
    assert Answer.of(await doorstep.ask(b"GET /healthz HTTP/1.1\r\n\r\n")).status in (400, 421)


# -- behind a proxy --------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_what_a_proxy_says_counts(tmp_path: Path) -> None:
    """Its word on client, scheme and host is taken; of the addresses the last that is no proxy."""
    doorstep = Doorstep(tmp_path, behind_proxy=("127.0.0.1", "10.0.0.0/8"))
    try:
        answer = await doorstep.get(
            "/console/v1/nodes",
            "x-forwarded-for: 192.0.2.7, 198.51.100.9, 10.1.2.3",
            "x-forwarded-proto: https",
            "x-forwarded-host: home.example.org",
        )
        assert answer.status == 401
        assert doorstep.admission.addresses == ["198.51.100.9"]
        assert doorstep.admission.secure == [True]
        wrong = await doorstep.get("/healthz", "x-forwarded-host: evil.example")
        assert wrong.status == 421
        assert doorstep.door.origin == "https://home.example.org"
    finally:
        await doorstep.door.stop()


@pytest_twisted.ensureDeferred
async def test_what_others_say_does_not(doorstep: Doorstep) -> None:
    """The same headers of anybody else are nothing."""
    await doorstep.get(
        "/console/v1/nodes",
        "x-forwarded-for: 198.51.100.9",
        "x-forwarded-proto: https",
        "x-forwarded-host: evil.example",
    )
    assert doorstep.admission.addresses == ["127.0.0.1"]
    assert doorstep.admission.secure == [False]


# -- limits ---------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_requests_of_one_source_are_counted(tmp_path: Path) -> None:
    """Beyond the rate it is told when to come again; another source is not held back."""
    doorstep = Doorstep(tmp_path, behind_proxy=("127.0.0.1",))
    far, other = "x-forwarded-for: 198.51.100.9", "x-forwarded-for: 198.51.100.10"
    try:
        for _ in range(PER_SECOND * WINDOW_MS // 1000):
            assert (await doorstep.get("/healthz", far)).status == 200
        refused = await doorstep.get("/healthz", far)
        assert (refused.status, refused.code) == (429, "requests_limited")
        assert 1 <= int(refused.headers["retry-after"]) <= 3
        assert (await doorstep.get("/healthz", other)).status == 200
        doorstep.elapsed_ms += WINDOW_MS
        assert (await doorstep.get("/healthz", far)).status == 200
    finally:
        await doorstep.door.stop()
    assert PER_SECOND_LOOPBACK > PER_SECOND


@pytest_twisted.ensureDeferred
async def test_bodies_have_the_limit_of_their_route(doorstep: Doorstep) -> None:
    """64 KiB, more where input is carried; announced or in chunks, it is refused unread."""
    tls = doorstep.client(doorstep.operator())
    long = f"content-length: {MAX_BODY + 1}"
    label = "/console/v1/nodes/pi/label"
    answer = Answer.of(await doorstep.ask(doorstep.head("POST", label, JSON, long), tls=tls))
    assert (answer.status, answer.code) == (413, "payload_too_large")
    assert b"--max-payload-bytes" not in answer.body, "an option of the CLI changes nothing here"
    chunk = b"%x\r\n" % MAX_BODY + b" " * MAX_BODY + b"\r\n"
    chunked = doorstep.head("POST", label, JSON, "transfer-encoding: chunked")
    answer = Answer.of(await doorstep.ask(chunked, chunk, chunk, tls=tls))
    assert answer.status == 413
    keyed = "/console/v1/nodes/pi/invoke"
    body = b'{"capability":"echo"}'.ljust(MAX_BODY * 2)
    fits = doorstep.head("POST", keyed, JSON, f"content-length: {len(body)}") + body
    doorstep.control.answers["invoke"] = Draining()
    assert Answer.of(await doorstep.ask(fits, tls=tls)).code == "draining"
    stranger = Answer.of(await doorstep.ask(doorstep.head("POST", keyed, JSON, long)))
    assert (stranger.status, stranger.code) == (401, "sign_in_required"), "64 KiB of strangers"
    chunked = doorstep.head("POST", keyed, JSON, "transfer-encoding: chunked")
    assert Answer.of(await doorstep.ask(chunked, chunk, chunk)).status == 401
    too_long = doorstep.head("POST", keyed, JSON, f"content-length: {MAX_INPUT_BODY + 1}")
    assert Answer.of(await doorstep.ask(too_long, tls=tls)).status == 413
    assert [name for name, *_ in doorstep.control.asked] == ["invoke"]


@pytest_twisted.ensureDeferred
async def test_a_form_is_never_read(doorstep: Doorstep, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither kind of form is parsed: a stranger's megabytes of one would stop everything."""

    def parsed(*args: Any) -> None:
        raise AssertionError("a form was read")

    monkeypatch.setattr("twisted.web.http.parse_qs", parsed)
    monkeypatch.setattr("twisted.web.http._getMultiPartArgs", parsed)
    for kind in ("application/x-www-form-urlencoded", "multipart/form-data; boundary=b"):
        head = doorstep.head(
            "POST", "/console/v1/jobs", f"content-type: {kind}", "content-length: 3"
        )
        answer = Answer.of(await doorstep.ask(head + b"a=b"))
        assert (answer.status, answer.code) == (401, "sign_in_required")


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("host", ["localhost", "elsewhere.example.org"])
async def test_who_never_says_goodbye_is_cut(
    doorstep: Doorstep, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    """TLS waits for its peer to agree to the end, but not for ever."""
    monkeypatch.setattr(bounds, "CLOSE_S", 0.2)

    def silently() -> bytes:
        with doorstep.connect(doorstep.client()) as link:
            lines = f"GET /healthz HTTP/1.1\r\nhost: {host}:{doorstep.port}\r\nconnection: close"
            link.sendall(lines.encode() + b"\r\n\r\n")
            with socket.socket(fileno=link.detach()) as raw:
                raw.settimeout(5)
                with contextlib.suppress(ConnectionResetError):
                    while raw.recv(65_536):
                        pass
                return b"cut"

    assert await deferToThread(silently) == b"cut"


@pytest_twisted.ensureDeferred
async def test_nobody_is_told_to_go_on(doorstep: Doorstep) -> None:
    """A body that is too long is not asked for."""
    long = ("expect: 100-continue", f"content-length: {MAX_BODY + 1}")
    answer = await doorstep.ask(doorstep.head("POST", "/console/v1/state/confirm", *long))
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"100 Continue" not in answer


@pytest_twisted.ensureDeferred
async def test_a_request_that_trickles_in(
    doorstep: Doorstep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its time begins with its first byte, and no byte gives it more."""
    monkeypatch.setattr(bounds, "REQUEST_S", 0.3)

    def trickle(start: bytes) -> float:
        with doorstep.connect() as link:
            begun = time.monotonic()
            try:
                link.sendall(start)
                while time.monotonic() - begun < 8:
                    link.sendall(b"a")
                    time.sleep(0.02)
            except OSError:
                pass
            return time.monotonic() - begun

    assert await deferToThread(trickle, b"GET /") < 8
    body = doorstep.head("POST", "/console/v1/state/confirm", JSON, "content-length: 60000")
    assert await deferToThread(trickle, body) < 8


@pytest_twisted.ensureDeferred
async def test_heads_are_bounded(doorstep: Doorstep) -> None:
    """A head of 100 KB, or of very many lines, is a bad request."""
    many = [f"x-{number}: y" for number in range(200)]
    for headers in (["x: " + "y" * 100_000], ["x: " + "y" * 9_000] * 3, many):
        answer = await doorstep.ask(doorstep.head("GET", "/healthz", *headers))
        assert not answer or answer.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("length", [16_384, 100_000])
@pytest_twisted.ensureDeferred
async def test_request_lines_are_bounded(doorstep: Doorstep, length: int) -> None:
    """What is longer than 16 KiB is refused at once, whether or not it ever ends."""
    begun = doorstep.head("GET", "/healthz?" + "y" * length).partition(b" HTTP/1.1")[0]
    answer = Answer.of(await doorstep.ask(begun, tls=doorstep.client()))
    assert (answer.status, answer.code) == (414, "uri_too_long")


@pytest.mark.parametrize(
    "headers",
    [
        ("content-length: 5", "transfer-encoding: chunked"),
        ("transfer-encoding: chunked", "content-length: 5"),
        ("content-length: 5", "content-length: 6"),
        ("content-length: +5",),
        ("content-length: 0x5",),
        ("transfer-encoding: chunked, identity",),
        ("transfer-encoding: gzip",),
    ],
)
@pytest_twisted.ensureDeferred
async def test_smuggling(doorstep: Doorstep, headers: tuple[str, ...]) -> None:
    """A request whose length can be read in two ways is refused, and nothing after it is read."""
    inner = doorstep.head("GET", "/healthz")
    head = doorstep.head("POST", "/console/v1/state/confirm", JSON, *headers)
    answer = await doorstep.ask(head.replace(b"connection: close\r\n", b"") + b"0\r\n\r\n" + inner)
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 501 "))
    assert answer.count(b"HTTP/1.1 ") == 1


# -- what is served -------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_readiness(doorstep: Doorstep) -> None:
    """readyz says whether devices are served; healthz only that somebody answers."""
    doorstep.ready = False
    answer = await doorstep.get("/readyz")
    assert (answer.status, answer.body) == (503, b'{"status":"not ready"}')
    assert (await doorstep.get("/healthz")).status == 200


@pytest_twisted.ensureDeferred
async def test_the_page_and_its_files(doorstep: Doorstep) -> None:
    """The page is at every address of its own; files are compressed and asked for conditionally."""
    page = await doorstep.get("/devices/pi")
    assert page.status == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    plain = await doorstep.get("/static/main.js")
    assert plain.headers["content-type"].startswith("text/javascript")
    assert plain.headers["cache-control"] == "no-cache"
    zipped = await doorstep.get("/static/main.js", "accept-encoding: br, gzip")
    assert zipped.headers["content-encoding"] == "gzip"
    assert gzip.decompress(zipped.body) == plain.body
    same = await doorstep.get("/static/main.js", f"if-none-match: {plain.headers['etag']}")
    assert (same.status, same.body) == (304, b"")
    assert "content-length" not in same.headers or same.headers["content-length"] != "0"


@pytest_twisted.ensureDeferred
async def test_lists_are_compressed_and_conditional(doorstep: Doorstep) -> None:
    """A list has a weak ETag; asked for again it costs no body.  Other answers have none."""
    tls = doorstep.client(doorstep.operator())
    answer = await doorstep.get("/console/v1/nodes", "accept-encoding: gzip", tls=tls)
    etag = answer.headers["etag"]
    assert etag.startswith('W/"')
    assert answer.headers["cache-control"] == "no-store"
    again = await doorstep.get("/console/v1/nodes", f'if-none-match: "x", {etag}', tls=tls)
    assert (again.status, again.body) == (304, b"")
    one = await doorstep.get("/console/v1/state", "accept-encoding: gzip", tls=tls)
    assert "etag" not in one.headers
    assert "content-encoding" not in one.headers


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/static/",
        "/static/../page.py",
        "/static/%2e%2e/page.py",
        "/%ff",
        "/console/v1/",
        "/console/v1/nothing",
        "//nodes",
        "/console/v1//nodes",
        "/console/v1/%ff",
        "http://localhost/",
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_there_is_not(doorstep: Doorstep, path: str) -> None:
    """It is a problem in JSON, like any other."""
    answer = await doorstep.get(path, tls=doorstep.client(doorstep.operator()))
    assert (answer.status, answer.code) == (404, "not_found")


@pytest.mark.parametrize("path", ["/", "/healthz", "/static/main.js", "/console/v1/nodes"])
@pytest_twisted.ensureDeferred
async def test_methods_that_are_not_taken(doorstep: Doorstep, path: str) -> None:
    """The answer names the ones that are, in JSON."""
    tls = doorstep.client(doorstep.operator())
    head = doorstep.head("PUT", path, "content-length: 0")
    answer = Answer.of(await doorstep.ask(head, tls=tls))
    assert (answer.status, answer.code) == (405, "method_not_allowed")
    assert "GET" in answer.headers["allow"]


@pytest_twisted.ensureDeferred
async def test_head(doorstep: Doorstep) -> None:
    """The headers of GET, without its body."""
    for path in ("/", "/healthz", "/static/main.js", "/openapi.json", "/console/v1/nodes"):
        tls = doorstep.client(doorstep.operator())
        whole = await doorstep.get(path, tls=tls)
        head = Answer.of(await doorstep.ask(doorstep.head("HEAD", path), tls=tls))
        assert (head.status, head.body) == (200, b"")
        assert head.headers["content-length"] == whole.headers["content-length"]


@pytest_twisted.ensureDeferred
async def test_the_document_is_for_everybody(doorstep: Doorstep) -> None:
    """openapi.json tells nothing of this gateway, so nobody has to be signed in."""
    answer = await doorstep.get("/openapi.json")
    assert answer.status == 200
    assert msgspec.json.decode(answer.body)["openapi"] == "3.1.0"


# -- its start and stop ---------------------------------------------------------------------------


@pytest.mark.usefixtures("collected")
@pytest_twisted.ensureDeferred
async def test_a_port_that_is_taken(doorstep: Doorstep, tmp_path: Path) -> None:
    """The start is refused, and names the port."""
    from twisted.internet import reactor

    where = Place(HostPort("127.0.0.1", doorstep.port))
    config = Config(gateway=GatewaySection(), console=ConsoleSection())
    second = ConsoleDoor(reactor, where, config, doorstep.door._behind, max_connections=4)
    with pytest.raises(PortTaken) as caught:
        second.bind()
    assert caught.value.port == doorstep.port
    await second.stop()


@pytest_twisted.ensureDeferred
async def test_stopping_ends_every_connection(tmp_path: Path) -> None:
    """Idle ones, half a request and a half-open handshake: none is left."""
    doorstep = Doorstep(tmp_path)
    tls = doorstep.client()

    def three() -> list[socket.socket]:
        links = [doorstep.connect(), doorstep.connect(tls), doorstep.connect()]
        links[0].sendall(b"GET / HT")
        links[1].sendall(b"GET / HT")
        links[2].sendall(b"\x16\x03\x01")
        return links

    links = await deferToThread(three)
    await doorstep.door.stop()
    for link in links:
        with contextlib.suppress(OSError):
            assert link.recv(65_536) == b""
        link.close()
    await doorstep.door.stop()


def test_where_it_says_it_is(tmp_path: Path) -> None:
    """http://localhost on loopback; elsewhere the first name over TLS."""

    def origin(host: str, *names: str, **console: Any) -> str:
        config = Config(gateway=GatewaySection(names=names), console=ConsoleSection(**console))
        behind: Any = _Nothing()
        return ConsoleDoor(
            None, Place(HostPort(host, 7142)), config, behind, max_connections=1
        ).origin

    assert origin("127.0.0.1") == "http://localhost:7142"
    assert origin("::1", "home.example.org") == "http://localhost:7142"
    assert origin("0.0.0.0", "home.example.org", "b") == "https://home.example.org:7142"
    behind_proxy = ("10.0.0.1",)
    assert origin("0.0.0.0", "home.example.org", behind_proxy=behind_proxy) == (
        "https://home.example.org"
    )


class _Nothing:
    def __getattr__(self, name: str) -> Any:
        return None
