"""Tests of :mod:`palyra.cli.nodeservice` and :mod:`palyra.cli.nodestarting`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from zope.interface.verify import verifyObject

from palyra import __version__
from palyra.cli import nodeservice, nodestarting
from palyra.cli.present import Screen
from palyra.errors import DidNotStart, ServiceManagerFailed
from palyra.node.controlwords import LastError
from palyra.supervision import processfile
from palyra.supervision.interfaces import IServiceManager
from palyra.supervision.processfile import ProcessFile
from palyra.supervision.service import Manager
from tests.cli.fakemanager import STATUS, Device, on_screen, served

UNREACHED = LastError("gateway_unreachable", "Cannot reach gw:7444: no answer.", "palyra doctor", 1)
AWAY = msgspec.structs.replace(STATUS, state="offline", transport="", last_error=UNREACHED)


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    """A device whose service is installed and does not run."""
    monkeypatch.setattr(nodestarting, "ONLINE_S", 0.3)
    monkeypatch.setattr(nodestarting, "SETTLING_S", 0.0)
    monkeypatch.setattr(nodestarting, "_LOOK_S", 0.0)
    with served(tmp_path) as host:
        made = Device(host, tmp_path / "palyra-node.service")
        made.installed()
        monkeypatch.setattr(nodeservice, "manager_of", lambda mark: made.manager)
        yield made


def test_the_stand_in_is_a_manager(device: Device) -> None:
    """What these tests drive has the shape of the real ones."""
    assert verifyObject(IServiceManager, device.manager)


# -- start ----------------------------------------------------------------------------------------


def test_start(
    device: Device, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits until the host is online, and says how long that took."""
    on_screen(monkeypatch)
    status, out, err = device.run(capsys, "start")
    assert (status, err) == (0, "")
    assert out.startswith("ok  started    pid 4312, online after ")
    assert device.manager.told == ["start"]


def test_one_that_runs_already(
    device: Device, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is said of how long it took."""
    assert device.run(capsys, "start")[0] == 0
    on_screen(monkeypatch)
    assert device.run(capsys, "start") == (0, "ok  running    pid 4312, online\n", "")


def test_start_for_scripts(device: Device, capsys: pytest.CaptureFixture[str]) -> None:
    """Tab-separated, and as one object; what runs already is not started again."""
    assert device.run(capsys, "start") == (0, "started\t4312\tonline\n", "")
    assert device.run(capsys, "start") == (0, "running\t4312\tonline\n", "")
    assert device.manager.told == ["start"]
    status, out, _ = device.run(capsys, "start", "--json")
    assert (status, json.loads(out)) == (
        0,
        {
            "started": True,
            "pid": 4312,
            "state": "online",
            "manager": "systemd",
            "version": __version__,
            "version_before": __version__,
        },
    )


def test_start_without_a_gateway(
    device: Device, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs, why it is not online is said, and the exit status tells a script."""
    on_screen(monkeypatch)
    device.status = AWAY
    assert device.run(capsys, "start") == (
        3,
        "ok  started    pid 4312\n",
        "!!  not online yet: Cannot reach gw:7444: no answer.\n",
    )
    device.status = msgspec.structs.replace(AWAY, state="starting", last_error=None)
    device.answers()
    status, _, err = device.run(capsys, "start")
    assert (status, err) == (3, "!!  not online yet: it is still starting\n")


def test_a_host_that_does_not_answer(device: Device, capsys: pytest.CaptureFixture[str]) -> None:
    """What runs and says nothing is not online; why is said."""
    device.runs(None)
    status, out, err = device.run(capsys, "start")
    assert (status, out) == (3, "running\t4312\tstarting\n")
    assert "it hung up before it had answered" in err


def test_a_host_that_ends_at_once(device: Device, capsys: pytest.CaptureFixture[str]) -> None:
    """Its own last words are told, not the hint below them."""
    lines = [
        "Nov 22 03:44:02 atlas python[9]: error: No space left on /srv.",
        "Nov 22 03:44:02 atlas python[9]: hint:  palyra doctor",
        "Nov 22 03:44:02 atlas systemd[1]: palyra-node.service: Failed with result 'exit-code'.",
    ]
    device.manager.command = [sys.executable, "-c", f"print({chr(10).join(lines)!r})"]
    device.manager.refuses["start"] = ServiceManagerFailed("systemctl start", "see journalctl")
    status, out, err = device.run(capsys, "start")
    assert (status, out) == (1, "")
    assert err == (
        "error: The node host ended at its start: No space left on /srv.\nhint:  palyra node logs\n"
    )


def test_a_host_that_ends_a_moment_later(device: Device) -> None:
    """Where its manager has no log, its files tell."""
    device.files.stderr_log.write_text("error: policy is damaged.\nhint:  palyra doctor\n")
    with pytest.raises(DidNotStart) as ended:
        nodestarting.begun(Screen.current(as_json=True), device.manager, device.files, lambda: None)
    assert ended.value.last_line == "policy is damaged."


def test_a_manager_that_refuses(device: Device, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a last word it is the manager's sentence that is told."""
    device.manager.refuses["start"] = ServiceManagerFailed("systemctl start", "unit is masked")
    status, _, err = device.run(capsys, "start")
    assert (status, "systemctl start failed: unit is masked." in err) == (1, True)


def test_a_terminal_has_the_state_root(device: Device, capsys: pytest.CaptureFixture[str]) -> None:
    """A host that somebody runs by hand is named, and left alone by all verbs."""
    device.runs()
    device.manager.runs = False
    status, _, err = device.run(capsys, "start")
    assert (status, "A node host (pid 4312) already uses" in err) == (1, True)
    for verb in ("stop", "restart"):
        status, _, err = device.run(capsys, verb)
        assert (status, "but not as a service." in err) == (1, True)
    assert device.manager.told == []


def test_a_terminal_beside_a_background_process(
    device: Device, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both write the process file; who started it stands in there."""
    device.installed(Manager.PROCESS)
    device.runs()
    processfile.write(device.files.process, ProcessFile(1, 4312, "", "", 1))
    status, _, err = device.run(capsys, "stop")
    assert (status, "runs on" in err) == (1, True)
    processfile.write(device.files.process, ProcessFile(1, 4312, "", "", 1, manager="process"))
    assert device.run(capsys, "stop") == (0, "stopped\t4312\n", "")


# -- stop and restart -----------------------------------------------------------------------------


def test_stop(
    device: Device, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Running jobs get the grace that is configured, which is said before."""
    (device.root / "palyra.toml").write_text("[node]\nshutdown_grace_s = 3\n")
    on_screen(monkeypatch)
    device.runs(msgspec.structs.replace(STATUS, jobs=2))
    status, out, err = device.run(capsys, "stop")
    assert (status, out, err) == (0, "ok  stopped\n", "stopping, 2 jobs have 3s to finish\n")
    status, out, err = device.run(capsys, "stop")
    assert (status, out, err) == (0, "ok  stopped\n", "")


def test_stop_for_scripts(device: Device, capsys: pytest.CaptureFixture[str]) -> None:
    """The process that ended is named; 0 where none ran."""
    device.runs()
    status, out, _ = device.run(capsys, "stop", "--json")
    assert json.loads(out) == {"stopped": True, "pid": 4312, "manager": "systemd"}
    assert device.run(capsys, "stop") == (0, "stopped\t0\n", "")
    assert status == 0


def test_restart_is_an_upgrade_in_place(
    device: Device, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new process is waited for, and both versions are named where they differ."""
    on_screen(monkeypatch)
    device.runs(msgspec.structs.replace(STATUS, version="0.0.9", jobs=1))
    device.manager.changed = lambda: device.runs(STATUS)
    status, out, err = device.run(capsys, "restart")
    assert (status, err) == (0, "stopping, 1 job has 10s to finish\n")
    assert out.startswith("ok  restarted  pid 4313, online after ")
    assert out.endswith(f", version 0.0.9 -> {__version__}\n")
    status, out, _ = device.run(capsys, "restart")
    assert (status, "version" in out) == (0, False)


def test_what_the_old_process_says_counts_no_more(
    device: Device, capsys: pytest.CaptureFixture[str]
) -> None:
    """A restart that only asked for it is not done while the old one answers."""
    device.runs()
    device.manager.changed = lambda: None
    status, out, _ = device.run(capsys, "restart")
    assert (status, out) == (3, "restarted\t4313\tstarting\n")


# -- whose it is ----------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["start", "stop", "restart"])
def test_nothing_is_installed(
    device: Device, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    """It is said; a host that runs by hand is named."""
    device.files.installed.unlink()
    status, _, err = device.run(capsys, verb)
    assert (status, "No node host is installed" in err) == (1, True)
    device.runs()
    status, _, err = device.run(capsys, verb)
    assert err == (
        f"error: A node host (pid 4312) runs on {device.root}, but not as a service.\n"
        "hint:  end it with Ctrl-C in its terminal, or kill 4312\n"
    )


def test_a_state_root_that_was_copied(device: Device, capsys: pytest.CaptureFixture[str]) -> None:
    """The service of the first one is not touched by way of its copy."""
    mark = device.mark
    assert mark is not None
    elsewhere = msgspec.structs.replace(mark, state_root="/srv/first")
    device.files.installed.write_bytes(msgspec.json.encode(elsewhere))
    status, _, err = device.run(capsys, "stop")
    assert (status, "it is the mark of /srv/first" in err) == (1, True)
    assert device.manager.told == []


def test_from_afar(capsys: pytest.CaptureFixture[str], device: Device) -> None:
    """The node host of this machine is not a gateway's."""
    status, _, err = device.run(capsys, "stop", "--gateway-url", "https://gw:7142")
    assert (status, "palyra node is about this device" in err) == (2, True)
