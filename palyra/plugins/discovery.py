"""From what is installed, and what the device's owner wants of it, to what a node offers.

Nobody else's code is imported into this process, unless its owner chose so: a plugin is described
by a worker of its own.  All of it blocks, for as long as the slowest plugin takes to be described.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import attrs
import msgspec

from palyra.capability.catalogue import Catalogue, Fault, Offer
from palyra.capability.descriptor import OWNER, Capability
from palyra.capability.frames import PluginFault
from palyra.capability.registry import load_here, refusal
from palyra.capability.wording import one_line
from palyra.core.descriptors import MAX_NAME, Descriptor, decode_descriptor
from palyra.core.devices import MAX_CAPABILITIES
from palyra.core.schemas import check_profile
from palyra.errors import Malformed, SettingsInvalid
from palyra.plugins.configured import settings_of
from palyra.plugins.described import DescriptorCache
from palyra.plugins.installed import Installed, installed

AT_ONCE = 8
"""So many distributions are described at the same time."""
SWITCHED_OFF = "It is switched off on this device."
_TOO_MANY = f"A device has at most {MAX_CAPABILITIES} capabilities."
_DIFFERS = "It is not in the node host what it is in a worker; restart the node host."


class Named(Protocol):
    """A capability or a plugin that a worker found wrong."""

    @property
    def name(self) -> str: ...

    @property
    def sentence(self) -> str: ...


class Described(Protocol):
    """What a worker says of a distribution."""

    @property
    def descriptors(self) -> Sequence[Descriptor]: ...

    @property
    def faults(self) -> Sequence[Named]: ...


Describe = Callable[[str], Described]
"""Describes a distribution by its name, in a worker; blocks, and is called from many threads."""


@attrs.frozen
class Wishes:
    """What the device's owner wants.  Patterns are names, or ``PREFIX.*``.

    ``in_process`` runs in the node host itself, ``disabled`` is not run at all; ``settings`` are
    by name, as they were written.
    """

    in_process: tuple[str, ...] = ()
    disabled: tuple[str, ...] = ()
    settings: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict, repr=False)

    def runs_here(self, name: str) -> bool:
        """Whether it is to run in the node host itself."""
        return _matches(name, self.in_process)

    def switched_off(self, name: str) -> bool:
        """Whether it is not to be run."""
        return _matches(name, self.disabled)


class Discovery:
    """Finds out what this installation offers; one thread at a time."""

    def __init__(
        self,
        describe: Describe,
        cache: DescriptorCache | None = None,
        *,
        path: Sequence[str] | None = None,
        importing: bool = True,
    ) -> None:
        """``path`` is searched for distributions instead of ``sys.path``.  Without ``importing``
        nothing is to be run: then what others have brought is never imported here."""
        self._describe = describe
        self._cache = cache or DescriptorCache()
        self._path = path
        self._importing = importing

    def find(self, wishes: Wishes, *, asking: bool = True) -> Catalogue:
        """What is offered, and what cannot be used and why.  Never raises for what a plugin does,
        or for what is configured for it.

        Without ``asking`` no worker is started: what was not described before is left out.
        """
        present, faults = installed(self._path)
        _, others = _parted(present)
        offers, more = own_offers(present)
        faults += more
        offers = [each if wishes.runs_here(each.name) else _elsewhere(each) for each in offers]
        said = self._descriptions(others, asking)
        for plugin, (theirs, broken) in zip(others, said, strict=True):
            placed, unplaced = _placed(plugin, theirs, wishes) if self._importing else (theirs, [])
            offers += placed
            faults += [*broken, *unplaced]
        if asking:
            self._cache.save(present)
        good: list[Offer] = []
        for place, offer in enumerate(offers):
            settled = _settled(offer, wishes)
            if isinstance(settled, Offer) and place >= MAX_CAPABILITIES:
                settled = _fault(settled, _TOO_MANY)
            (good if isinstance(settled, Offer) else faults).append(settled)  # type: ignore[arg-type]
        return Catalogue(good, faults)

    def _descriptions(
        self, plugins: Sequence[Installed], asking: bool
    ) -> list[tuple[list[Offer], list[Fault]]]:
        """Every plugin described, side by side."""
        if not plugins:
            return []
        self._cache.load()
        if not asking:
            return [_checked(each, self._cache.get(each) or ()) for each in plugins]
        threads = ThreadPoolExecutor(min(AT_ONCE, len(plugins)), "palyra-describe")
        try:
            found = list(threads.map(self._description, plugins))
        except BaseException:  # Ctrl-C, or a pool that is closed, which ends what is asked
            threads.shutdown(wait=False, cancel_futures=True)
            raise
        threads.shutdown()
        answers = []
        for plugin, (descriptors, faults, fresh) in zip(plugins, found, strict=True):
            offers, broken = _checked(plugin, descriptors)
            if fresh and not faults and not broken:
                self._cache.put(plugin, descriptors)
            answers.append((offers, [*faults, *broken]))
        return answers

    def _description(self, plugin: Installed) -> tuple[Sequence[Descriptor], list[Fault], bool]:
        """What is said of one plugin, what is wrong with it, and whether it was asked just now."""
        known = self._cache.get(plugin)
        if known is not None:
            return known, [], False
        said = self._describe(plugin.name)
        return said.descriptors, [_told(plugin, each) for each in said.faults], True


def own_offers(present: Sequence[Installed] | None = None) -> tuple[list[Offer], list[Fault]]:
    """What comes with this program, imported; and what of it cannot be."""
    own, _ = _parted(installed()[0] if present is None else present)
    return load_here(point for each in own for point in each.points)


def _parted(present: Sequence[Installed]) -> tuple[list[Installed], list[Installed]]:
    own = [each for each in present if each.key == OWNER]
    return own, [each for each in present if each.key != OWNER]


def _elsewhere(offer: Offer) -> Offer:
    return attrs.evolve(offer, capability=None)


# -- what a worker says -------------------------------------------------------------------------


def _checked(plugin: Installed, said: Iterable[Descriptor]) -> tuple[list[Offer], list[Fault]]:
    """The offers of a distribution: what a worker says of itself is believed as little as what
    comes over a network."""
    offers: list[Offer] = []
    faults: list[Fault] = []
    for descriptor in said:
        theirs = msgspec.structs.replace(descriptor, distribution=plugin.name)
        problem = refusal(theirs.name, theirs.api, plugin.name) or _malformed(theirs)
        if problem:
            faults.append(_told(plugin, PluginFault(theirs.name, problem)))
        else:
            offers.append(Offer(theirs))
    return offers, faults


def _told(plugin: Installed, said: Named) -> Fault:
    shown = one_line(said.name, MAX_NAME) or "unnamed"
    return Fault(shown, plugin.name, plugin.version, one_line(said.sentence))


def _malformed(descriptor: Descriptor) -> str:
    """What is wrong with a descriptor, or ''."""
    try:
        decode_descriptor(descriptor.encode())
        check_profile(descriptor.input_schema, "input_type")
        check_profile(descriptor.output_schema, "output_type")
        if descriptor.settings_schema is not None:
            check_profile(descriptor.settings_schema, "settings_type")
    except Malformed as error:
        return error.sentence
    except (TypeError, ValueError, RecursionError) as error:
        return f"its schemas are not JSON ({error})"
    return ""


def _placed(
    plugin: Installed, offers: list[Offer], wishes: Wishes
) -> tuple[list[Offer], list[Fault]]:
    """The offers, those with a handler that are to run in this process; and what cannot."""
    if not any(wishes.runs_here(each.name) for each in offers):
        return offers, []
    here, broken = load_here(plugin.points)
    handlers = {each.name: each.capability for each in here}
    placed, faults = [], []
    for offer in offers:
        if not wishes.runs_here(offer.name):
            placed.append(offer)
        elif _is_the_same(handlers.get(offer.name), offer.descriptor):
            placed.append(attrs.evolve(offer, capability=handlers[offer.name]))
        else:
            faults.append(_fault(offer, broken[0].sentence if broken else _DIFFERS))
    return placed, faults


def _is_the_same(imported: Capability | None, said: Descriptor) -> bool:
    """Whether what was imported here is what the worker has described."""
    return imported is not None and imported.descriptor(said.distribution, said.version) == said


# -- what the owner wants -----------------------------------------------------------------------


def _settled(offer: Offer, wishes: Wishes) -> Offer | Fault:
    """The offer as the owner configured it, or why it is none."""
    if wishes.switched_off(offer.name):
        return _fault(offer, SWITCHED_OFF, by_owner=True)
    try:
        settings = settings_of(offer.descriptor, wishes.settings.get(offer.name, {}))
    except SettingsInvalid as error:
        return _fault(offer, f"{error.field}: {error.problem}.")
    return attrs.evolve(offer, settings=settings)


def _fault(offer: Offer, sentence: str, *, by_owner: bool = False) -> Fault:
    said = offer.descriptor
    return Fault(offer.name, said.distribution, said.version, sentence, by_owner, offer)


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(
        name == each or (each.endswith(".*") and name.startswith(each[:-1])) for each in patterns
    )
