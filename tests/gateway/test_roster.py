"""The roster: every device in its place, however they come, go and change."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock

from palyra.core.devices import Device, DeviceState, PresenceState
from palyra.core.identifiers import DeviceId
from palyra.errors import ExpressionInvalid, Malformed
from palyra.gateway.inventory import Inventory
from palyra.gateway.presence import PresenceBoard
from palyra.gateway.roster import Roster, Wish
from palyra.pki.trust import ChainVerifier
from tests.store.samples import a_code, a_device, a_request, approved

ALL = Wish()
S = PresenceState


class Listed:
    """A roster on a board and an inventory that a test changes."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.inventory = Inventory(ChainVerifier([], "palyra.test"))
        self.board = PresenceBoard(
            self.clock,
            elapsed_ms=lambda: int(self.clock.seconds() * 1000),
            now_ms=lambda: int(self.clock.seconds() * 1000),
            silent=lambda device_id: self.board.closed(device_id),
        )
        self.roster = Roster(self.inventory, self.board)

    def put(self, name: str, **changes: object) -> Device:
        """A device of that name."""
        device = a_device(approved(a_request(name, a_code())))
        kept = attrs.evolve(device, name=name, **changes)  # type: ignore[arg-type]
        self.inventory.put(kept)
        return kept

    def names(self, wish: Wish = ALL) -> list[str]:
        """All that fit, in their order."""
        return [device.name for device in self.roster.page(wish, 500, None).devices]


@pytest.fixture
def listed() -> Listed:
    """An empty roster."""
    return Listed()


def test_devices_stand_by_presence_and_name(listed: Listed) -> None:
    """Online first, then offline, each by name; a device moves when its state does."""
    devices = {name: listed.put(name) for name in ("c", "a", "b")}
    listed.board.registered(devices["b"].device_id, version_one=False)
    assert listed.names() == ["b", "a", "c"]
    listed.board.expelled(devices["b"].device_id)
    assert listed.names() == ["a", "b", "c"]
    listed.inventory.put(attrs.evolve(devices["a"], name="z"))
    assert listed.names() == ["b", "c", "z"]


def test_a_roster_of_what_is_loaded_already(listed: Listed) -> None:
    """It takes over what is there."""
    for name in ("b", "a"):
        listed.put(name)
    again = Roster(listed.inventory, listed.board)
    assert [device.name for device in again.page(ALL, 9, None).devices] == ["a", "b"]
    assert again.count(S.OFFLINE) == len(again) == 2


def test_a_page_goes_on_where_the_last_one_ended(listed: Listed) -> None:
    """Devices that come online before it, or leave it, neither repeat nor hide the next ones."""
    devices = [listed.put(f"n{number}") for number in range(6)]
    first = listed.roster.page(ALL, 2, None)
    assert first.cursor is not None and first.total == 6
    for moving in devices[:3]:
        listed.board.registered(moving.device_id, version_one=False)
    second = listed.roster.page(ALL, 2, first.cursor)
    assert [device.name for device in second.devices] == ["n3", "n4"]
    last = listed.roster.page(ALL, 2, second.cursor)
    assert [device.name for device in last.devices] == ["n5"] and last.cursor is None


@pytest.mark.parametrize("cursor", ["", "7", "0x", "3" + 26 * "7" + "pi", "0" + 26 * "!"])
def test_a_cursor_that_no_list_gave(listed: Listed, cursor: str) -> None:
    """It is refused."""
    with pytest.raises(Malformed):
        listed.roster.page(ALL, 2, cursor)


def test_words_are_looked_for(listed: Listed) -> None:
    """Each word is a part of the name or of a label, or an id or the beginning of its random part;
    all of them must fit."""
    pi = listed.put("pi-lab", labels={"site": "Prague", "lab": ""})
    listed.put("nas", labels={"site": "brno"})
    for search in (
        "lab", "PI", "site=prague", "PRAG lab", pi.device_id.lower(), pi.device_id[10:14],
    ):  # fmt: skip
        assert listed.names(Wish(search=search)) == ["pi-lab"], search
    assert listed.names(Wish(search="site=")) == ["nas", "pi-lab"]
    assert listed.names(Wish(search="pi brno")) == []
    assert listed.roster.page(Wish(search="a"), 1, None).total == 2


def test_expressions_are_for_trusted_devices(listed: Listed) -> None:
    """Unless others are asked for; how many there are in all is not counted then."""
    listed.put("pi")
    listed.put("gone", state=DeviceState.REVOKED)
    assert listed.names() == ["gone", "pi"]
    assert listed.names(Wish(where="all")) == ["pi"]
    assert listed.names(Wish(where="name = gone", trust="revoked")) == ["gone"]
    assert listed.names(Wish(trust="trusted")) == ["pi"]
    assert listed.names(Wish(where="presence = offline", search="p")) == ["pi"]
    assert listed.roster.page(Wish(where="all"), 5, None).total is None
    first = listed.roster.page(Wish(trust="trusted"), 5, None)
    assert (first.total, first.cursor) == (1, None)


def test_expressions_are_paged(listed: Listed) -> None:
    """A page of what matches goes on where the last one ended."""
    for number in range(5):
        listed.put(f"n{number}")
    first = listed.roster.page(Wish(where="not name = n1"), 2, None)
    second = listed.roster.page(Wish(where="not name = n1"), 2, first.cursor)
    assert [each.name for each in first.devices + second.devices] == ["n0", "n2", "n3", "n4"]
    assert second.cursor is None


def test_what_means_nothing_is_refused(listed: Listed) -> None:
    """A trust that there is not, and what is no expression, also without any device."""
    with pytest.raises(Malformed):
        listed.names(Wish(trust="pending"))
    with pytest.raises(ExpressionInvalid):
        listed.names(Wish(where="site ="))


def test_watchers_hear_when_the_roster_knows(listed: Listed) -> None:
    """Of what is put, of its presence and of its end; not of what was never there."""
    heard: list[tuple[DeviceId, int]] = []
    listed.roster.watchers.append(lambda device_id: heard.append((device_id, len(listed.roster))))
    pi = listed.put("pi")
    listed.board.registered(pi.device_id, version_one=False)
    assert heard == [(pi.device_id, 1), (pi.device_id, 1)]
    listed.board.registered(DeviceId("01M80NKQCNX4K7QM2ZT9B3FVHD"), version_one=False)
    assert len(heard) == 2


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("abcdef"), st.sampled_from(["put", "name", "on", "off", "drop"])),
        max_size=40,
    )
)
def test_the_order_is_that_of_sorting_anew(changes: list[tuple[str, str]]) -> None:
    """However devices change: the same places and counts as of a roster that is made then."""
    listed = Listed()
    kept: dict[str, Device] = {}
    for key, what in changes:
        if what == "put" or key not in kept:
            kept[key] = listed.put(key)
        elif what == "name":
            kept[key] = attrs.evolve(kept[key], name=f"x{key}")
            listed.inventory.put(kept[key])
        elif what == "on":
            listed.board.registered(kept[key].device_id, version_one=False)
        elif what == "off":
            listed.board.expelled(kept[key].device_id)
        else:
            listed.inventory.put(attrs.evolve(kept[key], state=DeviceState.REVOKED))
    anew = Roster(listed.inventory, listed.board)
    assert anew.page(ALL, 99, None).devices == listed.roster.page(ALL, 99, None).devices
    for state in S:
        assert anew.count(state) == listed.roster.count(state)
