"""The daemons in the background: pidfile, log, lock, refusals, and a clean end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.integration.house import House
from tests.integration.processes import (
    HOST,
    LIMIT_S,
    Ran,
    eventually,
    free_port,
    is_free,
    run,
    script,
)


def daemon_of(pidfile: Path) -> psutil.Process:
    """The process that a pidfile names."""
    return psutil.Process(int(pidfile.read_text()))


def refused(done: Ran, sentence: str) -> None:
    """Exit 1, the sentence on the terminal, and no traceback for a person to read."""
    assert done.code == 1, done
    assert sentence in done.err, done


@contextlib.contextmanager
def occupied() -> Iterator[str]:
    """An address that somebody else listens on."""
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        yield f"{HOST}:{taken.getsockname()[1]}"


def test_the_gateway_in_the_background(house: House) -> None:
    """``twistd palyra`` returns when the gateway serves; pidfile and log are in the state root; a
    second start is refused; SIGTERM leaves no socket, no lock and no WAL behind."""
    gateway = house.gateway()
    started = run([script("twistd"), *gateway.arguments], house.path)
    assert started.code == 0, started
    daemon = daemon_of(gateway.root / "palyra.pid")
    eventually((gateway.root / "console.sock").exists, "the console is there")
    assert gateway.cli("nodes", "list").code == 0
    log = gateway.root / "palyra.log"
    assert "ready; pair a device with: palyra pairing code" in log.read_text()
    assert stat.S_IMODE(log.stat().st_mode) == 0o600

    done = gateway.refused(daemon=True)
    refused(done, f"A gateway (pid {daemon.pid}) already uses state root {gateway.root}.")
    assert f"kill {daemon.pid}" in done.err
    assert gateway.cli("nodes", "list").code == 0
    assert daemon_of(gateway.root / "palyra.pid") == daemon

    daemon.send_signal(signal.SIGTERM)
    daemon.wait(LIMIT_S)
    left = {file.name for file in gateway.root.iterdir()}
    assert not left & {"console.sock", "palyra.pid", "palyra.sqlite3-wal"}, left
    assert "stopped" in log.read_text()
    assert is_free(gateway.enrolment) and is_free(gateway.node_rpc)
    gateway.start()
    assert gateway.process.terminate() == -signal.SIGTERM


def test_the_node_host_in_the_background(house: House) -> None:
    """``twistd palyra-node`` on a paired root: online, locked, logged, and stopped by SIGTERM; on
    a root that is not paired it refuses."""
    gateway = house.gateway().start()
    node = house.node().pair(gateway)
    assert node.process.terminate() == 0
    command = [script("twistd"), "palyra-node", "--state-root"]
    refused(run([*command, str(house.path / "none")], house.path), "is not paired.")
    assert not (house.path / "none").exists()

    started = run([*command, str(node.root)], house.path)
    assert started.code == 0, started
    files = node.root / "node-host"
    daemon = daemon_of(files / "node-host.pid")
    gateway.online(node.device_id)
    assert gateway.cli("nodes", "invoke", "node", "echo").code == 0
    again = run([*command, str(node.root)], house.path)
    refused(again, f"A node host (pid {daemon.pid}) already uses state root ")
    assert "online as node" in (files / "node-host.stdout.log").read_text()

    daemon.send_signal(signal.SIGTERM)
    daemon.wait(LIMIT_S)
    left = {file.name for file in files.iterdir()}
    assert not left & {"node-host.pid", "attempts.sqlite3-wal"}, left


@pytest.mark.parametrize(("listener", "daemon"), [("enrolment", False), ("node_rpc", True)])
def test_a_taken_port_is_named(house: House, listener: str, daemon: bool) -> None:
    """The start fails with 1 and names the port; no process, pidfile or WAL stays behind, and the
    same root starts when the port is free."""
    gateway = house.gateway()
    with occupied() as address:
        setattr(gateway, listener, address)
        done = gateway.refused(daemon=daemon)
        refused(done, f"Port {address.rpartition(':')[2]} is taken")
        left = {file.name for file in gateway.root.iterdir()}
        assert not left & {"palyra.pid", "console.sock", "palyra.sqlite3-wal"}, left
    if not daemon:
        assert "Traceback" not in done.err


def test_a_bind_beyond_loopback_needs_names(house: House) -> None:
    """Without configured names devices could not tell whom they talk to: nothing is made."""
    gateway = house.gateway()
    done = gateway.refused("--enrolment", f"0.0.0.0:{free_port()}")
    refused(done, "Binding 0.0.0.0:")
    assert "needs configured names: they go into the console's certificate" in done.err
    assert {file.name for file in gateway.root.iterdir()} <= {"palyra.toml", "palyra.lock"}


def test_configured_names_lead_the_pairing_line(house: House) -> None:
    """With a name, a bind beyond loopback serves, and devices are told that name."""
    gateway = house.gateway(config='[gateway]\nnames = ["localhost"]\n')
    gateway.enrolment = f"0.0.0.0:{free_port()}"
    gateway.start()
    port = gateway.enrolment.rpartition(":")[2]
    assert gateway.line().startswith(f"palyra://localhost:{port}/?ca=")
    house.node().pair(gateway)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[gateway]\nnmaes = []\n", "palyra.toml: gateway: Object contains unknown field `nmaes`."),
        ("[listen\n", "palyra.toml: syntax: "),
    ],
)
def test_a_fault_in_the_configuration_is_named(house: House, text: str, sentence: str) -> None:
    """File, path and problem, in one sentence; nothing is made."""
    gateway = house.gateway(config=text)
    done = gateway.refused()
    refused(done, sentence)
    assert "Traceback" not in done.err
    assert {file.name for file in gateway.root.iterdir()} == {"palyra.toml"}


def test_another_reactor_is_refused(house: House) -> None:
    """A reactor that cannot run gRPC is refused, and makes no gateway that never answers."""
    gateway = house.gateway()
    command = [script("twistd"), "--reactor=epoll", "-n", *gateway.arguments]
    done = run(command, house.path)
    assert done.code == 1 and "asyncio" in done.out + done.err, done


def test_a_state_root_of_others_is_not_closed(house: House) -> None:
    """A directory that is open to others and not ours is refused and left as it is."""
    gateway = house.gateway()
    (gateway.root / "palyra.toml").rename(gateway.root / "letters.txt")
    gateway.root.chmod(0o755)
    refused(gateway.refused(), "may be entered by others (mode 0755)")
    assert stat.S_IMODE(gateway.root.stat().st_mode) == 0o755


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_the_console_belongs_to_its_owner(house: House) -> None:
    """Another user is told whose it is; neither the socket nor the state root opens to him."""
    gateway = house.gateway().start()
    house.path.chmod(0o711)
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    if run([*nobody, "test", "-r", script("palyra")], Path("/")).code:
        pytest.skip("this environment lies where no other user may read it")
    command = [script("palyra"), "nodes", "list", "--state-root", str(gateway.root)]
    done = run([*nobody, *command], Path("/"))
    assert done.code == 1 and "console.sock belongs to user root; you are nobody." in done.err, done
