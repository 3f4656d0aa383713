"""Tests of :mod:`palyra.cli.node_checks`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from palyra.cli import doctor, node_checks, nodeservice
from palyra.cli.client import Answer
from palyra.cli.nodehost import NodeHost
from palyra.console.models import Check
from palyra.errors import NodeHostSilent
from palyra.node.controlwords import CapabilityCount, LastError, StatusAnswer
from palyra.supervision import processes, processfile
from palyra.supervision.installed import InstalledFile, mark_at
from palyra.supervision.processfile import ProcessFile
from palyra.supervision.service import ServiceState
from tests.cli.fakemanager import FakeManager

STATUS = StatusAnswer(
    "online", "pi", "D", 812, 1, "quic", "gw:7444", CapabilityCount(5, 0), 0, 0, "process groups"
)


def answering(monkeypatch: pytest.MonkeyPatch, status: StatusAnswer) -> None:
    """Let a node host say that."""

    def ask(*_: Any) -> Answer[StatusAnswer]:
        return Answer(status, msgspec.json.encode(status))

    monkeypatch.setattr(NodeHost, "ask", ask)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A state root that had a node host."""
    (tmp_path / "node-host").mkdir(mode=0o700)
    return tmp_path


def test_a_gateway_alone_has_no_such_lines(tmp_path: Path) -> None:
    """Where no node host ever was nothing is said of one."""
    assert node_checks.checks(tmp_path) == []


def test_nobody_runs(root: Path) -> None:
    """It is said, with the command that starts it."""
    host, rules = node_checks.checks(root)
    assert (host.verdict, host.hint) == ("warn", "palyra node run")
    assert (rules.verdict, rules.finding) == ("ok", "0 rules")


def test_how_plugins_are_kept(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that runs says what it offers and how plugins are kept apart, and what is broken."""
    answering(monkeypatch, STATUS)
    host, plugins, _ = node_checks.checks(root)
    assert (host.verdict, host.finding) == ("ok", "pi is online, pid 812")
    assert plugins.verdict == "ok"
    assert plugins.finding == "5 capabilities, 0 faults; processes kept by process groups"
    count = CapabilityCount(1, 1)
    answering(monkeypatch, msgspec.structs.replace(STATUS, state="offline", capabilities=count))
    host, plugins, _ = node_checks.checks(root)
    assert (host.verdict, plugins.verdict) == ("warn", "warn")
    assert plugins.finding.startswith("1 capability, 1 fault;")
    assert plugins.hint == "palyra capability list"


def test_without_a_gateway(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Why, and what to do about it, while that lasts."""
    error = LastError("device_revoked", "This device was revoked.", "pair it again", 1)
    offline = msgspec.structs.replace(STATUS, state="offline", last_error=error)
    answering(monkeypatch, offline)
    host = node_checks.checks(root)[0]
    assert host.finding == "pi is offline, pid 812: This device was revoked"
    assert (host.verdict, host.hint) == ("warn", "pair it again")
    healed = msgspec.structs.replace(error, healed_at_unix_ms=2)
    answering(monkeypatch, msgspec.structs.replace(offline, last_error=healed))
    host = node_checks.checks(root)[0]
    assert (host.finding, host.hint) == ("pi is offline, pid 812", "on the gateway: palyra doctor")


def test_it_does_not_answer(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or begins: that is told apart from one that does not run."""

    def ask(*_: Any) -> Answer[StatusAnswer]:
        raise NodeHostSilent("control.sock", "nothing in 5s")

    pid = os.getpid()
    file = ProcessFile(1, pid, "", "", 1, processes.boot_id(), processes.start_token(pid))
    processfile.write(root / "node-host" / "node-host-process.json", file)
    assert node_checks.checks(root)[0].finding == f"pid {pid} begins"
    monkeypatch.setattr(NodeHost, "ask", ask)
    host = node_checks.checks(root)[0]
    assert host.verdict == "FAIL" and host.finding.endswith("nothing in 5s")


def test_its_service(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the manager says of it; and what it cannot say, for a file is damaged."""
    manager = FakeManager(root / "unit")
    monkeypatch.setattr(nodeservice, "manager_of", lambda mark: manager)
    mark = InstalledFile(1, "systemd", "user", str(root), "python", "1", 1, ("/unit",))
    mark_at(root / "node-host" / "installed.json").write(mark)
    failed = ServiceState(installed=True, word="failed", result="exit 1")
    monkeypatch.setattr(manager, "state", lambda: failed)
    host, service, _ = node_checks.checks(root)
    assert (host.verdict, host.hint) == ("warn", "palyra node start")
    assert (service.verdict, service.where) == ("warn", "/unit")
    assert service.finding == "systemd user unit, failed: exit 1"
    running = ServiceState(installed=True, running=True, pid=812)
    monkeypatch.setattr(manager, "state", lambda: running)
    answering(monkeypatch, STATUS)
    assert node_checks.checks(root)[1].verdict == "ok"
    (root / "node-host" / "node-host.json").write_bytes(b"{")
    damaged = node_checks.checks(root)[1]
    assert damaged.verdict == "FAIL" and "is damaged" in damaged.finding


def test_rules_that_cannot_be_read(root: Path) -> None:
    """They are named by their path, before a node host refuses to start for them."""
    file = root / "node-host" / "node-policy.toml"
    file.write_text('[[rule]]\neffect = "perhaps"\n')
    file.chmod(0o600)
    rules = node_checks.checks(root)[-1]
    assert (rules.verdict, rules.where) == ("FAIL", str(file))
    assert "rule[0].effect" in rules.finding


def test_a_device_without_a_gateway(root: Path) -> None:
    """Where only a node host was, nothing of a gateway is looked at."""
    assert node_checks.is_alone(root)
    said = doctor._local(root, Check("warn", "gateway", "no gateway runs here"), running=False)
    assert [each.name for each in said] == ["state root", "config"]
    (root / "identity").mkdir()
    assert not node_checks.is_alone(root)
