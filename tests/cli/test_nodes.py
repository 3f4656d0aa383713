"""Tests of :mod:`palyra.cli.nodes`."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import FakeConsole
from tests.cli.terminal import Terminal
from tests.cli.things import job_list, nas, node, node_answer, node_list, request, request_list


def test_list_takes_every_page(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """A script gets all of them without asking twice."""
    console.on("GET", "nodes", [node_list(node(), cursor="next"), node_list(nas())])
    status, out, err = console.run(capsys, "nodes", "list")
    assert (status, err) == (0, "")
    assert [line.split("\t")[1] for line in out.splitlines()] == ["pi", "nas"]


def test_list_as_json(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """The envelope unchanged, on one line."""
    console.on("GET", "nodes", node_list(node(), cursor="next"))
    status, out, err = console.run(capsys, "nodes", "list", "--json", "--limit", "1")
    assert (status, err, out.count("\n")) == (0, "", 1)
    assert set(json.loads(out)) == {"contract", "page", "nodes", "total", "waiting_for_approval"}
    assert console.asked[0][2] == {"limit": "1"}


def test_list_on_a_terminal(console: FakeConsole) -> None:
    """As drawn, with what is not shown said; colour repeats the words."""
    console.on("GET", "nodes", node_list(node(last_heard_unix_ms=None), cursor="next"))
    made = Terminal(console.root, "nodes", "list", "--limit", "1")
    status, seen = made.end()
    assert status == 0
    assert seen == (
        "ID      NAME  PRESENCE  TRUST    PLATFORM     CAPS  JOBS  HEARD\n"
        "X4K7QM  pi    online    trusted  linux arm64     5     1  -\n"
        "1 device: 1 online\n"
        "only the first 1; --limit N or --where EXPR\n"
    )
    assert "\x1b[32monline" in made.seen


def test_show(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """By what was typed: the gateway resolves it."""
    console.on("GET", "nodes/X4K7", node_answer())
    console.on("GET", "jobs", job_list())
    assert console.run(capsys, "nodes", "show", "X4K7")[1].startswith("name\tpi\n")
    assert json.loads(console.run(capsys, "nodes", "show", "X4K7", "--json")[1])["node"]


def test_pending(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """The same rows as ``pairing list``."""
    console.on("GET", "nodes/pending", request_list(request()))
    assert "\tpending_approval\tpi\t" in console.run(capsys, "nodes", "pending")[1]
    assert json.loads(console.run(capsys, "nodes", "pending", "--json")[1])["requests"]
