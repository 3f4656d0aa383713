"""A plugin comes, changes and goes while the node runs: the operator sees it after a reload."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator

import pytest

from palyra.console.models import CapabilityItem, GrantNode, NodeAnswer
from tests.capability.distributions import make_capability
from tests.integration.house import Gateway, House, NodeHost, opened
from tests.integration.processes import eventually

if sys.platform == "win32":
    pytest.skip("there is no SIGHUP", allow_module_level=True)


@pytest.fixture
def house() -> Iterator[House]:
    with opened() as made:
        yield made


def shown(gateway: Gateway, node: NodeHost, name: str) -> CapabilityItem | None:
    found = [each for each in gateway.node(node.device_id).capabilities if each.name == name]
    return found[0] if found else None


def reload(node: NodeHost) -> None:
    os.kill(node.process.pid, signal.SIGHUP)


def test_a_plugin_comes_changes_and_goes(house: House) -> None:
    """Over the session that there is: it is announced, run once granted, suspended when its
    contract is another one, restored with the old one, and switched off by the owner."""
    plugins = house.path / "plugins"
    plugins.mkdir()
    gateway = house.gateway().start()
    node = house.node("pi", plugins).pair(gateway)
    assert shown(gateway, node, "acme.scan") is None

    make_capability(plugins, "acme.scan", "return 'one'")
    reload(node)
    eventually(lambda: shown(gateway, node, "acme.scan") is not None, "it is announced")
    gateway.console.post(
        f"devices/{node.device_id}/grants", GrantNode(grant=["acme.scan"]), NodeAnswer
    )
    assert _run(gateway, node) == "succeeded"

    make_capability(plugins, "acme.scan", "return 'two'", options="risk=Risk.HIGH")
    reload(node)
    eventually(lambda: _is(gateway, node, granted=False), "its grant is suspended")
    make_capability(plugins, "acme.scan", "return 'three'")
    reload(node)
    eventually(lambda: _is(gateway, node, granted=True), "its grant is back")
    assert _run(gateway, node) == "succeeded"

    (node.root / "palyra.toml").write_text('[node]\ndisabled = ["acme.*"]\n')
    reload(node)
    eventually(lambda: _is(gateway, node, available=False), "it is switched off")
    assert node.process.alive


def _is(gateway: Gateway, node: NodeHost, **facts: bool) -> bool:
    item = shown(gateway, node, "acme.scan")
    return item is not None and all(getattr(item, name) is value for name, value in facts.items())


def _run(gateway: Gateway, node: NodeHost) -> str:
    answer = gateway.ended(gateway.submit(node.device_id, "acme.scan"))
    return str(answer.job.state)


def test_the_daemon_reloads_too(house: House) -> None:
    """Started by twistd; where the configuration is wrong its log says so, and it goes on."""
    plugins = house.path / "plugins"
    plugins.mkdir()
    gateway = house.gateway().start()
    node = house.node("pi", plugins).pair(gateway)
    node.process.terminate()
    node.serve().process.says("online as")
    make_capability(plugins, "acme.scan", "return 'one'")
    reload(node)
    eventually(lambda: shown(gateway, node, "acme.scan") is not None, "it is announced")
    (node.root / "palyra.toml").write_text("[node]\ndisabled = 5\n")
    reload(node)
    node.process.says("node.disabled")
    assert shown(gateway, node, "acme.scan") is not None
    assert node.process.alive
