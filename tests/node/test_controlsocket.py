"""Tests of :mod:`palyra.node.controlsocket`, over real sockets."""

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
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import StringTransport
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure

from palyra._ownersocket import account_of, own_account
from palyra.errors import SocketPathTooLong
from palyra.node import controlsocket
from palyra.node.controlsocket import GREETING_S, ControlSocket, _Conversations
from palyra.node.controlwords import MAX_ASKED, PATIENCE_S, Answered
from palyra.supervision import controlpoint
from palyra.supervision.controlpoint import (
    MAX_GREETING,
    ControlFile,
    LoopbackPoint,
    SocketPoint,
    control_point,
)
from tests.node.test_hostcontrol import JOB, Controlled

PATIENT_S = 30


class Bound:
    """A node host that listens."""

    def __init__(self, path: Path, *, unix: bool = True) -> None:
        from twisted.internet import reactor

        self.host = Controlled(path)
        self.point = control_point(path, unix=unix)
        self.path = self.point.path
        self.socket = ControlSocket(reactor, self.point, self.host.control)
        self.socket.bind()

    async def ask(self, data: bytes) -> Any:
        """The answer to these bytes, decoded; None where there is none."""
        answer = await deferToThread(self._ask, data)
        return json.loads(answer) if answer else None

    def _ask(self, data: bytes) -> bytes:
        received = b""
        try:
            with self.point.connect(PATIENT_S) as link:
                link.sendall(data)
                while piece := link.recv(65_536):
                    received += piece
        except (ConnectionResetError, BrokenPipeError):
            pass
        return received


@pytest.mark.parametrize("unix", [True, False], ids=["socket", "loopback"])
@pytest_twisted.ensureDeferred
async def test_one_request_one_answer(tmp_path: Path, unix: bool) -> None:
    """One line each way, for the owner alone; it ends with the answer, and what says where with
    us."""
    bound = Bound(tmp_path, unix=unix)
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
    bound = Bound(tmp_path, unix=len(line) % 2 == 0)
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
    monkeypatch.setattr(controlpoint, "peer_uid", lambda connection: os.geteuid() + 12_345)
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
        point = SocketPoint(tmp_path / ("x" * 200))
        ControlSocket(None, point, Controlled(tmp_path).control).bind()


# -- a token on loopback --------------------------------------------------------------------------


def told(port: int, data: bytes) -> bytes:
    """What a stranger gets for these bytes."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), PATIENT_S) as link:
        try:
            link.sendall(data)
            while piece := link.recv(65_536):
                received += piece
        except (ConnectionResetError, BrokenPipeError):
            pass
    return received


def on_file(path: Path) -> ControlFile:
    return msgspec.json.decode(path.read_bytes(), type=ControlFile)


STOP = b'{"verb":"stop"}\n'


@pytest.mark.parametrize(
    "greeting",
    [
        b"",
        b"\n",
        b"0" * 64 + b"\n",
        b"x" * MAX_ASKED,
        b"\xff" * 64 + b"\n",
        b"x" * 129 + b"\n",
        b"0\n" + b"x" * 200_000,
    ],
    ids=["none", "empty", "wrong", "endless", "not ascii", "long", "wrong and endless"],
)
@pytest_twisted.ensureDeferred
async def test_a_stranger_is_cut(tmp_path: Path, greeting: bytes) -> None:
    """Without the token nothing is parsed, done or answered."""
    bound = Bound(tmp_path, unix=False)
    try:
        port = on_file(bound.path).port
        assert await deferToThread(told, port, greeting + STOP) == b""
    finally:
        await bound.socket.stop()
    assert bound.host.stopped == 0


@pytest_twisted.ensureDeferred
async def test_the_token_of_an_earlier_start(tmp_path: Path) -> None:
    """Is void; so is one with more or less behind it, and the right one works."""
    earlier = Bound(tmp_path, unix=False)
    old = on_file(earlier.path)
    await earlier.socket.stop()
    assert not earlier.path.exists()
    bound = Bound(tmp_path, unix=False)
    try:
        new = on_file(bound.path)
        assert old.token != new.token
        for wrong in (old.token, new.token[:-1], new.token + "0", new.token.upper() + " "):
            data = wrong.encode() + b"\n" + STOP
            assert await deferToThread(told, new.port, data) == b""
        assert bound.host.stopped == 0
        data = new.token.encode() + b"\n" + STOP
        assert b'"stopping"' in await deferToThread(told, new.port, data)
        assert bound.host.stopped == 1
    finally:
        await bound.socket.stop()


@pytest_twisted.ensureDeferred
async def test_a_port_that_cannot_be_told(tmp_path: Path) -> None:
    """Is given back, and nobody can speak there."""
    point = LoopbackPoint(tmp_path / "missing")
    from twisted.internet import reactor

    with pytest.raises(FileNotFoundError):
        point.listen(reactor, _Conversations(Clock(), Controlled(tmp_path).control, point))
    assert not point.greets(b"")
    await deferLater(reactor, 0)  # type: ignore[arg-type]


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

    def __init__(self, path: Path, token: str = "") -> None:
        self.host = Controlled(path)
        self.clock = Clock()
        point = control_point(path, unix=not token)
        if isinstance(point, LoopbackPoint):
            point._token = token.encode()
        self.all = _Conversations(self.clock, self.host.control, point)
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
    monkeypatch.setattr(controlpoint, "peer_uid", lambda _: None)
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
        patch.setattr(controlpoint, "peer_uid", lambda _: None)
        talk = Talk(tmp_path_factory.mktemp("any"))
        for piece in (data[:cut], data[cut:] + b"\n"):
            talk.protocol.dataReceived(piece)
        assert talk.link.value().count(b"\n") <= 1
        talk.lose(talk.protocol)
        assert not talk.clock.getDelayedCalls()


TOKEN = "5f" * 32


def test_a_slow_stranger(tmp_path: Path) -> None:
    """Has two seconds for the token, whatever it sends meanwhile; then there is time to ask."""
    talk = Talk(tmp_path, TOKEN)
    slow, known = talk.connect(), talk.connect()
    known[1].dataReceived(TOKEN[:10].encode())
    talk.clock.advance(GREETING_S - 0.1)
    slow[1].dataReceived(b"0")
    known[1].dataReceived(TOKEN[10:].encode() + b"\n")
    talk.clock.advance(0.1)
    assert slow[0].aborted and talk.link.aborted and not known[0].aborted
    known[1].dataReceived(b'{"verb":"status"}\n')
    assert b'"status"' in known[0].value()
    for protocol in (slow[1], known[1], talk.protocol):
        talk.lose(protocol)
    assert not talk.clock.getDelayedCalls()


def test_nothing_is_read_after_a_wrong_token(tmp_path: Path) -> None:
    """Not even the right one; and a greeting without an end is not kept."""
    talk = Talk(tmp_path, TOKEN)
    talk.protocol.dataReceived(b"0" * 64 + b"\n" + TOKEN.encode() + b"\n" + STOP)
    talk.protocol.dataReceived(TOKEN.encode() + b"\n" + STOP)
    assert talk.link.aborted and talk.link.value() == b"" and talk.host.stopped == 0
    link, endless = talk.connect()
    endless.dataReceived(b"0" * (MAX_GREETING + 1))
    assert link.aborted
    for protocol in (talk.protocol, endless):
        talk.lose(protocol)
    assert not talk.clock.getDelayedCalls()


def test_strangers_leave_room_for_the_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many connect and say nothing: the one that came first is cut."""
    monkeypatch.setattr(controlsocket, "MAX_CONNECTIONS", 2)
    talk = Talk(tmp_path, TOKEN)
    others = [talk.connect() for _ in range(2)]
    assert talk.link.aborted and not others[0][0].aborted
    owner = talk.connect()
    owner[1].dataReceived(TOKEN.encode() + b"\n" + STOP)
    assert talk.host.stopped == 1 and b'"stopping"' in owner[0].value()
    gone: list[None] = []
    talk.lose(talk.protocol)
    talk.all.end().addCallback(gone.append)
    assert others[1][0].aborted and not gone
    for _, protocol in (*others, owner):
        talk.lose(protocol)
    assert gone == [None] and not talk.clock.getDelayedCalls()


def test_who_speaks_on_loopback(tmp_path: Path) -> None:
    """Whoever could read the owner's file is taken for the owner."""
    talk = Talk(tmp_path, TOKEN)
    accounts: list[str] = []
    talk.host.control.answer = (  # type: ignore[method-assign]
        lambda asked, account: accounts.append(account) or Deferred()  # type: ignore[func-returns-value]
    )
    talk.protocol.dataReceived(TOKEN.encode() + b"\n" + STOP)
    talk.lose(talk.protocol)
    assert accounts == [own_account()]
