"""Tests of :mod:`palyra.supervision.background` with programs that are no node hosts."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from zope.interface.verify import verifyObject

from palyra._lock import RootLock
from palyra.errors import (
    CredentialsUnsupported,
    DidNotStart,
    DidNotStop,
    InterpreterUnusable,
    StateOfAnother,
    StateRootLocked,
    StoreCorrupt,
    StoreUnavailable,
)
from palyra.supervision.background import LOCK, BackgroundProcess
from palyra.supervision.installed import InstalledFile, mark_at
from palyra.supervision.interfaces import IServiceManager
from palyra.supervision.processes import BOOT_ID_FILE
from palyra.supervision.service import Manager, Scope, Service
from tests.integration.processes import eventually

NOBODY = 65534
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
SERVES = """#!/bin/sh
start=$(cut -d' ' -f22 /proc/$$/stat)
{ echo "$@"; id -u; id -G; umask; pwd; env; } > node-host/seen
printf '{"schema_version":1,"pid":%s,"stdout_log_path":"","stderr_log_path":"",\
"started_at_unix_ms":0,"boot_id":"boot","start_token":"%s"}' $$ $start > node-host/new
mv node-host/new node-host/node-host-process.json
exec sleep 60
"""


@attrs.define
class Place:
    """A state root, and a program in the place of an interpreter."""

    root: Path
    python: Path
    _made: list[BackgroundProcess] = attrs.field(factory=list)

    def program(self, text: str) -> None:
        self.python.write_text(text)
        self.python.chmod(0o755)

    def manager(self, start_s: float = 20.0, **environ: str) -> BackgroundProcess:
        made = BackgroundProcess(
            self.root,
            boot_id=lambda: "boot",
            environ={"PATH": os.environ["PATH"], **environ},
            start_s=start_s,
            grace_s=5.0,
        )
        self._made.append(made)
        return made

    def installed(self, **environ: str) -> BackgroundProcess:
        manager = self.manager(**environ)
        assert manager.install(self.service) == []
        return manager

    @property
    def service(self) -> Service:
        return Service(state_root=self.root, python=str(self.python))

    @property
    def directory(self) -> Path:
        return self.root / "node-host"

    @property
    def log(self) -> Path:
        return self.directory / "node-host.stderr.log"

    def seen(self) -> list[str]:
        return (self.directory / "seen").read_text().splitlines()

    def mark(self, manager: Manager = Manager.PROCESS) -> None:
        file = mark_at(self.directory / "installed.json")
        root, python = str(self.root), str(self.python)
        file.write(InstalledFile(1, manager, Scope.SYSTEM, root, python, "0.1.0", 0))

    def close(self) -> None:
        for each in self._made:
            each.stop()


@pytest.fixture
def place() -> Iterator[Place]:
    # Not pytest's, which no other user may enter.
    path = Path(tempfile.mkdtemp(prefix="palyra-test-"))
    path.chmod(0o755)
    place = Place(path / "state", path / "python")
    place.directory.mkdir(parents=True)
    for each in (place.root, place.directory):
        each.chmod(0o700)
    place.program(SERVES)
    yield place
    place.close()
    shutil.rmtree(path)


def test_it_is_a_service_manager(place: Place) -> None:
    """Everywhere, and it writes nothing at install; the log is the host's own."""
    manager = place.manager()
    verifyObject(IServiceManager, manager)
    assert manager.available() == "" and manager.logs(9, True) is None
    assert manager.install(place.service) == manager.uninstall() == []
    assert list(place.directory.iterdir()) == []
    assert (manager.kind, manager.described) == (Manager.PROCESS, "background process")


def test_credentials_are_refused(place: Place) -> None:
    """It can hand over none."""
    service = attrs.evolve(place.service, credentials={"token": Path("/x")})
    with pytest.raises(CredentialsUnsupported):
        place.manager().install(service)


def test_how_it_is_started(place: Place) -> None:
    """With the command of every manager, in the state root, private, apart from its terminal, and
    without what another service manager has told the command that started it."""
    environ = {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "1", "LANG": "cs_CZ.UTF-8"}
    manager = place.installed(**environ)
    state = manager.state()
    assert (state.installed, state.running, state.pid, state.at_boot) == (False, False, 0, False)
    manager.start()
    seen, pid = place.seen(), manager.state().pid
    log = place.directory / "node-host.stdout.log"
    assert seen[0] == f"-P -m palyra.node --logfile {log} --state-root {place.root}"
    assert seen[1] == str(os.geteuid()) and "0077" in seen and str(place.root) in seen
    assert {"PALYRA_MANAGER=process", "LANG=cs_CZ.UTF-8"} <= set(seen)
    assert not any(line.startswith(("NOTIFY_SOCKET", "WATCHDOG")) for line in seen)
    assert os.getsid(pid) == pid and place.log.stat().st_mode & 0o777 == 0o600
    manager.start()
    assert manager.state().pid == pid
    manager.restart()
    assert manager.state().pid not in (0, pid)


def test_how_it_ended(place: Place) -> None:
    """Killed, with its machine or alone, it is told from one that was stopped."""
    manager = place.installed()
    manager.start()
    os.kill(manager.state().pid, signal.SIGKILL)
    eventually(lambda: not manager.state().running, "it is gone")
    state = manager.state()
    assert (state.word, state.result) == ("stopped", "it ended without a word")
    later = BackgroundProcess(place.root, boot_id=lambda: "the boot after")
    assert later.state().result == "the machine was restarted"
    manager.start()
    manager.stop()
    assert manager.state().result == ""


def test_the_lock_of_one_that_is_just_ending(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is waited for; a host that lives is named at once."""
    manager = place.installed()
    holders: list[int | None] = [os.getpid()]
    monkeypatch.setattr(RootLock, "holder", lambda path: holders.pop(0))
    with pytest.raises(StateRootLocked, match=str(os.getpid())):
        manager.start()
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    holders += [gone.pid, gone.pid, None]
    manager.start()
    assert manager.state().running and not holders


def test_by_its_mark(place: Place) -> None:
    """A later command knows by the mark with which interpreter it was installed."""
    place.mark()
    manager = place.manager()
    assert manager.state().installed
    manager.start()
    assert manager.state().running
    place.mark(Manager.SYSTEMD)
    assert not manager.state().installed
    (place.directory / "installed.json").write_text("{")
    assert manager.state().running and not manager.state().installed
    manager.stop()
    with pytest.raises(StoreCorrupt):
        manager.start()


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("echo 'error: It is not paired.' >&2; echo 'hint:  pair it' >&2; exit 1", "It is not pai"),
        ("echo; exit 1", "it did not say why"),
        ("echo oops; kill -9 $$", "oops"),
    ],
)
def test_one_that_ends_at_once(place: Place, program: str, reason: str) -> None:
    """Its last line is the reason; nothing of an earlier start is."""
    place.log.write_text("error: of yesterday\n")
    place.program(f"#!/bin/sh\n{program}\n")
    with pytest.raises(DidNotStart) as refused:
        place.installed().start()
    assert refused.value.sentence.startswith(f"The node host ended at its start: {reason}")


def test_one_that_takes_its_time(place: Place) -> None:
    """It lives, so it is on its way."""
    place.program("#!/bin/sh\nexec sleep 60\n")
    manager = place.manager(start_s=0.1)
    manager.install(place.service)
    manager.start()
    assert not manager.state().running
    child = BackgroundProcess._children.pop(next(reversed(BackgroundProcess._children)))
    child.kill()
    child.wait()


def test_an_interpreter_that_is_gone(place: Place) -> None:
    """It is named, with who could not run it."""
    place.python.unlink()
    with pytest.raises(InterpreterUnusable) as refused:
        place.installed().start()
    assert refused.value.python == str(place.python)


def test_a_state_root_that_is_in_use(place: Place) -> None:
    """A host that pairs, or says not which process it is, is neither doubled nor called stopped."""
    lock = RootLock.take(place.directory / LOCK, who="A node host")
    (place.directory / "node-host-process.json").write_text("{")
    manager = place.installed()
    for verb in (manager.start, manager.stop):
        with pytest.raises(StateRootLocked) as refused:
            verb()
        assert refused.value.pid == os.getpid()
    assert not place.log.exists()
    lock.release()
    manager.start()


def test_old_output_is_moved_aside(place: Place) -> None:
    """At a start, and three are kept; short output goes on in the same file."""
    for number in range(5):
        place.log.write_text("short\n")
        manager = place.installed()
        manager.start()
        manager.stop()
        assert place.log.read_text() == "short\n"
        place.log.write_text(f"{number}" * 1_100_000)
        manager.start()
        manager.stop()
        assert place.log.stat().st_size == 0
    kept = sorted(place.directory.glob("node-host.stderr.log.*"))
    assert [each.read_text()[0] for each in kept] == ["4", "3", "2"]


def test_its_output_follows_no_link(place: Place) -> None:
    """What somebody put there is not written to."""
    elsewhere = place.root / "letters"
    elsewhere.write_text("letters")
    place.log.symlink_to(elsewhere)
    with pytest.raises(StoreUnavailable, match="symbolic link"):
        place.installed().start()
    assert elsewhere.read_text() == "letters"


def given(place: Place, uid: int) -> None:
    """Hand the state root over."""
    for each in (place.root, *place.root.rglob("*")):
        os.chown(each, uid, uid)


@ROOT_ONLY
@pytest.mark.parametrize("own_mark", [True, False])
def test_root_starts_it_as_its_owner(place: Place, own_mark: bool) -> None:
    """Whoever wrote the mark: nothing of what is there is done with the rights of root, and
    nothing of root's environment goes along."""
    place.mark()
    given(place, NOBODY)
    if not own_mark:
        os.chown(place.directory / "installed.json", 0, 0)
    manager = place.manager(SECRET="1", HOME="/root", **{BOOT_ID_FILE: "/x"})
    manager.start()
    seen = place.seen()
    assert seen[1] == str(NOBODY) and "0" not in seen[2].split()
    assert f"{BOOT_ID_FILE}=/x" in seen
    assert not any(line.startswith(("SECRET", "HOME=/root")) for line in seen)
    assert place.log.stat().st_uid == NOBODY
    manager.stop()
    assert os.geteuid() == 0 and not manager.state().running


@ROOT_ONLY
def test_the_owner_of_a_state_root_names_no_other_process(place: Place) -> None:
    """Root ends no process for a file that another user could write, other than that user's."""
    place.installed().start()
    os.chown(place.directory / "node-host-process.json", NOBODY, NOBODY)
    manager = place.manager()
    pid = manager.state().pid
    with pytest.raises(DidNotStop, match=str(pid)):
        manager.stop()
    assert manager.state().running
    os.chown(place.directory / "node-host-process.json", 0, 0)


@ROOT_ONLY
def test_nobody_starts_what_is_anothers(place: Place) -> None:
    """He is told whose it is."""
    place.directory.chmod(0o755)
    place.root.chmod(0o755)
    os.seteuid(NOBODY)
    try:
        with pytest.raises(StateOfAnother):
            place.manager().start()
    finally:
        os.seteuid(0)
