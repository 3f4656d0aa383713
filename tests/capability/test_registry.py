"""The catalogue: every plugin is loaded alike, and none of them can stop the host."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from palyra.capability import Capability, CapabilityContext, Risk, hookimpl
from palyra.capability.catalogue import Catalogue
from palyra.capability.registry import EntryPointLike, load_here, own_points
from palyra.core.descriptors import descriptor_digest
from palyra.core.devices import AnnouncedCapability


@attrs.frozen
class Dist:
    name: str
    version: str = "1.0"


@attrs.frozen
class Point:
    name: str
    dist: Any
    loader: Callable[[], Any]

    def load(self) -> Any:
        return self.loader()


async def handle(value: Any, context: CapabilityContext) -> None: ...


def described(name: str, **changes: Any) -> Capability:
    return Capability(name=name, description="Test.", handler=handle, **changes)


def plugin(answer: Callable[[], Any]) -> types.ModuleType:
    module = types.ModuleType("plugin")
    answer.__name__ = "palyra_capabilities"
    module.__dict__["palyra_capabilities"] = hookimpl(answer)
    return module


def point(name: str, answer: Callable[[], Any], dist: str = "acme-tools") -> Point:
    return Point(name, Dist(dist), lambda: plugin(answer))


def offering(*names: str, dist: str = "acme-tools") -> Point:
    return point(names[0], lambda: [described(name) for name in names], dist)


def load(*points: EntryPointLike) -> Catalogue:
    return Catalogue(*load_here(points))


def raising(exc: BaseException) -> Callable[[], Any]:
    def load() -> Any:
        raise exc

    return load


GOOD = offering("good.one", dist="good")


def test_loads_what_plugins_offer() -> None:
    """Capabilities are known by name, with the distribution they came from."""
    catalogue = load(offering("b.two", "a.one"), GOOD)
    assert list(catalogue.offers) == ["a.one", "b.two", "good.one"]
    found = catalogue.offers["a.one"]
    said = found.descriptor
    assert (said.distribution, said.version) == ("acme-tools", "1.0")
    assert catalogue.faults == ()


@pytest.mark.parametrize(
    ("exc", "sentence"),
    [
        (ModuleNotFoundError("No module named 'cups'"), "No module named 'cups'"),
        (SystemExit(2), "SystemExit: 2"),
        (ValueError("x\ny"), "ValueError: x"),
        (BaseException("odd"), "BaseException: odd"),
        (RecursionError(), "RecursionError"),
    ],
)
def test_import_failures_are_faults(exc: BaseException, sentence: str) -> None:
    """Whatever importing a plugin raises is reported by name, and the others are loaded."""
    bad = Point("printer.print", Dist("cups-tools"), raising(exc))
    catalogue = load(bad, GOOD)
    assert list(catalogue.offers) == ["good.one"]
    (fault,) = catalogue.faults
    assert (fault.name, fault.distribution) == ("printer.print", "cups-tools")
    assert fault.sentence == sentence


def test_keyboard_interrupt_is_the_users() -> None:
    """Ctrl-C while plugins are loaded stops the program."""
    with pytest.raises(KeyboardInterrupt):
        load(Point("x", Dist("x"), raising(KeyboardInterrupt())))


async def an_async_hook() -> list[Capability]:
    return []


@pytest.mark.parametrize(
    ("answer", "part"),
    [
        (an_async_hook, "not async"),
        (lambda: "text", "must return a list, not str"),
        (lambda: None, "not NoneType"),
        (lambda: [1], "not int"),
        (lambda: [described("Bad Name")], "lower-case words"),
        (lambda: 1 // 0, "ZeroDivisionError"),
        (lambda: [described("a.b", api=2)], "plugin API 2"),
    ],
)
def test_broken_contracts_are_faults(answer: Callable[[], Any], part: str) -> None:
    """A hook that answers wrongly is a fault that says what is wrong."""
    catalogue = load(point("acme", answer), GOOD)
    assert list(catalogue.offers) == ["good.one"]
    (fault,) = catalogue.faults
    assert part in fault.sentence


def test_a_plugin_without_the_hook_is_a_fault() -> None:
    """A module with no hook at all is named, not passed over."""
    catalogue = load(Point("acme", Dist("acme"), lambda: types.ModuleType("empty")))
    assert "is missing" in catalogue.faults[0].sentence


def test_a_misspelt_hook_is_a_fault() -> None:
    """An implementation of a hook that does not exist is a fault."""
    module = types.ModuleType("odd")
    module.__dict__["palyra_capability"] = hookimpl(lambda: [])
    catalogue = load(Point("acme", Dist("acme"), lambda: module))
    assert catalogue.faults[0].sentence == (
        "It implements palyra_capability, which is no hook of Palyra."
    )


def test_a_hook_with_another_argument_is_a_fault() -> None:
    """What is wrong with it is said, and not where its file is."""
    module = plugin(lambda: [described("a.b")])
    module.__dict__["palyra_before_run"] = hookimpl(lambda job: None)
    catalogue = load(Point("acme", Dist("acme"), lambda: module))
    (fault,) = catalogue.faults
    assert "'job'" in fault.sentence and "/" not in fault.sentence, fault


def test_two_distributions_with_one_name_fault_each_other() -> None:
    """Neither of two rivals is run, and each names the other."""
    catalogue = load(offering("a.b", dist="one"), offering("a.b", dist="two"), GOOD)
    assert list(catalogue.offers) == ["good.one"]
    one, two = catalogue.faults
    assert (one.distribution, two.distribution) == ("one", "two")
    assert "two" in one.sentence
    assert "one" in two.sentence


def test_one_distribution_with_a_name_twice() -> None:
    """A distribution that offers a name twice is told so."""
    catalogue = load(offering("a.b", "a.b"))
    assert not catalogue.offers
    assert "2 times" in catalogue.faults[0].sentence


def test_reserved_names_are_ours() -> None:
    """A stranger's echo is a fault and does not hurt the real one."""
    catalogue = load(offering("echo", dist="evil"), offering("echo", dist="Palyra"))
    assert catalogue.offers["echo"].descriptor.distribution == "Palyra"
    (fault,) = catalogue.faults
    assert (fault.name, fault.distribution) == ("echo", "evil")
    assert [each.name for each in catalogue.announced()] == ["echo"]


def test_an_entry_point_without_distribution() -> None:
    """An entry point that does not know where it came from is loaded, but not trusted."""
    catalogue = load(Point("x", None, lambda: plugin(lambda: [described("echo")])))
    assert catalogue.faults[0].name == "echo"


def test_announcement() -> None:
    """A node announces each name once: what it can run with its digest, what it cannot with why."""
    capability = described(
        "a.b", risk=Risk.HIGH, needs_mediation=True, idempotent=True, version="7"
    )
    catalogue = load(
        point("a", lambda: [capability]),
        Point("cups", Dist("cups"), raising(ImportError("gone"))),
    )
    good, bad = catalogue.announced()
    descriptor = capability.descriptor("acme-tools", "1.0")
    assert good == AnnouncedCapability(
        name="a.b",
        digest=descriptor_digest(descriptor.encode()),
        version="7",
        risk="high",
        needs_mediation=True,
        idempotent=True,
        timeout_ms=30_000,
        contract=descriptor.contract(),
    )
    assert (bad.name, bad.available, bad.fault, bad.digest) == ("cups", False, "gone", "")


def test_installed_plugins_load() -> None:
    """Loading what is installed here never raises."""
    assert {"echo", "system.health"} <= load(*own_points()).offers.keys()
