"""Tests of :mod:`palyra.cli.nodehost` against what a node host really has."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TypeVar

import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread

from palyra.cli import nodehost
from palyra.cli.nodehost import NodeHost, NodeHostRefused
from palyra.errors import KeyFilePermission, NodeHostNotRunning, NodeHostSilent
from palyra.node.controlsocket import ControlSocket
from palyra.node.controlwords import (
    Asked,
    Deny,
    RequestsAnswer,
    Status,
    StatusAnswer,
    Stop,
    StoppingAnswer,
)
from palyra.supervision.controlpoint import control_point
from tests.node.test_hostcontrol import Controlled

A = TypeVar("A")


class House:
    """A node host on a state root, and its owner."""

    def __init__(self, root: Path, *, unix: bool) -> None:
        from twisted.internet import reactor

        directory = root / "node-host"
        directory.mkdir()
        self.host = Controlled(directory)
        self.point = control_point(directory, unix=unix)
        self.socket = ControlSocket(reactor, self.point, self.host.control)
        self.owner = NodeHost(root, unix=unix)

    async def ask(self, asked: Asked, kind: type[A]) -> A:
        answer = await deferToThread(self.owner.ask, asked, kind, 5.0)
        return answer.value


@pytest.mark.parametrize("unix", [True, False], ids=["socket", "loopback"])
@pytest_twisted.ensureDeferred
async def test_the_owner_is_answered(tmp_path: Path, unix: bool) -> None:
    """Whatever the system has for it, and by nobody before and after."""
    house = House(tmp_path, unix=unix)
    with pytest.raises(NodeHostNotRunning):
        await house.ask(Status(), StatusAnswer)
    house.socket.bind()
    try:
        assert (await house.ask(Status(), StatusAnswer)).name == "pi"
        with pytest.raises(NodeHostRefused) as refused:
            await house.ask(Deny("B8Q2ZN"), RequestsAnswer)
        assert "B8Q2ZN" in refused.value.sentence
        await house.ask(Stop(), StoppingAnswer)
    finally:
        await house.socket.stop()
    assert house.host.stopped == 1
    with pytest.raises(NodeHostNotRunning):
        await house.ask(Status(), StatusAnswer)


@pytest_twisted.ensureDeferred
async def test_a_file_of_an_earlier_start(tmp_path: Path) -> None:
    """Does not get in; one that others may read is not used."""
    house = House(tmp_path, unix=False)
    house.socket.bind()
    try:
        said = house.point.path.read_text()
        head, _, _ = said.rpartition('"token":"')
        house.point.path.write_text(f'{head}"token":"{"0" * 64}"}}')
        with pytest.raises(NodeHostSilent):
            await house.ask(Stop(), StoppingAnswer)
        house.point.path.chmod(0o644)
        with pytest.raises(KeyFilePermission):
            await house.ask(Stop(), StoppingAnswer)
    finally:
        await house.socket.stop()
    assert house.host.stopped == 0


def test_somebody_else_has_the_port(tmp_path: Path) -> None:
    """By now: it says nothing in time, and that is what is told."""
    (tmp_path / "node-host").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as other:
        file = tmp_path / "node-host" / "control.json"
        file.write_text(
            f'{{"schema_version":1,"port":{other.getsockname()[1]},"token":"{"0" * 64}"}}'
        )
        file.chmod(0o600)
        with pytest.raises(NodeHostSilent, match=r"nothing in 0\.1s"):
            NodeHost(tmp_path, unix=False).ask(Status(), StatusAnswer, 0.1)


def test_a_stranger_that_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One byte at a time, for ever: whoever asks has the time it has given.  Nonsense, however deep
    it is nested, is a sentence."""
    now = [0.0]

    class Link:
        """A connection to it."""

        answer = b"x"

        def __enter__(self) -> Link:
            return self

        def __exit__(self, *_: object) -> None:
            """Nothing is open."""

        def sendall(self, data: bytes) -> None:
            """It does not listen."""

        def settimeout(self, timeout_s: float) -> None:
            assert 0 < timeout_s <= 5

        def recv(self, limit: int) -> bytes:
            now[0] += 1
            return self.answer

    owner, link = NodeHost(tmp_path), Link()
    monkeypatch.setattr(nodehost.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(owner._point, "connect", lambda timeout_s: link)
    with pytest.raises(NodeHostSilent, match=r"does not answer on .*: nothing in 5s"):
        owner.ask(Status(), StatusAnswer, 5.0)
    for link.answer in (b'{"answer":"status","x":' + b"[" * 100_000 + b"\n", b"\xff\n", b"{}\n"):
        with pytest.raises(NodeHostSilent, match="not one this version reads"):
            owner.ask(Status(), StatusAnswer, 5.0)
