"""A gateway that is lost and comes back from its backup, with its devices and its history."""

from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path

import pytest

from tests.integration import plugin
from tests.integration.house import Gateway, House, NodeHost
from tests.integration.processes import eventually, is_free, script

PASSPHRASE = "correct horse battery\n"
FROM_STDIN = ("--passphrase-file", "-")


class Errand:
    """A job that waits until the test lets it go, and what it leaves behind."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._directory = directory
        names = ("started", "release", "effects")
        self.input_json = json.dumps({name: str(directory / name) for name in names}).encode()

    def begun(self) -> None:
        """Wait until it takes effect."""
        eventually(lambda: (self._directory / "effects").exists(), "the handler has begun")

    def release(self) -> None:
        """Let it end."""
        (self._directory / "release").touch()

    @property
    def effects(self) -> int:
        """How often it took effect."""
        return len((self._directory / "effects").read_text().splitlines())


@pytest.fixture
def gateway(house: House) -> Gateway:
    """A gateway that runs."""
    return house.gateway().start()


@pytest.fixture
def slow(house: House, gateway: Gateway) -> NodeHost:
    """A node with slow capabilities."""
    return house.node("slow", plugin.install(house.path / "plugins")).pair(gateway)


@pytest.fixture
def errand(house: House) -> Errand:
    """A job's traces."""
    return Errand(house.path / "errand")


def presence(gateway: Gateway) -> dict[str, str]:
    """Of every device, by name."""
    return {node.name: node.presence for node in gateway.nodes()}


def lose(gateway: Gateway) -> None:
    """The machine is gone."""
    gateway.process.kill()
    shutil.rmtree(gateway.root)


def restore(gateway: Gateway, file: Path) -> None:
    """Put a backup where the gateway was, and start it."""
    done = gateway.cli("state", "restore", str(file), *FROM_STDIN, stdin=PASSPHRASE)
    assert done.code == 0, done
    gateway.start()


def test_a_lost_gateway_comes_back(
    house: House, gateway: Gateway, slow: NodeHost, errand: Errand
) -> None:
    """A backup disturbs nobody.  The restored gateway serves no device before an operator has
    confirmed it; then its devices come back by themselves, and what ran is known to be unknown."""
    running = gateway.submit(slow.device_id, "test.slow_effect", errand.input_json)
    errand.begun()
    done = gateway.ended(gateway.submit(slow.device_id, "echo", b'{"text":"hello"}'))
    assert done.job.state == "succeeded"
    file = house.path / "backup.tar"
    command = [script("palyra"), "state", "backup", str(file), *FROM_STDIN]
    command += ["--state-root", str(gateway.root)]
    backing_up = house.start(command, house.path / "backup.log", PASSPHRASE)
    meanwhile = [gateway.submit(slow.device_id, "echo", b'{"text":"on"}') for _ in range(20)]
    assert {gateway.ended(job_id).job.state for job_id in meanwhile} == {"succeeded"}
    assert backing_up.wait() == 0, backing_up.output()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    errand.release()
    assert gateway.ended(running).job.state == "succeeded"
    lose(gateway)

    restore(gateway, file)
    shown = gateway.cli("state", "show")
    assert shown.out.startswith("serving\tno\n"), shown
    assert is_free(gateway.enrolment) and is_free(gateway.node_rpc)
    assert presence(gateway) == {"slow": "offline"}
    assert gateway.job(done.job.job_id).state == "succeeded"
    unknown = gateway.job(running)
    assert (unknown.state, unknown.effect_possible) == ("outcome_unknown", True)
    confirmed = gateway.cli("state", "confirm")
    assert confirmed.code == 0, confirmed
    gateway.online(slow.device_id)
    again = gateway.cli("nodes", "invoke", "slow", "echo", "--input", '{"text":"back"}')
    assert again.code == 0, again
    assert gateway.job(running).state == "outcome_unknown" and errand.effects == 1
    gateway.process.terminate()
    gateway.start()
    assert gateway.cli("state", "show").out == "serving\tyes\n"
    gateway.online(slow.device_id)


def test_a_device_revoked_since_the_backup(house: House, gateway: Gateway) -> None:
    """The operator revokes it again before anything is served, and it never gets in."""
    node, stolen = house.node("kept").pair(gateway), house.node("stolen").pair(gateway)
    file = house.path / "backup.tar"
    saved = gateway.cli("state", "backup", str(file), *FROM_STDIN, stdin=PASSPHRASE)
    assert saved.code == 0, saved
    assert gateway.cli("nodes", "revoke", "stolen").code == 0
    lose(gateway)
    restore(gateway, file)
    again = gateway.cli("nodes", "revoke", "stolen")
    assert again.code == 0, again
    assert gateway.cli("state", "confirm").code == 0
    gateway.online(node.device_id)
    trust = {each.name: (each.trust, each.presence) for each in gateway.nodes()}
    assert trust["stolen"] == ("revoked", "offline")
    assert stolen.device_id in {each.device_id for each in gateway.nodes()}


def test_a_certificate_of_after_the_backup(house: House, gateway: Gateway) -> None:
    """The restored gateway never recorded it: the device proves its identity key and is back."""
    node = house.node("pi").pair(gateway)
    file = house.path / "backup.tar"
    saved = gateway.cli("state", "backup", str(file), *FROM_STDIN, stdin=PASSPHRASE)
    assert saved.code == 0, saved
    before = gateway.nodes()[0].certificate_expires_unix_ms
    assert gateway.cli("nodes", "rotate", "pi").code == 0
    eventually(
        lambda: (
            gateway.nodes()[0].rotate_asked_unix_ms is None
            and gateway.nodes()[0].certificate_expires_unix_ms != before
        ),
        "the device has another certificate",
    )
    lose(gateway)
    restore(gateway, file)
    assert gateway.cli("state", "confirm").code == 0
    gateway.online(node.device_id)


def test_a_gateway_starts_from_an_exported_document(house: House, gateway: Gateway) -> None:
    """With its identity kept, and its database gone, devices come back after a confirmation."""
    node = house.node("pi").pair(gateway)
    gateway.process.terminate()
    file = house.path / "document.json"
    assert gateway.cli("state", "export", str(file)).code == 0
    for name in ("palyra.sqlite3", "store_epoch", "node-runtime.v1.json"):
        (gateway.root / name).unlink()
    imported = gateway.cli("state", "import", str(file))
    assert imported.code == 0 and "devices\t1\n" in imported.out, imported
    gateway.start()
    assert gateway.cli("state", "show").out.startswith("serving\tno\n")
    assert gateway.cli("state", "confirm").code == 0
    gateway.online(node.device_id)
