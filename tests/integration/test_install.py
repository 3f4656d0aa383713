"""``palyra node install`` and what comes after it, with a background process and a real gateway."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cache

import psutil
import pytest

from palyra.errors import InterpreterUnusable
from palyra.supervision import accounts, interpreter
from tests.integration.house import Gateway, House, NodeHost
from tests.integration.processes import Ran, run, script
from tests.integration.terminal import on_terminal
from tests.integration.test_terminal import other_than

WORDS = ("paired", "installed", "started")
AS_ROOT = ("--run-as", "root") if os.geteuid() == 0 else ()
"""Root's service would run as a user who is made; these tests make none."""
UNSHARED = ("unshare", "--user", "--map-user=1000", "--map-group=1000", "--")


@cache
def ordinary() -> Sequence[str]:
    """What makes a command that of an ordinary user."""
    if os.geteuid() != 0:
        return ()
    if shutil.which("unshare") is None or subprocess.call([*UNSHARED, "true"]) != 0:
        pytest.skip("root cannot be an ordinary user here (unshare --user)")
    return UNSHARED


def command(node: NodeHost, *words: str) -> list[str]:
    """``palyra node ...`` on the state root of a device."""
    return [script("palyra"), "node", *words, "--state-root", str(node.root)]


def said(done: Ran) -> dict[str, list[str]]:
    """The lines of its output, by their first word."""
    assert done.code == 0, done
    return {line.split("\t")[0]: line.split("\t")[1:] for line in done.out.splitlines()}


def has_ended(pid: str) -> bool:
    """Whether that process does nothing more; where nobody buries the dead, its number stays."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(int(pid)).status() == psutil.STATUS_ZOMBIE
    return True


def installs(house: House, node: NodeHost, *words: str, stdin: str = "", user: bool) -> None:
    """Begin ``install --start`` with a background process."""
    before, who = (ordinary(), ()) if user else ((), AS_ROOT)
    asked = command(node, "install", "--start", "--manager", "process", *who, *words)
    log = house.path / f"{node.name}.log"
    node.process = house.start([*before, *asked], log, stdin)


def test_the_life_of_a_service(shared: House, gateway: Gateway) -> None:
    """It is paired, installed, started and online with one command, as an ordinary user; installing
    it again changes nothing; it is stopped, started and restarted; its log is shown."""
    node = shared.node("attic")
    line = gateway.line()
    installs(shared, node, "--pairing-uri", "-", "--name", "attic", stdin=line + "\n", user=True)
    gateway.approve(node.asks())
    assert node.process.wait() == 0, node.process.output()
    gateway.online(node.device_id)
    lines = [each.split("\t") for each in node.process.output().splitlines()]
    paired, installed, started = (each for each in lines if each[0] in WORDS)
    assert paired[1:3] == ["attic", node.device_id]
    assert installed == ["installed", "background process"]
    assert (started[0], started[2]) == ("started", "online")
    assert line not in node.process.output()

    def verb(*words: str) -> Ran:
        return run([*ordinary(), *command(node, *words)], shared.path)

    again = said(verb("install", "--start"))
    assert again["installed"] == ["background process"]
    assert again["running"] == [started[1], "online"]
    restarted = said(verb("restart"))["restarted"]
    assert restarted[0] != started[1] and restarted[1] == "online"
    assert has_ended(started[1])
    logged = verb("logs", "-n", "50")
    assert logged.code == 0 and logged.out.strip(), logged
    assert said(verb("stop"))["stopped"] == [restarted[0]]
    assert has_ended(restarted[0])
    begun = json.loads(verb("start", "--json").out)
    assert (begun["started"], begun["state"], begun["manager"]) == (True, "online", "process")


def test_a_wrong_pin_installs_nothing(shared: House, gateway: Gateway) -> None:
    """Exit 1, and there is neither a pairing nor a service."""
    node = shared.node("cellar")
    asked = ["--gateway", gateway.enrolment, "--pairing-code-stdin"]
    installs(shared, node, *asked, stdin=other_than(gateway.pin()) + "\n", user=False)
    assert node.process.wait() == 1
    assert "That PIN is wrong, expired or used up." in node.process.output()
    assert not (node.root / "node-host" / "installed.json").exists()
    assert not (node.root / "node-host" / "node-host.json").exists()


def test_ctrl_c_while_an_operator_is_waited_for(shared: House, gateway: Gateway) -> None:
    """Nothing is installed; the same command again goes on waiting, without another code."""
    node = shared.node("porch")
    words = ["--start", "--manager", "process", *AS_ROOT, "--gateway", gateway.enrolment]
    root = ["--state-root", str(node.root)]
    with on_terminal(shared, "node", "install", *words, "--name", "porch", *root) as terminal:
        terminal.shows("PIN shown by the gateway:")
        terminal.type_hidden(gateway.pin() + "\r")
        terminal.shows("waiting for an operator to approve")
        terminal.type("\x03")
        assert terminal.end() == 130
        assert "nothing is installed; the pairing still waits" in terminal.screen
    assert not (node.root / "node-host" / "installed.json").exists()
    installs(shared, node, user=False)
    gateway.approve(node.asks())
    assert node.process.wait() == 0, node.process.output()
    node.process.says("started\t")
    gateway.online(node.device_id)
    assert said(run(command(node, "stop"), shared.path))["stopped"] != ["0"]


def test_roots_service_runs_as_somebody_else(house: House, gateway: Gateway) -> None:
    """Root pairs it and hands its state over; what serves then is not root, also when restarted."""
    if os.geteuid() != 0:
        pytest.skip("only root installs for another user")
    nobody = accounts.find("nobody")
    try:
        interpreter.prove(sys.executable, nobody)
    except InterpreterUnusable as error:
        pytest.skip(error.sentence)
    house.path.chmod(0o711)
    node = house.node("shed")
    line = gateway.line() + "\n"
    who = ("--run-as", "nobody", "--pairing-uri", "-", "--name", "shed")
    asked = command(node, "install", "--start", "--manager", "process", *who)
    node.process = house.start(asked, house.path / "shed.log", line)
    gateway.approve(node.asks())
    assert node.process.wait() == 0, node.process.output()
    first = node.process.says("started\t").split("\t")[1]
    owners = {each.lstat().st_uid for each in (node.root, *node.root.rglob("*"))}
    assert (psutil.Process(int(first)).uids().real, owners) == (nobody.uid, {nobody.uid})
    second = said(run(command(node, "restart"), house.path))["restarted"]
    assert second[1] == "online" and second[0] != first
    assert psutil.Process(int(second[0])).uids().real == nobody.uid
    again = said(run(command(node, "install", "--start"), house.path))
    assert again["running"] == second
    assert said(run(command(node, "stop"), house.path))["stopped"] == [second[0]]
