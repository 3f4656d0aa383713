"""The console's socket: for its owner alone, and for requests of a bounded size."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, succeed
from twisted.internet.threads import deferToThread

from palyra._ownersocket import MAX_PATH, peer_uid
from palyra.console import socket as console_socket
from palyra.console.reading import MAX_INPUT_BODY
from palyra.console.routing import Controls
from palyra.console.socket import ConsoleSocket, account_name
from palyra.core.operators import Role
from palyra.errors import Draining, SocketPathTooLong
from palyra.testing.control import FakeControl, FakeFollowing
from tests.console.asking import END, told

HEAD = b"%s /console/v1/%s HTTP/1.1\r\nhost: console\r\nconnection: close\r\n"


class Bound:
    """A socket that is listened on."""

    def __init__(self, path: Path) -> None:
        from twisted.internet import reactor

        self.control = FakeControl()
        part: Any = self.control
        controls = Controls(self.control, part, part, part, part, part, part)
        self.socket = ConsoleSocket(reactor, path, controls)
        self.socket.bind()

    async def ask(self, *parts: bytes) -> bytes:
        """What comes back for these bytes, until the other end hangs up."""
        return await deferToThread(self._ask, parts)

    def _ask(self, parts: tuple[bytes, ...]) -> bytes:
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(10)
            link.connect(str(self.socket.path))
            received = b""
            try:
                for part in parts:
                    link.sendall(part)
            except OSError:
                pass  # refused before it was all sent
            try:
                while data := link.recv(65_536):
                    received += data
            except ConnectionResetError:
                pass
            return received


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "console.sock"


@pytest_twisted.ensureDeferred
async def test_only_the_owner_may_connect(path: Path) -> None:
    """The socket is 0600, the operator is the user at the other end, and stopping removes it."""
    bound = Bound(path)
    try:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        bound.control.answers["invoke"] = Draining()
        body = b'{"capability":"echo"}'
        head = HEAD % (b"POST", b"nodes/pi/invoke") + b"content-length: %d\r\n\r\n" % len(body)
        answer = await bound.ask(head + body)
        assert answer.startswith(b"HTTP/1.1 503 ")
        ((_, target, _, by),) = bound.control.asked
        assert (target, by.name, by.role) == ("pi", account_name(os.geteuid()), Role.ADMIN)
    finally:
        await bound.socket.stop()
    assert not path.exists()


@pytest_twisted.ensureDeferred
async def test_another_user_is_cut(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is neither root nor the owner is cut before a byte is read."""
    monkeypatch.setattr(console_socket, "peer_uid", lambda connection: os.geteuid() + 12_345)
    bound = Bound(path)
    try:
        assert await bound.ask(HEAD % (b"GET", b"nodes") + b"\r\n") == b""
        assert bound.control.asked == []
    finally:
        await bound.socket.stop()


@pytest_twisted.ensureDeferred
async def test_a_body_that_is_announced_too_long(path: Path) -> None:
    """It is refused before it is sent."""
    bound = Bound(path)
    try:
        head = HEAD % (b"POST", b"nodes/pi/invoke")
        answer = await bound.ask(head + b"content-length: %d\r\n\r\n" % (MAX_INPUT_BODY + 1))
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert bound.control.asked == []
    finally:
        await bound.socket.stop()


@pytest_twisted.ensureDeferred
async def test_a_body_that_never_ends(path: Path) -> None:
    """Chunks are refused when they are too many together, before they are kept."""
    bound = Bound(path)
    try:
        head = HEAD % (b"POST", b"nodes/pi/invoke") + b"transfer-encoding: chunked\r\n\r\n"
        size = 1024 * 1024
        chunk = b"%x\r\n" % size + b"x" * size + b"\r\n"
        answer = await bound.ask(head, *[chunk] * 8)
        assert answer.startswith(b"HTTP/1.1 413 ") or answer == b""
        assert bound.control.asked == []
    finally:
        await bound.socket.stop()


@pytest_twisted.ensureDeferred
async def test_a_dead_socket_is_replaced(path: Path) -> None:
    """The state root's lock is held, so what lies there belongs to nobody."""
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()
    bound = Bound(path)
    try:
        assert (await bound.ask(HEAD % (b"GET", b"doctor") + b"\r\n")).startswith(b"HTTP/1.1 200")
    finally:
        await bound.socket.stop()


class Watched(FakeFollowing):
    """A follower that says when it is followed no more."""

    def __init__(self) -> None:
        super().__init__()
        self.left: Deferred[None] = Deferred()
        self.feed(told())

    def close(self) -> None:
        super().close()
        if self.closed == 1:
            self.left.callback(None)


def follow(path: Path) -> socket.socket:
    """A connection on which the first event has come."""
    link = socket.socket(socket.AF_UNIX)
    link.settimeout(10)
    link.connect(str(path))
    link.sendall(b"GET /console/v1/jobs/ABCD/events HTTP/1.1\r\nhost: console\r\n\r\n")
    received = b""
    while b"event: job\nid: 1\n" not in received:
        received += link.recv(65_536)
    return link


@pytest_twisted.ensureDeferred
async def test_a_follower_that_hangs_up(path: Path) -> None:
    """Its end of the connection is all it takes; the follower is closed once."""
    bound = Bound(path)
    try:
        watched = Watched()
        bound.control.answers["follow_job"] = succeed(watched)
        link = await deferToThread(follow, path)
        assert watched.closed == 0
        link.close()
        await watched.left
        assert watched.closed == 1
    finally:
        await bound.socket.stop()


@pytest_twisted.ensureDeferred
async def test_ten_thousand_rows_over_a_socket(path: Path) -> None:
    """More than a connection carries at once arrives whole, piece by piece, in its order."""
    bound = Bound(path)
    try:
        bound.control.news = [*[told(f"JOB{number:05}") for number in range(10_000)], END]
        answer = await bound.ask(HEAD % (b"GET", b"fanouts/ABCD/events") + b"\r\n")
        numbers = [int(line[4:]) for line in answer.splitlines() if line.startswith(b"id: ")]
        assert numbers == list(range(1, 10_002))
        assert bound.control.followings[0].closed == 1
    finally:
        await bound.socket.stop()


@pytest_twisted.ensureDeferred
async def test_a_stop_ends_the_streams(path: Path) -> None:
    """The answer is complete and the connection is closed, though HTTP would keep it open."""
    bound = Bound(path)
    watched = Watched()
    bound.control.answers["follow_job"] = succeed(watched)
    link = await deferToThread(follow, path)
    await bound.socket.stop()
    rest = b""
    while data := await deferToThread(link.recv, 65_536):
        rest += data
    link.close()
    assert rest.endswith(b"0\r\n\r\n")
    assert b"event: end" not in rest
    assert watched.closed == 1


def test_a_long_path_is_refused(tmp_path: Path) -> None:
    """unix(7) allows 107 bytes; the error names the path."""
    from twisted.internet import reactor

    controls: Any = None
    path = tmp_path / ("x" * (MAX_PATH + 1))
    with pytest.raises(SocketPathTooLong) as caught:
        ConsoleSocket(reactor, path, controls).bind()
    assert str(path) in caught.value.sentence


def test_the_user_at_the_other_end() -> None:
    """The kernel says who it is."""
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    assert peer_uid(ours) == os.geteuid()
    ours.close()
    theirs.close()


def test_an_account_whose_name_is_not_utf_8(monkeypatch: pytest.MonkeyPatch) -> None:
    """It can be kept: in jobs, and on the audit chain."""
    import pwd

    odd = pwd.struct_passwd(("al\udcffx", "", 7, 7, "", "/", "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwuid", lambda _: odd)
    assert account_name(7) == "al\ufffdx"
