"""The whole life of a device, by its commands alone: installed, crashed, rebooted, upgraded where
it stands, and removed; in the background and by systemd's stand-in, by a user and by root."""

from __future__ import annotations

import getpass
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import psutil
import pytest

from palyra import __version__
from palyra.errors import InterpreterUnusable
from palyra.supervision import accounts, interpreter
from palyra.supervision.processes import BOOT_ID_FILE
from tests.integration import plugin, releases, servicemanager, wheels
from tests.integration.house import PATIENT, QUICK_NODE, Gateway, House
from tests.integration.processes import Process, Ran, eventually, run, script
from tests.integration.servicemanager import ServiceManager
from tests.integration.test_crash import EFFECT, IDEMPOTENT, Errand
from tests.integration.test_install import has_ended, ordinary

if sys.platform != "linux":
    pytest.skip("the stand-in for systemd is Linux's", allow_module_level=True)

NEWER = releases.neighbours()[1]
LATER_S = 40.0


@attrs.define
class Life:
    """A device with a Python environment of its own, whoever keeps its node host."""

    house: House
    gateway: Gateway
    name: str
    before: Sequence[str]
    """What makes a command that of its user."""
    env: Mapping[str, str]
    install_words: Sequence[str]
    python: str
    uid: int
    device_id: str = ""
    _errands: int = 0

    @property
    def root(self) -> Path:
        return self.house.path / self.name

    def command(self, *words: str) -> list[str]:
        """``palyra node ...`` of its own environment."""
        root = ["--state-root", str(self.root)]
        return [*self.before, self.python, script("palyra"), "node", *words, *root]

    def begin(self, *words: str, stdin: str = "") -> Process:
        """Begin a command."""
        log = self.house.path / f"{self.name}-{words[0]}.log"
        return self.house.start(self.command(*words), log, stdin, env=self.env)

    def cli(self, *words: str) -> Ran:
        """Run a command to its end."""
        return run(self.command(*words), self.house.path, env=self.env)

    def told(self, *words: str, code: int = 0) -> dict[str, Any]:
        """What a command says in JSON."""
        done = self.cli(*words, "--json")
        assert done.code == code, (done, self.log())
        answer: dict[str, Any] = json.loads(done.out)
        return answer

    def log(self) -> str:
        """The last that the node host said."""
        return self.cli("logs", "-n", "30").out

    # -- how it is --------------------------------------------------------------------------

    def online(self) -> int:
        """Wait until its status says so, with exit code 0, and the gateway too; its pid."""

        def look() -> dict[str, Any] | None:
            done = self.cli("status", "--json")
            return json.loads(done.out) if done.code == 0 else None

        try:
            told = eventually(look, "it is online")
        except AssertionError as error:
            raise AssertionError(self.log()) from error
        assert told["state"] == "online" and told["installed"] and told["paired"]
        assert told["device_id"] == self.device_id and told["problems"] == [], told
        self.gateway.online(self.device_id)
        pid = int(told["pid"])
        assert psutil.Process(pid).uids().real == self.uid
        return pid

    def stopped(self) -> dict[str, Any]:
        """Its status says that it does not run, with exit code 1."""
        told = self.told("status", code=1)
        assert (told["state"], told["running"], told["installed"]) == ("stopped", False, True)
        return told

    # -- what it does -----------------------------------------------------------------------

    def submit(self, capability: str) -> tuple[str, Errand]:
        """A job that has begun, and waits."""
        self._errands += 1
        directory = self.house.path / f"{self.name}-errand-{self._errands}"
        directory.mkdir()
        directory.chmod(0o777)  # its user may be another one than the tests'
        errand = Errand(directory)
        job_id = self.gateway.submit(self.device_id, capability, errand.input_json)
        errand.started()
        return job_id, errand

    def check_ended(self, job_id: str, errand: Errand, starts: int = 1) -> None:
        """It succeeded, and nothing happened that should not."""
        ended = self.gateway.ended(job_id)
        assert ended.job.state == "succeeded", ended.job
        assert (errand.starts, errand.effects) == (starts, starts)

    def works(self) -> None:
        """It does a job."""
        job_id, errand = self.submit(EFFECT)
        errand.release()
        self.check_ended(job_id, errand)


@pytest.fixture(scope="module")
def home(shared: House) -> Gateway:
    """The gateway of all these lives."""
    shared.path.chmod(0o711)  # another user than the tests' must get to his device
    return shared.gateway("home", config=PATIENT).start()


@pytest.fixture(scope="module")
def newer(shared: House) -> Path:
    """Palyra, one minor version later."""
    return releases.as_version(NEWER, shared.path)


@pytest.fixture
def systemd(house: House) -> Iterator[ServiceManager]:
    """The machine's, or the user's."""
    house.path.chmod(0o711)
    with servicemanager.running(house.path / "machine") as manager:
        yield manager


def born(house: House, gateway: Gateway, name: str, **given: Any) -> Life:
    """A device that nothing is installed on, in a user's environment."""
    python = plugin.interpreter(plugin.install(house.path / f"{name}-env"))
    house.write_config(house.path / name, QUICK_NODE)
    return Life(house=house, gateway=gateway, name=name, python=python, **given)


def install(life: Life) -> int:
    """Pair, install and start it with one command; its pid."""
    if not life.gateway.process.alive:
        life.gateway.start()
    line = life.gateway.line()
    words = ["install", "--start", "--pairing-uri", "-", "--name", life.name, *life.install_words]
    process = life.begin(*words, stdin=line + "\n")
    life.gateway.approve(process.says("waiting\t", LATER_S).split("\t")[1])
    assert process.wait(LATER_S) == 0, process.output()
    assert line not in process.output()
    file = life.root / "node-host" / "identity" / "device-identity.json"
    life.device_id = str(json.loads(file.read_text())["device_id"])
    pid = life.online()
    life.works()
    return pid


def stop_and_start(life: Life, pid: int) -> int:
    """It ends when it is told to, and then is there again; its pid."""
    assert life.told("stop")["pid"] == pid
    assert has_ended(str(pid))
    life.stopped()
    begun = life.told("start")
    assert begun["state"] == "online" and begun["pid"] != pid
    return life.online()


def crash(life: Life, pid: int, back: Callable[[int], object]) -> int:
    """SIGKILL in the middle of a job that may run again: ``back`` brings it back, the job ends; its
    pid."""
    job_id, errand = life.submit(IDEMPOTENT)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: has_ended(str(pid)), "it is killed")
    errand.release()
    back(pid)
    now = life.online()
    life.check_ended(job_id, errand, starts=2)
    assert now != pid
    return now


def upgrade(life: Life, pid: int, wheel: Path) -> int:
    """Another version over the one that runs: a restart takes it.  It is the device that it was,
    and has what the earlier version could not deliver any more; its pid."""
    job_id, errand = life.submit(EFFECT)
    life.gateway.process.kill()
    errand.release()

    def has_ended_apart() -> bool:
        told = json.loads(life.cli("status", "--json").out)
        return (told["state"], told["jobs"]) == ("offline", 0)

    eventually(has_ended_apart, "its result waits")
    wheels.install(life.house.path / f"{life.name}-env", wheel)
    waits = life.told("status", code=3)
    assert (waits["version"], waits["installed_version"]) == (__version__, NEWER)

    restarting = life.begin("restart", "--json")
    eventually(lambda: has_ended(str(pid)), "the earlier version has ended")
    life.gateway.start()
    assert restarting.wait(LATER_S) == 0, restarting.output()
    begun = json.loads(restarting.said().splitlines()[-1])
    assert (begun["version_before"], begun["version"]) == (__version__, NEWER)
    life.check_ended(job_id, errand)
    assert life.online() == begun["pid"] != pid
    (node,) = (each for each in life.gateway.nodes() if each.device_id == life.device_id)
    assert (node.version, node.trust, node.version_skew) == (NEWER, "trusted", "newer")
    life.works()
    return int(begun["pid"])


def uninstall(life: Life, pid: int, *, told: bool) -> None:
    """Nothing is left but the configuration; the gateway knows, or what to do there is said."""
    if not told:
        life.gateway.process.kill()
    report = life.told("uninstall")
    assert (report["told"], report["stopped"]) == (told, True), report
    assert bool(report["not_told"]) is not told
    assert has_ended(str(pid))
    assert [each.name for each in life.root.iterdir()] == ["palyra.toml"]
    assert life.told("status", code=1)["state"] == "not_paired"
    if not told:
        life.gateway.start()
    trust = {each.device_id: each.trust for each in life.gateway.nodes()}
    assert trust.get(life.device_id, "removed") == ("removed" if told else "trusted")


def test_in_the_background(house: House, home: Gateway, newer: Path) -> None:
    """Of an ordinary user, where no service manager runs: after a crash and a reboot the status
    says that it does not run, and start is all that it takes; it leaves while its gateway is away.
    """
    boot = house.path / "boot-id"
    boot.write_text("first\n")
    life = born(
        house,
        home,
        "attic",
        before=ordinary(),
        env={BOOT_ID_FILE: str(boot)},
        install_words=["--manager", "process"],
        uid=os.getuid(),
    )
    pid = stop_and_start(life, install(life))

    def start(_: int) -> None:
        assert life.stopped()["pid"] == 0
        assert life.told("start")["state"] == "online"

    pid = crash(life, pid, start)
    file = life.root / "node-host" / "node-host-process.json"
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: has_ended(str(pid)), "the power fails")
    boot.write_text("second\n")
    assert json.loads(file.read_text())["pid"] == pid
    start(pid)
    assert json.loads(file.read_text())["boot_id"] == "second"
    pid = life.online()
    life.works()
    uninstall(life, upgrade(life, pid, newer), told=False)


def of_systemd(life: Life, manager: ServiceManager, wheel: Path) -> None:
    """A whole life with systemd: it is there again after each misfortune, by itself."""
    first = install(life)
    unit = manager.units / servicemanager.UNIT
    assert unit.exists() and first == manager.pid()
    pid = crash(life, stop_and_start(life, first), manager.restarted)
    manager.power_off()
    eventually(lambda: has_ended(str(pid)), "the power fails")
    life.stopped()
    manager.boot()
    pid, before = life.online(), pid
    assert pid == manager.pid() != before
    life.works()
    pid = upgrade(life, pid, wheel)
    assert "online as" in life.log()
    uninstall(life, pid, told=True)
    assert not manager.pid() and not unit.exists()


def test_a_users_unit(house: House, home: Gateway, newer: Path, systemd: ServiceManager) -> None:
    """Of an ordinary user."""
    life = born(
        house,
        home,
        "desk",
        before=ordinary(),
        env=systemd.env,
        install_words=["--manager", "systemd"],
        uid=os.getuid(),
    )
    of_systemd(life, systemd, newer)


def test_a_unit_of_the_machine(
    house: House, home: Gateway, newer: Path, systemd: ServiceManager
) -> None:
    """Installed by root; what serves is not root, and neither is what it keeps."""
    if os.geteuid() != 0:
        pytest.skip(f"only root installs for another user ({getpass.getuser()} is not)")
    nobody = accounts.find("nobody")
    life = born(
        house,
        home,
        "shed",
        before=(),
        env=systemd.env,
        install_words=["--manager", "systemd", "--run-as", nobody.name],
        uid=nobody.uid,
    )
    try:
        interpreter.prove(life.python, nobody)
    except InterpreterUnusable as error:
        pytest.skip(error.sentence)
    of_systemd(life, systemd, newer)
