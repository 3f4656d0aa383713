"""Nodes and gateways of neighbouring versions: they pair, work, and say how far apart they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from palyra.core.versions import skew
from tests.integration import releases, wheels
from tests.integration.house import Gateway, House


def works(house: House, gateway: Gateway, name: str, wheel: Path) -> str:
    """Pair a node of that wheel, and have it do something; what the gateway thinks of its version.
    It also comes back after a restart of either end."""
    plugins = house.path / f"with-{name}"
    wheels.install(plugins, wheel)
    node = house.node(name, plugins).pair(gateway)
    for _ in range(2):
        done = gateway.cli("nodes", "invoke", name, "echo", "--input", '{"text":"hello"}')
        assert done.code == 0 and '"text":"hello"' in done.out.replace(" ", ""), done
        gateway.process.terminate()
        node.process.terminate()
        gateway.start()
        node.start()
        gateway.online(node.device_id)
    return gateway.node(node.device_id).version_skew


def test_one_minor_version_apart(house: House, tmp_path: Path) -> None:
    """Older and newer nodes work, and the inventory tells which is which."""
    gateway = house.gateway().start()
    older, newer = releases.neighbours()
    assert works(house, gateway, "older", releases.as_version(older, tmp_path)) == "older"
    assert works(house, gateway, "newer", releases.as_version(newer, tmp_path)) == "newer"
    listed = gateway.cli("nodes", "show", "older").out
    assert f"node {older} (older than the gateway)" in listed


def test_the_last_release(house: House, tmp_path: Path) -> None:
    """A node of the last release works with this gateway."""
    wheel = releases.last_release(tmp_path)
    if wheel is None:
        pytest.skip("there is no release before this one")
    gateway = house.gateway().start()
    version = wheel.name.split("-")[1]
    found = works(house, gateway, "last", wheel)
    device = gateway.nodes()[0]
    assert device.version == version and found == skew(version, releases.__version__)
