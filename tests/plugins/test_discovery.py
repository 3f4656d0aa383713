"""Tests of :mod:`palyra.plugins.discovery`."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest

from palyra.capability.catalogue import Catalogue, Fault, Offer
from palyra.core.descriptors import Descriptor
from palyra.core.devices import MAX_CAPABILITIES
from palyra.plugins.described import DescriptorCache
from palyra.plugins.discovery import SWITCHED_OFF, Discovery, Wishes, own_offers
from tests.capability.distributions import make_capability
from tests.plugins.test_described import descriptor

HERE = Wishes(in_process=("echo", "system.*", "desktop.*"))


@attrs.frozen
class Said:
    """What a worker says."""

    descriptors: Sequence[Descriptor] = ()
    faults: Sequence[Fault] = ()


@attrs.define
class Workers:
    """Describe distributions as the test wants; they keep who asked."""

    said: dict[str, Said] = attrs.Factory(dict)
    asked: list[str] = attrs.Factory(list)

    def describe(self, distribution: str) -> Said:
        """As a pool does."""
        self.asked.append(distribution)
        return self.said[distribution]


@attrs.define
class World:
    """A directory with distributions, and what their workers say."""

    path: Path
    workers: Workers = attrs.Factory(Workers)

    def add(
        self, name: str, *said: Descriptor, faults: Sequence[Fault] = (), body: str = ""
    ) -> str:
        """Install a distribution with that capability."""
        distribution = make_capability(self.path, name, body or "return 1")
        self.workers.said[distribution] = Said(said or [descriptor(name)], faults)
        return distribution

    def find(self, wishes: Wishes = HERE, **changes: Any) -> Catalogue:
        """What is found in it."""
        cache = DescriptorCache(self.path / "cache.json")
        path = [str(self.path)]
        return Discovery(self.workers.describe, cache, path=path, **changes).find(wishes)

    def fault(self, wishes: Wishes = HERE) -> Fault:
        """The only fault."""
        (fault,) = self.find(wishes).faults
        return fault


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def imported() -> Iterator[None]:
    """For a test in which a distribution is imported into this process."""
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def offered(catalogue: Catalogue) -> list[Offer]:
    return list(catalogue.offers.values())


def test_own_capabilities_run_here() -> None:
    """They are imported into the node host, and need no worker."""
    workers = Workers()
    catalogue = Discovery(workers.describe).find(HERE)
    assert catalogue.offers["echo"].capability is not None
    assert {each.name for each in own_offers()[0]} <= set(catalogue.offers)
    assert "palyra" not in workers.asked


def test_own_capabilities_go_to_workers_too() -> None:
    """Where the owner does not name them, they go the road of everyone's."""
    catalogue = Discovery(Workers().describe).find(Wishes(in_process=("echo",)))
    assert catalogue.offers["echo"].capability is not None
    assert catalogue.offers["system.health"].capability is None


def test_others_are_described_by_workers(world: World) -> None:
    """Nothing of them is imported, and where they come from is what pip says."""
    world.add("acme.scan", descriptor("acme.scan", distribution="palyra"))
    (offer,) = offered(world.find())
    assert (offer.name, offer.capability) == ("acme.scan", None)
    assert offer.descriptor.distribution == "acme-scan"
    assert "acme_scan" not in sys.modules


def test_they_are_described_side_by_side(world: World) -> None:
    """One that takes long to say what it is holds up no other."""
    both = threading.Barrier(2, timeout=30)
    for name in ("acme.fax", "acme.scan"):
        world.add(name)

    def describe(distribution: str) -> Said:
        both.wait()
        return world.workers.describe(distribution)

    found = Discovery(describe, path=[str(world.path)]).find(HERE)
    assert list(found.offers) == ["acme.fax", "acme.scan"]


def test_whoever_stops_it_does_not_wait(world: World) -> None:
    """Ctrl-C, or a node host that stops, is not held up by plugins that have not answered."""
    began, let_go, over = threading.Event(), threading.Event(), threading.Event()
    for name in ("acme.fax", "acme.scan"):
        world.add(name)

    def describe(distribution: str) -> Said:
        if distribution == "acme-fax":
            assert began.wait(30)
            raise RuntimeError("the pool is closed")
        began.set()
        assert let_go.wait(30)
        over.set()
        return Said()

    with pytest.raises(RuntimeError, match="closed"):
        Discovery(describe, path=[str(world.path)]).find(HERE)
    assert not over.is_set()
    let_go.set()
    assert over.wait(30)


def test_a_plugin_is_asked_once(world: World) -> None:
    """As long as it is the same; what was kept is checked as what is heard."""
    world.add("acme.scan")
    first = world.find()
    assert list(world.find().offers) == list(first.offers) == ["acme.scan"]
    assert world.workers.asked == ["acme-scan"]
    world.add("acme.scan", body="return 2")
    world.find()
    assert world.workers.asked == ["acme-scan"] * 2


def test_a_plugin_with_a_fault_is_asked_again(world: World) -> None:
    """What it misses may be there the next time."""
    missing = Fault("acme.scan", "acme-scan", "1.0", "No module named 'cups'\nx")
    world.add("acme.scan", faults=[missing])
    fault = world.fault()
    assert (fault.name, fault.sentence) == ("acme.scan", "No module named 'cups'")
    assert (fault.distribution, fault.version) == ("acme-scan", "1.0")
    world.add("acme.scan")
    assert world.find().faults == ()


def test_only_what_was_described_before(world: World) -> None:
    """Without asking no worker is started, and nothing that is known is forgotten."""
    world.add("acme.scan")
    world.find()
    world.add("acme.fax")
    cache = DescriptorCache(world.path / "cache.json")
    discovery = Discovery(world.workers.describe, cache, path=[str(world.path)])
    known = discovery.find(HERE, asking=False)
    assert (list(known.offers), known.faults) == (["acme.scan"], ())
    assert world.workers.asked == ["acme-scan"]
    assert list(discovery.find(HERE).offers) == ["acme.fax", "acme.scan"]
    assert world.workers.asked == ["acme-scan", "acme-fax"]


def test_a_fault_without_a_name_has_one(world: World) -> None:
    """A gateway takes no capability without a name, and then none of the others either."""
    world.add("acme.scan", faults=[Fault(" ", "acme-scan", "1.0", "It is broken.")])
    assert world.fault().name == "unnamed"


@pytest.mark.parametrize(
    ("name", "changes", "part"),
    [
        ("echo", {}, "reserved for the distribution palyra"),
        ("system.evil", {}, "reserved"),
        ("acme.scan", {"api": 2}, "plugin API 2"),
        ("Acme Scan", {}, "is no name of a capability"),
        ("x" * 64, {}, "is no name of a capability"),
        ("acme.scan", {"description": "a\u202eb"}, "printable"),
        ("acme.scan", {"input_schema": {"$ref": "https://evil.example/"}}, "input_type"),
        ("acme.scan", {"output_schema": {"type": "colour"}}, "output_type"),
        ("acme.scan", {"settings_schema": {"$id": "x"}}, "settings_type"),
        ("acme.scan", {"input_schema": {"enum": ["x" * 70_000]}}, "longer than 64 KiB"),
    ],
)
def test_what_a_worker_says_is_checked(
    world: World, name: str, changes: dict[str, Any], part: str
) -> None:
    """Names, text and schemas; it is the fault of the plugin, and it is asked again."""
    world.add("acme.scan", descriptor(name, **changes))
    fault = world.fault()
    assert part in fault.sentence
    assert "\u202e" not in fault.sentence
    world.find()
    assert len(world.workers.asked) == 2


def test_two_distributions_with_one_name(world: World) -> None:
    """Both are faults, and each names the other."""
    world.add("acme.scan")
    world.add("other.scan", descriptor("acme.scan"))
    one, two = world.find().faults
    assert one.sentence == "other-scan offers the same name; uninstall one of them."
    assert two.sentence == "acme-scan offers the same name; uninstall one of them."


def test_the_owner_switches_off(world: World) -> None:
    """By name or by pattern; the gateway still hears what it would be."""
    world.add("acme.scan")
    for patterns in (("acme.scan",), ("acme.*",)):
        catalogue = world.find(Wishes(disabled=patterns))
        (fault,) = catalogue.faults
        assert (fault.sentence, fault.by_owner) == (SWITCHED_OFF, True)
        (said,) = catalogue.announced()
        assert (said.name, said.available, said.fault) == ("acme.scan", False, "")
        assert catalogue.descriptor(said.digest) is not None
    assert list(world.find(Wishes(disabled=("acme", "scan.*"))).offers) == ["acme.scan"]


def test_settings_are_the_owners(world: World) -> None:
    """What fits is for the handler, what does not is a fault that names the field."""
    schema = {"type": "object", "properties": {"root": {"type": "string"}}, "required": ["root"]}
    world.add("acme.scan", descriptor("acme.scan", settings_schema=schema))
    (offer,) = offered(world.find(Wishes(settings={"acme.scan": {"root": "/srv"}})))
    assert offer.settings == b'{"root":"/srv"}'
    assert "/srv" not in repr(offer)
    fault = world.fault()
    assert fault.sentence == "settings.root: is required."
    assert not fault.by_owner


def test_the_host_imports_what_the_owner_names(world: World, imported: None) -> None:
    """Only that; and it must be what the worker has described."""
    distribution = world.add("acme.scan")
    sys.path.append(str(world.path))
    said = descriptor(
        "acme.scan", input_schema={}, output_schema={}, distribution=distribution, version="1.0"
    )
    world.workers.said[distribution] = Said([said])
    wishes = Wishes(in_process=("acme.scan",))
    (offer,) = offered(world.find(wishes))
    assert offer.capability is not None
    (elsewhere,) = offered(world.find(wishes, importing=False))
    assert elsewhere.capability is None
    world.workers.said[distribution] = Said([descriptor("acme.scan", risk="low")])
    (world.path / "cache.json").unlink()
    assert "restart the node host" in world.fault(wishes).sentence


def test_what_cannot_be_imported_here_says_why(world: World) -> None:
    """A worker has a path of its own; the node host may not find what it finds."""
    world.add("acme.scan")
    fault = world.fault(Wishes(in_process=("acme.scan",)))
    assert fault.sentence == "No module named 'acme_scan'"


def test_a_device_has_only_so_many(world: World) -> None:
    """What comes beyond is a fault: the gateway would refuse the whole device."""
    many = [descriptor(f"acme.n{number:03d}") for number in range(MAX_CAPABILITIES + 4)]
    world.add("acme.scan", *many)
    catalogue = world.find()
    assert len(catalogue.offers) == MAX_CAPABILITIES
    assert len(catalogue.faults) == 4
    assert len(catalogue.announced()) == MAX_CAPABILITIES
