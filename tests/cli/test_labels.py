"""Tests of :mod:`palyra.cli.labels`, and of labels elsewhere in the command line."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import FakeConsole
from tests.cli.terminal import on_terminal
from tests.cli.things import PI, job, job_list, minted, node, node_answer, problem

LABEL = ("nodes", "label", "pi")
CHANGED = node_answer(node(labels={"site": "brno", "lab": ""}))


def test_labels_groups_and_names(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """What is set, what is taken away and the name go in one request; the answer is shown."""
    console.on("POST", "devices/pi/labels", CHANGED)
    assert console.run(capsys, *LABEL, "site=brno", "lab", "rack-", "--name", "pi") == (
        0,
        f"device\t{PI}\nname\tpi\nlabels\tlab,site=brno\n",
        "",
    )
    assert console.bodies("POST") == [
        {"name": "pi", "labels": {"site": "brno", "lab": ""}, "unlabel": ["rack"]}
    ]
    assert json.loads(console.run(capsys, *LABEL, "lab", "--json")[1])["node"]["name"] == "pi"


def test_on_a_terminal(console: FakeConsole) -> None:
    """Who it is, and every label it has now."""
    console.on("POST", "devices/pi/labels", CHANGED)
    assert on_terminal(console.root, *LABEL, "lab") == (
        0,
        "labelled  pi  X4K7QM  lab site=brno\n",
    )
    assert on_terminal(console.root, *LABEL, "--name", "pi") == (
        0,
        "renamed  pi  X4K7QM  lab site=brno\n",
    )


@pytest.mark.parametrize("args", [(), ("=x",), ("a b",), ("a", "a-"), ("A=1",)])
def test_what_is_no_label(
    console: FakeConsole, capsys: pytest.CaptureFixture[str], args: tuple[str, ...]
) -> None:
    """Refused here, as a usage error; so is a change of nothing."""
    status, out, err = console.run(capsys, *LABEL, *args)
    assert (status, out, console.asked) == (2, "", [])
    assert err.startswith("error: ")


def test_a_taken_name(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """The gateway's own words."""
    console.on("POST", "devices/pi/labels", problem("name_taken"), status=409)
    assert console.run(capsys, *LABEL, "--name", "nas")[0] == 1


def test_groups_in_a_code(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """A code gives its device labels and groups, and takes none away."""
    console.on("POST", "pairing/requests/code", minted())
    args = ("pairing", "code", "--label", "site=prague", "--label", "lab")
    assert console.run(capsys, *args)[0] == 0
    assert console.bodies("POST")[0]["labels"] == {"site": "prague", "lab": ""}
    status, _, err = console.run(capsys, "pairing", "code", "--label", "lab-")
    assert (status, len(console.bodies("POST"))) == (2, 1)
    assert "no label to take away" in err


def test_show_has_groups_and_what_waits(console: FakeConsole) -> None:
    """A group is a bare name; jobs that wait are counted."""
    console.on("GET", "nodes/pi", CHANGED)
    console.on("GET", "jobs", job_list())
    seen = on_terminal(console.root, "nodes", "show", "pi")[1]
    assert "labels       lab site=brno\n" in seen
    assert "waiting" not in seen
    assert console.asked[-1][2] == {"state": "queued", "device": PI, "limit": "200"}
    console.on("GET", "jobs", job_list(job(), job()))
    assert "waiting      2 jobs\n" in on_terminal(console.root, "nodes", "show", "pi")[1]
    console.on("GET", "jobs", job_list(job(), cursor="next"))
    seen = on_terminal(console.root, "nodes", "show", "pi")[1]
    assert "waiting      more than 1 job\n" in seen
