"""Importing plugins from their entry points, and what is wrong with those that cannot be used.

This is for the process whose code they become: a worker, and the node host for its own.  Nothing a
plugin does while it is loaded stops that process: whatever it raises becomes a fault that names it.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import attrs
import pluggy

from palyra.capability import hookspecs
from palyra.capability.catalogue import Fault, Offer
from palyra.capability.descriptor import API, OWNER, Capability, is_name, is_reserved
from palyra.capability.wording import exception_sentence, one_line
from palyra.core.descriptors import MAX_NAME
from palyra.errors import DescriptorInvalid


class EntryPointLike(Protocol):
    """What is asked of an entry point; ``importlib.metadata.EntryPoint`` has it."""

    @property
    def name(self) -> str: ...

    @property
    def dist(self) -> Any: ...

    def load(self) -> Any: ...


@attrs.frozen(slots=True, eq=False)
class Plugin:
    """A plugin that was imported: its hooks, what it offers, and what is wrong with the rest."""

    hooks: pluggy.HookRelay
    distribution: str
    version: str
    capabilities: tuple[Capability, ...]
    faults: tuple[Fault, ...]


def _no_more(exc: BaseException) -> str:
    """Nothing is known but the exception itself."""
    return ""


def load_plugin(
    point: EntryPointLike, explain: Callable[[BaseException], str] = _no_more
) -> Plugin | Fault:
    """Import one plugin into this process.  Whatever it raises is the fault; only
    KeyboardInterrupt passes.  What ``explain`` knows of it is added to the sentence."""
    distribution, version = origin(point)
    try:
        hooks, offered = _offered(point)
    except KeyboardInterrupt:
        raise
    except BaseException as exc:  # a plugin may even call sys.exit while it is imported
        shown = one_line(point.name, MAX_NAME) or "unnamed"
        return Fault(shown, distribution, version, _sentence(exc) + explain(exc))
    good, faults = [], []
    for capability in offered:
        if problem := refusal(capability.name, capability.api, distribution):
            faults.append(Fault(capability.name, distribution, version, problem))
        else:
            good.append(capability.hooked(hooks) if _has_run_hooks(hooks) else capability)
    return Plugin(hooks, distribution, version, tuple(good), tuple(faults))


def load_here(points: Iterable[EntryPointLike]) -> tuple[list[Offer], list[Fault]]:
    """Import plugins into this process; their capabilities run in its threads."""
    offers: list[Offer] = []
    faults: list[Fault] = []
    for point in sorted(points, key=lambda each: (origin(each), each.name)):
        loaded = load_plugin(point)
        if isinstance(loaded, Fault):
            faults.append(loaded)
            continue
        faults += loaded.faults
        offers += [
            Offer(each.descriptor(loaded.distribution, loaded.version), each)
            for each in loaded.capabilities
        ]
    return offers, faults


def own_points() -> list[importlib.metadata.EntryPoint]:
    """The entry points of the distribution that this code is part of; nobody else's metadata is
    read, for it may be broken."""
    try:
        return points_of(OWNER)
    except importlib.metadata.PackageNotFoundError:
        return []


def points_of(distribution: str) -> list[importlib.metadata.EntryPoint]:
    """The entry points of one distribution, however its name is spelt.

    :raises importlib.metadata.PackageNotFoundError: it is not installed.
    """
    found = importlib.metadata.distribution(distribution)
    return list(found.entry_points.select(group=hookspecs.ENTRY_POINT_GROUP))


# -- one plugin ---------------------------------------------------------------------------------


def origin(point: EntryPointLike) -> tuple[str, str]:
    """Name and version of the distribution; empty where the entry point does not know it."""
    try:
        return str(point.dist.name), str(point.dist.version)
    except Exception:
        return "", ""


def _offered(point: EntryPointLike) -> tuple[pluggy.HookRelay, list[Capability]]:
    """Import the plugin and ask it, through a plugin manager of its own: one fault, one plugin."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(point.load())
    manager.check_pending()
    hook = manager.hook.palyra_capabilities
    if not hook.get_hookimpls():
        raise DescriptorInvalid("palyra_capabilities", "is missing; the plugin offers nothing")
    _check_run_hooks(manager.hook)
    answers = hook() or [None]  # pluggy leaves an answer of None out
    return manager.hook, [each for answer in answers for each in _checked(answer)]


def _run_hooks(hooks: pluggy.HookRelay) -> Iterator[pluggy.HookImpl]:
    for name in hookspecs.RUN_HOOKS:
        yield from getattr(hooks, name).get_hookimpls()


def _has_run_hooks(hooks: pluggy.HookRelay) -> bool:
    return any(True for _ in _run_hooks(hooks))


def _check_run_hooks(hooks: pluggy.HookRelay) -> None:
    for impl in _run_hooks(hooks):
        if inspect.iscoroutinefunction(impl.function):
            name = impl.function.__name__
            raise DescriptorInvalid(name, "must be a plain def, not async")


def _checked(answer: object) -> list[Capability]:
    if inspect.iscoroutine(answer):
        answer.close()
        raise DescriptorInvalid("palyra_capabilities", "must be a plain def, not async")
    if not isinstance(answer, list | tuple):
        raise DescriptorInvalid(
            "palyra_capabilities", f"must return a list, not {type(answer).__name__}"
        )
    for item in answer:
        if not isinstance(item, Capability):
            raise DescriptorInvalid(
                "palyra_capabilities", f"must return Capability values, not {type(item).__name__}"
            )
    return list(answer)


def refusal(name: str, api: int, distribution: str) -> str:
    """Why this host does not take a capability of that distribution, or ''."""
    if api != API:
        return f"It was made for plugin API {api}; this node host knows {API}."
    if not is_name(name):
        return f"{one_line(repr(name), 80)} is no name of a capability."
    if is_reserved(name) and normal_name(distribution) != OWNER:
        return f"The name is reserved for the distribution {OWNER}."
    return ""


_UNKNOWN_HOOK = re.compile(r"unknown hook '(?P<name>\w{1,64})'")


def _sentence(exc: BaseException) -> str:
    if isinstance(exc, pluggy.PluginValidationError):
        return _misfit(str(exc))
    if isinstance(exc, ImportError | DescriptorInvalid):
        return one_line(str(exc)) or type(exc).__name__
    return exception_sentence(exc)


def _misfit(text: str) -> str:
    """What pluggy found wrong with a plugin's hooks, without the places of files."""
    if unknown := _UNKNOWN_HOOK.match(text):
        return f"It implements {unknown['name']}, which is no hook of Palyra."
    first, *_, last = text.strip().splitlines()
    hook = first.rpartition("for hook ")[2].strip("'")
    return one_line(f"Its hook {hook} does not fit: {last}")


def normal_name(distribution: str) -> str:
    """The normalized name of a distribution (PEP 503)."""
    return re.sub(r"[-_.]+", "-", distribution).lower()
