"""The descriptors that a gateway knows."""

from __future__ import annotations

import sys

from palyra.capability.registry import Registry
from palyra.gateway.descriptors import DescriptorControl, known
from tests.gateway.house import result_of


def test_its_own_capabilities_are_known_with_their_schemas() -> None:
    """Each by name, with what a page needs to ask for its input."""
    listed = result_of(DescriptorControl().capabilities()).capabilities
    names = [each.name for each in listed]
    assert names == sorted(names)
    assert {"echo", "system.health", "desktop.open_url", "desktop.open_path"} <= set(names)
    (open_url,) = [each for each in listed if each.name == "desktop.open_url"]
    assert (open_url.risk, open_url.needs_mediation, open_url.timeout_ms) == ("medium", True, 30_000)
    assert open_url.distribution == "palyra" and open_url.version
    assert open_url.input_schema["$defs"]["OpenUrl"]["required"] == ["url"]


def test_a_digest_is_the_one_that_a_node_announces() -> None:
    """A device with the same capability is recognized by it."""
    announced = {each.name: each.digest for each in Registry.load().announcement()}
    assert {each.name: each.digest for each in known()}.items() <= announced.items()


def test_no_other_plugin_is_imported() -> None:
    """The gateway runs no code that devices offer, whatever is installed beside it."""

    class Foreign:
        name = "foreign"
        value = "palyra_foreign_plugin"
        group = "palyra.capabilities"
        dist = type("Dist", (), {"name": "palyra-foreign", "version": "1"})

        def load(self) -> object:
            raise AssertionError("it was imported")

    import importlib.metadata

    real = importlib.metadata.entry_points
    known.cache_clear()
    importlib.metadata.entry_points = lambda **which: [*real(**which), Foreign()]
    try:
        assert "foreign" not in [each.name for each in known()]
    finally:
        importlib.metadata.entry_points = real
        known.cache_clear()
    assert "palyra_foreign_plugin" not in sys.modules
