"""Tests of :mod:`palyra.node.controlsocket`, over a real socket."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_twisted
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure

from palyra._ownersocket import account_of
from palyra.errors import SocketPathTooLong
from palyra.node import controlsocket
from palyra.node.controlsocket import ControlSocket, _Conversations
from palyra.node.controlwords import MAX_ASKED, PATIENCE_S, Answered
from tests.node.test_hostcontrol import JOB, Controlled

PATIENT_S = 30


class Bound:
    """A control socket that is listened on."""

    def __init__(self, path: Path) -> None:
        from twisted.internet import reactor

        self.host = Controlled(path)
        self.path = path / "control.sock"
        self.socket = ControlSocket(reactor, self.path, self.host.control)
        self.socket.bind()

    async def ask(self, data: bytes) -> Any:
        """The answer to these bytes, decoded; None where there is none."""
        answer = await deferToThread(self._ask, data)
        return json.loads(answer) if answer else None

    def _ask(self, data: bytes) -> bytes:
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(PATIENT_S)
            received = b""
            try:
                link.connect(str(self.path))
                link.sendall(data)
                while piece := link.recv(65_536):
                    received += piece
            except (ConnectionResetError, BrokenPipeError):
                pass
            return received


@pytest_twisted.ensureDeferred
async def test_one_request_one_answer(tmp_path: Path) -> None:
    """One line each way, for the owner alone; it ends with the answer, and the socket with us."""
    bound = Bound(tmp_path)
    try:
        assert stat.S_IMODE(bound.path.stat().st_mode) == 0o600
        status = await bound.ask(b'{"verb":"status"}\n')
        assert status["answer"] == "status"
        assert (status["state"], status["capabilities"]) == ("online", {"count": 5, "faults": 1})
        answers = bound.host.ask("\u202e" * 100_000)
        (item,) = (await bound.ask(b'{"verb":"requests"}\n{"verb":"stop"}\n'))["requests"]
        assert (item["request_id"], item["argument_length"]) == (JOB, 100_000)
        (whole,) = (await bound.ask(b'{"verb":"requests","id":"B8Q2ZN"}\n'))["requests"]
        assert whole["argument"] == "\u202e" * 100_000
        said = await bound.ask(b'{"verb":"allow","id":"b8q2zn","choice":"session"}\n')
        by = f"{account_of(os.geteuid())} with palyra node allow"
        assert (said["answer"], said["choice"], said["decided_by"]) == ("decided", "session", by)
        assert answers[0].decided_by == by
        assert bound.host.stopped == 0
    finally:
        await bound.socket.stop()
    assert not bound.path.exists()
    await bound.socket.stop()


@pytest.mark.parametrize(
    ("line", "code", "in_error"),
    [
        (b"\n", "malformed", "request"),
        (b"{\n", "malformed", "request"),
        (b"[]\n", "malformed", "request"),
        (b'{"verb":"shutdown"}\n', "malformed", "shutdown"),
        (b'{"verb":"status","more":1}\n', "malformed", "more"),
        (b'{"verb":"allow"}\n', "malformed", "id"),
        (b'{"verb":"allow","id":"B8Q2","choice":"rule"}\n', "malformed", "rule"),
        (b'{"verb":"allow","id":"B8Q2ZN"}\n', "not_found", "B8Q2ZN"),
        (b'{"verb":"requests","id":"\\u202e"}\n', "not_found", "\\u202e"),
        (b"[" * 60_000 + b"\n", "malformed", "request"),
        (b"x" * (MAX_ASKED + 2), "malformed", "at most 65536 bytes"),
    ],
    ids=range(11),
)
@pytest_twisted.ensureDeferred
async def test_what_is_refused(tmp_path: Path, line: bytes, code: str, in_error: str) -> None:
    """With a sentence, a code and a hint; a line without an end is not kept."""
    bound = Bound(tmp_path)
    try:
        said = await bound.ask(line)
    finally:
        await bound.socket.stop()
    assert (said["answer"], said["code"]) == ("refused", code)
    assert in_error in said["error"] and said["hint"]


@pytest_twisted.ensureDeferred
async def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    """Whoever asked is told so, and does not wait for ever."""
    bound = Bound(tmp_path)
    bound.host.ask("\udcff")
    try:
        said = await bound.ask(b'{"verb":"requests"}\n')
    finally:
        await bound.socket.stop()
    assert (said["answer"], said["code"]) == ("refused", "internal")


@pytest_twisted.ensureDeferred
async def test_another_user_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a byte is read."""
    monkeypatch.setattr(controlsocket, "peer_uid", lambda connection: os.geteuid() + 12_345)
    bound = Bound(tmp_path)
    try:
        assert await bound.ask(b'{"verb":"stop"}\n') is None
    finally:
        await bound.socket.stop()
    assert bound.host.stopped == 0


@pytest_twisted.ensureDeferred
async def test_the_socket_of_a_dead_host(tmp_path: Path) -> None:
    """Is replaced."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "control.sock"))
    bound = Bound(tmp_path)
    try:
        assert (await bound.ask(b'{"verb":"remembered"}\n')) == {
            "answer": "remembered",
            "choices": [],
        }
    finally:
        await bound.socket.stop()


def test_a_path_that_is_too_long(tmp_path: Path) -> None:
    """Is refused by name."""
    with pytest.raises(SocketPathTooLong):
        ControlSocket(None, tmp_path / ("x" * 200), Controlled(tmp_path).control).bind()


@pytest_twisted.ensureDeferred
async def test_a_system_without_such_sockets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node host runs on without one."""
    monkeypatch.setattr(controlsocket, "AVAILABLE", False)
    bound = Bound(tmp_path)
    assert not bound.path.exists()
    await bound.socket.stop()


# -- in memory ------------------------------------------------------------------------------------


class Link(StringTransport):
    """The socket of one conversation."""

    aborted = False

    def getHandle(self) -> None:
        return None

    def abortConnection(self) -> None:
        self.aborted = True


class Talk:
    """One conversation, with a clock that the test moves."""

    def __init__(self, path: Path) -> None:
        self.host = Controlled(path)
        self.clock = Clock()
        self.all = _Conversations(self.clock, self.host.control)
        self.link, self.protocol = self.connect()

    def connect(self) -> tuple[Link, Any]:
        link, protocol = Link(), self.all.buildProtocol(None)
        assert protocol is not None
        protocol.makeConnection(link)
        return link, protocol

    def lose(self, protocol: Any) -> None:
        protocol.connectionLost(Failure(ConnectionDone()))


@pytest.fixture
def talk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Talk]:
    monkeypatch.setattr(controlsocket, "peer_uid", lambda _: None)
    yield Talk(tmp_path)


def test_whoever_says_nothing_is_cut(talk: Talk) -> None:
    """After ten seconds; so is one who does not take the answer."""
    talk.protocol.dataReceived(b'{"verb":')
    talk.clock.advance(PATIENCE_S - 0.1)
    assert not talk.link.aborted
    talk.protocol.dataReceived(b'"status"}\n')
    assert talk.link.value().endswith(b"\n") and talk.link.disconnecting
    talk.clock.advance(PATIENCE_S - 0.1)
    assert not talk.link.aborted
    talk.clock.advance(0.1)
    assert talk.link.aborted
    talk.lose(talk.protocol)
    assert not talk.clock.getDelayedCalls()


def test_an_answer_that_nobody_waits_for(talk: Talk) -> None:
    """Is dropped; what was asked is done all the same."""
    waiting: Deferred[Answered] = Deferred()
    talk.host.control.answer = lambda asked, account: waiting  # type: ignore[method-assign]
    talk.protocol.dataReceived(b'{"verb":"reload"}\n')
    assert not talk.clock.getDelayedCalls()
    talk.lose(talk.protocol)
    waiting.callback(msgspec.Raw(b"{}"))  # type: ignore[arg-type]
    assert talk.link.value() == b""


def test_too_many_connections(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    """One more is cut."""
    monkeypatch.setattr(controlsocket, "MAX_CONNECTIONS", 1)
    link, protocol = talk.connect()
    assert link.aborted
    talk.lose(protocol)
    talk.lose(talk.protocol)
    assert not talk.clock.getDelayedCalls()


def test_the_end_of_all(talk: Talk) -> None:
    """Those that said nothing are cut, an answer on its way gets a moment."""
    told, said = talk.connect()
    said.dataReceived(b'{"verb":"stop"}\n')
    gone: list[None] = []
    talk.all.end().addCallback(gone.append)
    assert talk.link.aborted and not told.aborted
    talk.lose(talk.protocol)
    assert not gone
    talk.clock.advance(1)
    assert told.aborted
    talk.lose(said)
    assert gone == [None]
    assert succeed(None).called and talk.all.end().called
    assert not talk.clock.getDelayedCalls()


def test_a_fault_of_ours(talk: Talk, unhandled_failures: object) -> None:
    """Is a refusal that points at the log, and no end."""
    talk.host.control.answer = lambda asked, account: 1 / 0  # type: ignore
    talk.protocol.dataReceived(b'{"verb":"status"}\n')
    assert json.loads(talk.link.value())["code"] == "internal"
    talk.lose(talk.protocol)


@given(data=st.binary(max_size=60), cut=st.integers(0, 60))
@settings(max_examples=100)
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, data: bytes, cut: int) -> None:
    """Are answered with at most one line, and never end the host."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(controlsocket, "peer_uid", lambda _: None)
        talk = Talk(tmp_path_factory.mktemp("any"))
        for piece in (data[:cut], data[cut:] + b"\n"):
            talk.protocol.dataReceived(piece)
        assert talk.link.value().count(b"\n") <= 1
        talk.lose(talk.protocol)
        assert not talk.clock.getDelayedCalls()
