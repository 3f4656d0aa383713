"""A device that leaves: the gateway is told, and nothing of it stays; also where nobody is there to
be told."""

from __future__ import annotations

import getpass
import json
from collections.abc import Iterator
from typing import Any

import pytest

from palyra.core.identifiers import short_id
from palyra.supervision.service import runs_as_root
from tests.integration import plugin
from tests.integration.house import PATIENT, Gateway, House, NodeHost
from tests.integration.processes import Ran, eventually, run, script


@pytest.fixture(scope="module")
def stopping(shared: House) -> Iterator[Gateway]:
    """A gateway that a test may stop, and starts again."""
    yield shared.gateway("leaving", config=PATIENT).start()


def cli(house: House, node: NodeHost, *arguments: str) -> Ran:
    """``palyra node ...`` on that state root, without a terminal."""
    command = [script("palyra"), "node", *arguments, "--state-root", str(node.root)]
    return run(command, house.path)


def status(house: House, node: NodeHost) -> tuple[int, dict[str, Any]]:
    """What ``palyra node status --json`` says, and how it ends."""
    done = cli(house, node, "status", "--json")
    return done.code, json.loads(done.out)


def in_background(house: House, gateway: Gateway, name: str) -> NodeHost:
    """A node host that is paired, installed without a service manager, and online."""
    node = house.node(name).pair(gateway)
    assert cli(house, node, "uninstall").code == 1, "it runs in the foreground"
    code, told = status(house, node)
    assert (code, told["state"], told["installed"], told["pid"]) == (
        0, "online", False, node.process.pid,
    )  # fmt: skip
    node.process.terminate()
    # Root's would be a service of the machine, with a user of its own.
    mine = ["--run-as", getpass.getuser()] if runs_as_root() else []
    done = cli(house, node, "install", "--start", "--manager", "process", *mine)
    assert done.code == 0, done
    return node


def test_the_gateway_is_told(shared: House, stopping: Gateway) -> None:
    """The status says what it is; uninstall revokes the device there, ends the process, and takes
    away all that was kept but the configuration, which is the owner's."""
    node = in_background(shared, stopping, "goes")
    device_id = node.device_id
    code, told = status(shared, node)
    assert (code, told["state"], told["device_id"]) == (0, "online", device_id)
    assert told["installed"] and told["paired"] and told["running"]
    assert told["service"]["manager"] == "process"
    assert told["cert_renews_at_unix_ms"] < told["cert_expires_at_unix_ms"]
    done = cli(shared, node, "uninstall")
    assert done.code == 0, done
    said = [line.split("\t") for line in done.out.splitlines()]
    assert [each[:2] for each in said] == [
        ["gateway", "told"],
        ["stopped", str(told["pid"])],
        ["removed", str(node.root / "node-host")],
    ]
    assert [each.name for each in node.root.iterdir()] == ["palyra.toml"]
    listed = {each.device_id: each.trust for each in stopping.nodes()}
    assert listed.get(device_id, "removed") == "removed"
    again = cli(shared, node, "uninstall")
    assert again.code == 1 and "No node host" in again.err


def test_nobody_is_there_to_be_told(shared: House, stopping: Gateway) -> None:
    """The local part is done all the same, and what is left to do is the command for it; what is
    not the node host's stays.  One that was never installed as a service leaves as well."""
    node = shared.node("offline")
    node.options = ["--transport", "grpc"]  # which finds out at once that nobody listens
    device_id = node.pair(stopping).device_id
    stopping.process.kill()

    def offline() -> dict[str, Any] | None:
        code, told = status(shared, node)
        return told if code == 3 and told["last_error"] else None

    told = eventually(offline, "the node host misses its gateway")
    assert told["state"] == "offline" and told["last_error"]["healed_at_unix_ms"] == 0
    node.process.terminate()
    stranger = node.root / "node-host" / "mine.txt"
    stranger.write_text("precious")
    done = cli(shared, node, "uninstall", "--json")
    assert done.code == 0, done
    report = json.loads(done.out)
    assert (report["told"], report["stopped"]) == (False, False)
    assert report["left"] == [str(stranger)] and report["not_told"]
    assert [each.name for each in stranger.parent.iterdir()] == ["mine.txt"]
    stopping.start()
    assert stopping.node(device_id).trust == "trusted"
    revoked = stopping.cli("nodes", "revoke", short_id(device_id))
    assert revoked.code == 0, revoked


def test_what_the_gateway_has_not_heard(shared: House, stopping: Gateway) -> None:
    """A result that no gateway has confirmed arrives before the device leaves: its job ends as what
    it was, and not as unknown."""
    node = shared.node("results", plugin.install(shared.path / "plugins")).pair(stopping)
    paths = {name: str(shared.path / name) for name in ("started", "release", "effects")}
    job_id = stopping.submit(node.device_id, "test.slow_effect", json.dumps(paths).encode())
    eventually((shared.path / "started").exists, "it has begun")
    stopping.process.kill()
    (shared.path / "release").touch()
    node.process.says("offline")
    node.process.terminate()
    stopping.start()
    assert stopping.job(job_id).state == "dispatched"
    done = cli(shared, node, "uninstall", "--json")
    assert done.code == 0 and json.loads(done.out)["told"], done
    ended = stopping.ended(job_id)
    assert (ended.job.state, bytes(ended.output_json or b"")) == ("succeeded", b'"results"')
