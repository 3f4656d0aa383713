"""Tests of :mod:`palyra.supervision.launchd` against a launchctl that stands in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from palyra.errors import (
    CredentialsUnsupported,
    DidNotStop,
    ServiceElsewhere,
    ServiceManagerFailed,
)
from palyra.supervision.interfaces import IServiceManager
from palyra.supervision.launchd import TRIES, Launchd, Printed
from palyra.supervision.service import Manager, Scope, Service, ServiceState
from tests.supervision.othersystems import PRINTED, StandIn, launchctl

JOB = "gui/501/org.palyra.node"


class Mac:
    """A user's Mac."""

    def __init__(self, path: Path, program: StandIn) -> None:
        self.program = program
        self.clock = Clock()
        self.home = path / "home"
        self.root = path / "state"
        self.root.mkdir()
        self.manager = Launchd(
            Scope.USER,
            home=self.home,
            uid=501,
            pause=self.clock.advance,
            elapsed_s=self.clock.seconds,
        )
        self.service = Service(state_root=self.root)
        self.file = self.home / "Library" / "LaunchAgents" / "org.palyra.node.plist"

    def loaded(self) -> bool:
        return (self.program.directory / "loaded").exists()


@pytest.fixture
def mac(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mac:
    return Mac(tmp_path, launchctl(tmp_path, monkeypatch))


def test_two_domains(tmp_path: Path) -> None:
    """An agent of the user who is signed in, or a daemon of the machine."""
    agent = Launchd(Scope.USER, home=tmp_path, uid=501)
    daemon = Launchd(Scope.SYSTEM)
    for each in (agent, daemon):
        assert verifyObject(IServiceManager, each)
        assert each.kind is Manager.LAUNCHD and each.logs(100, True) is None
    assert (agent.described, agent.target) == ("launchd agent", JOB)
    assert (daemon.described, daemon.target) == ("launchd daemon", "system/org.palyra.node")
    assert daemon.path == Path("/Library/LaunchDaemons/org.palyra.node.plist")


@pytest.mark.parametrize(
    ("code", "said"),
    [(0, ""), (125, "the user is not signed in on the desktop"), (9, "Failed: 9: because")],
)
def test_whether_it_can_be_used(mac: Mac, code: int, said: str) -> None:
    """launchd itself is asked."""
    mac.program.fails("print", code)
    assert mac.manager.available() == said
    assert mac.program.calls() == ["print gui/501"]


def test_no_launchctl(mac: Mac, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is no launchd."""
    monkeypatch.setenv("PATH", str(mac.home))
    assert mac.manager.available() == "launchctl is not there"
    assert mac.manager.state() == ServiceState(installed=False, at_boot=False)


def test_the_whole_life(mac: Mac) -> None:
    """Installed is not started; started is handed over; stopped is taken out; and nothing is left
    of what was removed."""
    manager = mac.manager
    assert manager.state() == ServiceState(installed=False, at_boot=False)
    assert manager.install(mac.service) == [mac.file]
    assert mac.file.stat().st_mode & 0o777 == 0o644 and not mac.loaded()
    assert manager.state() == ServiceState(installed=True, at_boot=True)
    mac.program.calls()
    manager.start()
    assert mac.program.calls() == [f"print {JOB}", f"enable {JOB}", f"bootstrap gui/501 {mac.file}"]
    assert manager.state() == ServiceState(
        installed=True,
        running=True,
        pid=4312,
        at_boot=True,
        word="running",
        result="ended with exit code 78",
    )
    manager.start()
    mac.program.calls()
    manager.restart()
    verbs = [call.split()[0] for call in mac.program.calls()]
    assert verbs == ["print", "bootout", "print", "print", "enable", "bootstrap"]
    manager.stop()
    manager.stop()
    assert not mac.loaded()
    assert manager.uninstall() == [mac.file]
    assert manager.uninstall() == [] and not mac.file.exists()


def test_a_disabled_job(mac: Mac) -> None:
    """Is not started at sign-in, and enabled by a start."""
    mac.manager.install(mac.service)
    for said in ("disabled", "true"):
        mac.program.has("disabled", f'disabled services = {{\n\t"org.palyra.node" => {said}\n}}\n')
        assert mac.manager.state().at_boot is False
    mac.program.has("disabled", 'disabled services = {\n\t"org.palyra.node" => enabled\n}\n')
    assert mac.manager.state().at_boot is True
    mac.program.fails("print-disabled", 1)
    assert mac.manager.state().at_boot is None


def test_one_that_ended_by_itself(mac: Mac) -> None:
    """launchd still has it: it is kicked."""
    mac.program.has("loaded")
    mac.program.has("printed", PRINTED.replace("\tpid = 4312\n", ""))
    mac.manager.start()
    assert mac.program.calls() == [f"print {JOB}", f"kickstart {JOB}"]


@pytest.mark.parametrize("code", [5, 37])
def test_a_job_that_is_on_its_way_out(mac: Mac, code: int) -> None:
    """Is waited for, and started then."""
    mac.manager.install(mac.service)
    mac.program.fails("bootstrap", code, code, 0)
    mac.manager.start()
    assert mac.loaded() and 0 < mac.clock.seconds() < 5


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (5, f"launchctl bootout {JOB}, then: palyra node start"),
        (113, "sign in on the desktop of this Mac as that user, then: palyra node start"),
        (119, f"launchctl enable {JOB}, then: palyra node start"),
        (64, f"launchctl print {JOB}"),
    ],
)
def test_one_that_cannot_be_started(mac: Mac, code: int, remedy: str) -> None:
    """launchd's number becomes a sentence and what to do."""
    mac.manager.install(mac.service)
    mac.program.fails("bootstrap", *[code] * TRIES)
    with pytest.raises(ServiceManagerFailed) as refused:
        mac.manager.start()
    assert refused.value.sentence == f"launchctl bootstrap gui/501 failed: Failed: {code}: because."
    assert refused.value.hint == remedy


def test_a_ghost(mac: Mac) -> None:
    """A job that launchd will not have twice is there after all."""
    mac.manager.install(mac.service)
    mac.program.fails("bootstrap", *[5] * TRIES)
    mac.program.fails("print", 113)
    mac.program.has("loaded")
    mac.program.has("printed", "gui/501/org.palyra.node = {\n}\n")
    mac.manager.start()
    assert mac.program.calls()[-1] == f"kickstart {JOB}"


def test_nothing_is_installed(mac: Mac) -> None:
    """And that is the remedy."""
    mac.program.fails("bootstrap", 2)
    with pytest.raises(ServiceManagerFailed) as refused:
        mac.manager.start()
    assert refused.value.hint == "palyra node install --start"


def test_the_job_of_another_state_root(mac: Mac) -> None:
    """Is none of its own: it is neither stopped nor started nor taken away."""
    (file,) = mac.manager.install(mac.service)
    mac.manager.start()
    other = Launchd(Scope.USER, mac.service.state_root / "other", home=mac.home, uid=501)
    other.stop()
    assert other.uninstall() == [] and not other.state().installed
    with pytest.raises(ServiceElsewhere):
        other.start()
    assert mac.manager.state().running and file.exists()


def test_one_that_does_not_end(mac: Mac) -> None:
    """Is waited for as long as the longest grace, and then named; where it may not be ended, that
    is said at once."""
    mac.program.has("loaded")
    mac.program.has("stays")
    mac.manager._pause = lambda seconds: mac.clock.advance(300)
    with pytest.raises(DidNotStop, match="4312"):
        mac.manager.stop()
    assert mac.clock.seconds() > 600
    mac.program.fails("bootout", 1)
    with pytest.raises(ServiceManagerFailed, match="bootout"):
        mac.manager.stop()


def _foreign(mac: Mac) -> tuple[Service, type[Exception]]:
    mac.manager.install(mac.service)
    return Service(state_root=mac.home), ServiceElsewhere


def _credentials(mac: Mac) -> tuple[Service, type[Exception]]:
    mac.manager.install(mac.service)
    return Service(state_root=mac.root, credentials={"a": mac.root}), CredentialsUnsupported


def _refused(mac: Mac) -> tuple[Service, type[Exception]]:
    mac.manager.install(mac.service)
    mac.program.fails("enable", 1)
    return Service(state_root=mac.root, python="/other"), ServiceManagerFailed


def _refused_at_first(mac: Mac) -> tuple[Service, type[Exception]]:
    mac.program.fails("enable", 1)
    return mac.service, ServiceManagerFailed


def _somebody_elses(mac: Mac) -> tuple[Service, type[Exception]]:
    mac.file.parent.mkdir(parents=True)
    mac.file.write_bytes(b"<plist><dict/></plist>")
    return mac.service, ServiceManagerFailed


def _a_link(mac: Mac) -> tuple[Service, type[Exception]]:
    mac.manager.install(mac.service)
    mac.file.symlink_to(mac.file.rename(mac.root / "elsewhere"))
    return mac.service, ServiceManagerFailed


@pytest.mark.parametrize(
    "made", [_foreign, _credentials, _refused, _refused_at_first, _somebody_elses, _a_link]
)
def test_what_cannot_be_installed(
    mac: Mac, made: Callable[[Mac], tuple[Service, type[Exception]]]
) -> None:
    """Leaves what was there before."""
    service, error = made(mac)
    before = mac.file.read_bytes() if mac.file.exists() else None
    with pytest.raises(error):
        mac.manager.install(service)
    assert (mac.file.read_bytes() if mac.file.exists() else None) == before


def test_the_grace_of_the_configuration(mac: Mac) -> None:
    """launchd kills nothing that may still finish its jobs."""
    (mac.root / "palyra.toml").write_text("[node]\nshutdown_grace_s = 300\n")
    mac.manager.install(mac.service)
    assert b"<integer>320</integer>" in mac.file.read_bytes()
    mac.manager.install(Service(state_root=mac.root, python="/other"))
    assert b"/other" in mac.file.read_bytes()


def test_what_launchctl_prints() -> None:
    """Only the job's own entries count, and a number is a number."""
    assert Printed.read(PRINTED) == Printed("running", 4312, "78: EX_CONFIG")
    assert Printed.read("") == Printed()
    assert Printed.read("a = {\n\tpid = 99999999999999\n\tstate = " + "x" * 999) == Printed(
        "x" * 80
    )
    assert Printed.read("a = {\n\tlast exit code = (never exited)\n}").exit_code


@given(text=st.text(alphabet="{}=\n\t apid1state", max_size=200))
@settings(max_examples=100)
def test_any_text(text: str) -> None:
    """Is read without an error."""
    assert 0 <= Printed.read(text).pid < 10**9
