"""Tests of :mod:`palyra.cli.nodeinstall` and :mod:`palyra.cli.nodeplan`."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import msgspec
import pytest

from palyra.cli import nodeplan, noderoot, nodestarting
from palyra.cli.main import main
from palyra.errors import (
    AccountUnknown,
    CredentialsUnsupported,
    DidNotStart,
    InterpreterUnusable,
    PairingExpired,
    PairingFailed,
    PairingRejected,
    PalyraError,
    ServiceElsewhere,
    ServiceManagerFailed,
    ServiceManagerMissing,
)
from palyra.node import foreground
from palyra.node.files import HostFile
from palyra.node.identity import PairingFile
from palyra.node.pairingrun import NodeRunOptions
from palyra.supervision import accounts, choosing, interpreter, systemd
from palyra.supervision.installed import InstalledFile, mark_at
from palyra.supervision.service import Account, Manager, Profile, Scope, Service
from palyra.supervision.systemdunit import unit_text
from tests.cli.fakemanager import STATUS, Device, FakeManager, on_screen, served
from tests.node.fakes import DEVICE_ID, NOW_MS, PairedDevice, new_authority

LINE = "palyra://home.example.org:7443/?ca=abc&t=def"
HOST = HostFile(
    1, "gw:7444", DEVICE_ID, 500, "", NOW_MS, NOW_MS, "pi", "ana", "home.example.org:7443"
)


class Bench(Device):
    """A device that is not paired, and all that an install of it meets."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.manager.runs = False
        self.answers()
        self.paired: list[NodeRunOptions] = []
        self.pairing_fails: BaseException | None = None
        self.chosen: list[tuple[Manager | None, Scope]] = []
        self.other = FakeManager(self.root / "other.service", Manager.PROCESS)

    def pair(self) -> None:
        """It is paired from here on."""
        self.files.make()
        PairedDevice(self.files.identity.path, new_authority())
        self.files.keep_host(HOST)

    def pairs(self, options: NodeRunOptions, out: TextIO) -> HostFile:
        """In place of a gateway."""
        self.paired.append(options)
        if self.pairing_fails is not None:
            raise self.pairing_fails
        self.pair()
        out.write("waiting\tR\n")
        return HOST

    def choose(self, asked: Manager | None, scope: Scope, state_root: Path) -> FakeManager:
        """In place of this system."""
        self.chosen.append((asked, scope))
        if asked is Manager.LAUNCHD:
            raise ServiceManagerMissing("launchd", "only macOS has it")
        return self.other if asked is Manager.PROCESS else self.manager

    def of(self, mark: InstalledFile) -> FakeManager:
        """Likewise."""
        return self.other if mark.manager == Manager.PROCESS else self.manager

    def prove(self, python: str, account: Account | None) -> None:
        """Likewise."""
        assert python == sys.executable
        self.proved.append(account)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """For an ordinary user, whoever runs the tests."""
    monkeypatch.setattr(nodestarting, "ONLINE_S", 0.3)
    monkeypatch.setattr(nodestarting, "SETTLING_S", 0.0)
    monkeypatch.setattr(nodestarting, "_LOOK_S", 0.0)
    monkeypatch.setattr(nodeplan, "runs_as_root", lambda: False)
    monkeypatch.setattr(noderoot, "runs_as_root", lambda: False)
    monkeypatch.setattr(sys, "stdin", io.StringIO(LINE + "\n"))
    (tmp_path / "root").mkdir(mode=0o700)
    with served(tmp_path / "root") as host:
        os.chmod(host.root / "node-host", 0o700)
        made = Bench(host, tmp_path / "palyra-node.service")
        monkeypatch.setattr(foreground, "pair", made.pairs)
        monkeypatch.setattr(choosing, "choose", made.choose)
        monkeypatch.setattr(choosing, "of", made.of)
        monkeypatch.setattr(interpreter, "prove", made.prove)
        monkeypatch.setattr(systemd, "lingers", lambda user: None)
        monkeypatch.setenv("HOME", str(tmp_path))
        yield made


PAIR = ("--pairing-uri", "-")


# -- the whole of it ------------------------------------------------------------------------------


def test_install_and_start(
    bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is checked, paired, installed, started and online, in this order, with a line each."""
    on_screen(monkeypatch)
    monkeypatch.setattr(systemd, "lingers", lambda user: False)
    monkeypatch.setattr("getpass.getuser", lambda: "ana")
    status, out, err = bench.run(capsys, "install", "--start", "--gateway", "home.example.org", *())
    assert status == 2 and "Nobody can be asked for the PIN" in err  # no terminal is here
    status, out, err = bench.run(capsys, "install", "--start", *PAIR, "--name", "pi")
    paired, installed, started = out.splitlines()
    assert paired == "ok  paired     pi  X4K7QM, approved by ana"
    assert installed == "ok  installed  ~/palyra-node.service"
    assert started.startswith("ok  started    pid 4312, online after ")
    assert status == 0
    assert err == (
        "waiting\tR\n"
        "note  stops when ana logs out; to keep it: loginctl enable-linger ana\n"
        "hint  palyra node status\n"
    )
    assert bench.manager.told == ["check", "check", "install", "start"]
    (options,) = bench.paired
    assert (options.pairing_uri, options.name, options.state_root) == (LINE, "pi", bench.root)
    assert bench.proved == [None, None]
    mark = bench.mark
    assert mark is not None
    assert (mark.manager, mark.scope, mark.files) == (
        "systemd",
        "user",
        (str(bench.manager.unit),),
    )


def test_install_for_scripts(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """Tab-separated; the steps of the pairing are not the result."""
    assert bench.run(capsys, "install", *PAIR) == (
        0,
        f"paired\tpi\t{DEVICE_ID}\tana\ninstalled\t{bench.manager.unit}\n",
        "waiting\tR\nhint  palyra node start\n",
    )
    assert "start" not in bench.manager.told


def test_install_as_one_object(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """And nothing else on either stream."""
    status, out, err = bench.run(capsys, "install", "--start", *PAIR, "--json")
    assert (status, err) == (0, "")
    assert json.loads(out) == {
        "paired": True,
        "installed": True,
        "started": True,
        "manager": "systemd",
        "files": [str(bench.manager.unit)],
        "pid": 4312,
        "device_id": DEVICE_ID,
        "name": "pi",
        "state": "online",
        "changed": True,
    }


def test_a_background_process(
    bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it cannot do is said."""
    on_screen(monkeypatch)
    status, out, _ = bench.run(capsys, "install", "--manager", "process", *PAIR)
    line = "ok  installed  background process (does not start at boot)"
    assert (status, out.splitlines()[1]) == (0, line)
    assert bench.chosen == [(Manager.PROCESS, Scope.USER)]


# -- again ----------------------------------------------------------------------------------------


def test_again(
    bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is paired, asked or written again, and that is said."""
    on_screen(monkeypatch)
    assert bench.run(capsys, "install", "--start", *PAIR)[0] == 0
    mark = bench.mark
    status, out, err = bench.run(capsys, "install", "--start", "--gateway", "home.example.org")
    assert status == 0
    assert out.splitlines()[1] == "ok  installed  ~/palyra-node.service (unchanged)"
    assert out.splitlines()[2].startswith("ok  running    pid 4312, online")
    assert "note  paired already with home.example.org:7443" in err
    assert len(bench.paired) == 1
    assert bench.manager.told.count("start") == 1
    assert bench.mark == mark


def test_again_with_other_options(
    bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The definition is written anew; a service that runs has to be restarted, which is said."""
    on_screen(monkeypatch)
    assert bench.run(capsys, "install", "--start", *PAIR)[0] == 0
    status, out, err = bench.run(capsys, "install", "--profile", "strict")
    assert (status, err) == (0, "hint  palyra node restart\n")
    assert out.splitlines()[1] == "ok  installed  ~/palyra-node.service (updated)"
    assert "strict" in bench.manager.unit.read_text()


def test_an_upgrade_keeps_what_was_asked_for(
    bench: Bench, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Profile and credentials are as the unit has them, unless others are named."""
    bench.pair()
    (tmp_path / "f").write_text("x")
    credentials = {"token": Path("/etc/token")}
    unit = unit_text(
        Service(state_root=bench.root, profile=Profile.STRICT, credentials=credentials)
    )
    bench.manager.unit.write_text(unit)
    assert bench.run(capsys, "install")[0] == 0
    assert bench.manager.service is not None
    assert bench.manager.service.profile is Profile.STRICT
    assert bench.manager.service.credentials == credentials
    bench.manager.unit.write_text(unit)
    words = ("--profile", "standard", "--credential", f"other={tmp_path / 'f'}")
    assert bench.run(capsys, "install", *words)[0] == 0
    assert bench.manager.service.profile is Profile.STANDARD
    assert bench.manager.service.credentials == {"other": tmp_path / "f"}


def test_other_addresses(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a device that is paired they are kept, and the service has to be restarted."""
    bench.pair()
    assert bench.run(capsys, "install", "--start")[0] == 0
    status, _, err = bench.run(capsys, "install", "--grpc-url", "a:1", "--grpc-url", "b:2")
    assert (status, err) == (0, "hint  palyra node restart\n")
    host = bench.files.host()
    assert host is not None and host.gateway_urls == ("a:1", "b:2")


def test_the_proxy_of_the_environment(
    bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Is kept with the pairing: the service will not have it."""
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    assert bench.run(capsys, "install", *PAIR)[0] == 0
    host = bench.files.host()
    assert host is not None and host.http_proxy == "http://proxy:3128"
    assert bench.manager.service is not None and not bench.manager.service.environment


def test_another_manager(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """Only one keeps it: the one before it gives it up, once the new one has it."""
    bench.pair()
    assert bench.run(capsys, "install")[0] == 0
    assert bench.run(capsys, "install", "--manager", "process")[0] == 0
    assert bench.other.told == ["check", "install"]
    assert bench.manager.told[-1] == "uninstall"
    assert not bench.manager.unit.exists()
    mark = bench.mark
    assert mark is not None and mark.manager == "process"


# -- refused before anything is done ------------------------------------------------------------


def test_a_manager_that_is_not_there(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """It is refused before anybody is asked for a code."""
    status, _, err = bench.run(capsys, "install", "--manager", "launchd", *PAIR)
    assert (status, "launchd cannot be used here: only macOS has it." in err) == (1, True)
    assert bench.paired == []


@pytest.mark.parametrize(
    "error",
    [
        ServiceElsewhere("palyra-node.service", "/srv/other"),
        CredentialsUnsupported("launchd"),
    ],
)
def test_what_the_manager_would_refuse(
    bench: Bench, capsys: pytest.CaptureFixture[str], error: PalyraError
) -> None:
    """It is asked before the pairing."""
    bench.manager.refuses["check"] = error
    status, _, err = bench.run(capsys, "install", *PAIR)
    assert (status, error.sentence in err) == (1, True)
    assert bench.paired == [] and bench.mark is None


def test_nothing_to_pair_with(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """What has to be named is said."""
    status, _, err = bench.run(capsys, "install", "--start")
    assert (status, bench.paired) == (1, [])
    assert err.endswith("is not paired.\nhint:  palyra node install --start --gateway HOST\n")


def test_an_interpreter_that_cannot_be_run(
    bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Likewise."""

    def prove(python: str, account: Account | None) -> None:
        raise InterpreterUnusable(python, "ana", "/root is closed to it")

    monkeypatch.setattr(interpreter, "prove", prove)
    status, _, err = bench.run(capsys, "install", *PAIR)
    assert (status, "/root is closed to it." in err, bench.paired) == (1, True, [])


def test_a_host_that_runs_in_a_terminal(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """The service could not start beside it."""
    bench.host.answers["status"] = STATUS
    status, _, err = bench.run(capsys, "install", "--start", *PAIR)
    assert (status, "A node host (pid 4312) already uses" in err) == (1, True)
    assert bench.paired == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--credential", "token"], "must be NAME=FILE"),
        (["--credential", "../a=/etc/hostname"], "must be NAME=FILE"),
        (["--credential", "a=/none"], "is no file of at most 1 MiB"),
        (["--credential", "a=/"], "is no file of at most 1 MiB"),
        (["--credential", "a=~/f", "--credential", "a=~/f"], "given twice"),
        (["--run-as", "bob"], "Only root installs"),
        (["--gateway", "gw", "--pairing-uri", "-"], "give one of them"),
        (["--profile", "strict", "--manager", "process"], "not for a background process"),
        (["--pairing-uri", LINE], "stays in the shell history"),
    ],
)
def test_options_that_cannot_be_used(
    bench: Bench, capsys: pytest.CaptureFixture[str], tmp_path: Path, given: list[str], words: str
) -> None:
    """Each is a usage error, and nothing was done."""
    (tmp_path / "f").write_text("x")
    status, _, err = bench.run(capsys, "install", *given)
    assert (status, words in err) == (2, True)
    assert bench.paired == [] and bench.manager.told == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--gateway", "http://gw/"], "--gateway: must be HOST:PORT"),
        (["--gateway", "gw", "--grpc-url", "gw"], "--grpc-url: must be HOST:PORT"),
    ],
)
def test_addresses_that_are_none(
    bench: Bench, capsys: pytest.CaptureFixture[str], given: list[str], words: str
) -> None:
    """A usage error as well, before anybody is asked for a PIN."""
    status, _, err = bench.run(capsys, "install", *given)
    assert (status, words in err, bench.paired) == (2, True, [])
    assert err.endswith("hint:  palyra node install --help\n")


def test_credentials_reach_the_service(
    bench: Bench, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """By their absolute paths."""
    (tmp_path / "f").write_text("x")
    assert bench.run(capsys, "install", *PAIR, "--credential", "token=~/f")[0] == 0
    assert bench.manager.service is not None
    assert bench.manager.service.credentials == {"token": tmp_path / "f"}


def test_files_that_only_the_mark_names_are_not_opened(
    bench: Bench, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Of a system service the mark is in the keeping of its user: root would hang at a pipe, or
    wake up a device."""
    assert bench.run(capsys, "install", *PAIR)[0] == 0
    mark = bench.mark
    assert mark is not None
    os.mkfifo(tmp_path / "pipe")
    mark_at(bench.files.installed).write(
        msgspec.structs.replace(mark, files=(str(tmp_path / "pipe"),))
    )
    assert bench.run(capsys, "install")[0] == 0
    assert bench.mark == mark


# -- what fails on the way ------------------------------------------------------------------------


def test_a_wrong_code(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is installed."""
    bench.pairing_fails = PairingFailed(pin=True)
    status, out, err = bench.run(capsys, "install", "--start", *PAIR)
    assert (status, out) == (1, "")
    assert err.startswith("error: That PIN is wrong, expired or used up.\n")
    assert bench.mark is None and "install" not in bench.manager.told


@pytest.mark.parametrize("refusal", [PairingRejected("not this one"), PairingExpired()])
def test_an_operator_who_says_no(
    bench: Bench, capsys: pytest.CaptureFixture[str], refusal: PalyraError
) -> None:
    """Nothing is installed, and the hint is to install again, not to run it in a terminal."""
    bench.pairing_fails = refusal
    status, _, err = bench.run(capsys, "install", "--start", *PAIR)
    assert status == 1 and bench.mark is None
    assert err.endswith("hint:  palyra node install --start --gateway HOST (with a new code)\n")


def test_ctrl_c_while_an_operator_is_waited_for(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is installed, and what goes on with it is told."""
    bench.pairing_fails = KeyboardInterrupt()
    bench.files.make()
    bench.files.identity.open(NOW_MS, os.urandom, DEVICE_ID)
    bench.files.identity.keep_waiting(PairingFile(1, "ab" * 16, "R", "127.0.0.1:2", "PEM"))
    status, out, err = bench.run(capsys, "install", "--start", *PAIR)
    assert (status, out) == (130, "")
    assert err == (
        "note  nothing is installed; the pairing still waits for an operator\n"
        "hint  palyra node install --start\n"
        "\n"
    )
    assert bench.mark is None and "install" not in bench.manager.told


def test_a_manager_that_fails(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """The device stays paired, which is said with the command that goes on."""
    bench.manager.refuses["install"] = ServiceManagerFailed("systemctl enable", "no room")
    status, _, err = bench.run(capsys, "install", "--start", *PAIR)
    assert status == 1
    assert "note  pi stays paired; to go on: palyra node install --start\n" in err
    assert "systemctl enable failed: no room." in err
    assert bench.mark is None and bench.files.host() is not None
    bench.manager.refuses.clear()
    assert bench.run(capsys, "install", "--start")[0] == 0
    assert len(bench.paired) == 1


def test_a_mark_that_cannot_be_kept(
    bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service is taken away again: without its mark nobody could find it."""
    bench.pair()
    bench.files.installed.mkdir()
    (bench.files.installed / "x").touch()
    monkeypatch.setattr(nodeplan, "_kept_mark", lambda files: None)
    status, _, err = bench.run(capsys, "install")
    assert (status, "cannot be used (is a directory)" in err) == (1, True)
    assert bench.manager.told == ["check", "install", "uninstall"]
    assert not bench.manager.unit.exists()
    bench.manager.unit.write_text("of an install before it, whose mark was lost\n")
    assert bench.run(capsys, "install")[0] == 1
    assert bench.manager.unit.exists()


def test_a_host_that_ends_at_its_start(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """It is not tried again and again; it stays installed, so that its log can be read."""
    bench.manager.refuses["start"] = DidNotStart("no room")
    status, _, err = bench.run(capsys, "install", "--start", *PAIR)
    assert status == 1
    assert err.endswith(
        "error: The node host ended at its start: no room.\nhint:  palyra node logs\n"
    )
    assert bench.manager.told[-1] == "stop"
    assert bench.mark is not None


# -- root -----------------------------------------------------------------------------------------


@pytest.fixture
def rooted(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """The same for root, whoever runs the tests: the user of the service is that one."""
    monkeypatch.setattr(nodeplan, "runs_as_root", lambda: True)
    monkeypatch.setattr(accounts, "give", lambda tree, account: bench.manager.told.append("give"))
    monkeypatch.setattr(accounts, "make", lambda name, home: _self(name))
    monkeypatch.setattr(
        accounts, "remove", lambda name: bench.manager.told.append(f"remove {name}")
    )
    monkeypatch.setattr(accounts, "find", _nobody)
    monkeypatch.setattr(nodeplan, "NOBODY", os.geteuid())
    monkeypatch.setattr(accounts, "can_make", lambda: True)
    monkeypatch.setattr(noderoot, "_euid", lambda: 0)
    return bench


def _self(name: str) -> Account:
    return Account(name, os.geteuid(), os.getegid())


def _nobody(name: str) -> Account:
    raise AccountUnknown(name, "no user of this machine has that name")


def test_a_system_service(rooted: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """It runs as a user of its own, who is made once everything else is certain, strictly, and to
    whom the state is given before it starts."""
    assert rooted.run(capsys, "install", "--start", *PAIR)[0] == 0
    service, mark = rooted.manager.service, rooted.mark
    assert service is not None and mark is not None
    assert (service.scope, service.profile) == ("system", "strict")
    assert service.account == _self("palyra-node")
    assert rooted.manager.told == ["check", "install", "give", "start"]
    assert (mark.scope, mark.account, mark.account_made) == ("system", "palyra-node", True)


def test_a_system_service_of_somebody(
    rooted: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user who is there is not made, and stays whom it runs as when it is installed again."""
    monkeypatch.setattr(accounts, "find", _self)
    assert rooted.run(capsys, "install", *PAIR, "--run-as", "bob")[0] == 0
    for _ in range(2):
        mark = rooted.mark
        assert mark is not None
        assert (mark.account, mark.account_made) == ("bob", False)
        assert rooted.run(capsys, "install")[0] == 0


def test_somebody_who_is_not_there(rooted: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """Only our own user is made."""
    status, _, err = rooted.run(capsys, "install", *PAIR, "--run-as", "bob")
    assert (status, "A service cannot run as bob" in err, rooted.paired) == (1, True, [])


def test_nobody_can_make_a_user(
    rooted: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no useradd, that is told before the pairing."""
    monkeypatch.setattr(accounts, "can_make", lambda: False)
    status, _, err = rooted.run(capsys, "install", *PAIR)
    assert (status, "palyra node install --run-as USER" in err, rooted.paired) == (1, True, [])


def test_a_users_own_service_is_not_roots_to_install(
    rooted: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two managers would keep it, of which root's can only stop its own."""
    rooted.pair()
    rooted.installed()
    monkeypatch.setattr(noderoot, "owner_uid", lambda directory: 54321)
    status, _, err = rooted.run(capsys, "install")
    assert (status, "belongs to" in err, rooted.manager.told) == (1, True, [])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_root_makes_nothing_where_another_user_decides(
    rooted: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a directory of the service's user it is that user who makes the state and pairs."""
    entered = Path(tempfile.mkdtemp(prefix="palyra-test-"))
    try:
        entered.chmod(0o755)
        root = entered / "state"
        root.mkdir()
        os.chown(root, 54321, 54321)
        who: list[int] = []

        def pairs(options: NodeRunOptions, out: TextIO) -> HostFile:
            who.append(os.geteuid())
            raise PairingFailed(pin=True)

        monkeypatch.setattr(foreground, "pair", pairs)
        monkeypatch.setattr(accounts, "find", lambda name: Account(name, 54321, 54321))
        words = ("install", "--run-as", "bob", "--state-root", str(root), *PAIR)
        assert main(["node", *words]) == 1, capsys.readouterr()
        assert (who, (root / "node-host").stat().st_uid) == ([54321], 54321)
    finally:
        shutil.rmtree(entered)


def test_root_has_another_node_host(
    rooted: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which the other verbs would take: how this one is named is said."""
    monkeypatch.setattr("palyra.cli.nodeinstall.node_state_root", lambda call: Path("/own"))
    status, _, err = rooted.run(capsys, "install", *PAIR)
    assert (status, f"this one is named --state-root {rooted.root}\n" in err) == (0, True)


def test_a_user_that_was_made_in_vain(
    rooted: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Is removed again, unless the state is his already."""
    rooted.manager.refuses["install"] = ServiceManagerFailed("systemctl enable", "no room")
    rooted.pair()
    assert rooted.run(capsys, "install")[0] == 1
    assert "remove palyra-node" not in rooted.manager.told
    monkeypatch.setattr(accounts, "make", lambda name, home: Account(name, 54321, 54321))
    assert rooted.run(capsys, "install")[0] == 1
    assert "remove palyra-node" in rooted.manager.told


@pytest.mark.parametrize("name", ["palyra.sqlite3", "notes"])
def test_a_state_root_with_something_else(
    rooted: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """It is not handed to another user, and nobody is paired for it."""
    monkeypatch.setattr(nodeplan, "acting_as", contextlib.nullcontext)
    monkeypatch.setattr(nodeplan, "NOBODY", 54321)
    monkeypatch.setattr(nodeplan, "owner_uid", lambda directory: 0)
    monkeypatch.setattr(accounts, "check_place", lambda tree, account: None)
    (rooted.root / name).touch()
    status, _, err = rooted.run(capsys, "install", *PAIR)
    assert (status, f"{rooted.root / name} is no node host's" in err) == (1, True)
    assert rooted.paired == []


def test_a_state_root_of_somebody_else(
    rooted: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a third user, or of whom the service ran as before, it is not taken away."""
    monkeypatch.setattr(nodeplan, "acting_as", contextlib.nullcontext)
    monkeypatch.setattr(nodeplan, "owner_uid", lambda directory: 54321)
    status, _, err = rooted.run(capsys, "install", *PAIR)
    words = "A service cannot run as palyra-node: "
    assert (status, words in err, "belongs to local:54321." in err) == (1, True, True)
    assert rooted.paired == []


def test_a_state_root_out_of_reach(
    rooted: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user of the service must be able to get there."""
    monkeypatch.setattr(os, "access", lambda path, mode: path != rooted.root.parent)
    status, _, err = rooted.run(capsys, "install", *PAIR)
    assert (status, f"{rooted.root.parent} is closed to it." in err) == (1, True)
    assert rooted.paired == []
