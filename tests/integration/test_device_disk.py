"""A device whose disk is full: what may happen once is refused, everything else goes on, and with
room again all is as before, without a restart."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from palyra.console.models import JobAnswer
from tests.integration import plugin
from tests.integration.house import Gateway, House, NodeHost
from tests.integration.processes import eventually, run, script
from tests.integration.test_crash import EFFECT, IDEMPOTENT, Errand
from tests.integration.test_full_disk import fill, small_disk


class FullDevice:
    """A device on a disk of its own, its log on it too, and what fills it."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.gateway: Gateway = house.gateway().start()
        plugins = plugin.install(house.path / "plugins")
        self.node: NodeHost = house.node("pi", plugins)
        # Which finds out at once that nobody listens.
        self.node.options = ["--transport", "grpc"]
        self.node.pair(self.gateway).process.terminate()
        self.ballast = self.node.root / "ballast"
        self.log = self.node.root / "node-host" / "node-host.stdout.log"
        self.serve()

    def serve(self) -> None:
        """Start it as a service manager does, and wait until it is online."""
        command = ["-P", "-m", "palyra.node", "--logfile", str(self.log), "--state-root"]
        said = self.house.path / "pi.log"
        plugins = self.node.plugins
        self.node.process = self.house.start([*command, str(self.node.root)], said, plugins=plugins)
        self.online()

    def online(self) -> None:
        """Wait until this process says so, and the gateway too."""

        def look() -> bool:
            assert self.node.process.alive, self.node.process.output()
            told = self.status()
            return (told["state"], told["pid"]) == ("online", self.node.process.pid)

        eventually(look, "it is online")
        self.gateway.online(self.node.device_id)

    def fill(self) -> None:
        """Take all the room there is."""
        fill(self.ballast)

    def make_room(self) -> None:
        """Give it back."""
        self.ballast.unlink()

    def errand(self, name: str, *, released: bool = True) -> Errand:
        """A job's traces, on another disk; it does not wait."""
        directory = self.house.path / name
        directory.mkdir()
        errand = Errand(directory)
        if released:
            errand.release()
        return errand

    def ran(self, capability: str, name: str) -> tuple[JobAnswer, Errand]:
        """A job, once it is final."""
        errand = self.errand(name)
        job_id = self.gateway.submit(self.node.device_id, capability, errand.input_json)
        return self.gateway.ended(job_id), errand

    def status(self) -> dict[str, Any]:
        """What ``palyra node status --json`` says."""
        command = [script("palyra"), "node", "status", "--json", "--state-root"]
        told: dict[str, Any] = json.loads(run([*command, str(self.node.root)], self.house.path).out)
        return told

    def last_error(self, suits: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The last error, once it suits."""

        def look() -> dict[str, Any] | None:
            found = self.status()["last_error"]
            return found if found and suits(found) else None

        return eventually(look, "that is the last error")


@pytest.fixture(scope="module")
def device(shared: House) -> Iterator[FullDevice]:
    with small_disk(shared.path / "pi"):
        device = FullDevice(shared)
        try:
            yield device
        finally:
            device.node.process.close()


def test_a_disk_that_is_full(device: FullDevice) -> None:
    """What may happen once is refused and says why; what may happen again is done.  The gateway
    hears of the node all the while; a result that was on its way when the disk filled arrives."""
    gateway, node = device.gateway, device.node
    began = device.errand("began", released=False)
    job_id = gateway.submit(node.device_id, EFFECT, began.input_json)
    began.started()
    device.fill()
    began.release()
    ended = gateway.ended(job_id)
    assert ended.job.state == "succeeded" and began.effects == 1, ended.job

    refused = 0

    def full() -> bool:
        nonlocal refused
        refused += 1
        device.fill()
        answer, errand = device.ran(EFFECT, f"once-{refused}")
        if answer.job.state == "succeeded":  # pages of the WAL that were there already
            assert errand.effects == 1
            return False
        assert (answer.job.state, answer.job.error_code, errand.starts) == (
            "rejected", "node_storage", 0,
        ), answer.job  # fmt: skip
        return True

    eventually(full, "a job is refused for want of room")
    again, errand = device.ran(IDEMPOTENT, "again")
    assert again.job.state == "succeeded" and errand.effects == 1
    error = device.last_error(lambda found: found["code"] == "disk_full")
    assert error["healed_at_unix_ms"] == 0 and error["hint"]
    told = device.status()
    assert told["state"] == "online" and told["running"]
    listed = gateway.node(node.device_id)
    assert listed.presence == "online"

    device.make_room()
    answer, errand = device.ran(EFFECT, "room")
    assert answer.job.state == "succeeded" and errand.effects == 1
    device.last_error(lambda found: found["healed_at_unix_ms"] > 0)
    assert node.process.alive


def test_a_result_that_had_no_room(device: FullDevice) -> None:
    """It was made while the gateway was away too; it is kept in memory, and on disk as soon as
    there is room: so it also outlives the node host."""
    gateway, node = device.gateway, device.node
    apart, held = device.errand("apart", released=False), device.errand("held", released=False)
    jobs = [gateway.submit(node.device_id, EFFECT, each.input_json) for each in (apart, held)]
    apart.started()
    held.started()
    gateway.process.kill()
    device.last_error(lambda found: found["code"] == "gateway_unreachable")
    device.fill()
    apart.release()
    device.last_error(lambda found: found["code"] == "disk_full")
    assert device.status()["jobs"] == 1

    device.make_room()
    held.release()
    device.last_error(lambda found: found["code"] != "disk_full")
    eventually(lambda: device.status()["jobs"] == 0, "both have ended")
    node.process.kill()
    gateway.start()
    device.serve()
    for job_id, errand in zip(jobs, (apart, held), strict=True):
        ended = gateway.ended(job_id)
        assert (ended.job.state, ended.job.attempts) == ("succeeded", 1), ended.job
        assert (errand.starts, errand.effects) == (1, 1)


def test_a_renewal_without_room(device: FullDevice) -> None:
    """The certificate that there is goes on; the next one comes when there is room."""
    gateway, node = device.gateway, device.node
    before = node.client.current
    device.fill()

    def ordered(after_s: float, before_s: float) -> bool:
        assert gateway.cli("nodes", "rotate", "pi").code == 0
        told = device.status()
        due_s: float = (told["cert_renews_at_unix_ms"] - told["last_heard_unix_ms"]) / 1000
        return after_s < due_s < before_s

    eventually(lambda: ordered(20.0, 700.0), "it was tried, and is put off")
    device.online()
    assert node.client.current == before
    device.make_room()
    assert gateway.cli("nodes", "rotate", "pi").code == 0
    eventually(lambda: node.client.current != before, "it is renewed")
    device.online()


@pytest.mark.parametrize("end", ["terminate", "kill"])
def test_a_start_without_room(device: FullDevice, end: str) -> None:
    """It comes online all the same, and does what may be done again; with room it does the rest,
    and its log goes on."""
    device.fill()
    getattr(device.node.process, end)()
    device.fill()
    device.serve()
    again, errand = device.ran(IDEMPOTENT, f"again-after-{end}")
    assert again.job.state == "succeeded" and errand.effects == 1
    device.make_room()
    answer, errand = device.ran(EFFECT, f"room-after-{end}")
    assert answer.job.state == "succeeded" and errand.effects == 1
    asked = "the gateway asks for a new certificate"
    before = device.log.read_text().count(asked)
    assert device.gateway.cli("nodes", "rotate", "pi").code == 0
    eventually(lambda: device.log.read_text().count(asked) > before, "the log has it")
    assert device.node.process.alive
