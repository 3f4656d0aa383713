"""Tests of :mod:`palyra.cli.quickstart` with daemons that are scripts and a console that is fake.

The real daemons are started by the integration tests.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator

import msgspec
import psutil
import pytest

from palyra.cli import children, quickstart
from palyra.cli.children import Child
from palyra.console.models import Check, Contract, Health
from tests.cli.conftest import FakeConsole
from tests.cli.things import (
    KEY,
    OTHER_KEY,
    PI,
    REQUEST,
    invoke_answer,
    minted,
    node,
    node_list,
    problem,
    request,
    request_answer,
    request_list,
)

HEALTH = Health(Contract(), "0.1.0", 1, "/srv", 0, "ab", {}, [Check("ok", "store", "fine")])
GATEWAY = "import time; time.sleep(60)"
NODE = f"""
import sys, time
sys.stdin.readline()
print("identity\\tpi\\tX4K7QM\\t{KEY}")
time.sleep(60)
"""


@pytest.fixture
def daemons(console: FakeConsole, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Child]]:
    """A gateway and a node that pair; another device asks at the same time."""
    started: list[Child] = []
    made = Child.__init__

    def remembered(self: Child, *args: object) -> None:
        made(self, *args)  # type: ignore[arg-type]
        started.append(self)
        console.on("GET", "doctor", HEALTH)

    def gateway(*_: object) -> list[str]:
        return [sys.executable, "-c", GATEWAY]

    def host(*_: object) -> list[str]:
        return [sys.executable, "-c", NODE]

    monkeypatch.setattr(Child, "__init__", remembered)
    monkeypatch.setattr(children, "gateway_command", gateway)
    monkeypatch.setattr(children, "node_command", host)
    stranger = request(request_id=PI, identity_fingerprint=OTHER_KEY)
    console.root.chmod(0o700)
    console.on("POST", "pairing/requests/code", minted())
    console.on("GET", "pairing/requests", request_list(stranger, request()))
    console.on("POST", f"pairing/requests/{REQUEST}/approve", request_answer())
    console.on("GET", "nodes", [node_list(node(presence="offline")), node_list(node())])
    console.on("POST", f"nodes/{PI}/invoke", invoke_answer())
    yield started
    assert not [each for each in started if psutil.pid_exists(each.pid)]


def test_once(
    daemons: list[Child], console: FakeConsole, capsys: pytest.CaptureFixture[str]
) -> None:
    """The story line by line; only the request with the printed key is approved."""
    status, out, err = console.run(capsys, "quickstart", "--once")
    lines = out.splitlines()
    assert status == 0
    assert [line[:19].rstrip() for line in lines[:5]] == [
        "ok  gateway started",
        "ok  node paired",
        "ok  echo",
        "ok  system.health",
        "ok  system.identity",
    ]
    assert lines[5].startswith("console  http://localhost:")
    assert lines[6:] == [f"state    {console.root}"]
    elsewhere = f"export PALYRA_STATE_ROOT={console.root}; palyra console login"
    assert err == f"hint     second terminal: {elsewhere}\n"
    approved = [path for _, path, _, _ in console.asked if path.endswith("/approve")]
    assert approved == [f"/console/v1/pairing/requests/{REQUEST}/approve"]
    assert console.bodies("POST")[0]["issued_by"] == "quickstart"
    assert len(daemons) == 2


def test_json(
    daemons: list[Child], console: FakeConsole, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exactly one object on one line."""
    status, out, err = console.run(capsys, "quickstart", "--once", "--json")
    found = json.loads(out)
    assert (status, err, out.count("\n")) == (0, "", 1)
    assert found["state_root"] == str(console.root)
    assert found["node_state_root"] == str(console.root / "node")
    assert found["console_url"].startswith("http://localhost:")
    assert found["console_sock"] == str(console.root / "console.sock")
    assert found["device_id"] == PI
    assert set(found["results"]) == {"echo", "system.health", "system.identity"}
    assert set(found["timings_ms"]) == {"gateway", "pairing", *found["results"]}


def test_a_capability_that_fails(
    daemons: list[Child], console: FakeConsole, capsys: pytest.CaptureFixture[str]
) -> None:
    """The others are asked all the same; the exit status tells."""
    bad = msgspec.structs.replace(invoke_answer(), success=False, state="failed", error="It broke.")
    console.on("POST", f"nodes/{PI}/invoke", [invoke_answer(), bad, invoke_answer()])
    status, out, _ = console.run(capsys, "quickstart", "--once")
    assert status == 1
    assert "!!  system.health      It broke.\n" in out
    assert "ok  system.identity" in out


def test_a_refusal(
    daemons: list[Child], console: FakeConsole, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the gateway refuses is told in its words."""
    console.on("POST", f"nodes/{PI}/invoke", problem(), status=412)
    status, out, _ = console.run(capsys, "quickstart", "--once")
    assert (status, out.count("!!  ")) == (1, 3)
    console.on("GET", "doctor", b"", status=404)
    console.on("POST", "pairing/requests/code", problem("limit_reached"), status=429)
    assert console.run(capsys, "quickstart", "--once")[0] == 1


def test_a_gateway_that_does_not_start(
    daemons: list[Child],
    console: FakeConsole,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its last line is the error."""

    def broken(*_: object) -> list[str]:
        return [sys.executable, "-c", "import sys; sys.exit('error: Port 7443 is taken.')"]

    def away(*_: object) -> None:
        return None

    monkeypatch.setattr(children, "gateway_command", broken)
    monkeypatch.setattr(quickstart, "_answers", away)
    status, out, err = console.run(capsys, "quickstart", "--once")
    assert (status, out) == (1, "")
    assert err.startswith("error: The gateway ended: Port 7443 is taken.\nhint:  its whole output")


def test_a_root_that_is_in_use(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is started beside a gateway that runs there already."""
    console.root.chmod(0o700)
    console.on("GET", "doctor", HEALTH)
    status, _, err = console.run(capsys, "quickstart", "--once")
    assert status == 1
    assert err.startswith(f"error: A gateway (pid 1) already uses state root {console.root}.\n")


def test_it_runs_until_ctrl_c(
    daemons: list[Child],
    console: FakeConsole,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both are stopped, which is what was asked for: exit 0."""

    stay = quickstart._stay

    def stays(tour: quickstart.Tour) -> int:
        threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGINT)).start()
        return stay(tour)

    monkeypatch.setattr(quickstart, "_stay", stays)
    assert console.run(capsys, "quickstart")[0] == 0


def test_it_tells_when_one_of_them_goes_away(
    daemons: list[Child],
    console: FakeConsole,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A gateway that dies later ends all of it."""
    stay = quickstart._stay

    def stays(tour: quickstart.Tour) -> int:
        tour.running[0].stop()
        return stay(tour)

    monkeypatch.setattr(quickstart, "_stay", stays)
    status, _, err = console.run(capsys, "quickstart")
    assert status == 1
    assert err.splitlines()[-2].startswith("error: The gateway ended: ")
