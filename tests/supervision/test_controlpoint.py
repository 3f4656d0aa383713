"""Tests of :mod:`palyra.supervision.controlpoint`; what is said there is in tests/node."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zope.interface.verify import verifyObject

from palyra.errors import KeyFilePermission, PalyraError, SocketPathTooLong
from palyra.supervision import controlpoint
from palyra.supervision.controlpoint import (
    ControlFile,
    IControlPoint,
    LoopbackPoint,
    SocketPoint,
    control_point,
)

TOKEN = "5f" * 32


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Somebody who listens on loopback."""
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def tell(path: Path, port: int, token: str = TOKEN, mode: int = 0o600) -> Path:
    """The file of a node host."""
    file = path / "control.json"
    file.write_bytes(msgspec.json.encode({"schema_version": 1, "port": port, "token": token}))
    file.chmod(mode)
    return file


@pytest.mark.parametrize("unix", [True, False])
def test_both_are_places(tmp_path: Path, unix: bool) -> None:
    """And are told apart by what the system has."""
    point = control_point(tmp_path, unix=unix)
    assert verifyObject(IControlPoint, point)
    assert point.path.name == ("control.sock" if unix else "control.json")
    assert point.greeted is not unix
    assert not point.greets(b"") and not point.greets(b"0" * 64)
    with pytest.raises(FileNotFoundError):
        point.connect(1.0)
    point.forget()


def test_long_paths(tmp_path: Path) -> None:
    """Only a socket has a limit."""
    LoopbackPoint(tmp_path / ("x" * 200)).check()
    with pytest.raises(SocketPathTooLong):
        SocketPoint(tmp_path / ("x" * 200)).check()


def test_the_token_is_said_first(tmp_path: Path, listener: socket.socket) -> None:
    """On a line of its own, and shown nowhere else."""
    tell(tmp_path, listener.getsockname()[1])
    with LoopbackPoint(tmp_path).connect(5.0) as link:
        there, _ = listener.accept()
        with there:
            link.sendall(b"{}\n")
            received = b""
            while not received.endswith(b"{}\n"):
                received += there.recv(1024)
    assert received == TOKEN.encode() + b"\n{}\n"
    assert TOKEN not in repr(ControlFile(1, 7, TOKEN))


def test_a_file_that_others_may_read(tmp_path: Path, listener: socket.socket) -> None:
    """Is not gone by: whoever read it could be the one that listens."""
    for mode in (0o644, 0o620, 0o602):
        tell(tmp_path, listener.getsockname()[1], mode=mode)
        with pytest.raises(KeyFilePermission):
            LoopbackPoint(tmp_path).connect(5.0)
    listener.setblocking(False)
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_files_that_are_none(tmp_path: Path, listener: socket.socket) -> None:
    """A link, a directory and a pipe are refused, and nothing waits for them."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    file = tell(elsewhere, listener.getsockname()[1])
    path = tmp_path / "control.json"
    for make in (lambda: path.symlink_to(file), lambda: os.mkfifo(path, 0o600)):
        make()
        with pytest.raises(OSError):
            LoopbackPoint(tmp_path).connect(5.0)
        path.unlink()
    path.mkdir(0o700)
    with pytest.raises(OSError):
        LoopbackPoint(tmp_path).connect(5.0)


@given(
    data=st.binary(max_size=80)
    | st.sampled_from(
        [
            b"{}",
            b"[" * 4000,
            b'{"schema_version":1,"port":0,"token":"%s"}' % TOKEN.encode(),
            b'{"schema_version":1,"port":70000,"token":"%s"}' % TOKEN.encode(),
            b'{"schema_version":0,"port":7,"token":"%s"}' % TOKEN.encode(),
            b'{"schema_version":1,"port":7,"token":"%s\\n{}"}' % TOKEN.encode(),
            b'{"schema_version":1,"port":7,"token":""}',
            b'{"schema_version":1,"port":7,"token":"%s"}' % (b"5" * 9_000),
        ]
    )
)
@settings(max_examples=60)
def test_any_file(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """Leads nowhere, by an error of the kind that is expected."""
    path = tmp_path_factory.mktemp("any")
    (path / "control.json").write_bytes(data)
    (path / "control.json").chmod(0o600)
    with pytest.raises((OSError, PalyraError)):
        LoopbackPoint(path).connect(1.0)


class FakePort:
    """A port that somebody got."""

    stopped = False
    port = 4_312

    def getHost(self) -> Any:
        return self

    def stopListening(self) -> None:
        self.stopped = True


class FakeReactor:
    """Gives one port."""

    def __init__(self) -> None:
        self.given = FakePort()
        self.asked: list[tuple[int, str]] = []

    def listenTCP(self, port: int, factory: object, *, interface: str) -> FakePort:
        self.asked.append((port, interface))
        return self.given


def test_what_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For its owner alone, only on loopback; a file of an earlier start is gone before the port is
    ours, and a port that cannot be told is given back."""
    tell(tmp_path, 1, mode=0o644)
    reactor, point = FakeReactor(), LoopbackPoint(tmp_path)
    point.listen(reactor, object())
    assert reactor.asked == [(0, "127.0.0.1")]
    assert point.path.stat().st_mode & 0o777 == 0o600
    file = msgspec.json.decode(point.path.read_bytes(), type=ControlFile)
    assert file.port == 4_312 and point.greets(file.token.encode())
    assert len(bytes.fromhex(file.token)) == 32
    point.forget()
    assert not point.path.exists() and not point.greets(file.token.encode())

    def full(*_: object) -> None:
        assert not point.path.exists()
        raise OSError("no")

    tell(tmp_path, 1)
    monkeypatch.setattr(controlpoint, "write_atomic", full)
    with pytest.raises(OSError):
        point.listen(reactor, object())
    assert reactor.given.stopped and not point.greets(b"")


def test_nobody_answers(tmp_path: Path, listener: socket.socket) -> None:
    """It is said at once, and no connection is left."""
    port = listener.getsockname()[1]
    listener.close()
    tell(tmp_path, port)
    with pytest.raises(ConnectionRefusedError):
        LoopbackPoint(tmp_path).connect(5.0)
