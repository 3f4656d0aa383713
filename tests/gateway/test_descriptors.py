"""The descriptors that a gateway knows."""

from __future__ import annotations

import importlib.metadata

import attrs
import pytest

from palyra.capability.catalogue import Catalogue
from palyra.capability.hookspecs import ENTRY_POINT_GROUP
from palyra.capability.registry import load_here, own_points
from palyra.gateway.descriptors import DescriptorControl, known
from tests.gateway.house import result_of


def test_its_own_capabilities_are_known_with_their_schemas() -> None:
    """Each by name, with what a page needs to ask for its input."""
    listed = result_of(DescriptorControl().capabilities()).capabilities
    names = [each.name for each in listed]
    assert names == sorted(names)
    assert {"echo", "system.health", "desktop.open_url", "desktop.open_path"} <= set(names)
    (open_url,) = [each for each in listed if each.name == "desktop.open_url"]
    assert (open_url.risk, open_url.needs_mediation, open_url.timeout_ms) == (
        "medium",
        True,
        30_000,
    )
    assert open_url.distribution == "palyra" and open_url.version
    assert open_url.input_schema["$defs"]["OpenUrl"]["required"] == ["url"]


def test_a_digest_is_the_one_that_a_node_announces() -> None:
    """A device with the same capability is recognized by it."""
    announced = {each.name: each.digest for each in Catalogue(*load_here(own_points())).announced()}
    assert {each.name: each.digest for each in known()}.items() <= announced.items()


class Foreign:
    """An entry point of somebody else's package, which must not be loaded."""

    name = "foreign"
    dist = attrs.make_class("Distribution", {"name": attrs.field(default="palyra-foreign")})()

    def load(self) -> object:
        raise AssertionError("it was imported")


def test_no_other_plugin_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway runs no code that devices offer, whatever is installed beside it."""
    installed = importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [*installed, Foreign()])
    known.cache_clear()
    assert "foreign" not in [each.name for each in known()]
