"""The registry: every plugin is loaded alike, and none of them can stop the host."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from palyra.capability import Capability, CapabilityContext, Risk, hookimpl
from palyra.capability.registry import Registry


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


def raising(exc: BaseException) -> Callable[[], Any]:
    def load() -> Any:
        raise exc

    return load


GOOD = offering("good.one", dist="good")


def test_loads_what_plugins_offer() -> None:
    """Capabilities are known by name, with the distribution they came from."""
    registry = Registry.load([offering("b.two", "a.one"), GOOD])
    assert list(registry.capabilities) == ["a.one", "b.two", "good.one"]
    found = registry.capabilities["a.one"]
    assert (found.distribution, found.version) == ("acme-tools", "1.0")
    assert registry.faults == ()


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
    registry = Registry.load([bad, GOOD])
    assert list(registry.capabilities) == ["good.one"]
    (fault,) = registry.faults
    assert (fault.name, fault.distribution) == ("printer.print", "cups-tools")
    assert fault.sentence == sentence


def test_keyboard_interrupt_is_the_users() -> None:
    """Ctrl-C while plugins are loaded stops the program."""
    with pytest.raises(KeyboardInterrupt):
        Registry.load([Point("x", Dist("x"), raising(KeyboardInterrupt()))])


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
    registry = Registry.load([point("acme", answer), GOOD])
    assert list(registry.capabilities) == ["good.one"]
    (fault,) = registry.faults
    assert part in fault.sentence


def test_a_plugin_without_the_hook_is_a_fault() -> None:
    """A module with no hook at all is named, not passed over."""
    registry = Registry.load([Point("acme", Dist("acme"), lambda: types.ModuleType("empty"))])
    assert "is missing" in registry.faults[0].sentence


def test_a_misspelt_hook_is_a_fault() -> None:
    """An implementation of a hook that does not exist is a fault."""
    module = types.ModuleType("odd")
    module.__dict__["palyra_capability"] = hookimpl(lambda: [])
    registry = Registry.load([Point("acme", Dist("acme"), lambda: module)])
    assert "PluginValidationError" in registry.faults[0].sentence


def test_two_distributions_with_one_name_fault_each_other() -> None:
    """Neither of two rivals is run, and each names the other."""
    registry = Registry.load([offering("a.b", dist="one"), offering("a.b", dist="two"), GOOD])
    assert list(registry.capabilities) == ["good.one"]
    one, two = registry.faults
    assert (one.distribution, two.distribution) == ("one", "two")
    assert "two" in one.sentence
    assert "one" in two.sentence


def test_one_distribution_with_a_name_twice() -> None:
    """A distribution that offers a name twice is told so."""
    registry = Registry.load([offering("a.b", "a.b")])
    assert not registry.capabilities
    assert "2 times" in registry.faults[0].sentence


def test_reserved_names_are_ours() -> None:
    """A stranger's echo is a fault and does not hurt the real one."""
    registry = Registry.load([offering("echo", dist="evil"), offering("echo", dist="Palyra")])
    assert registry.capabilities["echo"].distribution == "Palyra"
    (fault,) = registry.faults
    assert (fault.name, fault.distribution) == ("echo", "evil")
    assert [each.name for each in registry.announcement()] == ["echo"]


def test_an_entry_point_without_distribution() -> None:
    """An entry point that does not know where it came from is loaded, but not trusted."""
    registry = Registry.load([Point("x", None, lambda: plugin(lambda: [described("echo")]))])
    assert registry.faults[0].name == "echo"


def test_announcement() -> None:
    """A node announces each name once: what it can run with its digest, what it cannot with why."""
    capability = described(
        "a.b", risk=Risk.HIGH, needs_mediation=True, idempotent=True, version="7"
    )
    registry = Registry.load(
        [
            point("a", lambda: [capability]),
            Point("cups", Dist("cups"), raising(ImportError("gone"))),
        ]
    )
    good, bad = registry.announcement()
    assert attrs.astuple(good) == (
        "a.b", "7", "high", True, True, 30.0, True, "", capability.digest(),
    )  # fmt: skip
    assert (bad.name, bad.available, bad.fault, bad.digest) == ("cups", False, "gone", "")


def test_installed_plugins_load() -> None:
    """Loading what is installed here never raises."""
    assert Registry.load() is not None
