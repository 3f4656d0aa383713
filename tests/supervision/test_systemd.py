"""The driver of systemd, against a systemctl that notes what it is asked."""

from __future__ import annotations

import stat
from pathlib import Path

import attrs
import pytest
from zope.interface.verify import verifyObject

from palyra.errors import OptionInvalid, ServiceElsewhere, ServiceManagerFailed
from palyra.supervision.interfaces import IServiceManager
from palyra.supervision.service import Account, Manager, Profile, Scope, Service
from palyra.supervision.systemd import Systemd, lingers
from palyra.supervision.systemdunit import UNIT, state_root_of
from tests.supervision.standin import StandIn
from tests.supervision.test_systemdstate import shown

RUNNING = shown()
ENDED = shown(
    ActiveState="activating", SubState="auto-restart", MainPID="0", Result="exit-code",
    ExecMainStatus="203",
)  # fmt: skip


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """The first systemctl on PATH; units are below ``tmp_path``."""
    monkeypatch.setenv(
        "SYSTEMD_UNIT_PATH", f"{tmp_path / 'units' / 'here'}:/usr/lib/systemd/system"
    )
    made = StandIn("systemctl", tmp_path, monkeypatch)
    made.answer("is-system-running", out="running\n")
    return made


@pytest.fixture
def user(systemctl: StandIn) -> Systemd:
    """A user's manager."""
    return Systemd(Scope.USER)


@pytest.fixture
def service(tmp_path: Path) -> Service:
    """A user's node host."""
    return Service(state_root=tmp_path / "root")


@pytest.mark.parametrize("scope", Scope)
def test_it_is_a_service_manager(scope: Scope) -> None:
    """Everything that the commands ask of any manager is there."""
    manager = Systemd(scope)
    verifyObject(IServiceManager, manager)
    assert (manager.kind, manager.described) == (Manager.SYSTEMD, f"systemd {scope} unit")


def test_install_writes_the_unit_and_enables_it(
    user: Systemd, systemctl: StandIn, service: Service, tmp_path: Path
) -> None:
    """It is there for everyone to read, and systemd was told; nothing is started."""
    (file,) = user.install(service)
    assert file == tmp_path / "units" / "here" / UNIT
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert state_root_of(file.read_text()) == service.state_root
    assert systemctl.calls() == ["--user daemon-reload", f"--user enable {UNIT}"]


def test_install_again_replaces_the_unit(user: Systemd, service: Service) -> None:
    """A new interpreter, a new profile: the unit is as asked last."""
    user.install(service)
    (file,) = user.install(attrs.evolve(service, profile=Profile.STRICT, python="/opt/x/python"))
    assert "ProtectSystem=strict" in file.read_text()
    assert "ExecStart=:/opt/x/python " in file.read_text()


def test_the_stop_waits_for_the_grace_that_is_configured(user: Systemd, service: Service) -> None:
    """Settings that cannot be read count as none: the node host says what is wrong with them."""
    service.state_root.mkdir()
    for settings, seconds in (("[node]\nshutdown_grace_s = 60\n", 80), ("[", 30)):
        (service.state_root / "palyra.toml").write_text(settings)
        (file,) = user.install(service)
        assert f"\nTimeoutStopSec={seconds}\n" in file.read_text()


def test_a_service_of_another_state_root_is_left_alone(
    user: Systemd, systemctl: StandIn, service: Service, tmp_path: Path
) -> None:
    """One node host a user: the other one is named, and runs on."""
    (file,) = user.install(service)
    before = file.read_bytes()
    systemctl.calls()
    for act in (user.check, user.install):
        with pytest.raises(ServiceElsewhere) as caught:
            act(attrs.evolve(service, state_root=tmp_path / "other"))
        assert caught.value.state_root == str(service.state_root)
    assert ServiceElsewhere("unit", "/a b").hint == "palyra node uninstall --state-root '/a b'"
    assert (file.read_bytes(), systemctl.calls()) == (before, [])


@pytest.mark.parametrize("kind", ["file", "link", "directory"])
def test_a_unit_that_somebody_else_wrote_is_left_alone(
    user: Systemd, systemctl: StandIn, service: Service, kind: str
) -> None:
    """A packager's unit, or one that is masked by a link to /dev/null."""
    user.unit_file.parent.mkdir(parents=True)
    if kind == "file":
        user.unit_file.write_text("[Service]\nExecStart=/bin/true\n")
    elif kind == "link":
        user.unit_file.symlink_to("/dev/null")
    else:
        user.unit_file.mkdir()
    for act in (lambda: user.check(service), lambda: user.install(service), user.uninstall):
        with pytest.raises(ServiceManagerFailed):
            act()
    assert user.unit_file.is_symlink() or user.unit_file.exists()
    assert systemctl.calls() == []


@pytest.mark.parametrize("verb", ["daemon-reload", "enable"])
def test_an_install_that_fails_leaves_nothing(
    user: Systemd, systemctl: StandIn, service: Service, tmp_path: Path, verb: str
) -> None:
    """No unit, no directory, nothing enabled; and the reason is told."""
    systemctl.answer(verb, err="Failed: Access denied\n", code=1)
    with pytest.raises(ServiceManagerFailed, match="Access denied"):
        user.install(service)
    assert not (tmp_path / "units").exists()
    assert systemctl.calls()[-2:] == [f"--user disable {UNIT}", "--user daemon-reload"]


def test_an_install_that_fails_leaves_the_service_that_was_there(
    user: Systemd, systemctl: StandIn, service: Service
) -> None:
    """An upgrade that fails takes nothing away."""
    (file,) = user.install(service)
    before = file.read_bytes()
    systemctl.answer("enable", err="Failed: Access denied\n", code=1)
    with pytest.raises(ServiceManagerFailed):
        user.install(attrs.evolve(service, profile=Profile.STRICT))
    assert file.read_bytes() == before
    assert f"--user disable {UNIT}" not in systemctl.calls()


def test_a_unit_that_cannot_be_written_changes_nothing(
    user: Systemd, systemctl: StandIn, service: Service
) -> None:
    """What no unit can hold is refused before anything is made."""
    for act in (user.check, user.install):
        with pytest.raises(OptionInvalid):
            act(attrs.evolve(service, environment={"A": "x\nUser=root"}))
    user.check(service)
    assert systemctl.calls() == []
    assert not user.unit_file.parent.exists()


def test_uninstall_stops_it_and_takes_the_unit_away(
    user: Systemd, systemctl: StandIn, service: Service
) -> None:
    """And a second time there is nothing to do."""
    (file,) = user.install(service)
    systemctl.calls()
    assert user.uninstall() == [file]
    assert not file.exists()
    assert systemctl.calls() == [
        "--user is-system-running",
        f"--user disable --now {UNIT}",
        "--user daemon-reload",
        f"--user reset-failed {UNIT}",
    ]
    assert user.uninstall() == []


def test_uninstall_without_a_manager(user: Systemd, systemctl: StandIn, service: Service) -> None:
    """Nobody runs the service then, and nobody has to be told: the unit goes, and what wants it."""
    (file,) = user.install(service)
    wanted = file.parent / "default.target.wants" / UNIT
    wanted.parent.mkdir()
    wanted.symlink_to(file)
    systemctl.answer("is-system-running", out="offline\n", code=1)
    systemctl.calls()
    assert user.uninstall() == [file]
    assert not file.exists() and not wanted.is_symlink()
    assert all("disable" not in call for call in systemctl.calls())


def test_a_service_that_does_not_stop_is_not_removed(
    user: Systemd, systemctl: StandIn, service: Service
) -> None:
    """What still runs is not forgotten."""
    (file,) = user.install(service)
    systemctl.answer("disable", err="Failed to stop\n", code=1)
    with pytest.raises(ServiceManagerFailed):
        user.uninstall()
    assert file.exists()


def test_verbs_are_systemds_own(user: Systemd, systemctl: StandIn) -> None:
    """start, stop and restart are asked of the manager of that user."""
    user.start()
    user.stop()
    user.restart()
    assert systemctl.calls() == [f"--user {verb} {UNIT}" for verb in ("start", "stop", "restart")]


def test_the_unit_of_another_state_root_is_none_of_its_own(
    user: Systemd, systemctl: StandIn, service: Service, tmp_path: Path
) -> None:
    """Whose mark is an old one, or a lie, does not stop, start or remove another's service; a root
    that is spelled in another way is the same."""
    (file,) = user.install(service)
    systemctl.calls()
    systemctl.answer("show", out=RUNNING)
    other = Systemd(Scope.USER, tmp_path / "other")
    other.stop()
    assert other.uninstall() == [] and not other.state().installed
    for verb in (other.start, other.restart):
        with pytest.raises(ServiceElsewhere):
            verb()
    assert systemctl.calls() == [] and file.exists()
    service.state_root.mkdir()
    (tmp_path / "link").symlink_to(service.state_root)
    own = Systemd(Scope.USER, tmp_path / "link")
    assert own.state().pid == 4312
    own.check(attrs.evolve(service, state_root=tmp_path / "link"))
    assert own.uninstall() == [file]


def test_a_start_that_fails_says_why(user: Systemd, systemctl: StandIn) -> None:
    """With what systemd knows of the end, and where more is to be read."""
    systemctl.answer("start", err="Job for palyra-node.service failed.\nSee more.\n", code=1)
    systemctl.answer("show", out=ENDED)
    with pytest.raises(ServiceManagerFailed) as caught:
        user.start()
    assert caught.value.said == "its interpreter cannot be run"
    assert caught.value.hint == "palyra node logs"


def test_a_start_of_which_systemd_knows_nothing_says_what_it_said(
    user: Systemd, systemctl: StandIn
) -> None:
    """The program's own words are better than none."""
    systemctl.answer("restart", err="Unit palyra-node.service not found.\n", code=5)
    systemctl.answer("show", err="No.\n", code=1)
    with pytest.raises(ServiceManagerFailed, match=r"Unit palyra-node\.service not found\."):
        user.restart()


def test_stopping_what_is_not_there_is_no_failure(user: Systemd, systemctl: StandIn) -> None:
    """Any other refusal is one."""
    systemctl.answer("stop", err="Unit palyra-node.service not loaded.\n", code=5)
    user.stop()
    systemctl.answer("stop", err="Access denied\n", code=4)
    with pytest.raises(ServiceManagerFailed):
        user.stop()


def test_its_state_is_asked_of_systemd(user: Systemd, systemctl: StandIn) -> None:
    """Only the properties that are read."""
    systemctl.answer("show", out=RUNNING)
    assert user.state().pid == 4312
    (call,) = systemctl.calls()
    assert call.startswith(f"--user show {UNIT} --property=LoadState,ActiveState,")


def test_its_lines_are_in_the_journal() -> None:
    """A user's are found also where users have no journal of their own."""
    user, system = Systemd(Scope.USER), Systemd(Scope.SYSTEM)
    common = ["journalctl", "--quiet", "--no-pager"]
    assert user.logs(50, False) == [*common, f"--user-unit={UNIT}", "--lines=50"]
    assert system.logs(5, True) == [*common, f"--unit={UNIT}", "--lines=5", "--follow"]


def test_a_system_service_is_the_machines(
    systemctl: StandIn, service: Service, tmp_path: Path
) -> None:
    """Root's manager is asked, and the unit says whom it runs as."""
    account = Account("palyra-node", 997, 997)
    system = Systemd(Scope.SYSTEM)
    (file,) = system.install(attrs.evolve(service, scope=Scope.SYSTEM, account=account))
    assert "\nUser=palyra-node\n" in file.read_text()
    assert systemctl.calls() == ["daemon-reload", f"enable {UNIT}"]


@pytest.mark.parametrize(
    ("out", "err", "reason"),
    [
        ("running\n", "", ""),
        ("degraded\n", "", ""),
        ("starting\n", "", ""),
        ("offline\n", "", "no manager of this user runs (offline)"),
        ("unknown\n", "", "no manager of this user runs (unknown)"),
        ("", "Failed to connect to bus: No medium found\n",
         "no manager of this user runs (Failed to connect to bus: No medium found)"),
        ("\x1b[2J\n", "", "no manager of this user runs"),
        ("", "", "no manager of this user runs"),
    ],
)  # fmt: skip
def test_whether_systemd_runs_is_asked_of_the_program(
    user: Systemd, systemctl: StandIn, out: str, err: str, reason: str
) -> None:
    """Files say nothing: a container may have all of systemd's, and no systemd."""
    systemctl.answer("is-system-running", out=out, err=err, code=1)
    assert user.available() == reason


def test_a_machine_without_systemctl_has_no_systemd() -> None:
    """And says so, instead of failing."""
    system = Systemd(Scope.SYSTEM, environ={"PATH": "/nowhere"})
    assert system.available() == "there is no systemctl"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, "/home/ana/.config/systemd/user"),
        ({"XDG_CONFIG_HOME": "/cfg"}, "/cfg/systemd/user"),
        ({"XDG_CONFIG_HOME": "cfg"}, "/home/ana/.config/systemd/user"),
        ({"SYSTEMD_UNIT_PATH": ":/u:/v"}, "/u"),
        ({"SYSTEMD_UNIT_PATH": ":"}, "/home/ana/.config/systemd/user"),
    ],
)
def test_where_units_of_a_user_are(environ: dict[str, str], expected: str) -> None:
    """As systemd itself looks for them."""
    user = Systemd(Scope.USER, environ={"HOME": "/home/ana", **environ})
    assert user.unit_file == Path(expected, UNIT)
    assert Systemd(Scope.SYSTEM, environ={}).unit_file == Path("/etc/systemd/system", UNIT)


@pytest.mark.parametrize(
    ("out", "code", "expected"),
    [("Linger=yes\n", 0, True), ("Linger=no\n", 0, False), ("", 1, None), ("x\n", 0, None)],
)
def test_lingering_is_asked_of_logind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str, code: int, expected: bool | None
) -> None:
    """Where logind does not know the user, nothing is claimed."""
    loginctl = StandIn("loginctl", tmp_path, monkeypatch)
    loginctl.answer("show-user", out=out, code=code)
    assert lingers("ana") is expected
    assert loginctl.calls() == ["show-user ana --property=Linger"]
    assert lingers("--help") is None
    assert loginctl.calls() == []
