"""Tests of :mod:`palyra.cli.nodestatus`, :mod:`palyra.cli.nodefacts` and
:mod:`palyra.cli.nodestatuslines`."""

from __future__ import annotations

import getpass
import io
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import msgspec
import pytest

from palyra import __version__
from palyra.cli import main, nodeservice, nodestatuslines
from palyra.cli.nodefacts import Facts, look
from palyra.cli.nodehost import NodeHost
from palyra.cli.present import Screen
from palyra.errors import NodeHostSilent, ServiceManagerFailed, SocketPermission
from palyra.node.controlwords import CapabilityCount, LastError, StatusAnswer
from palyra.node.files import HostFile, NodeFiles
from palyra.node.identity import PairingFile
from palyra.node.lasterrorfile import LastErrorFile, Outage, last_error_at
from palyra.supervision import processes, processfile
from palyra.supervision.installed import InstalledFile, mark_at
from palyra.supervision.processfile import ProcessFile
from palyra.supervision.service import ServiceState
from tests.cli.fakemanager import FakeManager, on_screen, served
from tests.node.fakes import DEVICE_ID

NOW = 1_700_000_000_000
SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000
MARK = InstalledFile(1, "systemd", "user", "/state", "python", __version__, NOW - DAY, ("/unit",))
HOST = HostFile(1, "home.example.org:7444", DEVICE_ID, 500, "", NOW, NOW, "pi")
RUNNING = ServiceState(installed=True, running=True, pid=4312, at_boot=True, word="running")
UNREACHED = LastError(
    "gateway_unreachable",
    "Cannot reach home.example.org:7444: connection refused.",
    "on the gateway: palyra doctor",
    NOW - 2 * HOUR,
    NOW - 2 * HOUR + 40 * SECOND,
    "home.example.org:7444",
)
ANSWER = StatusAnswer(
    state="online",
    name="pi",
    device_id=DEVICE_ID,
    pid=4312,
    started_at_unix_ms=NOW - 2 * DAY - 4 * HOUR - 5 * MINUTE,
    transport="quic",
    address="home.example.org:7444",
    capabilities=CapabilityCount(4, 1),
    jobs=1,
    requests=0,
    version=__version__,
    gateway_version=__version__,
    last_heard_unix_ms=NOW - 4 * SECOND,
    cert_expires_at_unix_ms=NOW + 23 * HOUR + MINUTE,
    cert_renews_at_unix_ms=NOW + 16 * HOUR + MINUTE,
    faults=["printer.print: No module named 'cups'."],
    last_error=UNREACHED,
)


@attrs.define
class Place:
    """A state root that is filled as a test wants it."""

    root: Path
    manager: FakeManager

    @property
    def files(self) -> NodeFiles:
        return NodeFiles(self.root)

    def paired(self) -> Place:
        self.files.make()
        self.files.keep_host(HOST)
        return self

    def installed(self, state: ServiceState = RUNNING) -> Place:
        self.files.make()
        mark_at(self.files.installed).write(MARK)
        self.manager.state = lambda: state  # type: ignore[method-assign]
        return self

    def process(self, manager: str = "", **changed: Any) -> Place:
        """That of this test."""
        pid = os.getpid()
        token = processes.start_token(pid)
        file = ProcessFile(1, pid, "/out", "/err", NOW, processes.boot_id(), token, manager, "9")
        processfile.write(self.files.process, msgspec.structs.replace(file, **changed))
        return self

    def run(self, capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
        """``palyra node status``."""
        code = main(["node", "status", *args, "--state-root", str(self.root)])
        return code, *capsys.readouterr()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    manager = FakeManager(tmp_path / "unit")
    monkeypatch.setattr(nodeservice, "manager_of", lambda mark: manager)
    return Place(tmp_path / "root", manager)


def lines(facts: Facts) -> list[str]:
    """As a person sees them."""
    out, err = io.StringIO(), io.StringIO()
    screen = Screen(out=out, err=err, tty=True, err_tty=True, now=lambda: NOW)
    nodestatuslines.show(screen, facts)
    return [*out.getvalue().splitlines(), *err.getvalue().splitlines()]


def facts(**given: Any) -> Facts:
    """Of a node host that runs as a service and is online."""
    usual: dict[str, Any] = {
        "files": NodeFiles(Path("/state")),
        "host": HOST,
        "mark": MARK,
        "answer": ANSWER,
        "service": RUNNING,
        "described": "systemd user unit",
        "cert_expires_ms": ANSWER.cert_expires_at_unix_ms,
        "last_error": ANSWER.last_error,
    }
    return Facts(**usual | given)


def answered(**changed: Any) -> Facts:
    answer = msgspec.structs.replace(ANSWER, **changed)
    return facts(answer=answer, last_error=answer.last_error)


# -- for people ---------------------------------------------------------------------------------


def test_what_a_person_sees() -> None:
    """Word for word."""
    assert lines(facts()) == [
        "pi            online, quic home.example.org:7444, heard 4s ago",
        "service       systemd user unit, running, pid 4312, up 2d 4h",
        "certificate   23h left, renews in 16h",
        "capabilities  4 of 5  !! printer.print: No module named 'cups'",
        "jobs          1 running",
        "last error    2h ago: home.example.org:7444 unreachable for 40s; healed",
    ]


def test_offline() -> None:
    """When it is tried again, since when, why, and what to do about it."""
    error = msgspec.structs.replace(UNREACHED, healed_at_unix_ms=0)
    told = answered(
        state="offline", retry_at_unix_ms=NOW + 4 * SECOND, faults=[], last_error=error,
        capabilities=CapabilityCount(5, 0), cert_renews_at_unix_ms=0,
    )  # fmt: skip
    assert told.exit_code == 3
    assert lines(told) == [
        "pi            offline, retry in 4s, heard 4s ago",
        "service       systemd user unit, running, pid 4312, up 2d 4h",
        "certificate   23h left",
        "capabilities  5",
        "jobs          1 running",
        "last error    !! 2h ago: Cannot reach home.example.org:7444: connection refused",
        "hint  on the gateway: palyra doctor",
    ]


def test_version_skew() -> None:
    """Said where it matters: the gateway is of another version, or a restart would bring one."""
    line = next(each for each in lines(answered(gateway_version="0.9.0")) if "version" in each)
    assert line == f"version       {__version__}, gateway 0.9.0"
    told = answered(version="0.0.9", gateway_version="0.0.9")
    ours = attrs.evolve(told, mark=msgspec.structs.replace(MARK, python=""))
    line = next(each for each in lines(ours) if "version" in each)
    assert line == (
        f"version       0.0.9  !! palyra {__version__} is installed: palyra node restart"
    )
    assert not [each for each in lines(told) if "version" in each], "another interpreter's"


def test_several_faults_and_questions() -> None:
    """Each on a line of its own, under one label."""
    told = answered(
        capabilities=CapabilityCount(3, 2), faults=["a.b: x.", "c.d: y\x1b."], requests=2
    )
    assert lines(told)[3:7] == [
        "capabilities  3 of 5  !! a.b: x",
        "              !! c.d: y\\u001b",
        "jobs          1 running",
        "requests      !! 2 waiting for a person",
    ]


def test_nothing_is_there() -> None:
    """With the command that comes next."""
    nothing = Facts(files=NodeFiles(Path("/state")))
    assert nothing.exit_code == 1
    assert lines(nothing) == [
        "node host  not paired",
        "service    not installed",
        "hint  palyra node install --start --gateway HOST",
    ]


def test_a_pairing_waits(place: Place) -> None:
    """It is said, with the command that goes on with it."""
    place.files.identity.open(NOW, os.urandom)
    place.files.identity.keep_waiting(PairingFile(1, "ab" * 16, "R", "gw:7443", "PEM"))
    found = look(place.root)
    assert (found.state, found.exit_code) == ("not_paired", 1)
    assert lines(found) == [
        "node host  not paired, waiting for an operator to approve",
        "service    not installed",
        "hint  palyra node install --start",
    ]


def test_paired_and_stopped() -> None:
    """What the files know is told, also that a certificate is over."""
    stopped = ServiceState(installed=True, word="dead", at_boot=True)  # systemd's word
    told = facts(answer=None, service=stopped, cert_expires_ms=NOW - HOUR)
    assert (told.state, told.exit_code) == ("stopped", 1)
    assert lines(told) == [
        "pi           stopped",
        "service      systemd user unit, stopped",
        "certificate  !! ran out 1h ago",
        "last error   2h ago: home.example.org:7444 unreachable for 40s; healed",
        "hint  palyra node start",
    ]
    alone = facts(answer=None, service=None, mark=None, last_error=None, cert_expires_ms=0)
    assert lines(alone) == [
        "pi       stopped",
        "service  not installed",
        "hint  palyra node install --start",
    ]


def test_revoked() -> None:
    """A start would change nothing: the remedy is the one of the error."""
    error = LastError("device_revoked", "This device was revoked.", "pair it again", NOW - HOUR)
    told = facts(answer=None, service=None, mark=None, last_error=error)
    assert lines(told)[-2:] == [
        "last error   1h ago: This device was revoked",
        "hint  pair it again",
    ]


def test_a_unit_that_failed() -> None:
    """In the words of the manager; and one whose definition somebody took away."""
    failed = ServiceState(installed=True, word="failed", result="it was killed (SIGKILL)")
    told = lines(facts(answer=None, service=failed))
    assert told[1] == "service      systemd user unit, !! failed: it was killed (SIGKILL)"
    told = lines(facts(answer=None, service=ServiceState(installed=False)))
    assert told[1] == "service      systemd user unit, stopped, !! its definition is gone"
    told = lines(facts(service=attrs.evolve(RUNNING, at_boot=False)))
    assert told[1].endswith("up 2d 4h, not started at boot")


def test_not_as_the_service() -> None:
    """One in a terminal, in the background, and beside a service that does not run."""
    process = ProcessFile(1, 77, "/out", "/err", NOW - 3 * MINUTE, "b", "t")
    alone = facts(mark=None, service=None, answer=None, process=process)
    assert alone.state == "starting" and alone.exit_code == 3
    assert lines(alone)[1].startswith("service      not as a service, pid 77, up 3m")
    background = attrs.evolve(alone, process=msgspec.structs.replace(process, manager="process"))
    assert lines(background)[1] == "service      background process, running, pid 77, up 3m"
    beside = attrs.evolve(alone, mark=MARK, service=ServiceState(installed=True, word="stopped"))
    assert lines(beside)[1].endswith("up 3m  (systemd user unit, stopped)")


def test_it_does_not_answer() -> None:
    """It runs, and that is all that is known; the reason has a line, and the remedy is the hint."""
    silent = NodeHostSilent("control.sock", "nothing in 5s")
    told = facts(answer=None, silent=silent, problems=(silent,), last_error=None)
    closed = Facts(files=NodeFiles(Path("/state")), silent=silent, problems=(silent,))
    assert lines(closed)[0] == "node host  it cannot be told"
    assert (told.state, told.exit_code) == ("unknown", 1)
    assert lines(told)[0] == "pi           running, and does not answer"
    assert lines(told)[-2:] == [
        "problem      !! The node host does not answer on control.sock: nothing in 5s.",
        "hint  palyra node restart",
    ]


# -- what is found out --------------------------------------------------------------------------


@pytest.fixture
def online(place: Place) -> Iterator[Place]:
    """A node host that answers."""
    place.root.mkdir()
    with served(place.root) as host:
        place.files.root.chmod(0o700)
        host.answers["status"] = ANSWER
        yield place.paired().installed()


def test_it_says_itself(online: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """What runs is asked, for scripts in keys that are published."""
    code, out, _ = online.run(capsys, "--json")
    told = json.loads(out)
    assert code == 0
    published = {
        "installed": True, "paired": True, "running": True, "pid": 4312, "device_id": DEVICE_ID,
        "grpc_url": HOST.grpc_url, "poll_interval_ms": 500, "paired_at_unix_ms": NOW,
        "identity_store_dir": str(online.root / "node-host" / "identity"),
        "installed_at_unix_ms": MARK.installed_at_unix_ms,
        "stdout_log_path": str(online.root / "node-host" / "node-host.stdout.log"),
        "stderr_log_path": str(online.root / "node-host" / "node-host.stderr.log"),
        "started_at_unix_ms": ANSWER.started_at_unix_ms,
        "cert_expires_at_unix_ms": ANSWER.cert_expires_at_unix_ms,
    }  # fmt: skip
    assert {key: told[key] for key in published} == published
    assert (told["state"], told["transport"]) == ("online", "quic")
    assert told["service"]["described"] == "systemd user unit" and told["problems"] == []
    assert told["last_error"]["where"] == "home.example.org:7444"


def test_tabs(online: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal: keys and whole values."""
    code, out, err = online.run(capsys)
    told = dict(line.split("\t", 1) for line in out.splitlines())
    assert (code, err) == (0, "")
    assert (told["state"], told["device_id"], told["pid"]) == ("online", DEVICE_ID, "4312")
    assert told["last_heard"].endswith("Z") and told["capabilities"] == "4 of 5"
    assert told["fault"] == "printer.print: No module named 'cups'."


def test_on_a_terminal(
    online: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command shows those lines."""
    on_screen(monkeypatch)
    code, out, _ = online.run(capsys)
    assert code == 0 and out.startswith("pi            online, quic home.example.org:7444")


def test_from_the_files(place: Place) -> None:
    """Nothing runs: pairing, service and what went wrong last are told all the same."""
    place.paired().installed(ServiceState(installed=True, word="failed", result="exit 1"))
    file = LastErrorFile(1, Outage.GATEWAY, "device_revoked", "Revoked.", "h", NOW)
    last_error_at(place.files.last_error).write(file)
    found = look(place.root)
    assert (found.state, found.exit_code, found.name, found.problems) == ("stopped", 1, "pi", ())
    assert found.last_error is not None and found.last_error.code == "device_revoked"
    assert found.service is not None and found.service.result == "exit 1"


def test_a_process_that_begins_or_is_gone(place: Place) -> None:
    """One that lives and does not listen yet is starting; a stale or reused number is nobody."""
    place.paired().process()
    found = look(place.root)
    assert (found.state, found.exit_code, found.pid) == ("starting", 3, os.getpid())
    for stale in ({"boot_id": "another"}, {"start_token": "1"}, {"pid": 2**22 - 1}):
        found = look(place.process(**stale).root)
        assert (found.state, found.pid) == ("stopped", 0)


def test_a_process_beside_the_service(place: Place) -> None:
    """What the manager says counts for the process that it keeps, and for no other."""
    running = attrs.evolve(RUNNING, pid=os.getpid())
    place.paired().installed(running).process("systemd")
    assert look(place.root).by_service
    assert not look(place.process("").root).by_service
    place.process("systemd").installed(RUNNING)
    assert not look(place.root).by_service


def test_damaged_files(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """Each is a sentence among what is known, and no end of it."""
    place.paired().installed()
    for path in (place.files.host_file, place.files.process, place.files.last_error):
        path.write_bytes(b"{")
        path.chmod(0o600)
    code, out, _ = place.run(capsys, "--json")
    told = json.loads(out)
    assert code == 3 and told["installed"] and not told["paired"]
    assert len(told["problems"]) == 3 and "node-host.json is damaged" in str(told["problems"])
    shutil.rmtree(place.files.root)
    place.files.root.write_text("no directory")
    assert place.run(capsys, "--json")[0] == 1


def test_a_manager_that_fails(place: Place) -> None:
    """Its refusal is a sentence."""

    def refuse() -> ServiceState:
        raise ServiceManagerFailed("systemctl --user show", "Failed to connect to bus")

    place.paired().installed()
    place.manager.state = refuse  # type: ignore[method-assign]
    found = look(place.root)
    assert found.service is None and "connect to bus" in found.problems[0].sentence


def test_another_users(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be read: that is said once, with the command that can."""
    place.paired().installed()
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)

    def ask(*_: Any) -> None:
        raise SocketPermission(getpass.getuser(), "ana", "control.sock", "palyra node requests")

    monkeypatch.setattr(NodeHost, "ask", ask)
    found = look(place.root)
    assert (found.state, found.exit_code) == ("unknown", 1)
    assert [each.hint for each in found.problems] == [
        f"sudo -u {getpass.getuser()} palyra node status"
    ]
