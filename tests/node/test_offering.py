"""Tests of :mod:`palyra.node.offering`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from palyra.capability import Capability
from palyra.capability.catalogue import Catalogue, Fault, Offer
from palyra.core.devices import AnnouncedCapability
from palyra.errors import ConfigInvalid
from palyra.node.offering import Offering
from tests.node.fakes import act

BAD = ConfigInvalid("palyra.toml", "node.disabled", "is wrong")


def offer(name: str, *, here: bool = False, dist: str = "Acme_Tools", **given: Any) -> Offer:
    made = Capability(name=name, description="x", handler=act, **given)
    return Offer(made.descriptor(dist, "1"), made if here else None)


@attrs.define
class World:
    """An offering whose searches the test ends."""

    first: Catalogue = attrs.Factory(lambda: Catalogue([offer("a.b")]))
    searches: list[Deferred[Catalogue]] = attrs.Factory(list)
    told: list[tuple[AnnouncedCapability, ...]] = attrs.Factory(list)
    asking: set[str] = attrs.Factory(set)
    offering: Offering = attrs.field(init=False)

    @offering.default
    def _made(self) -> Offering:
        made = Offering(
            self.first,
            find=lambda: Catalogue([]),
            in_thread=self._search,
            may_ask=lambda name, risk, needed: needed or name in self.asking,
        )
        made.watch(lambda: self.told.append(made.announced()))
        return made

    def _search(self, find: Callable[[], Catalogue]) -> Deferred[Catalogue]:
        self.searches.append(Deferred())
        return self.searches[-1]

    def names(self) -> list[str]:
        return list(self.offering.catalogue.offers)

    def said(self, name: str) -> AnnouncedCapability:
        (found,) = [each for each in self.offering.announced() if each.name == name]
        return found


@pytest.fixture
def world() -> World:
    return World()


def failed(deferred: Deferred[Catalogue]) -> BaseException | None:
    kept: list[Failure] = []
    deferred.addErrback(kept.append)
    return kept[0].value


def test_it_begins_with_what_it_is_given(world: World) -> None:
    """And has its descriptors."""
    (said,) = world.offering.announced()
    assert said.name == "a.b"
    assert world.offering.descriptor(said.digest) == world.first.offers["a.b"].raw
    assert world.offering.descriptor("other") is None


def test_a_reload_replaces_it(world: World) -> None:
    """Whoever watches is told after it."""
    answer = world.offering.reload()
    new = Catalogue([offer("a.c")])
    world.searches[0].callback(new)
    assert answer.result is new
    assert world.names() == ["a.c"]
    assert [[each.name for each in told] for told in world.told] == [["a.c"]]


def test_reloads_do_not_pile_up(world: World) -> None:
    """Whoever asks while one is under way shares the next one, which sees all that was done."""
    answers = [world.offering.reload() for _ in range(4)]
    assert len(world.searches) == 1
    world.searches[0].callback(Catalogue([offer("a.c")]))
    assert [each.called for each in answers] == [True, False, False, False]
    assert len(world.searches) == 2
    world.searches[1].callback(Catalogue([offer("a.d")]))
    assert all(each.called for each in answers)
    assert len(world.searches) == 2
    assert world.names() == ["a.d"]


def test_a_configuration_that_is_wrong_changes_nothing(world: World) -> None:
    """Whoever asked is told, and the next reload works."""
    answer = world.offering.reload()
    world.searches[0].errback(BAD)
    assert failed(answer) is BAD
    assert world.names() == ["a.b"]
    assert world.told == []
    world.offering.reload()
    world.searches[1].callback(Catalogue([]))
    assert world.names() == []


def test_a_search_that_breaks_changes_nothing(world: World) -> None:
    """Whatever it was, it is logged, and those who wait hear of it."""
    answer = world.offering.reload()
    world.searches[0].errback(RuntimeError("odd"))
    assert isinstance(failed(answer), RuntimeError)
    assert world.names() == ["a.b"]


def test_the_owners_rules_are_announced(world: World) -> None:
    """A person may be asked though the plugin does not want it; also after a failed reload."""
    assert not world.said("a.b").needs_mediation
    world.asking.add("a.b")
    world.offering.reload().addErrback(lambda _: None)
    world.searches[0].errback(BAD)
    assert world.said("a.b").needs_mediation
    assert len(world.told) == 1


def test_a_plugin_that_asks_is_announced_as_it_is() -> None:
    """Rules that let it pass are the device's business."""
    world = World(Catalogue([offer("a.b", needs_mediation=True)]))
    assert world.said("a.b").needs_mediation


def test_a_plugin_whose_workers_die_is_unavailable(world: World) -> None:
    """With the cause, under the contract that it was granted for; it stays in the catalogue."""
    before = world.said("a.b")
    world.offering.unavailable("acme-tools", "Its workers die.")
    said = world.said("a.b")
    assert (said.available, said.fault) == (False, "Its workers die.")
    assert (said.digest, said.contract) == (before.digest, before.contract)
    assert world.names() == ["a.b"]
    world.offering.unavailable("acme-tools", None)
    assert world.said("a.b") == before
    assert len(world.told) == 2


def test_only_that_plugin_is(world: World) -> None:
    """Not another one, and not what runs in this process; nobody is told of nothing."""
    world = World(Catalogue([offer("a.b", here=True), offer("a.c", dist="other")]))
    world.offering.unavailable("acme-tools", "Its workers die.")
    world.offering.unavailable("unknown", None)
    assert all(each.available for each in world.offering.announced())
    assert world.told == []


def test_what_is_withdrawn_stays_so(world: World) -> None:
    """Until the node host is started again; a reload does not bring it back."""
    world.offering.withdraw(["a.b", "a.unknown"], "It hung.")
    assert world.names() == []
    said = world.said("a.b")
    assert (said.available, said.fault) == (False, "It hung.")
    assert world.offering.descriptor(said.digest) is not None
    world.offering.withdraw(["a.b"], "It hung.")
    assert len(world.told) == 1
    world.offering.reload()
    world.searches[0].callback(Catalogue([offer("a.b"), offer("a.c")], [Fault("x", "y", "1", "z")]))
    assert world.names() == ["a.c"]
    assert len(world.offering.catalogue.faults) == 2


def test_after_closing_nothing_changes(world: World) -> None:
    """It is closed when the search that is under way has ended."""
    answer = world.offering.reload()
    shared = world.offering.reload()
    closed = world.offering.close()
    assert not closed.called
    world.searches[0].callback(Catalogue([]))
    assert closed.called and answer.called
    assert world.names() == ["a.b"]
    assert world.told == []
    assert shared.called
    assert len(world.searches) == 1
    assert world.offering.reload().called
    assert world.offering.close().called


def test_a_reload_that_nobody_waits_for_any_more(world: World) -> None:
    """It ends all the same."""
    answer = world.offering.reload()
    answer.addErrback(lambda _: None)
    answer.cancel()
    world.searches[0].callback(Catalogue([offer("a.c")]))
    assert world.names() == ["a.c"]
