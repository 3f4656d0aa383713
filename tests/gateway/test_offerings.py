"""What nodes say in their sessions of the capabilities they have."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import pytest
from twisted.internet.defer import Deferred
from twisted.logger import globalLogPublisher

from palyra.core.descriptors import descriptor_digest
from palyra.core.devices import AnnouncedCapability, Device
from palyra.core.frames import CatalogAnswer, NodeEvent
from palyra.core.jobs import JobState
from palyra.core.journal import RESTORED, SUSPENDED
from palyra.errors import (
    CapabilityChanged,
    DiskFull,
    LimitReached,
    Malformed,
    PalyraError,
    StoreUnavailable,
)
from palyra.gateway import offerings
from palyra.gateway.offerings import MAX_CATALOGS, MAX_FAULTS
from palyra.testing.carrier import ScriptedNode
from tests.gateway.described import a_descriptor, announced, faulty
from tests.gateway.house import ECHO, House, result_of

LAMP = a_descriptor()
RISKIER = a_descriptor(risk="high", version="2.0")


@pytest.fixture
def house() -> Iterator[House]:
    made = House()
    yield made
    made.end()


@pytest.fixture
def told() -> Iterator[list[str]]:
    """Levels of what is logged, and which room said it."""
    seen: list[str] = []

    def note(event: dict[str, object]) -> None:
        level = event["log_level"]
        seen.append(f"{getattr(level, 'name', '')} {event['log_namespace']}")

    globalLogPublisher.addObserver(note)
    yield seen
    globalLogPublisher.removeObserver(note)


def online(house: House, *offered: AnnouncedCapability, **changes: object) -> ScriptedNode:
    """A node that has these, all granted, in its session."""
    node = house.node(house.device("pi", offered), **changes)
    result_of(node.connect())
    node.take()
    return node


def device_of(house: House) -> Device:
    return house.inventory.resolve("pi")


def offer(node: ScriptedNode, *offered: AnnouncedCapability) -> CatalogAnswer | None:
    """Send a catalog; what the gateway answers."""
    node.say(NodeEvent(catalog=offered))
    return node.take().catalog


def ended_with(node: ScriptedNode) -> list[PalyraError | None]:
    """What the gateway has ended the node's connection with."""
    return node.carrier.closed


# -- descriptors --------------------------------------------------------------------------------


def test_a_node_that_describes_nothing_is_not_asked(house: House) -> None:
    """Descriptors are asked only of a node that says it understands the question."""
    node = house.node(house.device("pi", (announced(LAMP),)))
    hello = attrs.evolve(node.hello(), features=frozenset())
    register = house.sessions.register(node.peer, hello)
    assert result_of(Deferred.fromCoroutine(register)).unknown_digests == ()


def test_a_registration_is_answered_with_what_is_not_known(house: House) -> None:
    """What the node then describes is known, and not asked for again."""
    node = house.node(house.device("pi", (announced(LAMP), ECHO)))
    welcome = result_of(node.register())
    assert welcome.unknown_digests == (descriptor_digest(LAMP.encode()),)
    node.attach(welcome.session_epoch)
    node.say(NodeEvent(descriptors=(LAMP.encode(),)))
    known = house.descriptors.of(descriptor_digest(LAMP.encode()))
    assert known is not None and known.descriptor == LAMP
    node.disconnect()
    assert result_of(node.register()).unknown_digests == ()


def test_an_old_node_is_asked_for_nothing(house: House) -> None:
    """It would not understand."""
    node = house.node(house.device("pi", (announced(LAMP),)), extended=False)
    assert result_of(node.register()).unknown_digests == ()


def test_a_descriptor_that_cannot_be_used_is_told_once(house: House, told: list[str]) -> None:
    """The session goes on, and the good ones beside it are kept; nothing is asked for again."""
    bad = b"[]"
    node = online(house, announced(LAMP), announced(LAMP, name="x", digest=descriptor_digest(bad)))
    node.say(NodeEvent(descriptors=(bad, LAMP.encode())))
    house.clock.advance(0)
    assert house.descriptors.of(descriptor_digest(LAMP.encode())) is not None
    assert told.count("warn palyra.gateway.offerings.Offerings") == 1
    assert ended_with(node) == []
    node.disconnect()
    assert result_of(node.register()).unknown_digests == ()


def test_a_flood_of_bad_descriptors_ends_the_session(house: House) -> None:
    """So many mistakes are none."""
    node = online(house, announced(LAMP))
    for number in range(MAX_FAULTS):
        node.say(NodeEvent(descriptors=(b"%d" % number,)))
    assert ended_with(node) == []
    node.say(NodeEvent(descriptors=(b"one more",)))
    assert isinstance(ended_with(node)[0], Malformed)


def test_more_descriptors_than_capabilities_end_the_session(house: House) -> None:
    """Nobody has asked for so many; another catalog allows as many again."""
    node = online(house, announced(LAMP))
    for _ in range(2):
        for _ in range(16):
            node.say(NodeEvent(descriptors=(LAMP.encode(),) * 16))
        for _ in range(256):
            house.clock.advance(0)
        assert ended_with(node) == []
        offer(node, announced(LAMP))
    node.say(NodeEvent(descriptors=(LAMP.encode(),) * 257))
    assert isinstance(ended_with(node)[0], Malformed)


def test_between_descriptors_others_have_their_turn(house: House) -> None:
    """Each may take long to check; what is left when the session ends is not looked at."""
    others = [a_descriptor(f"acme.{name}") for name in ("a", "b", "c")]
    node = online(house, *map(announced, others))
    node.say(NodeEvent(descriptors=tuple(each.encode() for each in others)))
    digests = [descriptor_digest(each.encode()) for each in others]
    assert all(house.descriptors.of(each) is None for each in digests)
    node.disconnect()
    house.clock.advance(0)
    assert [house.descriptors.of(each) is None for each in digests] == [False, True, True]


def test_a_device_does_not_keep_its_gateway_busy_with_descriptors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So many are looked at in an hour, whatever sessions they come in; then it is asked again."""
    monkeypatch.setattr(offerings, "MAX_DESCRIBED", 1)
    made = House()
    node = online(made, announced(LAMP), announced(RISKIER, name="other"))
    other = announced(a_descriptor("acme.fan"))
    node.say(NodeEvent(descriptors=(LAMP.encode(), b"[]")))
    made.clock.advance(0)
    assert made.descriptors.of(descriptor_digest(LAMP.encode())) is not None
    answer = offer(node, other)
    assert answer is not None and answer.unknown_digests == ()
    node.say(NodeEvent(descriptors=(a_descriptor("acme.fan").encode(),)))
    assert made.descriptors.of(other.digest) is None
    made.pass_time(3_600)
    result_of(node.connect())
    node.take()
    answer = offer(node, other)
    assert answer is not None and answer.unknown_digests == (other.digest,)
    made.end()


# -- catalogs -----------------------------------------------------------------------------------


def test_a_catalog_changes_what_a_device_has(house: House) -> None:
    """In its session: the epoch stays, and its answer says what is granted and not described."""
    node = online(house, ECHO)
    epoch = device_of(house).session_epoch
    health = attrs.evolve(announced(a_descriptor("system.lamp", risk="low")), version="3")
    answer = offer(node, ECHO, health, announced(LAMP))
    assert answer == CatalogAnswer(
        ("echo", "system.lamp"), (health.digest, descriptor_digest(LAMP.encode()))
    )
    device = device_of(house)
    assert (device.session_epoch, device.capabilities) == (epoch, (ECHO, health, announced(LAMP)))
    assert result_of(house.store.device(device.device_id)) == device
    assert house.submit(device, "system.lamp").state is JobState.DISPATCHED


def test_what_is_gone_is_refused(house: House) -> None:
    """Also a job that was accepted for it and waits for room."""
    node = online(house, ECHO, attrs.evolve(ECHO, name="safe"), max_in_flight=1)
    first = house.submit(device_of(house))
    second = house.submit(device_of(house), "safe")
    assert second.state is JobState.QUEUED
    offer(node, ECHO)
    with pytest.raises(PalyraError) as caught:
        house.submit(device_of(house), "safe")
    assert caught.value.code == "capability_unknown"
    node.finish(first.attempt.attempt_id)  # type: ignore[union-attr]
    kept = house.kept(second)
    assert (kept.state, kept.error_code) == (JobState.REJECTED, "capability_unknown")


def test_catalogs_are_taken_in_order(house: House) -> None:
    """One at a time, each after the commit of the one before; the last answer is for the last."""
    node = online(house, ECHO)
    house.store.holding = True
    for name in ("a", "b", "c"):
        assert offer(node, attrs.evolve(ECHO, name=name)) is None
    assert house.store.waiting == 1
    house.store.release(1)
    assert [each.name for each in device_of(house).capabilities] == ["a"]
    house.store.holding = False
    house.store.release()
    assert [each.name for each in device_of(house).capabilities] == ["c"]
    assert node.take().catalog is not None


def test_a_device_that_changes_too_often_is_ended(house: House) -> None:
    """Each catalog is a commit; after a minute there is room again."""
    node = online(house, ECHO)
    for _ in range(MAX_CATALOGS):
        assert offer(node, ECHO) is not None
    offer(node, ECHO)
    (error,) = ended_with(node)
    assert isinstance(error, LimitReached)
    house.pass_time(60)
    result_of(node.connect())
    assert offer(node, ECHO) is not None


def test_an_older_session_changes_nothing(house: House) -> None:
    """The device has registered since, and has said what it offers."""
    node = online(house, ECHO)
    old, session = node.carrier, node.session
    result_of(node.connect())
    assert session is not None
    session.received(NodeEvent(catalog=(announced(LAMP),)))
    assert device_of(house).capabilities == (ECHO,)
    assert old.closed == []


@pytest.mark.parametrize("error", [DiskFull("/x"), StoreUnavailable("/x", "EIO")])
def test_a_catalog_that_is_not_on_record_ends_the_session(
    house: House, monkeypatch: pytest.MonkeyPatch, error: PalyraError
) -> None:
    """The node comes back and says it again; here nothing has changed."""
    node = online(house, ECHO)

    async def refused(offering: object) -> Device:
        raise error

    monkeypatch.setattr(house.store.store, "offer", refused)
    assert offer(node, announced(LAMP)) is None
    assert ended_with(node) == [error]
    assert device_of(house).capabilities == (ECHO,)


def test_descriptors_that_are_not_on_record(
    house: House, monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    """The session goes on without them, and the next registration is asked again."""
    node = online(house, announced(LAMP))

    async def refused(descriptors: object, now_ms: int) -> None:
        raise DiskFull("/x")

    monkeypatch.setattr(house.store.store, "keep_descriptors", refused)
    node.say(NodeEvent(descriptors=(LAMP.encode(),)))
    assert ended_with(node) == [] and "error palyra.gateway.offerings.Offerings" in told
    node.disconnect()
    assert result_of(node.register()).unknown_digests == (descriptor_digest(LAMP.encode()),)


def test_what_was_said_last_is_left_when_the_session_ends(house: House) -> None:
    """Nothing of it happens later."""
    node = online(house, ECHO)
    house.store.holding = True
    offer(node, attrs.evolve(ECHO, name="a"))
    offer(node, attrs.evolve(ECHO, name="b"))
    node.disconnect()
    house.store.holding = False
    house.store.release()
    assert [each.name for each in device_of(house).capabilities] == ["a"]


def test_what_is_known_counts_for_more_than_what_is_said(house: House) -> None:
    """A device that calls a known capability harmless is not believed, however it says so."""
    node = online(house, announced(RISKIER))
    node.say(NodeEvent(descriptors=(RISKIER.encode(),)))
    less = announced(RISKIER, risk="low", idempotent=True, contract="")
    offer(node, less)
    assert device_of(house).capabilities == (announced(RISKIER),)
    node.capabilities = (less, attrs.evolve(less, name="acme.other"))
    node.disconnect()
    result_of(node.register())
    first, second = device_of(house).capabilities
    assert first == announced(RISKIER) and second == attrs.evolve(
        less, name="acme.other", digest=""
    )


# -- grants -------------------------------------------------------------------------------------


def test_what_has_changed_is_suspended_until_it_is_back(house: House, told: list[str]) -> None:
    """Nothing runs under that name; the journal says it, and a person who looks is told."""
    node = online(house, announced(LAMP))
    assert offer(node, announced(RISKIER)) == CatalogAnswer(
        (), (descriptor_digest(RISKIER.encode()),)
    )
    assert told.count("warn palyra.gateway.offerings.Offerings") == 1
    with pytest.raises(CapabilityChanged) as caught:
        house.submit(device_of(house), LAMP.name)
    assert caught.value.hint == "palyra nodes grant pi acme.lamp"
    back = offer(node, announced(LAMP))
    assert back is not None and back.granted == (LAMP.name,)
    assert house.submit(device_of(house), LAMP.name).state is JobState.DISPATCHED
    page = result_of(house.store.journal(device_of(house).device_id, 0, 50))
    kinds = [each.kind for each in page.events if each.details.get("capabilities") == LAMP.name]
    assert kinds == [SUSPENDED, RESTORED]


def test_a_registration_suspends_too(house: House, told: list[str]) -> None:
    """Whichever message brings it."""
    node = online(house, announced(LAMP))
    node.capabilities = (announced(RISKIER),)
    node.disconnect()
    assert result_of(node.register()).granted == ()
    assert told.count("warn palyra.gateway.offerings.Offerings") == 1


def test_a_job_that_waits_is_not_sent_to_what_has_changed(house: House) -> None:
    """It was allowed for something else."""
    node = online(house, ECHO, announced(LAMP), max_in_flight=1)
    first = house.submit(device_of(house))
    second = house.submit(device_of(house), LAMP.name)
    offer(node, ECHO, announced(RISKIER))
    node.finish(first.attempt.attempt_id)  # type: ignore[union-attr]
    kept = house.kept(second)
    assert (kept.state, kept.error_code) == (JobState.REJECTED, "capability_changed")


def test_what_fails_for_a_while_stays_granted(house: House) -> None:
    """A plugin that is broken, or switched off, offers nothing else."""
    node = online(house, announced(LAMP))
    assert offer(node, faulty(LAMP.name)) == CatalogAnswer((LAMP.name,), ())
    back = offer(node, announced(LAMP))
    assert back is not None and back.granted == (LAMP.name,)
