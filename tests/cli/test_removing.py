"""Tests of :mod:`palyra.cli.removing`: devices are revoked and forgotten, and it is said how."""

from __future__ import annotations

import json

import pytest

from palyra.console.models import ClearAnswer, Contract, RemoveAnswer, RevokeAnswer
from tests.cli.conftest import FakeConsole
from tests.cli.terminal import Terminal, on_terminal
from tests.cli.things import NAS, PI, job, job_list, node, node_answer, node_list, problem

REVOKED = RevokeAnswer(Contract(), PI, "pi", 1)
REMOVED = RemoveAnswer(Contract(), PI, "pi", True, 2, 1)
REMOVED_LINE = "removed  pi  X4K7QM  revoked now, deleted 2 certificates and 1 pairing request\n"


@pytest.fixture(autouse=True)
def answers(console: FakeConsole) -> None:
    """pi is there to be revoked and removed."""
    console.on("GET", "nodes/pi", node_answer(node(jobs_running=0)))
    console.on("GET", "jobs", job_list())
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


@pytest.mark.parametrize(("verb", "then"), [("revoke", ". It must "), ("remove", ", then ")])
def test_what_becomes_of_jobs(console: FakeConsole, verb: str, then: str) -> None:
    """A person is told how many jobs wait for the device and how many run there."""
    console.on("GET", "nodes/pi", node_answer(node(jobs_running=1)))
    console.on("GET", "jobs", job_list(job(), job(), cursor="more"))
    made = Terminal(console.root, "nodes", verb, "pi", columns=120)
    made.read_until("? [y/N] ")
    made.type("n\n")
    effect = "fails at least 2 queued jobs, leaves 1 running job unknown" + then
    assert f"Ends pi's session within a second, {effect}" in made.end()[1]
    (query,) = (query for _, path, query, _ in console.asked if path.endswith("/jobs"))
    assert (query["state"], query["device"]) == ("queued", PI)


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


CLEARED = ClearAnswer(Contract(), [REMOVED, RemoveAnswer(Contract(), NAS, "nas", False, 1, 0)])


@pytest.mark.parametrize(("answer", "status"), [("y", 0), ("", 1)])
def test_all_that_are_revoked(console: FakeConsole, answer: str, status: int) -> None:
    """A person is told which they are before they are forgotten, and what that did."""
    others = [node(name=f"n{i}", trust="revoked") for i in range(6)]
    console.on("GET", "nodes", node_list(node(name="kept"), *others))
    console.on("POST", "devices/clear", CLEARED)
    made = Terminal(console.root, "nodes", "remove", "--revoked")
    made.read_until("Forgets n0, n1, n2, n3, n4 and 1 more; their certificates stay refused.")
    made.read_until("Remove 6 revoked devices? [y/N] ")
    assert console.bodies("POST") == []
    made.type(answer + "\n")
    ended, seen = made.end()
    assert (ended, len(console.bodies("POST"))) == (status, 1 - status)
    nas = "removed  nas  9TQ0HC  deleted 1 certificate and 0 pairing requests\n"
    assert seen.endswith("not removed\n" if status else nas + REMOVED_LINE + "2 devices removed\n")


def test_all_that_are_revoked_in_a_script(
    console: FakeConsole, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line for each with what was deleted; JSON is the gateway's answer; nobody is asked."""
    console.on("POST", "devices/clear", CLEARED)
    given = ("nodes", "remove", "--revoked", "--reason", "spring")
    rows = f"{NAS}\tnas\t1\t0\n{PI}\tpi\t2\t1\n"
    assert console.run(capsys, *given) == (0, rows, "")
    assert console.bodies("POST") == [{"reason": "spring"}]
    assert len(json.loads(console.run(capsys, *given, "--json")[1])["removed"]) == 2


def test_none_is_revoked(console: FakeConsole) -> None:
    """Nobody is asked about nothing."""
    console.on("GET", "nodes", node_list(node()))
    console.on("POST", "devices/clear", ClearAnswer(Contract(), []))
    seen = on_terminal(console.root, "nodes", "remove", "--revoked")
    assert seen == (0, "0 devices removed\n")


@pytest.mark.parametrize("args", [[], ["pi", "--revoked"]])
def test_one_way_of_naming_them(
    console: FakeConsole, capsys: pytest.CaptureFixture[str], args: list[str]
) -> None:
    """Neither, or both, is a usage error: nothing is removed by a slip."""
    status, _, err = console.run(capsys, "nodes", "remove", *args)
    assert (status, console.asked) == (2, [])
    assert err.startswith("error: give a device, or --revoked: one of them.\n")


@pytest.mark.parametrize("verb", ["revoke", "remove"])
def test_refusals(console: FakeConsole, capsys: pytest.CaptureFixture[str], verb: str) -> None:
    """Exit 1 with the gateway's own words; nothing is said to be done."""
    console.on("POST", f"devices/{PI}/{verb}", problem("store_unavailable"), status=503)
    status, out, err = console.run(capsys, "nodes", verb, "pi")
    assert (status, out) == (1, "")
    assert err.startswith("error: ")
