"""The descriptors that a gateway knows."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator

import attrs
import pytest
from twisted.internet.defer import Deferred

from palyra.capability.catalogue import Catalogue
from palyra.capability.hookspecs import ENTRY_POINT_GROUP
from palyra.capability.registry import load_here, own_points
from palyra.core.descriptors import Descriptor, descriptor_digest
from palyra.core.devices import Device
from palyra.errors import Malformed
from palyra.gateway import descriptors as room
from palyra.gateway.capabilitycontrol import CapabilityControl
from palyra.gateway.descriptors import KEEP_MS, own
from tests.gateway.described import a_descriptor, announced, faulty
from tests.gateway.house import House, result_of

LAMP = a_descriptor()
SIZE = len(LAMP.encode())


@pytest.fixture
def house() -> Iterator[House]:
    made = House()
    yield made
    made.end()


def offering(house: House, *said: Descriptor, name: str = "pi") -> Device:
    """A device that announces these."""
    return house.device(name, tuple(map(announced, said)))


def described(house: House, device: Device, *said: Descriptor) -> None:
    """The device describes them."""
    checked = {}
    for each in said:
        data = each.encode()
        digest, read = house.descriptors.check(device, data)
        checked[digest] = data, read
    result_of(Deferred.fromCoroutine(house.descriptors.keep(checked, house.now_ms())))


def digest_of(said: Descriptor) -> str:
    return descriptor_digest(said.encode())


# -- its own ------------------------------------------------------------------------------------


def test_its_own_capabilities_are_known_with_their_schemas(house: House) -> None:
    """Each by name, with what a page needs to ask for its input."""
    control = CapabilityControl(descriptors=house.descriptors)
    listed = result_of(control.capabilities(50, None)).capabilities
    names = [each.name for each in listed]
    assert names == sorted(names)
    assert {"echo", "system.health", "desktop.open_url", "desktop.open_path"} <= set(names)
    (open_url,) = [each for each in listed if each.name == "desktop.open_url"]
    assert (open_url.risk, open_url.needs_mediation, open_url.timeout_ms) == (
        "medium",
        True,
        30_000,
    )
    assert open_url.distribution == "palyra" and open_url.version
    assert open_url.input_schema["$defs"]["OpenUrl"]["required"] == ["url"]


def test_a_digest_is_the_one_that_a_node_announces(house: House) -> None:
    """A device with the same capability is recognized by it, and not asked for its descriptor."""
    offered = Catalogue(*load_here(own_points())).announced()
    announced_here = {each.digest: each.name for each in offered if each.digest}
    assert {digest: each.descriptor.name for digest, each in own().items()} == announced_here
    assert house.descriptors.unknown(house.device("pi", offered)) == ()


class Foreign:
    """An entry point of somebody else's package, which must not be loaded."""

    name = "foreign"
    dist = attrs.make_class("Distribution", {"name": attrs.field(default="palyra-foreign")})()

    def load(self) -> object:
        raise AssertionError("it was imported")


def test_no_other_plugin_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway runs no code that devices offer, whatever is installed beside it."""
    installed = importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [*installed, Foreign()])
    own.cache_clear()
    assert "foreign" not in [each.descriptor.name for each in own().values()]


# -- those of devices ---------------------------------------------------------------------------


def test_what_is_not_known_is_asked_for_once(house: House) -> None:
    """From whoever announces it first; what cannot be run is not asked for."""
    first = house.device("pi", (announced(LAMP), faulty("acme.broken")))
    second = offering(house, LAMP, name="nas")
    assert house.descriptors.unknown(first) == (digest_of(LAMP),)
    described(house, first, LAMP)
    assert house.descriptors.unknown(second) == ()
    known = house.descriptors.of(digest_of(LAMP))
    assert known is not None and known.descriptor == LAMP and known.contract == LAMP.contract()
    assert house.descriptors.of(digest_of(a_descriptor("other"))) is None


def test_descriptors_outlive_the_gateway(house: House) -> None:
    """After a start nobody is asked again."""
    device = offering(house, LAMP)
    described(house, device, LAMP)
    house.restart()
    known = house.descriptors.of(digest_of(LAMP))
    assert known is not None and known.descriptor == LAMP
    assert house.descriptors.unknown(device) == ()


def test_a_digest_that_is_none_is_not_asked_for(house: House) -> None:
    """What a device calls a digest goes into no answer as it is."""
    device = house.device(
        "pi", (announced(LAMP, digest="../x"), announced(a_descriptor("b"), contract=""))
    )
    assert house.descriptors.unknown(device) == ()


@pytest.mark.parametrize(
    "changes",
    [{"risk": "low"}, {"idempotent": True}, {"contract": "0" * 64}],
)
def test_a_descriptor_must_be_what_was_announced(house: House, changes: dict[str, object]) -> None:
    """Rules and grants look at what is announced: it may not say less than the descriptor."""
    device = house.device("pi", (announced(LAMP, **changes),))
    with pytest.raises(Malformed):
        house.descriptors.check(device, LAMP.encode())
    assert house.descriptors.unknown(device) == ()
    honest = offering(house, LAMP, name="nas")
    assert house.descriptors.unknown(honest) == (digest_of(LAMP),)


def test_its_owner_may_want_a_person_to_be_asked(house: House) -> None:
    """A capability may be announced as one that asks where its plugin would not; that it asks
    nobody where its plugin wants so may not be announced."""
    more = house.device("pi", (announced(LAMP, needs_mediation=True),))
    digest, _ = house.descriptors.check(more, LAMP.encode())
    assert digest == digest_of(LAMP)
    asking = a_descriptor(needs_mediation=True)
    less = house.device("nas", (announced(asking, needs_mediation=False),))
    with pytest.raises(Malformed):
        house.descriptors.check(less, asking.encode())


def test_a_descriptor_of_nothing_is_refused(house: House) -> None:
    """A device describes its own capabilities alone."""
    device = offering(house, LAMP)
    with pytest.raises(Malformed):
        house.descriptors.check(device, a_descriptor("other").encode())


@pytest.mark.parametrize("field", ["input_schema", "output_schema", "settings_schema"])
def test_schemas_outside_the_profile_are_refused(house: House, field: str) -> None:
    """Whatever would read something from elsewhere, or could take for ever."""
    said = a_descriptor(**{field: {"$ref": "https://example.org/schema"}})
    device = offering(house, said)
    with pytest.raises(Malformed) as caught:
        house.descriptors.check(device, said.encode())
    assert caught.value.field.startswith(f"descriptor.{field}")
    assert house.descriptors.unknown(device) == ()


def test_a_record_that_is_no_descriptor_any_more(house: House) -> None:
    """An older version took it: it is left, and whoever offers it stays undescribed."""
    said = a_descriptor(input_schema={"$ref": "https://example.org/schema"})
    digest = digest_of(said)
    result_of(house.store.keep_descriptors({digest: said.encode()}, house.now_ms()))
    house.restart()
    assert house.descriptors.of(digest) is None
    control = CapabilityControl(descriptors=house.descriptors)
    assert result_of(control.capabilities(50, None, said.name)).capabilities == []


def test_inputs_are_checked_by_it(house: House) -> None:
    """What is made of a schema is made once."""
    described(house, offering(house, LAMP), LAMP)
    known = house.descriptors.of(digest_of(LAMP))
    assert known is not None
    assert known.checker is known.checker
    assert not known.checker.faults({"path": "/x"})
    assert [each.field for each in known.checker.faults({})] == ["input.path"]


def test_who_announces_it_is_counted(house: House) -> None:
    """Devices that are gone, or offer something else, are not."""
    pi, nas = offering(house, LAMP), offering(house, LAMP, name="nas")
    assert house.descriptors.devices(digest_of(LAMP)) == 2
    house.inventory.put(attrs.evolve(pi, capabilities=()))
    assert house.descriptors.devices(digest_of(LAMP)) == 1
    now_ms = house.now_ms()
    house.inventory.remove(result_of(house.store.remove(nas.device_id, "ana", "old", now_ms)))
    assert house.descriptors.devices(digest_of(LAMP)) == 0


def test_what_is_no_descriptor_is_not_asked_for_again(house: House) -> None:
    """Neither from this device nor from another one that has the same."""
    bad = b'{"api":1}'
    offered = announced(LAMP, digest=descriptor_digest(bad))
    first, second = house.device("pi", (offered,)), house.device("nas", (offered,))
    with pytest.raises(Malformed):
        house.descriptors.check(first, bad)
    assert house.descriptors.unknown(first) == house.descriptors.unknown(second) == ()


@pytest.mark.parametrize(("limit", "most"), [("MAX_KEPT", 1), ("MAX_KEPT_BYTES", SIZE)])
def test_only_so_many_are_kept(
    house: House, monkeypatch: pytest.MonkeyPatch, limit: str, most: int
) -> None:
    """What comes beyond stays undescribed, and is not asked for."""
    monkeypatch.setattr(room, limit, most)
    other = a_descriptor("acme.other")
    device = offering(house, LAMP, other)
    described(house, device, LAMP, other)
    assert house.descriptors.of(digest_of(LAMP)) is not None
    assert house.descriptors.of(digest_of(other)) is None
    assert house.descriptors.unknown(device) == ()


def test_only_some_are_kept_decoded(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are decoded when they are asked for."""
    monkeypatch.setattr(room, "MAX_READY", 1)
    said = [a_descriptor(f"acme.x{number}") for number in range(3)]
    described(house, offering(house, *said), *said)
    for each in said * 2:
        known = house.descriptors.of(digest_of(each))
        assert known is not None and known.descriptor == each


def test_what_nobody_announces_is_forgotten_in_time(house: House) -> None:
    """Here and on record; what a device announces stays, however old it is."""
    old = a_descriptor("acme.old")
    pi = offering(house, LAMP, old)
    described(house, pi, LAMP, old)
    node = house.node(pi)
    node.capabilities = (announced(LAMP),)
    result_of(node.connect())
    node.disconnect()
    house.clock.advance(KEEP_MS / 1000)
    sweep = Deferred.fromCoroutine
    result_of(sweep(house.descriptors.sweep(house.now_ms())))
    assert house.descriptors.of(digest_of(old)) is not None
    house.clock.advance(1)
    result_of(sweep(house.descriptors.sweep(house.now_ms())))
    assert house.descriptors.of(digest_of(old)) is None
    assert house.descriptors.of(digest_of(LAMP)) is not None
    assert list(result_of(house.store.descriptors())) == [digest_of(LAMP)]
    control = CapabilityControl(descriptors=house.descriptors)
    assert result_of(control.capabilities(50, None, old.name)).capabilities == []


def test_where_room_is_short_only_what_is_announced_stays(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device that has described ever more things does not leave the others without schemas."""
    monkeypatch.setattr(room, "MAX_KEPT", 2)
    old = a_descriptor("acme.old")
    pi = offering(house, LAMP, old)
    described(house, pi, LAMP, old)
    node = house.node(pi)
    node.capabilities = (announced(LAMP),)
    result_of(node.connect())
    new = offering(house, a_descriptor("acme.new"), name="nas")
    assert house.descriptors.unknown(new) == ()
    house.clock.advance(1)
    result_of(Deferred.fromCoroutine(house.descriptors.sweep(house.now_ms())))
    assert house.descriptors.of(digest_of(old)) is None
    assert house.descriptors.of(digest_of(LAMP)) is not None
    assert house.descriptors.unknown(new) == (digest_of(a_descriptor("acme.new")),)


# -- as they are listed -------------------------------------------------------------------------


def test_they_are_listed_page_by_page(house: House) -> None:
    """By name, each with how many devices announce it; a cursor goes on behind the last one."""
    other = a_descriptor("acme.lamp", version="2.0")
    pi = offering(house, LAMP, a_descriptor("acme.x"))
    described(house, pi, LAMP, a_descriptor("acme.x"))
    described(house, offering(house, other, name="nas"), other)
    offering(house, LAMP, name="two")
    control = CapabilityControl(descriptors=house.descriptors)
    first = result_of(control.capabilities(2, None, "acme.lamp"))
    assert {each.digest: each.devices for each in first.capabilities} == {
        digest_of(LAMP): 2,
        digest_of(other): 1,
    }
    assert not first.page.has_more
    names, cursor = [], None
    while True:
        some = result_of(control.capabilities(2, cursor))
        names += [each.name for each in some.capabilities]
        cursor = some.page.next_cursor
        if cursor is None:
            break
    assert names == sorted(
        [*(each.descriptor.name for each in own().values()), *["acme.lamp"] * 2, "acme.x"]
    )


def test_one_is_found_by_its_digest(house: House) -> None:
    """A page asks for what a device announced; a digest that is not known finds nothing."""
    described(house, offering(house, LAMP), LAMP)
    control = CapabilityControl(descriptors=house.descriptors)
    for name in ("", LAMP.name):
        (found,) = result_of(control.capabilities(5, None, name, digest_of(LAMP))).capabilities
        assert found.input_schema == LAMP.input_schema and found.devices == 1
    assert result_of(control.capabilities(5, None, "echo", digest_of(LAMP))).capabilities == []
    assert result_of(control.capabilities(5, None, "", "0" * 64)).capabilities == []


def test_a_cursor_must_be_one(house: House) -> None:
    """Anything else is told."""
    control = CapabilityControl(descriptors=house.descriptors)
    with pytest.raises(Malformed):
        result_of(control.capabilities(5, "7"))
