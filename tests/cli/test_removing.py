"""Tests of :mod:`palyra.cli.removing`: devices are revoked and forgotten, and it is said how."""

from __future__ import annotations

import json

import pytest

from palyra.console.models import Contract, RemoveAnswer, RevokeAnswer
from tests.cli.conftest import FakeConsole
from tests.cli.terminal import Terminal, on_terminal
from tests.cli.things import PI, node, node_answer, problem

REVOKED = RevokeAnswer(Contract(), PI, "pi", 1)
REMOVED = RemoveAnswer(Contract(), PI, "pi", True, 2, 1)
REMOVED_LINE = "removed  pi  X4K7QM  revoked now, deleted 2 certificates and 1 pairing request\n"


@pytest.fixture(autouse=True)
def answers(console: FakeConsole) -> None:
    """pi is there to be revoked and removed."""
    console.on("GET", "nodes/pi", node_answer())
    console.on("POST", f"devices/{PI}/revoke", REVOKED)
    console.on("POST", f"devices/{PI}/remove", REMOVED)


def test_revoke_in_a_script(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """Who was revoked is told by its whole id; the reason is sent."""
    status, out, err = console.run(capsys, "nodes", "revoke", "pi", "--reason", "stolen")
    assert (status, out, err) == (0, f"revoked\t{PI}\nname\tpi\n", "")
    assert console.bodies("POST") == [{"reason": "stolen"}]
    assert json.loads(console.run(capsys, "nodes", "revoke", "pi", "--json")[1])["name"] == "pi"


@pytest.mark.parametrize(("answer", "status"), [("y", 0), ("", 1)])
def test_revoke_asks(console: FakeConsole, answer: str, status: int) -> None:
    """A person is told what it does, and who is meant, before it is done."""
    made = Terminal(console.root, "nodes", "revoke", "pi")
    made.read_until("Ends pi's session within a second. It must pair again.")
    made.read_until("Revoke pi  X4K7QM? [y/N] ")
    made.type(answer + "\n")
    ended, seen = made.end()
    assert (ended, len(console.bodies("POST"))) == (status, 1 - status)
    assert seen.endswith("not revoked\n" if status else "revoked  pi  X4K7QM  1 certificate\n")


def test_without_asking(console: FakeConsole) -> None:
    """``--yes`` is a yes."""
    revoked = on_terminal(console.root, "nodes", "revoke", "pi", "--yes")
    assert revoked == (0, "revoked  pi  X4K7QM  1 certificate\n")
    assert on_terminal(console.root, "nodes", "remove", "pi", "--yes") == (0, REMOVED_LINE)


def test_remove_in_a_script(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """What it did, one fact a line; JSON is the gateway's answer."""
    status, out, err = console.run(capsys, "nodes", "remove", "pi", "--reason", "sold")
    assert (status, err) == (0, "")
    assert out == (f"removed\t{PI}\nname\tpi\nrevoked\tnow\ncertificates\t2\npairing_requests\t1\n")
    assert console.bodies("POST") == [{"reason": "sold"}]
    answer = json.loads(console.run(capsys, "nodes", "remove", "pi", "--json")[1])
    assert (answer["revoked"], answer["pairing_requests"]) == (True, 1)


@pytest.mark.parametrize(("answer", "status"), [("y", 0), ("pi", 1), ("", 1)])
def test_remove_asks(console: FakeConsole, answer: str, status: int) -> None:
    """A person is told what it does, and who is meant, before it is done."""
    made = Terminal(console.root, "nodes", "remove", "pi")
    made.read_until("Ends pi's session within a second, then forgets pi and its pairing history.")
    made.read_until("Remove pi  X4K7QM? [y/N] ")
    assert console.bodies("POST") == []
    made.type(answer + "\n")
    ended, seen = made.end()
    assert (ended, len(console.bodies("POST"))) == (status, 1 - status)
    assert seen.endswith("not removed\n" if status else REMOVED_LINE)


def test_a_device_that_was_revoked_before(
    console: FakeConsole, capsys: pytest.CaptureFixture[str]
) -> None:
    """It has no session to end, and is not said to be revoked by this."""
    console.on("GET", "nodes/pi", node_answer(node(trust="revoked")))
    console.on("POST", f"devices/{PI}/remove", RemoveAnswer(Contract(), PI, "pi", False, 1, 0))
    assert "revoked\tbefore\n" in console.run(capsys, "nodes", "remove", "pi")[1]
    made = Terminal(console.root, "nodes", "remove", "pi")
    made.read_until("Forgets pi and its pairing history; its certificates stay refused.")
    made.type("yes\n")
    assert made.end()[1].endswith(
        "removed  pi  X4K7QM  deleted 1 certificate and 0 pairing requests\n"
    )


@pytest.mark.parametrize("verb", ["revoke", "remove"])
def test_refusals(console: FakeConsole, capsys: pytest.CaptureFixture[str], verb: str) -> None:
    """Exit 1 with the gateway's own words; nothing is said to be done."""
    console.on("POST", f"devices/{PI}/{verb}", problem("store_unavailable"), status=503)
    status, out, err = console.run(capsys, "nodes", verb, "pi")
    assert (status, out) == (1, "")
    assert err.startswith("error: ")
