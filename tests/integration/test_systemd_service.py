"""The life of a node host as a systemd service: real processes, a real gateway, a stand-in for
systemd that runs the unit as it was written."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from palyra.console.models import GrantNode, NodeAnswer
from palyra.supervision.service import Scope, Service
from palyra.supervision.systemd import Systemd
from tests.integration import plugin
from tests.integration.house import QUICK_NODE, Gateway, House, NodeHost
from tests.integration.processes import Ran, eventually, run, script
from tests.integration.servicemanager import UNIT, ServiceManager, running
from tests.integration.test_crash import IDEMPOTENT, Errand

if sys.platform != "linux":
    pytest.skip("systemd is Linux's", allow_module_level=True)

KEEPER = "test.keeper"
TOKEN = "hunter2"
_MODULE = '''
import hashlib

import msgspec

from palyra.capability import Capability, Secret, hookimpl


class Settings(msgspec.Struct, forbid_unknown_fields=True):
    token: Secret


async def keeper(asked: None, context) -> str:
    """Proves that it has the token, and keeps it."""
    return hashlib.sha256(context.settings.token.encode()).hexdigest()


@hookimpl
def palyra_capabilities():
    return [
        Capability(
            name="test.keeper", description="Keeps a token.", handler=keeper, input_type=None,
            settings_type=Settings, output_type=str,
        )
    ]
'''
_CONFIG = f"""\
{QUICK_NODE}
shutdown_grace_s = 15.0
[node.capability."{KEEPER}".settings]
token = {{ credential = "keeper-token" }}
"""


class Machine:
    """A device whose node host systemd keeps, and the gateway it belongs to."""

    def __init__(self, house: House, manager: ServiceManager) -> None:
        self.manager = manager
        self.gateway: Gateway = house.gateway().start()
        plugins = plugin.install(house.path / "plugins")
        plugin.install(plugins, "keeper", _MODULE)
        self.node: NodeHost = house.node("pi", plugins)
        house.write_config(self.node.root, _CONFIG)
        self.node.pair(self.gateway)
        self.node.process.terminate()
        self.device_id = self.node.device_id
        secret = house.path / "token"
        secret.write_text(f"{TOKEN}\n")
        secret.chmod(0o600)
        self.service = Service(
            state_root=self.node.root,
            python=plugin.interpreter(plugins),
            credentials={"keeper-token": secret},
        )
        self.systemd = Systemd(Scope.USER, environ={**os.environ, **manager.env})

    @property
    def text(self) -> str:
        """What ``systemctl status`` would say of it."""
        return str(self.manager.state().get("StatusText", ""))

    def online(self) -> None:
        """Wait until the gateway has it, and its manager knows."""
        self.gateway.online(self.device_id)
        eventually(lambda: self.text.startswith("online as pi, "), f"online, not {self.text!r}")

    def offers(self, name: str) -> bool:
        """Whether the gateway knows that it can run there now."""
        found = self.gateway.node(self.device_id).capabilities
        return any(each.name == name and each.available for each in found)

    def told(self, text: str, times: int) -> None:
        """Wait until it has told its manager something so often."""
        eventually(
            lambda: sum(text in each for each in self.manager.notified()) >= times,
            f"{text} in {self.manager.notified()[-20:]}",
        )

    def errand(self, name: str) -> Errand:
        """A job that waits until the test lets it go."""
        directory = self.manager.home / name
        directory.mkdir()
        return Errand(directory)


@pytest.fixture(scope="module")
def machine(shared: House) -> Iterator[Machine]:
    """Installed, and not started yet; the gateway is away."""
    with running(shared.path / "machine") as manager:
        machine = Machine(shared, manager)
        assert machine.systemd.available() == ""
        (file,) = machine.systemd.install(machine.service)
        assert file == manager.units / UNIT
        machine.gateway.process.terminate()
        machine.systemd.start()
        yield machine


@pytest.fixture
def serving(machine: Machine) -> Machine:
    """Started, and online."""
    if not machine.gateway.process.alive:
        machine.gateway.start()
    if not machine.manager.pid():
        machine.systemd.start()
    machine.online()
    return machine


def test_it_is_ready_while_the_gateway_is_away(machine: Machine) -> None:
    """The start has returned; how it is stands in the status, and changes with it."""
    state = machine.systemd.state()
    assert state.running and state.at_boot and state.pid == machine.manager.pid()
    assert machine.manager.notified()[0] == "READY=1 STATUS=starting"
    eventually(lambda: machine.text.startswith("offline, retry in "), machine.text)
    machine.gateway.start()
    machine.online()
    assert machine.manager.pid() == state.pid


def test_lines_of_the_journal(serving: Machine) -> None:
    """Each with its level, none with a time of its own."""
    lines = serving.manager.journal().splitlines()
    assert lines and all(line.startswith("<") and line[2] == ">" for line in lines), lines
    assert any(line.startswith("<6>online as pi, ") for line in lines)
    assert any(line.startswith("<4>offline, ") for line in lines)


def test_a_credential_reaches_a_plugin(serving: Machine) -> None:
    """Through its settings, and not through an environment or the state root."""
    node, gateway = serving.device_id, serving.gateway
    gateway.console.post(f"devices/{node}/grants", GrantNode(grant=[KEEPER]), NodeAnswer)
    answer = gateway.ended(gateway.submit(node, KEEPER))
    assert answer.job.state == "succeeded", answer
    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    assert answer.output_json is not None and digest.encode() in bytes(answer.output_json)
    environ = Path(f"/proc/{serving.manager.pid()}/environ").read_bytes()
    assert TOKEN.encode() not in environ + (serving.manager.units / UNIT).read_bytes()


def test_a_reload_is_told(serving: Machine) -> None:
    """``systemctl reload``: the same process says when it begins and that it serves again."""
    pid, before = serving.manager.pid(), len(serving.manager.notified())
    config = serving.node.root / "palyra.toml"
    config.write_text(f'{_CONFIG}\n[node.capability."{IDEMPOTENT}"]\nenabled = false\n')
    serving.manager.told("reload", UNIT)
    eventually(
        lambda: any("READY=1" in each for each in serving.manager.notified()[before:]), "it is over"
    )
    said = [each.split()[0] for each in serving.manager.notified()[before:]]
    assert said.index("RELOADING=1") < said.index("READY=1")
    eventually(lambda: not serving.offers(IDEMPOTENT), "the gateway knows that it is off")
    config.write_text(_CONFIG)
    serving.manager.told("reload", UNIT)
    eventually(lambda: serving.offers(IDEMPOTENT), "it is back")
    assert serving.manager.pid() == pid
    eventually(lambda: serving.manager.state()["ActiveState"] == "active", "active")


def test_killed_it_comes_back_with_its_jobs(serving: Machine) -> None:
    """SIGKILL in the middle of a job: online again, and the job ends as it should."""
    errand, gateway = serving.errand("killed"), serving.gateway
    job = gateway.submit(serving.device_id, IDEMPOTENT, errand.input_json)
    errand.started()
    first = serving.manager.pid()
    os.kill(first, signal.SIGKILL)
    serving.manager.restarted(first)
    errand.release()
    assert gateway.ended(job).job.state == "succeeded"
    serving.online()
    assert serving.manager.state()["NRestarts"] == 1


def test_a_stop_lets_a_job_end(serving: Machine) -> None:
    """``systemctl stop`` waits for it; nothing is killed, and nothing is done twice."""
    errand, gateway = serving.errand("drained"), serving.gateway
    job = gateway.submit(serving.device_id, IDEMPOTENT, errand.input_json)
    errand.started()
    stopping = threading.Thread(target=serving.systemd.stop)
    stopping.start()
    try:
        serving.told("STOPPING=1 EXTEND_TIMEOUT_USEC=30000000 STATUS=stopping, 1 running", 1)
    finally:
        errand.release()
        stopping.join()
    assert gateway.ended(job).job.state == "succeeded"
    assert errand.starts == 1
    state = serving.systemd.state()
    assert (state.running, state.result) == (False, "")


def test_stuck_it_is_started_anew(serving: Machine) -> None:
    """A process that runs no more gives no sign of life, and another one takes its place; the
    journal says where it was."""
    serving.manager.limit(watchdog_s=3.0)
    serving.systemd.restart()
    serving.online()
    stuck = serving.manager.pid()
    os.kill(stuck, signal.SIGSTOP)
    serving.manager.restarted(stuck)
    serving.online()
    journal = serving.manager.journal()
    assert "Watchdog timeout" in journal and "Fatal Python error: Aborted" in journal


def test_a_reboot(serving: Machine) -> None:
    """The power fails, and the machine has another life: the node host is there again."""
    serving.manager.limit(watchdog_s=60.0)
    serving.manager.power_off()
    assert not serving.systemd.state().running
    serving.manager.boot()
    serving.online()


def test_a_revoked_device_does_not_spin(serving: Machine) -> None:
    """It stays, says why, and asks rarely; started again it does the same."""
    assert serving.gateway.cli("nodes", "revoke", "pi", "--reason", "lost").code == 0
    pid = serving.manager.pid()
    eventually(lambda: "revoked" in serving.text, f"it says so: {serving.text}")
    assert serving.manager.pid() == pid
    serving.systemd.restart()
    eventually(lambda: "revoked" in serving.text, f"it says so again: {serving.text}")
    assert serving.manager.state()["NRestarts"] == 0


def test_removed_nothing_is_left(machine: Machine) -> None:
    """Neither a process nor a unit."""
    pid = machine.manager.pid()
    assert machine.systemd.uninstall() == [machine.manager.units / UNIT]
    assert not Path(f"/proc/{pid}").exists()
    assert list(machine.manager.units.iterdir()) == []
    assert not machine.systemd.state().installed


# -- the commands -------------------------------------------------------------------------------


def ordinary(*command: str) -> list[str]:
    """``command`` as a user who is not root, though the tests may be root's."""
    if os.geteuid() != 0:
        return list(command)
    return ["unshare", "--user", "--map-user=1000", "--map-group=1000", "--", *command]


needs_user = pytest.mark.skipif(
    subprocess.run(ordinary("true"), capture_output=True, check=False).returncode != 0,
    reason="no user namespaces: root cannot be an ordinary user",
)


@needs_user
def test_the_commands(machine: Machine, house: House) -> None:
    """From a pairing line to nothing left, by an ordinary user: install, status, restart, logs,
    uninstall."""
    with running(house.path / "machine") as manager:
        root = house.path / "desk"
        house.write_config(root, QUICK_NODE)

        def command(*words: str) -> list[str]:
            return ordinary(script("palyra"), "node", *words, "--state-root", str(root))

        def said(*words: str) -> Ran:
            return run(command(*words), house.path, env=manager.env)

        gateway = machine.gateway if machine.gateway.process.alive else machine.gateway.start()
        install = command("install", "--start", "--pairing-uri", "-", "--name", "desk")
        log = house.path / "install.log"
        process = house.start(install, log, gateway.line() + "\n", env=manager.env)
        gateway.approve(process.says("waiting\t").split("\t")[1])
        assert process.wait() == 0, process.output()
        assert f"installed\t{manager.units / UNIT}" in process.output(), process.output()
        first = manager.pid()
        assert f"started\t{first}" in process.output(), process.output()
        assert said("status").code == 0
        restarted = said("restart")
        assert restarted.code == 0 and manager.pid() not in (0, first), restarted
        assert "online as desk" in said("logs").out
        removed = said("uninstall")
        assert removed.code == 0, removed
        assert not manager.pid() and not (manager.units / UNIT).exists()
        assert not (root / "node-host").exists()
        assert "desk" not in [each.name for each in gateway.nodes()]
