"""Finding capabilities: entry points, and what is wrong with those that cannot be used.

First-party capabilities come this way too.  Nothing a plugin does while it is loaded stops the
host: whatever it raises becomes a :class:`Fault` that names it.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Protocol

import attrs
import pluggy
from twisted.logger import Logger

from palyra.capability import hookspecs
from palyra.capability.descriptor import API, MAX_NAME, OWNER, Capability, is_reserved
from palyra.capability.wording import exception_sentence, one_line
from palyra.errors import DescriptorInvalid


class EntryPointLike(Protocol):
    """What is asked of an entry point; ``importlib.metadata.EntryPoint`` has it."""

    @property
    def name(self) -> str: ...

    @property
    def dist(self) -> Any: ...

    def load(self) -> Any: ...


@attrs.frozen(slots=True)
class Registered:
    """A capability that can be run, and the distribution it came from."""

    capability: Capability
    distribution: str
    version: str


@attrs.frozen(slots=True)
class Fault:
    """A capability or a whole plugin that cannot be used, and why.

    ``name`` is the capability's name, or the entry point's where no descriptor was seen.
    """

    name: str
    distribution: str
    version: str
    sentence: str


@attrs.frozen(slots=True)
class Announcement:
    """One capability as a node announces it.  A faulty one is not available and says why; its
    risk, timeout and digest are empty."""

    name: str
    version: str
    risk: str
    needs_mediation: bool
    idempotent: bool
    timeout_s: float
    available: bool
    fault: str
    digest: str


class Registry:
    """The capabilities of this installation.  Immutable; loading again makes another one."""

    log = Logger()

    def __init__(self, registered: Iterable[Registered], faults: Iterable[Fault]) -> None:
        known = {item.capability.name: item for item in registered}
        self._capabilities = MappingProxyType(dict(sorted(known.items())))
        self._faults = tuple(faults)

    @classmethod
    def load(cls, entry_points: Iterable[EntryPointLike] | None = None) -> Registry:
        """Load every plugin of the group ``palyra.capabilities``; never raises for a plugin."""
        if entry_points is None:
            entry_points = importlib.metadata.entry_points(group=hookspecs.ENTRY_POINT_GROUP)
        offers: list[Registered] = []
        faults: list[Fault] = []
        for point in sorted(entry_points, key=lambda each: (_origin(each), each.name)):
            found, broken = _load_one(point)
            offers += found
            faults += broken
        unique, fights = _settle_names(offers)
        for fault in (*faults, *fights):
            cls.log.warn(
                "capability {name} of {distribution} cannot be used: {sentence}",
                **attrs.asdict(fault),
            )
        return cls(unique, (*faults, *fights))

    @property
    def capabilities(self) -> Mapping[str, Registered]:
        """What can be run, by name, in the order of names."""
        return self._capabilities

    @property
    def faults(self) -> tuple[Fault, ...]:
        """What cannot be used."""
        return self._faults

    def announcement(self) -> list[Announcement]:
        """Every name once: what can be run, then what is broken."""
        broken: dict[str, Announcement] = {}
        for fault in self._faults:
            if fault.name not in self._capabilities:
                broken.setdefault(fault.name, _of_fault(fault))
        return [_of_registered(each) for each in self._capabilities.values()] + list(
            broken.values()
        )


def _of_registered(item: Registered) -> Announcement:
    capability = item.capability
    return Announcement(
        capability.name,
        capability.version or item.version,
        capability.risk.value,
        capability.needs_mediation,
        capability.idempotent,
        capability.timeout_s,
        True,
        "",
        capability.digest(),
    )


def _of_fault(fault: Fault) -> Announcement:
    return Announcement(fault.name, "", "", False, False, 0.0, False, fault.sentence, "")


# -- one plugin ---------------------------------------------------------------------------------


def _load_one(point: EntryPointLike) -> tuple[list[Registered], list[Fault]]:
    distribution, version = _origin(point)
    try:
        offered = _offered(point)
    except KeyboardInterrupt:
        raise
    except BaseException as exc:  # a plugin may even call sys.exit while it is imported
        shown = one_line(point.name, MAX_NAME) or "unnamed"
        return [], [Fault(shown, distribution, version, _sentence(exc))]
    good, faults = [], []
    for capability in offered:
        if problem := _refusal(capability, distribution):
            faults.append(Fault(capability.name, distribution, version, problem))
        else:
            good.append(Registered(capability, distribution, version))
    return good, faults


def _origin(point: EntryPointLike) -> tuple[str, str]:
    """Name and version of the distribution; empty where the entry point does not know it."""
    try:
        return str(point.dist.name), str(point.dist.version)
    except Exception:
        return "", ""


def _offered(point: EntryPointLike) -> list[Capability]:
    """Import the plugin and ask it, through a plugin manager of its own: one fault, one plugin."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(point.load())
    manager.check_pending()
    hook = manager.hook.palyra_capabilities
    if not hook.get_hookimpls():
        raise DescriptorInvalid("palyra_capabilities", "is missing; the plugin offers nothing")
    answers = hook() or [None]  # pluggy leaves an answer of None out
    return [capability for answer in answers for capability in _checked(answer)]


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


def _refusal(capability: Capability, distribution: str) -> str:
    """Why this host does not take the capability, or ''."""
    if capability.api != API:
        return f"It was made for plugin API {capability.api}; this node host knows {API}."
    if is_reserved(capability.name) and _normal(distribution) != OWNER:
        return f"The name is reserved for the distribution {OWNER}."
    return ""


def _sentence(exc: BaseException) -> str:
    if isinstance(exc, ImportError | DescriptorInvalid):
        return one_line(str(exc)) or type(exc).__name__
    return exception_sentence(exc)


def _normal(distribution: str) -> str:
    """The normalized name of a distribution (PEP 503)."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


# -- names that are offered twice ---------------------------------------------------------------


def _settle_names(offers: Iterable[Registered]) -> tuple[list[Registered], list[Fault]]:
    """Two plugins, one name: neither is run, for nobody can say which one was granted."""
    by_name: dict[str, list[Registered]] = {}
    for offer in offers:
        by_name.setdefault(offer.capability.name, []).append(offer)
    unique = [group[0] for group in by_name.values() if len(group) == 1]
    fights = [
        Fault(name, mine.distribution, mine.version, _rivalry(mine, group))
        for name, group in by_name.items()
        if len(group) > 1
        for mine in group
    ]
    return unique, fights


def _rivalry(mine: Registered, group: list[Registered]) -> str:
    rivals = sorted({each.distribution for each in group} - {mine.distribution})
    if not rivals:
        return f"{mine.distribution} offers this name {len(group)} times."
    return f"{' and '.join(rivals)} offers the same name; uninstall one of them."
