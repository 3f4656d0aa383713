"""The descriptors that the gateway knows: of the capabilities that come with it, and of those that
devices have described.

A device says the digest of each descriptor.  One that is not known is asked for once, whichever
device announces it first, and is checked before it is kept.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Hashable, Mapping
from functools import cache
from itertools import islice

import attrs
import msgspec
from twisted.logger import Logger

from palyra.capability.catalogue import Catalogue
from palyra.capability.registry import load_here, own_points
from palyra.core.descriptorlog import IDescriptorLog
from palyra.core.descriptors import Descriptor, decode_descriptor, descriptor_digest
from palyra.core.devices import MAX_CAPABILITIES, AnnouncedCapability, Device
from palyra.core.schemas import Checker, check_profile
from palyra.errors import Malformed
from palyra.gateway.announced import Announced
from palyra.gateway.inventory import Inventory

MAX_KEPT = 8_192
"""Descriptors of devices that are kept at once; what comes beyond stays undescribed."""
MAX_KEPT_BYTES = 64 * 1024 * 1024
MAX_READY = 512
"""Descriptors that are kept decoded."""
MAX_REFUSED = 4_096
KEEP_MS = 7 * 86_400_000
"""How long a descriptor is kept that no device announces."""
_FIELD = "descriptor"


@attrs.define(eq=False)
class Known:
    """A descriptor that was checked."""

    digest: str
    descriptor: Descriptor
    contract: str
    _checker: Checker | None = attrs.field(default=None, init=False)

    @property
    def checker(self) -> Checker:
        """Finds what is wrong with inputs; made when it is first asked for."""
        if self._checker is None:
            self._checker = Checker(self.descriptor.input_schema)
        return self._checker


class _Named(msgspec.Struct):
    """As much of a descriptor as lists are in order by."""

    name: str


_named = msgspec.json.Decoder(_Named)


@cache
def own() -> Mapping[str, Known]:
    """The descriptors of this installation's own capabilities, by digest.

    Nobody else's plugin is imported: the gateway runs no code that devices offer.
    """
    offers = Catalogue(*load_here(own_points())).offers.values()
    return {each.digest: Known(each.digest, each.descriptor, each.contract) for each in offers}


class Descriptors:
    """Every descriptor that is known here, shared by all devices."""

    _log = Logger()

    def __init__(self, *, log: IDescriptorLog, inventory: Inventory) -> None:
        self._store = log
        self._announced = Announced(inventory)
        self._kept: dict[str, bytes] = {}
        self._bytes = 0
        self._ready: dict[str, Known] = {}
        self._order = sorted((each.descriptor.name, each.digest) for each in own().values())
        self._checked: set[str] = set()
        """Those of the kept whose schemas were checked since the start."""
        self._refused: dict[Hashable, None] = {}
        self._full = False

    async def load(self) -> None:
        """Take over what is on record.  Each is read when it is first asked for."""
        for digest, data in (await self._store.descriptors()).items():
            self._add(digest, data, _named.decode(data).name)

    # -- what is known ----------------------------------------------------------------------------

    def of(self, digest: str) -> Known | None:
        """The descriptor of that digest; None where nobody has described it."""
        known = own().get(digest) or self._ready.get(digest)
        if known is not None or digest not in self._kept:
            return known
        try:
            read = decode_descriptor if digest in self._checked else _read
            return self._make_ready(digest, read(self._kept[digest]))
        except Malformed as error:  # an older version took it
            self._log.warn("a descriptor on record: {why}", why=error.sentence)
            return None

    def devices(self, digest: str) -> int:
        """How many devices announce it."""
        return self._announced.devices(digest)

    def listed(self, name: str, after: tuple[str, str] | None, limit: int) -> list[tuple[str, str]]:
        """Names and digests in their order, at most ``limit``, behind ``after``; of one name
        alone, or of every one (empty)."""
        begin = 0 if after is None else bisect_right(self._order, after)
        if not name:
            return self._order[begin : begin + limit]
        begin = max(begin, bisect_left(self._order, (name, "")))
        return [each for each in islice(self._order, begin, begin + limit) if each[0] == name]

    # -- what devices describe --------------------------------------------------------------------

    def believed(self, offered: tuple[AnnouncedCapability, ...]) -> tuple[AnnouncedCapability, ...]:
        """What a device offers; where its descriptor is known and says otherwise, that counts."""
        return tuple(map(self._believed, offered))

    def _believed(self, item: AnnouncedCapability) -> AnnouncedCapability:
        known = self.of(item.digest)
        if known is None or _is_same(item, known):
            return item
        said = known.descriptor
        if item.name != said.name:
            return attrs.evolve(item, digest="")
        return attrs.evolve(
            item,
            risk=said.risk,
            needs_mediation=item.needs_mediation or said.needs_mediation,
            idempotent=item.idempotent and said.idempotent,
            contract=known.contract,
        )

    def unknown(self, device: Device) -> tuple[str, ...]:
        """The digests that a device is to be asked for."""
        if self._is_full():
            return ()
        asked = (each.digest for each in device.capabilities if each.available and each.contract)
        distinct = dict.fromkeys(digest for digest in asked if _is_digest(digest))
        return tuple(
            islice((each for each in distinct if self._is_wanted(device, each)), MAX_CAPABILITIES)
        )

    def check(self, device: Device, data: bytes) -> tuple[str, Descriptor]:
        """The digest of what a device says, and the descriptor that it is.

        :raises Malformed: it is none, or not of a capability that this device announces.
        """
        digest = descriptor_digest(data)
        announced = next((each for each in device.capabilities if each.digest == digest), None)
        if announced is None:
            raise Malformed(_FIELD, "is of no capability that this device announces")
        try:
            said = _read(data)
        except Malformed:
            self._refuse(digest)
            raise
        if not _is_same(announced, Known(digest, said, said.contract())):
            self._refuse((device.device_id, digest))
            raise Malformed(_FIELD, f"is not what {announced.name} was announced as")
        return digest, said

    async def keep(self, checked: Mapping[str, tuple[bytes, Descriptor]], now_ms: int) -> None:
        """Keep descriptors that were checked, by digest.

        :raises palyra.errors.PalyraError: the store could not; nothing is known of them.
        """
        fitting: dict[str, bytes] = {}
        room, space = MAX_KEPT - len(self._kept), MAX_KEPT_BYTES - self._bytes
        for digest, (data, _) in checked.items():
            if self.of(digest) is None and len(fitting) < room and len(data) <= space:
                fitting[digest] = data
                space -= len(data)
        if not fitting:
            return
        await self._store.keep_descriptors(fitting, now_ms)
        for digest, data in fitting.items():
            said = checked[digest][1]
            self._add(digest, data, said.name)
            self._make_ready(digest, said)

    async def sweep(self, now_ms: int) -> None:
        """Forget what no device has announced for long; where room is short, what none does now."""
        keep_ms = 0 if self._is_full() else KEEP_MS
        for digest in await self._store.forget_descriptors(now_ms - keep_ms):
            self._drop(digest)

    # -- inside -----------------------------------------------------------------------------------

    def _is_wanted(self, device: Device, digest: str) -> bool:
        refused = digest in self._refused or (device.device_id, digest) in self._refused
        return not refused and digest not in self._kept and digest not in own()

    def _is_full(self) -> bool:
        full = len(self._kept) >= MAX_KEPT or self._bytes >= MAX_KEPT_BYTES
        if full and not self._full:
            self._log.warn(
                "{n} descriptors are kept; further capabilities stay undescribed", n=len(self._kept)
            )
        self._full = full
        return full

    def _refuse(self, key: Hashable) -> None:
        """Do not ask for it again; beyond so many, what was refused first may be asked again."""
        self._refused[key] = None
        if len(self._refused) > MAX_REFUSED:
            del self._refused[next(iter(self._refused))]

    def _add(self, digest: str, data: bytes, name: str) -> None:
        if digest not in self._kept and digest not in own():
            self._kept[digest] = data
            self._bytes += len(data)
            insort(self._order, (name, digest))

    def _make_ready(self, digest: str, said: Descriptor) -> Known:
        self._checked.add(digest)
        known = self._ready[digest] = Known(digest, said, said.contract())
        if len(self._ready) > MAX_READY:
            del self._ready[next(iter(self._ready))]
        return known

    def _drop(self, digest: str) -> None:
        data = self._kept.pop(digest, None)
        if data is not None:
            self._bytes -= len(data)
            self._ready.pop(digest, None)
            self._checked.discard(digest)
            del self._order[bisect_left(self._order, (_named.decode(data).name, digest))]


def _read(data: bytes) -> Descriptor:
    """A descriptor whose schemas keep the profile.

    :raises Malformed: it is none.
    """
    said = decode_descriptor(data)
    check_profile(said.input_schema, "descriptor.input_schema")
    check_profile(said.output_schema, "descriptor.output_schema")
    if said.settings_schema is not None:
        check_profile(said.settings_schema, "descriptor.settings_schema")
    return said


def _is_same(announced: AnnouncedCapability, known: Known) -> bool:
    """Whether a capability was announced as what it is: rules and grants look at no more.

    A person may be asked although the capability needs nobody: that is the device owner's rule.
    """
    said = known.descriptor
    return (
        announced.name == said.name
        and announced.risk == said.risk
        and announced.needs_mediation >= said.needs_mediation
        and announced.idempotent == said.idempotent
        and announced.contract == known.contract
    )


def _is_digest(text: str) -> bool:
    return len(text) == 64 and not text.strip("0123456789abcdef")
