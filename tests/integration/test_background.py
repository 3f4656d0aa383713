"""A node host as a process in the background: its life, its process file, and no second one."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs
import msgspec
import psutil
import pytest

from palyra.core.identifiers import DeviceId
from palyra.errors import DidNotStart, StateRootLocked
from palyra.node.files import HostFile, NodeFiles
from palyra.pki.authority import Authority
from palyra.pki.csr import check_csr
from palyra.supervision import processfile
from palyra.supervision.background import BackgroundProcess
from palyra.supervision.processes import BOOT_ID_FILE, boot_id, start_token
from palyra.supervision.processfile import ProcessFile
from palyra.supervision.service import Manager, Service
from tests.integration.house import House
from tests.integration.processes import environment, eventually, free_port, run, script

DEVICE_ID = DeviceId("01M80NKQCNX4K7QM2ZT9B3FVHD")
OWN_USER = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]


@attrs.define
class Device:
    """A state root that is paired with a gateway where nobody listens."""

    house: House
    root: Path
    boot: Path

    @property
    def files(self) -> NodeFiles:
        return NodeFiles(self.root)

    @property
    def environ(self) -> Mapping[str, str]:
        return environment({BOOT_ID_FILE: str(self.boot)})

    def manager(self) -> BackgroundProcess:
        return BackgroundProcess(
            self.root,
            boot_id=lambda: boot_id({BOOT_ID_FILE: str(self.boot)}),
            environ=self.environ,
        )

    def started(self) -> tuple[BackgroundProcess, psutil.Process]:
        """A manager, and the process that it has started."""
        manager = self.manager()
        manager.install(Service(state_root=self.root))
        manager.start()
        return manager, psutil.Process(manager.state().pid)

    def process_file(self) -> ProcessFile:
        file = processfile.read(self.files.process)
        assert file is not None
        return file


@pytest.fixture
def device(house: House) -> Iterator[Device]:
    root = house.path / "node"
    house.write_config(root, "[node]\nfirst_retry_s = 0.2\nmax_retry_s = 1.0\n")
    now_ms = int(time.time() * 1000)
    files = NodeFiles(root)
    files.make()
    files.identity.open(now_ms, os.urandom, DEVICE_ID)
    authority = Authority.create(trust_domain="palyra", now_ms=now_ms, entropy=os.urandom)
    key = check_csr(files.identity.new_csr(DEVICE_ID), DEVICE_ID)
    pem = authority.issue_device(key, DEVICE_ID, now_ms).pem.decode()
    files.identity.accept(DEVICE_ID, pem, authority.ca_pem.decode())
    nowhere = f"127.0.0.1:{free_port()}"
    files.keep_host(HostFile(1, nowhere, DEVICE_ID, 500, "", now_ms, now_ms, "pi"))
    boot = house.path / "boot_id"
    boot.write_text("first boot\n")
    yield Device(house, root, boot)


def gone(process: psutil.Process) -> bool:
    """Whether it runs no more; its end may not have been taken yet."""
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def test_the_life_of_a_background_process(device: Device) -> None:
    """It starts once and says which process it is; after kill -9 it counts as stopped and starts
    again; SIGTERM leaves no file that says it runs."""
    manager, first = device.started()
    file = device.process_file()
    assert (file.pid, file.manager, file.boot_id) == (first.pid, Manager.PROCESS, "first boot")
    assert (file.stdout_log_path, file.stderr_log_path) == (
        str(device.files.stdout_log),
        str(device.files.stderr_log),
    )
    assert os.getsid(first.pid) == first.pid and first.cwd() == str(device.root)
    assert {each.stat().st_mode & 0o777 for each in device.files.root.glob("node-host*.log")} == {
        0o600
    }
    device.manager().start()
    assert device.manager().state().pid == first.pid

    first.kill()
    eventually(lambda: gone(first), "it is killed")
    assert not manager.state().running
    assert device.files.process.exists()
    manager.start()
    second = psutil.Process(manager.state().pid)
    assert second.pid != first.pid

    second.terminate()
    eventually(lambda: not manager.state().running, "it is stopped")
    assert not device.files.process.exists()


def test_a_number_that_another_process_has(device: Device) -> None:
    """Neither a process of today with the number of the dead host, nor one with the number that it
    had before a reboot, counts as the host or is ended for it."""
    _, first = device.started()
    left = device.process_file()
    device.manager().stop()
    assert gone(first) and not device.files.process.exists()

    other = device.house.start(["sleep", "60"], device.house.path / "other.log")
    reused = msgspec.structs.replace(left, pid=other.pid)
    before_the_reboot = msgspec.structs.replace(
        reused, start_token=start_token(other.pid), boot_id="last week"
    )
    for stale in (reused, before_the_reboot):
        processfile.write(device.files.process, stale)
        assert not device.manager().state().running
        device.manager().stop()
    manager, second = device.started()
    assert other.alive

    device.boot.write_text("second boot\n")
    assert not device.manager().state().running
    device.boot.write_text("first boot\n")
    manager.stop()
    assert gone(second) and other.alive


def test_a_host_that_cannot_start(device: Device) -> None:
    """What it said last is the reason, without the hint; nothing says that it runs."""
    device.files.host_file.write_text("{")
    with pytest.raises(DidNotStart) as refused:
        device.started()
    assert f"{device.files.host_file} is damaged" in refused.value.sentence
    assert not device.manager().state().running


@pytest.mark.parametrize("first", ["run", "daemon", "background"])
def test_two_hosts_on_one_state_root(device: Device, first: str) -> None:
    """However the first one was started: every other way is refused, or finds it running."""
    house, root = device.house, ["--state-root", str(device.root)]
    if first == "run":
        house.start([script("palyra"), "node", "run", *root], house.path / "run.log")
    elif first == "daemon":
        done = run([script("twistd"), "palyra-node", *root], house.path)
        assert done.code == 0, done
    else:
        device.started()
    serving = eventually(
        lambda: processfile.read_or_none(device.files.process), "the first one serves"
    )
    for command in ([script("palyra"), "node", "run"], [script("twistd"), "palyra-node"]):
        done = run([*command, *root], house.path)
        assert done.code == 1, done
        assert f"A node host (pid {serving.pid}) already uses state root" in done.err, done
    assert device.process_file() == serving

    if first == "background":
        device.manager().start()
        device.manager().stop()
        return
    # It has the machine's boot id: in another one it is known by its lock alone.
    with pytest.raises(StateRootLocked) as refused:
        device.manager().start()
    assert refused.value.pid == serving.pid
    BackgroundProcess(device.root).start()
    BackgroundProcess(device.root).stop()
    assert not psutil.pid_exists(serving.pid) or gone(psutil.Process(serving.pid))


def test_as_an_ordinary_user(device: Device) -> None:
    """The same life in a user namespace, where nobody is root."""
    if subprocess.run([*OWN_USER, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lends no user namespaces")
    life = """
import os, sys
from pathlib import Path
from palyra.supervision.background import BackgroundProcess
from palyra.supervision.service import Service
assert os.geteuid() == 1000
root = Path(sys.argv[1])
manager = BackgroundProcess(root)
manager.install(Service(state_root=root))
manager.start()
state = BackgroundProcess(root).state()
assert state.running, state
manager.restart()
assert manager.state().pid != state.pid
manager.stop()
assert not manager.state().running
print("lived")
"""
    python = str(Path(script("palyra")).with_name("python"))
    done = run([*OWN_USER, python, "-c", life, str(device.root)], device.house.path)
    assert done.out == "lived\n", done
