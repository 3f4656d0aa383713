"""Tests of :mod:`palyra.cli.pairing`."""

from __future__ import annotations

import json

import pytest

from palyra.console.models import SeenBefore
from tests.cli.conftest import FakeConsole
from tests.cli.terminal import Terminal, on_terminal
from tests.cli.things import (
    KEY,
    REQUEST,
    another_key,
    minted,
    minted_pin,
    problem,
    request,
    request_answer,
    request_list,
)

CODES = "pairing/requests/code"
THE_REQUEST = f"pairing/requests/{REQUEST}"


def asks(console: FakeConsole, seen: SeenBefore | None = None) -> None:
    """pi asks to be paired, and a decision is taken."""
    seen = seen or SeenBefore("never")
    for wanted in ("T6MW3K", REQUEST):
        console.on("GET", f"pairing/requests/{wanted}", request_answer(seen_before=seen))
    console.on("GET", "pairing/requests", request_list(request()))
    console.on("POST", f"{THE_REQUEST}/approve", request_answer(state="approved"))
    console.on("POST", f"{THE_REQUEST}/reject", request_answer(state="rejected"))


def test_a_pin_for_scripts(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """A PIN is what one gets; it and when it ends; the options reach the gateway."""
    console.on("POST", CODES, minted_pin())
    args = ["--ttl", "5m", "--label", "site=prague", "--label", "a=b", "--from", "192.168.0.0/16"]
    assert console.run(capsys, "pairing", "code", *args) == (
        0,
        "pin\t418207\nexpires\t2026-11-22T03:54:14Z\n",
        "",
    )
    assert console.bodies("POST") == [
        {
            "method": "pin",
            "issued_by": "",
            "ttl_ms": 300_000,
            "labels": {"site": "prague", "a": "b"},
            "source": "192.168.0.0/16",
            "qr_matrix": False,
        }
    ]


def test_a_line_for_scripts(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """The pairing line and when it ends."""
    console.on("POST", CODES, minted())
    assert console.run(capsys, "pairing", "code", "--method", "qr") == (
        0,
        f"uri\t{minted().uri}\nexpires\t2026-11-22T03:54:14Z\n",
        "",
    )
    assert console.bodies("POST")[0]["method"] == "qr"


def test_code_as_json(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """The gateway's answer on one line."""
    console.on("POST", CODES, minted_pin())
    status, out, err = console.run(capsys, "pairing", "code", "--json")
    assert (status, err, out.count("\n")) == (0, "", 1)
    assert json.loads(out)["pin"] == "418207"


def test_only_pin_and_qr_exist(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """Another method is a usage error, and so is taking a label away from a new device."""
    status, _, err = console.run(capsys, "pairing", "code", "--method", "nfc")
    assert status == 2
    assert "'nfc' is not" in err
    assert console.run(capsys, "pairing", "code", "--label", "site-")[0] == 2
    assert console.asked == []


def test_a_pin_on_a_terminal(console: FakeConsole) -> None:
    """It stands alone and bold, never in a style that hides it, and no QR comes with it."""
    console.on("POST", CODES, minted_pin("2-530946"))
    made = Terminal(console.root, "pairing", "code")
    status, seen = made.end()
    lines = seen.splitlines()
    assert (status, len(lines)) == (0, 3)
    assert lines[0] == "PIN      2-530946"
    assert "\x1b[1m2-530946" in made.seen
    assert lines[2] == "hint     on the device: palyra node run --gateway home.example.org"


def test_list(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """The options reach the gateway; JSON is its answer."""
    console.on("GET", "pairing/requests", request_list(request()))
    status, out, _ = console.run(capsys, "pairing", "list", "--state", "rejected", "--limit", "5")
    assert (status, out.split("\t")[0]) == (0, REQUEST)
    assert console.asked[0][2] == {"state": "rejected", "limit": "5"}
    status, out, _ = console.run(capsys, "pairing", "list", "--json")
    assert json.loads(out)["requests"][0]["request_id"] == REQUEST


def test_approve_in_a_script(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """The id is the consent: the facts, then the decision; grants and reason are sent."""
    asks(console)
    args = ["--grant", "echo", "--grant", "system.health", "--reason", "new"]
    status, out, err = console.run(capsys, "pairing", "approve", "T6MW3K", *args)
    assert (status, err) == (0, "")
    assert f"identity\t{KEY}\n" in out
    assert out.endswith("decision\tapproved\n")
    (sent,) = console.bodies("POST")
    assert (sent["grants"], sent["reason"]) == (["echo", "system.health"], "new")
    assert sent["accept_new_identity"] is False


@pytest.mark.parametrize("risk", ["none", "low", "medium", "high"])
def test_what_comes_later_may_be_granted(
    console: FakeConsole, capsys: pytest.CaptureFixture[str], risk: str
) -> None:
    """Up to the risk that is said; it is among the facts where it is not the usual."""
    asks(console)
    status, out, _ = console.run(capsys, "pairing", "approve", "T6MW3K", "--grant-up-to", risk)
    assert (status, console.bodies("POST")[0]["grant_risk"]) == (0, risk)
    assert (f"grants\tall announced {risk}\n" in out) is (risk != "low")


def test_the_usual_grant_is_low(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """Everything announced now, and later only what is of low risk."""
    asks(console)
    assert "grants\t" not in console.run(capsys, "pairing", "approve", "T6MW3K")[1]
    sent = console.bodies("POST")[0]
    assert (sent["grants"], sent["grant_risk"]) == (None, "low")
    assert console.run(capsys, "pairing", "approve", "T6MW3K", "--grant-up-to", "all")[0] == 2


def test_the_hint_is_something_that_is_granted(console: FakeConsole) -> None:
    """A device without echo has nothing that could be tried blindly."""
    asks(console)
    made = Terminal(console.root, "pairing", "approve", "T6MW3K", "--grant", "system.health")
    made.read_until("[y/N]")
    made.type("y\n")
    _, seen = made.end()
    assert "grants        system.health; later ones up to low\n" in seen
    assert seen.endswith("approved  pi  X4K7QM\nhint      palyra nodes show pi\n")


def test_approve_as_json(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """One line: {contract, request}."""
    asks(console)
    status, out, err = console.run(capsys, "pairing", "approve", "T6MW3K", "--json")
    assert (status, err, out.count("\n")) == (0, "", 1)
    assert set(json.loads(out)) == {"contract", "request"}
    assert console.bodies("POST")[0]["grants"] is None


def test_a_changed_key_needs_a_person(
    console: FakeConsole, capsys: pytest.CaptureFixture[str]
) -> None:
    """A script must say that it accepts another key."""
    asks(console, another_key())
    status, _, err = console.run(capsys, "pairing", "approve", "T6MW3K")
    assert status == 1
    assert "pi was paired before with another key (was 02be.., now 7d4c..)" in err
    assert console.bodies("POST") == []
    assert console.run(capsys, "pairing", "approve", "T6MW3K", "--accept-new-identity")[0] == 0
    assert console.bodies("POST")[0]["accept_new_identity"] is True


def test_approve_on_a_terminal(console: FakeConsole) -> None:
    """The facts, the fingerprint in the question, then the next command."""
    asks(console)
    made = Terminal(console.root, "pairing", "approve", "T6MW3K")
    made.read_until("[y/N]")
    assert console.bodies("POST") == []
    made.type("y\n")
    status, seen = made.end()
    assert status == 0
    assert "Does the device print 7d4c 19e2 03ab f58e?  Approve pi? [y/N] y\n" in seen
    assert seen.endswith(
        "approved  pi  X4K7QM\n"
        """hint      palyra nodes invoke pi echo --input '{"text":"hello"}'\n"""
    )


def test_the_default_is_no(console: FakeConsole) -> None:
    """Enter alone approves nothing."""
    asks(console)
    made = Terminal(console.root, "pairing", "approve", "T6MW3K")
    made.read_until("[y/N]")
    made.type("\n")
    status, seen = made.end()
    assert (status, console.bodies("POST")) == (1, [])
    assert seen.endswith("not approved; the request still waits\n")


@pytest.mark.parametrize(("typed", "status"), [("y", 1), ("pi", 0)])
def test_a_changed_key_wants_the_name(console: FakeConsole, typed: str, status: int) -> None:
    """A habitual y is not enough to let another key in."""
    asks(console, another_key())
    made = Terminal(console.root, "pairing", "approve", "T6MW3K")
    made.read_until("Type the name pi to approve its new key: ")
    made.type(typed + "\n")
    assert made.end()[0] == status
    sent = console.bodies("POST")
    assert [each["accept_new_identity"] for each in sent] == ([] if status else [True])


def test_a_decided_request(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody is asked; the gateway says what it says."""
    console.on("GET", "pairing/requests/T6MW3K", request_answer(state="rejected"))
    console.on("GET", "pairing/requests", request_list())
    console.on("POST", f"{THE_REQUEST}/approve", problem("approval_final"), status=409)
    status, _, err = console.run(capsys, "pairing", "approve", "T6MW3K")
    assert status == 1
    assert err.startswith("pi  X4K7QM is rejected already\nerror: ")


def test_reject(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """The reason is sent, the decision is told."""
    asks(console)
    status, out, _ = console.run(capsys, "pairing", "reject", "T6MW3K", "--reason", "not ours")
    assert (status, out) == (0, "decision\trejected\n")
    assert console.bodies("POST")[0]["reason"] == "not ours"
    assert on_terminal(console.root, "pairing", "reject", "T6MW3K") == (0, "rejected  pi  X4K7QM\n")


def test_a_request_that_completed_at_once_is_told_as_approved(
    console: FakeConsole, capsys: pytest.CaptureFixture[str]
) -> None:
    """The device may have fetched its certificate before the answer was written."""
    asks(console)
    console.on("POST", f"{THE_REQUEST}/approve", request_answer(state="completed"))
    assert console.run(capsys, "pairing", "approve", "T6MW3K")[1].endswith("decision\tapproved\n")
