"""What a worker says of its distribution: descriptors of what can be run, faults of the rest."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from palyra.capability.catalogue import Fault
from palyra.capability.descriptor import Capability
from palyra.capability.frames import VERSION, PluginFault, Ready
from palyra.capability.registry import Plugin, load_plugin, points_of
from palyra.capability.wording import exception_sentence, one_line
from palyra.core.descriptors import MAX_NAME, Descriptor, decode_descriptor
from palyra.errors import PalyraError

MAX_CAPABILITIES = 256
MAX_FAULTS = 256
_MAX_SENTENCE = 512


@attrs.frozen
class Loaded:
    """A distribution that was imported; each capability has its descriptor at the same place."""

    capabilities: tuple[Capability, ...]
    descriptors: tuple[Descriptor, ...]
    faults: tuple[PluginFault, ...]

    def frame(self) -> Ready:
        """The first frame of a worker."""
        return Ready(VERSION, self.descriptors, self.faults)


def load_distribution(name: str, explain: Callable[[BaseException], str]) -> Loaded:
    """Import all plugins of a distribution into this process.

    What cannot be imported, described or sent is a fault; ``explain`` may know more of what one
    raised while it was imported.
    """
    good: list[tuple[Capability, Descriptor]] = []
    faults: list[PluginFault] = []
    try:
        points = points_of(name)
    except Exception as exc:  # also metadata that cannot be read
        points = []
        faults.append(_fault(name, f"{name} is not installed here ({exception_sentence(exc)})."))
    for point in points:
        loaded = load_plugin(point, explain)
        if isinstance(loaded, Plugin):
            faults += map(_told, loaded.faults)
            _describe(loaded, good, faults)
        else:
            faults.append(_told(loaded))
    if len(good) > MAX_CAPABILITIES:
        many = f"{name} offers {len(good)} capabilities; those after {MAX_CAPABILITIES} are left."
        faults.insert(0, _fault(name, many))
    if len(faults) > MAX_FAULTS:
        more = f"{len(faults) - MAX_FAULTS + 1} more faults of {name} are not shown."
        faults[MAX_FAULTS - 1 :] = [_fault(name, more)]
    kept = good[:MAX_CAPABILITIES]
    return Loaded(tuple(each for each, _ in kept), tuple(each for _, each in kept), tuple(faults))


def _describe(
    plugin: Plugin, good: list[tuple[Capability, Descriptor]], faults: list[PluginFault]
) -> None:
    for capability in plugin.capabilities:
        try:
            descriptor = capability.descriptor(plugin.distribution, plugin.version)
            decode_descriptor(descriptor.encode())
        except PalyraError as exc:
            faults.append(_fault(capability.name, exc.sentence))
        except Exception as exc:  # examples and defaults in a schema may be anything
            faults.append(_fault(capability.name, exception_sentence(exc)))
        else:
            good.append((capability, descriptor))


def _told(fault: Fault) -> PluginFault:
    return _fault(fault.name, fault.sentence)


def _fault(name: str, sentence: str) -> PluginFault:
    return PluginFault(one_line(name, MAX_NAME) or "unnamed", one_line(sentence, _MAX_SENTENCE))
