"""Tests of :mod:`palyra.cli.client`: every way in which a gateway cannot be asked."""

from __future__ import annotations

import gc
import socket
import sys
import threading
from pathlib import Path

import pytest

from palyra.afar import eventstream
from palyra.cli import client
from palyra.cli.client import Console, GatewayRefused, problem_of
from palyra.console.models import JobList, NodeAnswer, NodeList
from palyra.errors import (
    GatewayNotRunning,
    GatewayUnreachable,
    PalyraError,
    SocketPathTooLong,
    SocketPermission,
)
from tests.cli.conftest import FakeConsole, Stream
from tests.cli.things import (
    END,
    event_of_job,
    job,
    job_list,
    nas,
    node,
    node_answer,
    node_list,
    problem,
)


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


def kinds(console: FakeConsole) -> list[str]:
    """The kinds of the events that come."""
    return [answer.value.kind for answer in Console(console.root).events("jobs/x/events")]


def test_events_end_with_end(console: FakeConsole) -> None:
    """What comes after it is not waited for."""
    console.on("GET", "jobs/x/events", Stream.of(event_of_job(job()), END, event_of_job(job())))
    assert kinds(console) == ["job", "end"]


def test_events_are_taken_up_again(console: FakeConsole, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that breaks or just ends is opened again a few times, not for ever."""
    monkeypatch.setattr(client, "_AGAIN_S", (0.0, 0.0))
    begun, cut = Stream.of(event_of_job(job())), Stream.of(event_of_job(job()), cut=True)
    console.on("GET", "jobs/x/events", [begun, cut, Stream.of(END)])
    assert kinds(console) == ["job", "job", "end"]
    console.on("GET", "jobs/x/events", begun)
    with pytest.raises(GatewayUnreachable, match="ended early"):
        kinds(console)
    monkeypatch.setattr(client, "_STEADY_S", -1.0)
    console.on("GET", "jobs/x/events", [*[begun] * 9, Stream.of(END)])
    assert kinds(console) == ["job"] * 9 + ["end"]


def test_events_that_never_began(console: FakeConsole) -> None:
    """A refusal, and what is no event, are told at once."""
    console.on("GET", "jobs/x/events", problem("not_found"), status=404)
    with pytest.raises(GatewayRefused):
        kinds(console)
    console.on("GET", "jobs/x/events", Stream([b"data: {}\n\n"]))
    with pytest.raises(GatewayUnreachable, match="not one this version reads"):
        kinds(console)
    assert len(console.asked) == 2


def test_events_of_another_version(console: FakeConsole, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking again would not help, so it is not done; a refusal in between is the end, too."""
    monkeypatch.setattr(client, "_AGAIN_S", (0.0,))
    begun = Stream.of(event_of_job(job())).pieces
    console.on("GET", "jobs/x/events", Stream([*begun, b"data: []\n\n"]))
    with pytest.raises(GatewayUnreachable, match="not one this version reads"):
        kinds(console)
    assert len(console.asked) == 1


def test_events_that_stay_away(console: FakeConsole, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway that is silent longer than its keep-alive is gone."""
    monkeypatch.setattr(client, "_AGAIN_S", ())
    monkeypatch.setattr(client, "SILENCE_S", 0.05)
    let_go = threading.Event()
    console.on(
        "GET", "jobs/x/events", Stream([*Stream.of(event_of_job(job())).pieces, let_go.wait])
    )
    with pytest.raises(GatewayUnreachable, match=r"no answer in 0\.05s"):
        kinds(console)
    let_go.set()


def test_an_event_without_end(console: FakeConsole, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does it fill the memory."""
    monkeypatch.setattr(eventstream, "MAX_LINE", 8)
    console.on("GET", "jobs/x/events", Stream([b"data: 0123456789"]))
    with pytest.raises(GatewayUnreachable, match="does not end"):
        kinds(console)


def test_lists_in_a_query(console: FakeConsole) -> None:
    """Each of several values is sent; none is no filter."""
    console.on("GET", "jobs", job_list())
    Console(console.root).get("jobs", JobList, 0, state=("queued", "failed"), device=())
    assert console.asked[0][2] == {"state": "queued,failed"}
