"""What this node offers: the capabilities that can be run, where each runs, and what cannot be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

import attrs

from palyra.capability.descriptor import Capability
from palyra.core.descriptors import Descriptor, descriptor_digest
from palyra.core.devices import MAX_CAPABILITIES, AnnouncedCapability


@attrs.frozen(slots=True)
class Offer:
    """A capability that can be run.  With ``capability`` it runs in a thread of this process, else
    in a worker of its distribution.

    ``settings`` is the JSON that its handler is given; it may hold secrets.
    """

    descriptor: Descriptor
    capability: Capability | None = None
    settings: bytes = attrs.field(default=b"", repr=False)
    raw: bytes = attrs.field(init=False, repr=False, eq=False)
    digest: str = attrs.field(init=False, eq=False)
    contract: str = attrs.field(init=False, eq=False)

    @raw.default
    def _encoded(self) -> bytes:
        return self.descriptor.encode()

    @digest.default
    def _digested(self) -> str:
        return descriptor_digest(self.raw)

    @contract.default
    def _contract(self) -> str:
        return self.descriptor.contract()

    @property
    def name(self) -> str:
        """The name it is called by."""
        return self.descriptor.name


@attrs.frozen(slots=True)
class Fault:
    """A capability or a whole plugin that cannot be used, and why.

    ``name`` is the capability's name, or the entry point's where no descriptor was seen.
    ``by_owner``: nothing is wrong with it, the device's owner has switched it off.  With ``offer``
    it would be that capability, were it not for the fault.
    """

    name: str
    distribution: str
    version: str
    sentence: str
    by_owner: bool = False
    offer: Offer | None = None


class Catalogue:
    """What a node offers.  Immutable; a reload makes another one.

    Two distributions, one name: neither is run, for nobody can say which one was granted.
    """

    def __init__(self, offers: Iterable[Offer], faults: Iterable[Fault] = ()) -> None:
        known, fights = _settle_names(offers)
        self._offers = MappingProxyType(dict(sorted(known.items())))
        self._faults = (*faults, *fights)
        known_of = [each.offer for each in self._faults if each.offer is not None]
        self._by_digest = {each.digest: each.raw for each in (*known_of, *self._offers.values())}

    @property
    def offers(self) -> Mapping[str, Offer]:
        """What can be run, by name, in the order of names."""
        return self._offers

    @property
    def faults(self) -> tuple[Fault, ...]:
        """What cannot be used."""
        return self._faults

    @property
    def broken(self) -> tuple[Fault, ...]:
        """What cannot be used although its owner wants it to be."""
        return tuple(each for each in self._faults if not each.by_owner)

    def descriptor(self, digest: str) -> bytes | None:
        """The bytes of a descriptor of ours."""
        return self._by_digest.get(digest)

    def announced(self) -> tuple[AnnouncedCapability, ...]:
        """Every name once, as the gateway is told: what can be run, then what is broken; no more
        than a gateway takes."""
        broken: dict[str, AnnouncedCapability] = {}
        for fault in self._faults:
            if fault.name not in self._offers:
                broken.setdefault(fault.name, _broken(fault))
        whole = (*map(_offered, self._offers.values()), *broken.values())
        return whole[:MAX_CAPABILITIES]


def _offered(offer: Offer) -> AnnouncedCapability:
    said = offer.descriptor
    return AnnouncedCapability(
        name=said.name,
        digest=offer.digest,
        version=said.version,
        risk=said.risk,
        needs_mediation=said.needs_mediation,
        idempotent=said.idempotent,
        timeout_ms=said.timeout_ms,
        contract=offer.contract,
    )


def _broken(fault: Fault) -> AnnouncedCapability:
    if fault.offer is None:
        return AnnouncedCapability(fault.name, available=False, risk="medium", fault=fault.sentence)
    sentence = "" if fault.by_owner else fault.sentence  # nothing is wrong with it
    return attrs.evolve(_offered(fault.offer), available=False, fault=sentence)


# -- names that are offered twice ---------------------------------------------------------------


def _settle_names(offers: Iterable[Offer]) -> tuple[dict[str, Offer], list[Fault]]:
    by_name: dict[str, list[Offer]] = {}
    for offer in offers:
        by_name.setdefault(offer.name, []).append(offer)
    unique = {name: group[0] for name, group in by_name.items() if len(group) == 1}
    fights = [
        Fault(name, mine.descriptor.distribution, mine.descriptor.version, _rivalry(mine, group))
        for name, group in by_name.items()
        if len(group) > 1
        for mine in group
    ]
    return unique, fights


def _rivalry(mine: Offer, group: list[Offer]) -> str:
    said = mine.descriptor
    rivals = sorted({each.descriptor.distribution for each in group} - {said.distribution})
    if not rivals:
        return f"{said.distribution} offers this name {len(group)} times."
    return f"{' and '.join(rivals)} offers the same name; uninstall one of them."
