"""Tests of :mod:`palyra.cli.nodeleave`, its plan and its lines."""

from __future__ import annotations

import fcntl
import json
import os
import time
from pathlib import Path
from typing import Any

import attrs
import msgspec
import pytest

from palyra._lock import RootLock
from palyra.cli import main, nodeleave, nodeleaveplan, nodeservice
from palyra.cli.present import Screen
from palyra.core.identifiers import short_id
from palyra.errors import (
    GatewayUnreachable,
    NotPaired,
    ServiceManagerFailed,
    StateRootLocked,
    StoreCorrupt,
)
from palyra.node.files import HostFile, NodeFiles
from palyra.node.leaving import Told
from palyra.supervision import accounts, processes, processfile
from palyra.supervision.installed import InstalledFile, mark_at
from palyra.supervision.processfile import ProcessFile
from palyra.supervision.service import Account, Manager
from tests.cli.fakemanager import FakeManager, on_screen
from tests.node.fakes import DEVICE_ID

HOST = HostFile(1, "home.example.org:7444", DEVICE_ID, 500, "", 1, 1, "pi")
AWAY = GatewayUnreachable("home.example.org:7444", "connection refused")


@attrs.define
class Place:
    """A device whose service is installed and does not run, and a gateway that a test plays."""

    root: Path
    manager: FakeManager
    answer: Told | BaseException = attrs.Factory(lambda: Told("quic home.example.org:7444"))
    told: list[str] = attrs.Factory(list)

    @property
    def files(self) -> NodeFiles:
        return NodeFiles(self.root)

    def mark(self, **changed: Any) -> Place:
        unit = str(self.manager.unit)
        mark = InstalledFile(1, "systemd", "user", str(self.root), "python", "1", 1, (unit,))
        mark_at(self.files.installed).write(msgspec.structs.replace(mark, **changed))
        self.manager.unit.write_text("unit")
        return self

    def paired(self) -> Place:
        self.files.make()
        self.files.keep_host(HOST)
        (self.files.root / "node-host.stdout.log").write_text("lines")
        return self

    def tell(self, root: Path, account: Account | None) -> Told:
        self.told.append(f"tell {sorted(self.manager.told)}")
        assert root == self.root
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    def run(self, capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
        """``palyra node uninstall``."""
        code = main(["node", "uninstall", *args, "--state-root", str(self.root)])
        return code, *capsys.readouterr()

    @property
    def untouched(self) -> bool:
        """Whether all is there, and nobody was told."""
        there = self.files.host_file.exists() and self.files.stdout_log.exists()
        return there and not self.told and "uninstall" not in self.manager.told


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    manager = FakeManager(tmp_path / "palyra-node.service")
    made = Place(tmp_path / "root", manager)
    monkeypatch.setattr(nodeservice, "manager_of", lambda mark: manager)
    monkeypatch.setattr(nodeleave, "tell", made.tell)
    return made.paired().mark()


def test_what_a_person_sees(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Word for word; the gateway is told when nothing can start it any more; nothing is left."""
    on_screen(monkeypatch)
    place.manager.runs = True
    code, out, err = place.run(capsys)
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "ok  gateway told, pairing revoked",
        "ok  stopped",
        "ok  unit removed",
        f"ok  removed {place.files.root} (3 files)",
    ]
    assert place.told == ["tell ['stop', 'uninstall']"]
    assert not place.root.exists() and not place.manager.unit.exists()


def test_the_gateway_is_away(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The local part is done, and it says what is left to do there, and why."""
    on_screen(monkeypatch)
    place.answer = AWAY
    code, out, err = place.run(capsys)
    assert code == 0
    assert out.splitlines() == [
        f"!!  gateway not told; there: palyra nodes revoke {short_id(DEVICE_ID)}",
        "ok  unit removed",
        f"ok  removed {place.files.root} (3 files)",
    ]
    assert err == f"note  {AWAY.sentence}\n"


def test_the_service_alone(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A background process has no unit: what was done is said all the same."""
    on_screen(monkeypatch)
    place.mark(manager="process", files=())
    place.manager.unit.unlink()
    monkeypatch.setattr(place.manager, "uninstall", list)
    code, out, _ = place.run(capsys, "--keep-state")
    assert (code, out) == (0, "ok  service removed; the device stays paired\n")


def test_a_pairing_that_was_begun_and_no_more(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is nothing to leave: that is said, and nothing is touched."""
    place.files.installed.unlink()
    place.files.host_file.unlink()
    place.files.identity.open(1, os.urandom)
    code, _, err = place.run(capsys, "--yes")
    assert code == 1 and f"error: The node host on state root {place.root} is not paired." in err
    assert place.files.root.is_dir() and not place.told


def test_tabs_and_json(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """For scripts; what is not ours is left and named, and is no failure."""
    (place.files.root / "mine").write_text("precious")
    (place.root / "palyra.toml").write_text("")
    code, out, err = place.run(capsys)
    assert code == 0 and f"note  your configuration stays: {place.root}" in err
    assert [line.split("\t") for line in out.splitlines()] == [
        ["gateway", "told", "quic home.example.org:7444"],
        ["unit", "removed", str(place.manager.unit)],
        ["removed", str(place.files.root), "3"],
        ["left", str(place.files.root), "mine"],
    ]
    (place.files.root / "mine").unlink()
    place.paired().mark()
    place.answer = AWAY
    code, out, _ = place.run(capsys, "--json")
    assert code == 0
    assert json.loads(out) == {
        "told": False, "stopped": False, "left": [], "told_at": "", "not_told": AWAY.sentence,
        "removed": [str(place.manager.unit), str(place.files.root)], "kept_state": False,
        "device_id": DEVICE_ID, "name": "pi", "undelivered": 0,
    }  # fmt: skip
    assert [each.name for each in place.root.iterdir()] == ["palyra.toml"]


def test_many_unknown_files(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some are named, all are counted, and none can steer the terminal."""
    on_screen(monkeypatch)
    for name in "abcdef":
        (place.files.root / f"{name}\x1b").write_text("precious")
    line = place.run(capsys)[1].splitlines()[-1]
    names = ", ".join(f"{name}\\u001b" for name in "abcde")
    assert line == f"!!  left  {place.files.root} (6 unknown files: {names} and 1 more)"


def test_a_person_is_asked(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the device, the gateway and the directory; only yes is a yes, and --yes needs none."""
    import sys

    asked: list[str] = []

    def agreed(screen: Screen, question: str) -> bool:
        asked.append(question)
        return False

    def current(*, as_json: bool) -> Screen:
        return Screen(out=sys.stdout, err=sys.stderr, tty=True, interactive=not as_json)

    monkeypatch.setattr(Screen, "agreed", agreed)
    monkeypatch.setattr(Screen, "current", current)
    code, out, err = place.run(capsys)
    assert (code, out) == (1, "") and place.untouched
    assert asked == [f"Uninstall pi  {short_id(DEVICE_ID)}?"]
    assert "home.example.org:7444" in err and "not uninstalled" in err
    assert place.run(capsys, "--keep-state")[0] == 1 and place.untouched
    assert place.run(capsys, "--yes")[0] == 0 and not place.root.exists()


def test_the_state_is_kept(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """The service alone goes: the device stays paired, and nobody is told."""
    assert place.run(capsys, "--keep-state")[0] == 0
    assert place.told == [] and not place.manager.unit.exists()
    assert place.files.host() == HOST and not place.files.installed.exists()
    code, _, err = place.run(capsys, "--keep-state")
    assert code == 1 and "No node host is installed" in err


def test_again_after_an_interruption(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """A manager that refuses ends it before the gateway was told; again, all of it is done."""
    place.manager.refuses["uninstall"] = ServiceManagerFailed("systemctl disable", "no bus")
    code, _, err = place.run(capsys)
    assert code == 1 and "no bus" in err and place.files.installed.exists() and place.told == []
    place.manager.refuses.clear()
    place.answer = Told("quic home.example.org:7444", already=True)
    code, out, _ = place.run(capsys, "--json")
    assert code == 0 and json.loads(out)["told"] and not place.root.exists()


def test_nobody_starts_it_meanwhile(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the gateway is told, and until all is gone, no node host can begin; one that has begun
    before that is not betrayed."""
    tell, taken = place.tell, RootLock.take(place.files.lock, who="A node host")
    taken.release()

    def tells(root: Path, account: Account | None) -> Told:
        with pytest.raises(StateRootLocked):
            RootLock.take(place.files.lock, who="A node host")
        return tell(root, account)

    def starts() -> None:
        place.manager.runs = False
        started.append(RootLock.take(place.files.lock, who="A node host"))

    monkeypatch.setattr(nodeleave, "tell", tells)
    started: list[RootLock] = []
    with monkeypatch.context() as patched:
        patched.setattr(place.manager, "stop", starts)
        code, _, err = place.run(capsys)
    assert code == 1 and "already uses state root" in err and place.told == []
    started[0].release()
    assert place.run(capsys)[0] == 0 and len(place.told) == 1 and not place.root.exists()


def test_it_was_started_while_a_person_was_asked(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What there is to do is found out again after the yes."""
    import sys

    pid = os.getpid()
    file = ProcessFile(1, pid, "", "", 1, processes.boot_id(), processes.start_token(pid))

    def agreed(screen: Screen, question: str) -> bool:
        processfile.write(place.files.process, file)
        return True

    def current(*, as_json: bool) -> Screen:
        return Screen(out=sys.stdout, err=sys.stderr, tty=True, interactive=True)

    monkeypatch.setattr(Screen, "agreed", agreed)
    monkeypatch.setattr(Screen, "current", current)
    code, _, err = place.run(capsys)
    assert code == 1 and f"pid {pid}" in err and place.untouched


def test_results_that_were_not_delivered(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Are said, with where to look."""
    place.answer = Told("grpc home.example.org:7444", undelivered=2)
    code, out, _ = place.run(capsys)
    assert code == 0 and "undelivered\t2" in out.splitlines()
    on_screen(monkeypatch)
    _, out, _ = place.paired().mark().run(capsys)
    assert out.splitlines()[1] == "!!  2 results not delivered; there: palyra jobs list"


def test_a_pairing_that_cannot_be_read(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """The gateway is not told then, and that is said with the id that the identity has."""
    place.files.identity.open(1, os.urandom, DEVICE_ID)
    place.files.host_file.write_bytes(b"{")
    place.answer = StoreCorrupt(str(place.files.host_file), "cut off")
    code, out, _ = place.run(capsys)
    line = out.splitlines()[0].split("\t")
    assert code == 0 and line[:3] == [
        "gateway",
        "not told",
        f"palyra nodes revoke {short_id(DEVICE_ID)}",
    ]
    assert "damaged" in line[3]


def test_a_root_that_was_there_before(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """A directory that others may enter, as /srv, was not made by a node host, and stays."""
    place.root.chmod(0o755)
    assert place.run(capsys)[0] == 0
    assert list(place.root.iterdir()) == []


def test_an_interruption(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """While the gateway is told: what was done by then is said, and what goes on with it."""
    place.manager.runs = True
    place.answer = KeyboardInterrupt()
    code, out, err = place.run(capsys)
    assert code == 130 and err.splitlines()[0] == "hint  palyra node uninstall"
    assert [line.split("\t")[0] for line in out.splitlines()] == ["stopped", "unit"]
    assert place.files.host() == HOST and place.files.installed.exists()


def test_never_paired(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """There is no gateway to tell."""
    place.files.host_file.unlink()
    code, out, _ = place.run(capsys)
    assert code == 0 and place.told == [] and "gateway" not in out
    place.paired()
    place.answer = NotPaired(str(place.root))
    code, out, _ = place.run(capsys)
    assert code == 0 and out.startswith("gateway\tnot told\tpalyra nodes revoke")


# -- what is refused ----------------------------------------------------------------------------


def test_it_runs_in_a_terminal(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever sits there ends it; nothing is touched, with or without a service."""
    pid = os.getpid()
    file = ProcessFile(1, pid, "", "", 1, processes.boot_id(), processes.start_token(pid))
    processfile.write(place.files.process, file)
    for _ in range(2):
        code, _, err = place.run(capsys)
        assert code == 1 and f"pid {pid}" in err and place.untouched
        place.files.installed.unlink(missing_ok=True)


def test_it_holds_the_lock(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """One that pairs, or says nothing else of itself, is not disturbed either."""
    with place.files.lock.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, _, err = place.run(capsys)
    assert code == 1 and "already uses state root" in err and place.untouched


@pytest.mark.parametrize("root", ["/etc", "/", "/usr/lib"])
def test_a_wrong_root(root: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is there, so nothing is done."""
    before = sorted(os.listdir(root))
    assert main(["node", "uninstall", "--state-root", root]) == 1
    assert "No node host is installed" in capsys.readouterr().err
    assert sorted(os.listdir(root)) == before


def test_a_directory_that_is_another_things(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a mark and a pairing that can be read; also where the mark is damaged."""
    place.files.installed.unlink()
    place.files.host_file.write_bytes(b"{}")
    code, _, err = place.run(capsys)
    assert code == 1 and "was not removed" in err and place.files.host_file.exists()
    place.files.installed.write_bytes(b"{")
    place.files.installed.chmod(0o600)
    code, _, err = place.run(capsys)
    assert code == 1 and "installed.json is damaged" in err and place.files.host_file.exists()


def test_the_mark_of_another_root(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A copy of a state root must not take away the service of the one it is a copy of."""
    place.mark(state_root=str(tmp_path / "elsewhere"))
    code, _, err = place.run(capsys)
    assert code == 1 and "elsewhere" in err and place.untouched


# -- a system service ---------------------------------------------------------------------------


@pytest.fixture
def users(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Users that are removed; nobody of this machine is."""
    removed: list[str] = []
    mine = Account("palyra-node", os.geteuid(), os.getegid())
    monkeypatch.setattr(accounts, "find", lambda name: mine)
    monkeypatch.setattr(accounts, "remove", removed.append)
    return removed


@pytest.mark.skipif(os.geteuid() != 0, reason="a system service is root's")
@pytest.mark.parametrize(
    ("account", "made", "removed"),
    [("palyra-node", True, ["palyra-node"]), ("palyra-node", False, []), ("root", True, [])],
)
def test_its_user(
    place: Place, users: list[str], capsys: pytest.CaptureFixture[str],
    account: str, made: bool, removed: list[str],
) -> None:  # fmt: skip
    """Is removed where install made that user, and never another one, whatever the mark says."""
    place.mark(scope="system", account=account, account_made=made)
    code, out, _ = place.run(capsys)
    assert code == 0 and users == removed
    assert ("account\tremoved\tpalyra-node" in out) is bool(removed)


def test_whose_files_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root removes its own and those of the service's user, also where that user is gone already;
    everybody else their own."""
    mark = InstalledFile(1, "systemd", "system", "/s", "p", "1", 1, (), "palyra-node", True)
    owners = nodeleaveplan._owners
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert owners(mark, tmp_path) == {1000}
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert owners(None, tmp_path) == {0}
    monkeypatch.setattr(accounts, "find", lambda name: Account(name, 998, 998))
    assert owners(mark, tmp_path) == {0, 998}
    monkeypatch.undo()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    unknown = tmp_path / "d"
    unknown.mkdir()
    if os.getuid() == 0:
        os.chown(unknown, 54_321, 54_321)
        assert owners(mark, unknown) == {0, 54_321}
        os.chown(unknown, 65_534, 65_534)
        assert owners(mark, unknown) == {0}


def test_what_other_managers_call_it(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """Agent and task; a process in the background has no definition."""
    for kind, word in ((Manager.LAUNCHD, "agent"), (Manager.TASK, "task"), (Manager.PROCESS, "")):
        place.paired().mark(manager=kind.value)
        place.manager.kind = kind
        _, out, _ = place.run(capsys)
        assert (f"{word}\tremoved\t{place.manager.unit}" in out) is bool(word)


def test_the_reactor_runs_for_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as it takes to tell; what it fails with arrives, and so does an interruption."""
    from palyra import _reactor

    class FakeReactor:
        """Runs until it is stopped, or is interrupted."""

        interrupted = False

        def callWhenRunning(self, call: Any) -> None:
            self.call = call

        def run(self) -> None:
            if not self.interrupted:
                self.call()

        def stop(self) -> None:
            """Nothing runs."""

        def seconds(self) -> float:
            return time.time()

    reactor = FakeReactor()
    monkeypatch.setattr(_reactor, "the_reactor", lambda: reactor)
    with pytest.raises(NotPaired):
        nodeleave.tell(tmp_path, None)
    reactor.interrupted = True
    with pytest.raises(KeyboardInterrupt):
        nodeleave.tell(tmp_path, None)
