"""Tests of :mod:`palyra.cli.client`: every way in which a gateway cannot be asked."""

from __future__ import annotations

import gc
import socket
import sys
from pathlib import Path

import pytest

from palyra.cli import client
from palyra.cli.client import Console, GatewayRefused, problem_of
from palyra.console.models import NodeAnswer, NodeList
from palyra.errors import (
    GatewayNotRunning,
    GatewayUnreachable,
    PalyraError,
    SocketPathTooLong,
    SocketPermission,
)
from tests.cli.conftest import FakeConsole
from tests.cli.things import nas, node, node_answer, node_list, problem


def asked(root: Path) -> PalyraError:
    with pytest.raises(PalyraError) as raised:
        Console(root, timeout_s=0.2).get("nodes/pi", NodeAnswer)
    return raised.value


def test_an_answer_is_typed(console: FakeConsole) -> None:
    """The body becomes a value, and its bytes are kept; names are one segment of the path."""
    console.on("GET", "nodes/a%2Fb", node_answer())
    answer = Console(console.root).get(f"nodes/{client.segment('a/b')}", NodeAnswer)
    assert answer.value == node_answer()
    assert answer.body.startswith(b"{")


def test_a_refusal_keeps_its_words(console: FakeConsole) -> None:
    """Sentence, code and hint are the gateway's; the exit code is 1."""
    console.on("GET", "nodes/pi", problem(), status=412)
    error = asked(console.root)
    assert isinstance(error, GatewayRefused)
    assert problem_of(error) == problem()
    assert (error.sentence, error.hint) == (problem().error, problem().hint)
    assert error.exit_code == 1


def test_no_socket(tmp_path: Path) -> None:
    """Nothing was started here, or the socket is one that nobody listens on."""
    assert isinstance(asked(tmp_path), GatewayNotRunning)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "console.sock"))
    assert isinstance(asked(tmp_path), GatewayNotRunning)
    assert asked(tmp_path).exit_code == 3
    assert problem_of(asked(tmp_path)).code == "gateway_not_running"


def test_the_socket_of_another_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The owner is named, and so is the caller."""

    def refused(self: object) -> None:
        raise PermissionError

    monkeypatch.setattr(client._SocketConnection, "connect", refused)
    error = asked(tmp_path)
    assert isinstance(error, SocketPermission)
    assert error.owner == tmp_path.owner()


def test_a_path_that_is_too_long(tmp_path: Path) -> None:
    """The kernel's limit is told before it is met."""
    assert isinstance(asked(tmp_path / ("x" * 100)), SocketPathTooLong)


def test_silence(tmp_path: Path) -> None:
    """A gateway that accepts and says nothing is given up."""
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(tmp_path / "console.sock"))
        mute.listen()
        error = asked(tmp_path)
    assert isinstance(error, GatewayUnreachable)
    assert "no answer in 0.2s" in error.sentence


def test_an_interrupt_as_an_answer_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C there leaves an answer without a file, whose end prints nothing."""
    unraisable: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)

    class Interrupted:
        def makefile(self, mode: str) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client._SocketConnection.response_class(Interrupted())  # type: ignore[arg-type]
    gc.collect()
    assert unraisable == []


def test_another_protocol(console: FakeConsole, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no answer of ours is said to be none."""
    console.on("GET", "nodes/pi", b'{"contract":1}')
    assert "not one this version reads" in asked(console.root).sentence
    console.on("GET", "nodes/pi", b"<html>", status=502)
    assert "answered 502 without a reason" in asked(console.root).sentence

    def broken(self: object) -> None:
        raise OSError

    monkeypatch.setattr(client._SocketConnection, "connect", broken)
    assert "OSError" in asked(console.root).sentence


def test_pages_until_the_end(console: FakeConsole) -> None:
    """Without a limit every page is asked for, each with the cursor of the one before."""
    console.on("GET", "nodes", [node_list(node(), cursor="next"), node_list(nas())])
    pages = list(Console(console.root).pages("nodes", NodeList, None))
    assert [len(page.value.nodes) for page in pages] == [1, 1]
    assert [query for _, _, query, _ in console.asked] == [
        {"limit": "200"},
        {"limit": "200", "cursor": "next"},
    ]


def test_pages_until_the_limit(console: FakeConsole) -> None:
    """With a limit no more is asked for than that."""
    console.on("GET", "nodes", node_list(node(), cursor="next"))
    assert len(list(Console(console.root).pages("nodes", NodeList, 1))) == 1
    assert console.asked[0][2] == {"limit": "1"}
