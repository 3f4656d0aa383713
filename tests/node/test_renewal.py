"""Tests of :mod:`palyra.node.renewal`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from palyra.config.addresses import HostPort
from palyra.core.frames import Renew, Welcome
from palyra.core.transcript import renewal_payload
from palyra.errors import (
    CertificateUnknown,
    GatewayUnreachable,
    PalyraError,
    RemoteRefusal,
    VerificationFailed,
)
from palyra.node.renewal import (
    FIRST_RETRY_S,
    FLOOR_S,
    MAX_RETRY_S,
    SPREAD_AT_ONCE_S,
    Renewal,
)
from palyra.wire.pairing import RenewalAsked, Renewed
from tests.node.fakes import DEVICE_ID, NOW_MS, FakeChannel, PairedDevice, new_authority

AUTHORITY = new_authority()
HOUR_S = 3_600.0
LIFE_S = 24 * HOUR_S + 300  # it begins five minutes before it is issued
THIRD_S = LIFE_S / 3
AWAY = GatewayUnreachable("gw.example:7444", "no answer")


class Node:
    """A device with a session that was just made, and a gateway that the test plays."""

    def __init__(self, path: Path) -> None:
        FakeChannel.made = []
        self.clock = Clock()
        self.device = PairedDevice(path, AUTHORITY)
        self.draw = 0.5
        self.slept_s = 0.0
        self.failed: list[tuple[PalyraError | None, float]] = []
        self.handovers: list[Deferred[Callable[[], object]]] = []
        self.moved = 0
        self.begun = 0
        self.channel = FakeChannel(HostPort("gw", 1), b"", (b"", b""))
        self.renewal = Renewal(
            reactor=self.clock,
            elapsed_s=lambda: self.clock.seconds() + self.slept_s,
            jitter=lambda low, high: low + self.draw * (high - low),
            identity=self.device.identity,
            store=self.device.store,
            witness=self,
        )

    def renewal_failed(self, error: PalyraError | None, left_s: float) -> None:
        self.failed.append((error, left_s))

    def hand_over(self) -> Deferred[Callable[[], object]]:
        self.handovers.append(Deferred())
        return self.handovers[-1]

    def begin(self, renew_after_s: int | None = 16 * 3600, at_ms: int = NOW_MS) -> None:
        """Registered, at that time of the gateway."""
        welcome = Welcome(DEVICE_ID, "e", 1, 15_000, at_ms, "", (), "pi", "1", renew_after_s)
        self.renewal.begin(self.channel, self.device.first, welcome, self.hand_over, self._begins)

    @property
    def due_s(self) -> float:
        """In how many seconds the only timer fires."""
        (call,) = self.clock.getDelayedCalls()
        return call.getTime() - self.clock.seconds()

    def wait(self) -> None:
        """Until the timer fires."""
        self.clock.advance(self.due_s)

    def answer(self, at_ms: int = NOW_MS) -> RenewalAsked:
        """The gateway answers what was asked last."""
        asked, answer = self.channel.asked[-1]
        answer.callback(self.device.renewed(asked, at_ms))
        return asked

    def move(self) -> None:
        """The node registered over the next certificate."""
        credential = self.device.store.client().next
        assert credential is not None
        self.device.store.registered(credential.fingerprint)
        self.handovers[-1].callback(self._moved)

    def _moved(self) -> None:
        self.moved += 1

    def _begins(self) -> None:
        assert not self.renewal.busy
        self.begun += 1


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path / "identity")
    yield made
    made.renewal.stop()
    assert not made.clock.getDelayedCalls()


@pytest.mark.parametrize(("draw", "share"), [(0.0, -0.1), (0.5, 0.0), (1.0, 0.1)])
def test_when_the_gateway_says(node: Node, draw: float, share: float) -> None:
    """In so many seconds, give or take a tenth of the third that is left then."""
    node.draw = draw
    node.begin(16 * 3_600)
    assert node.due_s == pytest.approx(16 * HOUR_S + share * 8 * HOUR_S)


@pytest.mark.parametrize(("draw", "due_s"), [(0.0, 0.0), (1.0, SPREAD_AT_ONCE_S)])
def test_at_once(node: Node, draw: float, due_s: float) -> None:
    """Zero is spread over a minute: a fleet that comes back does not renew in one moment."""
    node.draw = draw
    node.begin(0)
    assert node.due_s == due_s


def test_at_once_near_the_end(node: Node) -> None:
    """Never past half of what is left."""
    node.draw = 1.0
    node.begin(0, NOW_MS + 24 * 3_600_000 - 10_000)
    assert node.due_s == pytest.approx(5)


def test_one_that_was_begun_already(node: Node) -> None:
    """A session that broke off in a renewal is followed by one that goes on with it at once."""
    node.draw = 1.0
    csr_der = node.device.store.new_csr(DEVICE_ID)
    node.begin(0)
    assert node.due_s == 0
    node.wait()
    assert node.channel.asked[0][0].csr_der == csr_der


def test_again_and_again(node: Node) -> None:
    """A gateway that wants a renewal at each registration gets one a minute."""
    node.draw = 0.0
    node.begin(0)
    for _ in range(5):
        node.wait()
        node.answer()
        node.move()
        node.begin(0)
    assert len(node.channel.asked) == 5
    assert node.clock.seconds() == 4 * FLOOR_S
    node.renewal.directed(Renew("rotate", 0))  # an order is a person's
    assert node.due_s == 0


def test_a_gateway_that_does_not_say(node: Node) -> None:
    """After two thirds of the certificate's own life, counted by the gateway's clock."""
    node.begin(None, NOW_MS + 3_600_000)
    assert node.due_s == pytest.approx(24 * HOUR_S - THIRD_S - HOUR_S, abs=1)
    node.begin(None, NOW_MS + 23 * 3_600_000)
    assert node.due_s <= SPREAD_AT_ONCE_S


def test_a_renewal(node: Node) -> None:
    """A new key is asked for, signed for by the identity key; the session moves, once."""
    old = node.device.first
    node.begin()
    node.wait()
    pending = node.device.store.client().pending
    assert pending is not None
    asked = node.answer()
    assert asked.device_id == DEVICE_ID
    public = Ed25519PublicKey.from_public_bytes(
        node.device.identity.key.public_key().public_bytes_raw()
    )
    ca_hash = bytes.fromhex(AUTHORITY.ca_hash)
    payload = renewal_payload(DEVICE_ID, ca_hash, old.fingerprint, asked.csr_der)
    public.verify(asked.signature, payload)
    client = node.device.store.client()
    assert client.current == old
    assert client.next is not None
    assert client.next.private_key_pem == pending.private_key_pem != old.private_key_pem
    assert client.pending is None
    node.move()
    assert node.moved == 1
    assert not node.clock.getDelayedCalls()
    assert node.failed == []


def test_when_it_is_due(node: Node) -> None:
    """In elapsed time, now while it is under way, and not at all without a session."""
    assert node.renewal.due_in_s is None
    node.begin()
    due_s = node.renewal.due_in_s
    assert due_s == pytest.approx(node.due_s)
    node.wait()
    assert node.renewal.due_in_s == 0.0
    node.renewal.stop()
    assert node.renewal.due_in_s is None


def test_a_lost_answer_changes_nothing(node: Node) -> None:
    """The same CSR is sent until it is answered."""
    node.begin()
    node.wait()
    node.channel.asked[0][1].errback(AWAY)
    assert node.device.store.client().current == node.device.first
    node.wait()
    first, again = (asked for asked, _ in node.channel.asked)
    assert first.csr_der == again.csr_der
    node.answer()
    node.move()
    assert node.moved == 1


def test_the_backoff(node: Node) -> None:
    """From half a minute to ten, jittered; the session is not touched."""
    node.begin()
    pauses = []
    for draw in (0.0, 1.0) * 6:
        node.wait()
        node.draw = draw
        node.channel.asked[-1][1].errback(AWAY)
        pauses.append(node.due_s)
    assert min(pauses) == pytest.approx(FIRST_RETRY_S)
    assert max(pauses) == pytest.approx(MAX_RETRY_S)
    assert pauses[-2:] == [pytest.approx(MAX_RETRY_S / 2), pytest.approx(MAX_RETRY_S)]
    assert node.handovers == []


def test_a_gateway_that_asks_for_a_pause(node: Node) -> None:
    """Gets it, where that is longer than the device's own."""
    node.begin(0)
    node.wait()
    limited = RemoteRefusal("limit_reached", "Too often.", transient=True, retry_after_s=400.0)
    node.channel.asked[-1][1].errback(limited)
    assert node.due_s == pytest.approx(400)


def test_a_certificate_grows_old_while_the_machine_sleeps(node: Node) -> None:
    """What is left of it is told as it is when the machine wakes up."""
    node.begin()
    node.wait()
    node.slept_s = 7 * HOUR_S
    node.channel.asked[-1][1].errback(AWAY)
    ((_, left_s),) = node.failed
    assert left_s == pytest.approx(HOUR_S, abs=300)


def test_naps_do_not_put_it_off(node: Node) -> None:
    """A machine that sleeps again and again, too shortly for its session to end, renews in time."""
    node.renewal.woke()
    node.begin()
    due_s = node.due_s
    node.slept_s += 3_600
    node.renewal.woke()
    assert node.due_s == pytest.approx(due_s - 3_600)
    node.slept_s += due_s
    node.renewal.woke()
    assert node.due_s == 0
    node.wait()
    node.renewal.woke()
    assert node.renewal.busy and not node.clock.getDelayedCalls()


def test_a_failure_is_shown_in_the_last_sixth(node: Node) -> None:
    """Until then there is time enough; elapsed time counts, from the gateway's clock."""
    node.begin(0, NOW_MS + 19 * 3_600_000)
    node.wait()
    node.clock.advance(HOUR_S * 0.9)
    node.channel.asked[-1][1].errback(AWAY)
    assert node.failed == []
    node.wait()
    node.clock.advance(HOUR_S * 0.1)
    node.channel.asked[-1][1].errback(AWAY)
    ((error, left_s),) = node.failed
    assert error is AWAY
    assert left_s == pytest.approx(4 * HOUR_S, rel=0.02)


@pytest.mark.parametrize(("draw", "after_s"), [(0.0, 0.0), (0.25, 15.0), (1.0, 60.0)])
def test_an_order(node: Node, draw: float, after_s: float) -> None:
    """At a moment of the device's own, within the time that the gateway gives."""
    node.draw = draw
    node.begin()
    node.renewal.directed(Renew("rotate", 60_000))
    assert node.due_s == pytest.approx(after_s)
    node.renewal.directed(Renew("rotate", 10_000_000))
    assert node.due_s == pytest.approx(after_s if draw else 0.0)


def test_an_order_while_it_renews(node: Node) -> None:
    """It is what was ordered; and without a session there is nothing to renew."""
    node.renewal.directed(Renew("rotate", 1_000))
    node.begin(0)
    node.wait()
    node.renewal.directed(Renew("rotate", 1_000))
    assert not node.clock.getDelayedCalls()
    assert len(node.channel.asked) == 1


def test_stop_ends_the_timer_and_the_exchange(node: Node) -> None:
    """And says nothing: the next session begins again, with the same CSR."""
    node.begin()
    node.renewal.stop()
    assert not node.clock.getDelayedCalls()
    node.begin(0)
    node.wait()
    node.renewal.stop()
    assert node.channel.asked[0][1].called
    assert not node.clock.getDelayedCalls()
    node.begin(0)
    node.wait()
    assert node.channel.asked[1][0].csr_der == node.channel.asked[0][0].csr_der


def test_a_stopped_handover_that_ends_late(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """It closes its connection first; the session that began meanwhile is not disturbed."""
    closed: Deferred[None] = Deferred()

    async def slow() -> Callable[[], object]:
        try:
            return await Deferred()
        finally:
            await closed

    monkeypatch.setattr(node, "hand_over", lambda: Deferred.fromCoroutine(slow()))
    node.begin(0)
    node.wait()
    node.answer()
    node.renewal.stop()
    node.device.store.drop_next()
    node.begin(3_600)
    closed.callback(None)
    assert node.due_s == pytest.approx(3_600)
    assert node.failed == []


def test_a_handover_that_fails(node: Node) -> None:
    """Is tried again with the certificate that is there."""
    node.begin(0)
    node.wait()
    node.answer()
    node.handovers[0].errback(AWAY)
    assert node.due_s >= FIRST_RETRY_S
    node.wait()
    assert len(node.channel.asked) == 1
    node.move()
    assert node.moved == 1


def test_a_certificate_that_the_gateway_does_not_take(node: Node) -> None:
    """It is dropped, and another one is asked for."""
    node.begin(0)
    node.wait()
    first = node.answer()
    node.handovers[0].errback(CertificateUnknown())
    assert node.device.store.client().next is None
    node.wait()
    assert node.channel.asked[1][0].csr_der != first.csr_der
    node.answer()
    node.move()
    assert node.moved == 1


def test_a_certificate_that_is_always_cut_off(node: Node) -> None:
    """Three times in a row, while the current one is taken: another one is asked for."""
    cut = GatewayUnreachable("gw.example:7444", "the connection was closed")
    following = node.device.make_next()
    node.begin()
    for error in (cut, cut, AWAY, cut, cut):
        node.wait()
        node.handovers[-1].errback(error)
    assert node.device.store.client().next == following
    node.wait()
    node.handovers[-1].errback(cut)
    assert node.device.store.client().next is None
    assert node.channel.asked == []
    node.wait()
    node.answer()
    node.move()
    assert node.moved == 1


def test_a_session_that_fell_back(node: Node) -> None:
    """The next certificate did not work just now: it is tried again, not at once."""
    node.device.make_next()
    node.begin(0)
    assert node.due_s >= FIRST_RETRY_S
    node.wait()
    assert node.channel.asked == []
    node.move()
    assert node.moved == 1


def test_a_certificate_that_is_not_ours(node: Node) -> None:
    """Is not kept; the same CSR is sent again."""
    node.begin(0)
    node.wait()
    other = PairedDevice(node.device.store.path.parent / "other", AUTHORITY)
    csr_der = other.store.new_csr(DEVICE_ID)
    node.channel.asked[0][1].callback(other.renewed(RenewalAsked(DEVICE_ID, csr_der)))
    assert node.device.store.client().next is None
    node.wait()
    assert node.answer().csr_der == node.channel.asked[0][0].csr_der
    node.move()


def test_a_bundle_of_strangers(node: Node) -> None:
    """Is refused although the connection was authenticated."""
    node.begin(0, NOW_MS + 23 * 3_600_000)
    node.wait()
    asked, answer = node.channel.asked[0]
    stranger = new_authority()
    pem = node.device.issue(asked.csr_der, by=stranger)
    answer.callback(Renewed(pem, stranger.ca_pem.decode(), 0, 0))
    assert isinstance(node.failed[0][0], VerificationFailed)
    assert node.device.store.client().next is None
    assert node.device.store.client().ca_bundle_pem == node.device.ca_pem


def test_a_witness_that_fails(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is told of it keeps nothing from being tried again."""
    monkeypatch.setattr(Node, "renewal_failed", lambda *_: 1 / 0)
    node.begin()
    node.wait()
    node.slept_s = 7 * HOUR_S
    node.channel.asked[-1][1].errback(AWAY)
    assert 30 <= node.due_s <= 60 and not node.renewal.busy


@pytest.mark.parametrize("surprise", [ValueError("a bug"), CancelledError()])
def test_a_surprise(node: Node, surprise: Exception) -> None:
    """Is shown in the end, and tried again; a call that somebody else ended is one."""
    node.begin(0, NOW_MS + 23 * 3_600_000)
    node.wait()
    node.channel.asked[0][1].errback(surprise)
    assert node.failed[0][0] is None
    node.wait()
    node.answer()
    node.move()
    assert node.moved == 1
