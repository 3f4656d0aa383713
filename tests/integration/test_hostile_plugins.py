"""Plugins that do their worst: after each of them the node still answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

from palyra.console.models import GrantNode, NodeAnswer
from tests.capability.distributions import make_capability, make_distribution
from tests.integration.house import Gateway, House, NodeHost, opened
from tests.integration.processes import eventually

QUICK = "timeout_s=1.0"
"""What never ends by itself is ended by the node after this."""

BODIES = {
    "hostile.endless": "while True: pass",
    "hostile.blocks": "time.sleep(3600)",
    "hostile.hogs": "kept = []\nwhile True: kept.append(bytearray(64 * 1024 * 1024))",
    "hostile.exits": "os._exit(3)",
    "hostile.leaves": "sys.exit(0)",
    "hostile.dies": "os.kill(os.getpid(), signal.SIGKILL)",
    "hostile.prints": (
        "print('\\x00\\x00\\x00\\x02{}' * 1000)\n"
        "os.write(1, b'\\x00\\x00\\x00\\x02{}' * 1000)\n"
        "subprocess.run(['echo', 'from a child'])\n"
        "return 'printed'"
    ),
    "hostile.huge": "return 'x' * (50 * 1024 * 1024)",
    "hostile.wrong": "return {1, 2}",
    "hostile.raises": "raise BaseException('out of the tree')",
    "hostile.spawns": (
        "for _ in range(20):\n"
        "    subprocess.Popen(\n"
        "        [sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True\n"
        "    )\n"
        "time.sleep(3600)"
    ),
    "hostile.deaf": (
        "while True:\n"
        "    try:\n"
        "        await asyncio.sleep(3600)\n"
        "    except BaseException:\n"
        "        pass"
    ),
    "hostile.floods": (
        "for n in range(20_000): context.progress(n / 20_000, 'x' * 4096)\nreturn 'flooded'"
    ),
}
ENDINGS = {
    "hostile.endless": ("timed_out", "timed_out"),
    "hostile.blocks": ("timed_out", "timed_out"),
    "hostile.hogs": ("failed", "handler_failed"),
    "hostile.exits": ("failed", "worker_died"),
    "hostile.leaves": ("failed", "handler_failed"),
    "hostile.dies": ("failed", "worker_died"),
    "hostile.prints": ("succeeded", ""),
    "hostile.huge": ("failed", "payload_too_large"),
    "hostile.wrong": ("failed", "output_invalid"),
    "hostile.raises": ("failed", "handler_failed"),
    "hostile.spawns": ("timed_out", "timed_out"),
    "hostile.deaf": ("timed_out", "timed_out"),
    "hostile.floods": ("succeeded", ""),
}
BROKEN = {
    "broken-import": "import a_module_that_nobody_has",
    "broken-exit": "import sys; sys.exit(0)",
    "broken-killed": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "broken-answer": (
        "from palyra.capability import hookimpl\n"
        "@hookimpl\n"
        "def palyra_capabilities(): return [1, 2]\n"
    ),
}


def installed(directory: Path) -> Path:
    """All of them, each a distribution of its own."""
    for name, body in BODIES.items():
        options = QUICK if ENDINGS[name][0] == "timed_out" else ""
        output = "output_type=str" if name in ("hostile.wrong", "hostile.prints") else ""
        given = ", ".join(filter(None, (options, output)))
        make_capability(directory, name, body, options=given)
    for distribution, source in BROKEN.items():
        module = distribution.replace("-", "_")
        make_distribution(directory, distribution, "1.0", {module: source}, {module: module})
    return directory


@pytest.fixture(scope="module")
def beset() -> Iterator[tuple[Gateway, NodeHost]]:
    """A gateway, and a node that has them all, granted."""
    with opened() as house:
        yield _beset(house)


def _beset(house: House) -> tuple[Gateway, NodeHost]:
    gateway = house.gateway().start()
    node = house.node("pi", installed(house.path / "plugins")).pair(gateway)
    named = {*BODIES, *(each.replace("-", "_") for each in BROKEN if each != "broken-killed")}

    def all_are_told() -> bool:  # a slow machine is online before it has asked all of them
        return named <= {each.name for each in gateway.node(node.device_id).capabilities}

    eventually(all_are_told, "the gateway knows what the node offers")
    body = GrantNode(grant=sorted(BODIES))
    gateway.console.post(f"devices/{node.device_id}/grants", body, NodeAnswer)
    return gateway, node


def echoes(gateway: Gateway, node: NodeHost) -> bool:
    """Whether it still answers."""
    job_id = gateway.submit(node.device_id, "echo", b'"still here"')
    answer = gateway.ended(job_id)
    assert answer.job.state == "succeeded", answer
    return msgspec.json.decode(answer.output_json)["echo"] == "still here"


@pytest.mark.parametrize("name", sorted(BODIES))
def test_the_node_outlives_it(beset: tuple[Gateway, NodeHost], name: str) -> None:
    """The job ends with its reason, nothing of the plugin is left, and the node answers."""
    gateway, node = beset
    answer = gateway.ended(gateway.submit(node.device_id, name))
    assert (answer.job.state, answer.job.error_code) == ENDINGS[name], answer
    assert not answer.job.effect_possible, "it was confirmed that it stopped"
    assert echoes(gateway, node)
    assert node.process.alive

    def alone() -> bool:
        left = psutil.Process(node.process.pid).children(recursive=True)
        return all("palyra.capability.worker" in " ".join(each.cmdline()) for each in left)

    eventually(alone, "nothing that it started is left")


def test_what_cannot_be_described_is_named(beset: tuple[Gateway, NodeHost]) -> None:
    """The operator sees each plugin that failed, and why; the others run."""
    gateway, node = beset
    listed = {each.name: each for each in gateway.node(node.device_id).capabilities}
    for name in BROKEN:  # one whose worker died says nothing of its entry points
        shown = listed.get(name.replace("-", "_")) or listed[name]
        assert not shown.available
        assert shown.fault, name
    assert "a_module_that_nobody_has" in listed["broken_import"].fault
    assert echoes(gateway, node)
