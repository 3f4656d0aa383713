"""The roster: every device in the order in which it is listed, kept in order while they change."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from operator import attrgetter

import attrs

from palyra.core.devices import Device, DeviceState, PresenceState
from palyra.core.expressions import Facts
from palyra.core.identifiers import DeviceId, as_prefix, has_prefix, is_ulid
from palyra.core.selection import parse
from palyra.errors import Malformed
from palyra.gateway.inventory import Inventory
from palyra.gateway.presence import PresenceBoard

TRUST = {"trusted": DeviceState.PAIRED, "revoked": DeviceState.REVOKED}
"""What a list may be narrowed to, and the state it means."""
_RANKS = {PresenceState.ONLINE: 0, PresenceState.STALE: 1, PresenceState.OFFLINE: 2}

Place = tuple[int, str, str]
"""Where a device stands: rank of its presence, name, id."""


@attrs.frozen
class Entry:
    """One device: its place, what an expression sees of it, and the text a search looks in."""

    place: Place
    device: Device
    facts: Facts
    text: str


Test = Callable[[Entry], bool]
_PLACE = attrgetter("place")


@attrs.frozen
class Wish:
    """Which devices to list; an empty text does not filter.

    ``where`` is a targeting expression, which only trusted devices match unless ``trust`` says
    otherwise; ``search`` is what :meth:`Roster.found` looks for.
    """

    where: str = ""
    search: str = ""
    trust: str = ""


@attrs.frozen
class RosterPage:
    """Some devices in their order, where the next ones begin, and how many there are in all.

    ``total`` is None under an expression, where counting would ask every device.
    """

    devices: list[Device]
    cursor: str | None
    total: int | None


class Roster:
    """Every device that was not removed: online first, then stale, then offline, each by name.

    A page costs what is on it, a change the way to one place.  ``watchers`` hear of each device
    that changed, when the roster knows of it.
    """

    def __init__(self, inventory: Inventory, board: PresenceBoard) -> None:
        self._inventory = inventory
        self._board = board
        self.watchers: list[Callable[[DeviceId], object]] = []
        self._entries = {device.device_id: self._entry(device) for device in inventory.devices()}
        self._order = sorted(self._entries.values(), key=_PLACE)
        self._counts = [0, 0, 0]
        for entry in self._order:
            self._counts[entry.place[0]] += 1
        inventory.watchers.append(self._changed)
        board.watchers.append(self._changed)

    def __len__(self) -> int:
        return len(self._order)

    def count(self, presence: PresenceState) -> int:
        """How many devices are so."""
        return self._counts[_RANKS[presence]]

    def page(self, wish: Wish, limit: int, cursor: str | None) -> RosterPage:
        """At most ``limit`` devices behind ``cursor``, which a page before gave.

        A cursor is a place and not a number: devices that come online before it or leave it
        neither repeat nor hide those behind it.

        :raises Malformed: the cursor is none, or the wish names no trust.
        :raises ExpressionInvalid: ``where`` is none.
        """
        after = None if cursor is None else _place(cursor)
        tests = self._tests(wish)
        if wish.where:
            rest = islice(self._order, _behind(self._order, after), None)
            shown, total = list(islice(_matching(rest, tests), limit + 1)), None
        else:
            known = list(_matching(self._order, tests)) if tests else self._order
            begin = _behind(known, after)
            shown, total = known[begin : begin + limit + 1], len(known)
        more = len(shown) > limit
        return RosterPage(
            devices=[entry.device for entry in shown[:limit]],
            cursor=_cursor(shown[limit - 1].place) if more else None,
            total=total,
        )

    # -- which ------------------------------------------------------------------------------------

    def _tests(self, wish: Wish) -> list[Test]:
        """The cheap ones first."""
        tests = []
        if wish.trust or wish.where:
            tests.append(_of_trust(wish.trust or "trusted"))
        tests += [_finds(word) for word in wish.search.lower().split()]
        if wish.where:
            matches = parse(wish.where, "where").matches
            tests.append(lambda entry: matches(entry.facts))
        return tests

    # -- what changes -----------------------------------------------------------------------------

    def _changed(self, device_id: DeviceId) -> None:
        device = self._inventory.device(device_id)
        before = self._entries.pop(device_id, None)
        after = None if device is None else self._entry(device, before)
        if after is not None:
            self._entries[device_id] = after
        elif before is None:
            return
        if after is not before:
            self._replace(before, after)
        for watcher in self.watchers:
            watcher(device_id)

    def _replace(self, before: Entry | None, after: Entry | None) -> None:
        if before is not None:
            del self._order[bisect_left(self._order, before.place, key=_PLACE)]
            self._counts[before.place[0]] -= 1
        if after is not None:
            insort(self._order, after, key=_PLACE)
            self._counts[after.place[0]] += 1

    def _entry(self, device: Device, before: Entry | None = None) -> Entry:
        """The entry of a device; the one it had where nothing changed that is listed by."""
        presence = self._board.state(device.device_id)
        place = (_RANKS[presence], device.name, device.device_id)
        if before is not None and before.device is device and before.place == place:
            return before
        return Entry(place, device, Facts.of(device, presence), _text(device))


def _behind(entries: Sequence[Entry], after: Place | None) -> int:
    """Where what stands behind a place begins."""
    return 0 if after is None else bisect_right(entries, after, key=_PLACE)


def _matching(entries: Iterable[Entry], tests: Iterable[Test]) -> Iterator[Entry]:
    """Those that pass every test, as they are asked for."""
    for test in tests:
        entries = filter(test, entries)
    return iter(entries)


def _text(device: Device) -> str:
    """What a search looks in: the name, and each label as it is written."""
    labels = (f"{key}={value}" if value else key for key, value in device.labels.items())
    return "\n".join((device.name, *labels)).lower()


def _finds(word: str) -> Test:
    """A part of the name or of a label ``key=value``, the id, or its random part's beginning."""
    prefix, whole = as_prefix(word), word.upper()
    if prefix is None and not is_ulid(whole):
        return lambda entry: word in entry.text
    return lambda entry: (
        word in entry.text
        or entry.device.device_id == whole
        or (prefix is not None and has_prefix(entry.device.device_id, prefix))
    )


def _of_trust(text: str) -> Test:
    state = TRUST.get(text)
    if state is None:
        raise Malformed("trust", f"must be one of {', '.join(TRUST)}")
    return lambda entry: entry.device.state is state


def _cursor(place: Place) -> str:
    rank, name, device_id = place
    return f"{rank}{device_id}{name}"


def _place(cursor: str) -> Place:
    """The place that a cursor names; Malformed where it is none."""
    rank, device_id, name = cursor[:1], cursor[1:27], cursor[27:]
    if rank not in ("0", "1", "2") or not is_ulid(device_id):
        raise Malformed("cursor", "is not one that a list gave")
    return int(rank), name, device_id
