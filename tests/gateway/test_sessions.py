"""Sessions: the newest registration owns dispatch, and every session has an end."""

from __future__ import annotations

import attrs
import pytest
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from palyra.core.devices import CertificateState, Device, PresenceState, Renewal
from palyra.core.frames import HEARTBEAT, STARTED, STOPPING, NodeEvent, Renew
from palyra.core.identifiers import Fingerprint, sha256_hex
from palyra.core.jobs import JobState
from palyra.errors import (
    CertificateUnknown,
    DeviceRevoked,
    LimitReached,
    NotRegistered,
)
from palyra.gateway.sessions import (
    EXPIRY_GRACE_S,
    HANDOVER_S,
    MAX_SESSIONS,
    REGISTRATIONS_PER_S,
)
from palyra.testing.carrier import MemoryCarrier
from palyra.transport.interfaces import ICarrier, IGatewaySession
from tests.gateway.house import House, attempt_of, result_of


def test_interfaces(house: House) -> None:
    """Session and carrier provide what each expects of the other."""
    _, node = house.online()
    assert verifyObject(IGatewaySession, node.session)
    assert verifyObject(ICarrier, node.carrier)


def test_the_welcome(house: House) -> None:
    """A registration is answered with what the node needs to know."""
    device = house.device(grants=frozenset({"slow", "echo"}))
    welcome = result_of(house.node(device).register())
    assert (welcome.device_id, welcome.device_name) == (device.device_id, "pi")
    assert (welcome.session_epoch, welcome.granted) == (1, ("echo", "slow"))
    assert welcome.store_epoch == house.store.store_epoch
    assert (welcome.gateway_unix_ms, welcome.heartbeat_interval_ms) == (house.now_ms(), 15_000)
    assert welcome.ca_bundle_pem == "the CA"


def test_a_registration_is_committed_before_it_counts(house: House) -> None:
    """Until the commit no session can be opened with it; then the inventory shows its facts."""
    device = house.device()
    node = house.node(device)
    house.store.holding = True
    registered = node.register()
    with pytest.raises(NotRegistered):
        node.attach(1)
    house.store.release()
    house.store.holding = False
    assert result_of(registered).session_epoch == 1
    kept = house.inventory.device(device.device_id)
    assert kept is not None and (kept.session_epoch, kept.platform) == (1, "test")


def test_no_stream_without_a_registration(house: House) -> None:
    """A stream that was not announced, with a stale epoch or by another certificate is refused."""
    device = house.device()
    node = house.node(device)
    with pytest.raises(NotRegistered):
        node.attach(1)
    result_of(node.register())
    result_of(node.register())
    with pytest.raises(NotRegistered):
        node.attach(1)
    stranger = attrs.evolve(node.peer, fingerprint=Fingerprint(sha256_hex(b"other")))
    with pytest.raises(NotRegistered):
        house.sessions.attach(stranger, NodeEvent(STARTED, session_epoch=2), MemoryCarrier())
    assert node.attach(2).epoch == 2


def test_a_registration_opens_one_stream(house: House) -> None:
    """What the node knew of its attempts is true once: a second stream needs a registration."""
    device = house.device()
    node = house.node(device)
    welcome = result_of(node.register())
    node.attach(welcome.session_epoch)
    with pytest.raises(NotRegistered):
        node.attach(welcome.session_epoch)


def test_an_unknown_certificate_cannot_register(house: House) -> None:
    """The directory refuses; nothing is left behind."""
    device = house.device()
    node = house.node(device)
    node.peer = attrs.evolve(node.peer, fingerprint=Fingerprint(sha256_hex(b"other")))
    with pytest.raises(CertificateUnknown):
        result_of(node.register())
    with pytest.raises(NotRegistered):
        node.attach(1)


def test_the_newest_session_owns_dispatch(house: House) -> None:
    """The older one is told to go, still heard, and closed after thirty seconds."""
    device, node = house.online()
    old, old_carrier = node.session, node.carrier
    assert old is not None
    job = house.submit(device)
    node.take()
    new = result_of(node.connect())
    assert house.sessions.owner(device.device_id) is new
    assert house.sessions.count() == 1
    frame = old.take_frame()
    assert frame is not None and frame.drain is not None
    house.submit(device)
    assert len(node.take().dispatches) == 1 and old.take_frame() is None
    node.session = old
    node.finish(attempt_of(job))
    node.session = new
    assert job.state is JobState.SUCCEEDED
    house.clock.advance(HANDOVER_S - 1)
    assert old_carrier.closed == []
    house.clock.advance(2)
    assert old_carrier.closed == [None]
    old.ended("closed")
    assert house.sessions.owner(device.device_id) is new


def test_a_registration_alone_retires_the_session(house: House) -> None:
    """Nothing can be dispatched to a session that is not the newest: it is closed even where the
    new one never comes."""
    _, node = house.online()
    result_of(node.register())
    node.take()
    assert len(node.drains) == 1
    house.pass_time(HANDOVER_S + 1)
    assert node.carrier.closed == [None]


def test_clones_are_kept_apart(house: House) -> None:
    """More than three swaps in a minute: two hosts use one identity, the newer one must wait."""
    device, node = house.online()
    for _ in range(4):
        result_of(node.connect())
        house.clock.advance(1)
    with pytest.raises(LimitReached) as caught:
        result_of(node.connect())
    assert 50 < caught.value.retry_after_s <= 60
    assert house.sessions.owner(device.device_id) is node.session
    house.clock.advance(caught.value.retry_after_s)
    result_of(node.connect())


def test_clones_by_a_clock_that_is_set_back(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute passes whatever the time of day is: nobody is refused until yesterday is over."""
    _, node = house.online()
    for _ in range(4):
        result_of(node.connect())
    yesterday = Clock()
    yesterday.callLater = house.clock.callLater  # type: ignore[method-assign]
    monkeypatch.setattr(house.sessions, "_clock", yesterday)
    with pytest.raises(LimitReached) as caught:
        result_of(node.connect())
    assert 0 < caught.value.retry_after_s <= 60
    house.clock.advance(caught.value.retry_after_s)
    result_of(node.connect())


def test_a_renewal_is_no_swap(house: House) -> None:
    """A device that hands over to its next certificate is one host, however often it does; and the
    session that has been draining for longest makes room for the newest."""
    device, node = house.online()
    carriers = []
    for number in range(MAX_SESSIONS + 2):
        carriers.append(node.carrier)
        node.peer = attrs.evolve(node.peer, fingerprint=renewed_certificate(house, device, number))
        result_of(node.connect())
    assert house.sessions.owner(device.device_id) is node.session
    assert [carrier.closed for carrier in carriers[:3]] == [[None], [None], []]


def test_an_order_between_registration_and_stream_is_told(house: House) -> None:
    """The answer to the registration knew nothing of it, and the old session is not listened to."""
    _, node = house.online()
    welcome = result_of(node.register())
    house.sessions.renew_after_s = lambda device_id, fingerprint: 0
    node.attach(welcome.session_epoch)
    assert node.take().renew == Renew("", 0)


def test_reconnecting_is_no_swap(house: House) -> None:
    """A host that loses its connection often is not taken for two."""
    _, node = house.online()
    for _ in range(10):
        node.disconnect()
        result_of(node.connect())


def test_revocation_ends_every_session(house: House) -> None:
    """All sessions of the device end with the reason, and none can be opened with what it had."""
    device, node = house.online()
    carriers = [node.carrier]
    result_of(node.connect())
    carriers.append(node.carrier)
    welcome = result_of(node.register())
    error = DeviceRevoked(device.name)
    house.sessions.expel(device.device_id, error)
    assert [each.closed for each in carriers] == [[error], [error]]
    assert house.sessions.owner(device.device_id) is None
    with pytest.raises(NotRegistered):
        node.attach(welcome.session_epoch)
    house.sessions.expel(device.device_id, error)


def test_a_session_that_ended_is_not_heard(house: House) -> None:
    """What was still under way when a device was revoked changes nothing."""
    device, node = house.online()
    job = house.submit(device)
    node.take()
    house.sessions.expel(device.device_id, DeviceRevoked(device.name))
    node.finish(attempt_of(job))
    assert job.state is JobState.DISPATCHED


def test_a_silent_link_is_closed(house: House) -> None:
    """Nothing heard for forty seconds: the session ends, and the device is soon offline."""
    device, node = house.online()
    del house.nodes["pi"]
    house.pass_time(26)
    assert house.board.state(device.device_id) is PresenceState.STALE
    house.pass_time(15)
    assert node.carrier.closed == [None] and house.sessions.owner(device.device_id) is None
    house.pass_time(11)
    assert house.board.state(device.device_id) is PresenceState.OFFLINE
    house.sessions.silent(device.device_id)


def test_a_session_ends_with_its_certificate(house: House) -> None:
    """Five minutes after its certificate's end a session is closed, however lively it is."""
    device = house.device()
    node = house.node(device)
    node.peer = attrs.evolve(node.peer, not_after_ms=house.now_ms() + 60_000)
    result_of(node.connect())
    house.pass_time(60 + EXPIRY_GRACE_S - 2)
    assert node.carrier.closed == []
    house.pass_time(3)
    assert node.carrier.closed == [None] and node.session is None


def test_draining_tells_every_owner(house: House) -> None:
    """Before the gateway stops, each node hears when to come back: as fast as all can be let in."""
    nodes = [house.online(name)[1] for name in ("pi", "nas")]
    house.sessions.drain_all("the gateway is stopping", 2_000)
    for node in nodes:
        node.take()
    step_ms = round(1000 / REGISTRATIONS_PER_S)
    assert [[each.retry_after_ms for each in node.drains] for node in nodes] == [
        [2_000],
        [2_000 + step_ms],
    ]
    late = house.online("late")[1]
    late.take()
    assert [each.retry_after_ms for each in late.drains] == [
        2_000 + round(2 * 1000 / REGISTRATIONS_PER_S)
    ]


# -- frames ---------------------------------------------------------------------------------------


def test_frames_gather(house: House) -> None:
    """What is said between two writes goes out as one message, and once."""
    device, node = house.online()
    for _ in range(3):
        house.submit(device)
    woken = node.carrier.woken
    frame = node.take()
    assert len(frame.dispatches) == 3 and woken >= 3
    assert node.session is not None and node.session.take_frame() is None


def test_acknowledgements_ride_or_go_alone_soon(house: House) -> None:
    """An acknowledgement wakes the carrier after 50 ms, unless a dispatch took it along."""
    device, node = house.online()
    first = house.submit(device)
    node.take()
    woken = node.carrier.woken
    node.finish(attempt_of(first))
    assert node.carrier.woken == woken
    house.clock.advance(0.06)
    assert node.carrier.woken == woken + 1
    assert node.take().acknowledged == [attempt_of(first)]
    second = house.submit(device)
    node.take()
    node.finish(attempt_of(second))
    house.submit(device)
    assert node.take().acknowledged == [attempt_of(second)]
    woken = node.carrier.woken
    house.clock.advance(0.06)
    assert node.carrier.woken == woken


def test_heartbeats_are_answered(house: House) -> None:
    """Heartbeats and the start are answered; other events of an extended node are not."""
    _, node = house.online()
    assert node.answers == 1
    node.heartbeat()
    node.say(NodeEvent(STOPPING))
    assert node.take().answers == 1


def test_every_event_of_a_version_one_node_is_answered(house: House) -> None:
    """Version 1 waits for an answer to each event."""
    _, node = house.online(extended=False)
    for name in (HEARTBEAT, STOPPING, "capability.result"):
        node.say(NodeEvent(name))
    assert node.take().answers == 3


def renewed_certificate(house: House, device: Device, number: int) -> Fingerprint:
    """The device's next certificate, on record and known."""
    before = house.inventory.newest_certificate(device.device_id)
    assert before is not None
    offered = attrs.evolve(
        before,
        fingerprint=sha256_hex(f"certificate {number}".encode()),
        csr_digest=sha256_hex(f"CSR {number}".encode()),
        state=CertificateState.PENDING,
    )
    renewal = Renewal(offered, device.identity_fingerprint, before.fingerprint)
    kept = result_of(house.store.renew(renewal))
    house.inventory.renewed(before.fingerprint, kept)
    return kept.fingerprint
