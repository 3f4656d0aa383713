"""A device whose disk is full: what may happen once is refused, everything else goes on, and with
room again all is as before, without a restart."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from palyra.console.models import JobAnswer
from tests.integration import plugin
from tests.integration.house import Gateway, House, NodeHost
from tests.integration.processes import eventually, run, script
from tests.integration.test_crash import EFFECT, IDEMPOTENT, Errand
from tests.integration.test_full_disk import fill, small_disk


class FullDevice:
    """A device on a disk of its own, and what fills it."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.gateway: Gateway = house.gateway().start()
        plugins = plugin.install(house.path / "plugins")
        self.node: NodeHost = house.node("pi", plugins).pair(self.gateway)
        self.ballast = self.node.root / "ballast"

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


def test_a_renewal_without_room(device: FullDevice) -> None:
    """The certificate that there is goes on; the next one comes when there is room."""
    gateway, node = device.gateway, device.node
    before = node.client.current
    device.fill()
    assert gateway.cli("nodes", "rotate", "pi").code == 0
    node.process.says("renew")
    gateway.online(node.device_id)
    assert node.client.current == before
    device.make_room()
    eventually(lambda: node.client.current != before, "it is renewed", 60.0)
    gateway.online(node.device_id)


def test_a_start_without_room(device: FullDevice) -> None:
    """It comes online all the same, or says what is missing; with room it is there."""
    gateway, node = device.gateway, device.node
    node.process.terminate()
    device.fill()
    node.serve()
    gateway.online(node.device_id)
    device.make_room()
