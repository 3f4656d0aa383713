"""Tests of :mod:`palyra.transport.quicserver` and the listener in front of it."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed

from palyra.core.frames import HEARTBEAT, STARTED, Dispatch, Drained, GatewayFrame, NodeEvent
from palyra.core.identifiers import AttemptId, DeviceId
from palyra.core.journal import JournalEvent, JournalGap
from palyra.errors import (
    CertificateRefused,
    CertificateSuperseded,
    DeviceRevoked,
    LimitReached,
    NotRegistered,
)
from palyra.transport import quicframes as frames
from palyra.transport.interfaces import Peer
from palyra.wire import session as wire
from palyra.wire.service import messages
from tests.transport.desks import FakeDesk, FakeSession
from tests.transport.quicpeer import QuicPeer, hello, listen
from tests.transport.serving import DEVICE, device_pair
from tests.transport.udp import Network

OTHER = DeviceId("01M80NKQCNX4K7QM2ZT9B3FVHE")


class Desk(FakeDesk):
    """Also refuses at the gate, and has a journal."""

    def __init__(self) -> None:
        super().__init__()
        self.kept_out: Exception | None = None
        self.admitted: list[str | None] = []
        self.events = Events()
        self.registering: Deferred[Any] | None = None

    def admit(self, pem: bytes, claimed: str | None, address: str, transport: str) -> Peer:
        self.admitted.append(claimed)
        if self.kept_out is not None:
            raise self.kept_out
        return super().admit(pem, claimed, address, transport)

    def register(self, peer: Peer, hello: Any) -> Deferred[Any]:
        return self.registering or super().register(peer, hello)

    def follow_events(self, peer: Peer, resume_from: int | None, wake: Any) -> Deferred[Any]:
        self.asked.append(resume_from)
        self.events.wake = wake
        return succeed(self.events)


class Events:
    """A journal that a test writes."""

    def __init__(self) -> None:
        self.waiting: list[Any] = []
        self.closed = 0
        self.takes: list[int] = []
        self.wake: Any = None

    def say(self, *entries: Any) -> None:
        self.waiting.extend(entries)
        self.wake()

    def take(self, limit: int) -> Deferred[list[Any]]:
        taken, self.waiting = self.waiting[:limit], self.waiting[limit:]
        self.takes.append(len(taken))
        return succeed(taken)

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def network() -> Network:
    return Network(now_s=1_000.0)


@pytest.fixture
def desk() -> Desk:
    return Desk()


def session_of(desk: Desk) -> FakeSession:
    session = desk.attached.result
    assert isinstance(session, FakeSession)
    return session


def dispatch(input_json: bytes) -> Dispatch:
    return Dispatch(AttemptId("01A"), "01J", 1, "echo", input_json, 65_536, 1_000, "root")


# -- who comes in ---------------------------------------------------------------------------------


def test_health(network: Network, desk: Desk) -> None:
    """The published answer, and the end of its stream."""
    listen(network, desk)
    peer = QuicPeer(network).run()
    stream = peer.ask(frames.HEALTH)
    answer = frames.read_answer(peer.answers[stream][0])
    assert answer == frames.Health(node_rpc_mtls_required=True)
    assert stream in peer.finished
    assert desk.asked == []


def test_a_stranger_is_refused_before_a_byte_is_read(network: Network, desk: Desk) -> None:
    """No certificate: the alert that TLS has for it, and its stream is not looked at."""
    listener = listen(network, desk)
    peer = QuicPeer(network, identity=(b"", b""))
    stream = peer.ask(frames.HEALTH)
    assert peer.over is not None
    assert peer.over[0] == 0x100 + 116
    assert peer.answers.get(stream) is None
    assert desk.admitted == []
    assert listener.refused == {"no_certificate": 1}
    assert listener.count() == 0


@pytest.mark.parametrize(
    ("refusal", "alert"),
    [
        (CertificateRefused("expired"), 45),
        (CertificateRefused("foreign_ca"), 48),
        (CertificateRefused("wrong_eku"), 43),
        (CertificateRefused("wrong_role"), 42),
        (CertificateSuperseded(), 44),
        (DeviceRevoked("X", reason="lost"), 44),
    ],
)
def test_what_the_gate_refuses(network: Network, desk: Desk, refusal: Any, alert: int) -> None:
    """The device is told which refusal it was, and what it sent is dropped."""
    listener = listen(network, desk)
    desk.kept_out = refusal
    peer = QuicPeer(network)
    peer.ask(frames.SESSION, hello().SerializeToString())
    assert peer.over is not None
    assert peer.over[0] == 0x100 + alert
    told = frames.error_in(peer.over[1])
    assert told is not None
    assert told.sentence == refusal.sentence
    assert desk.asked == []
    assert listener.count() == 0


def test_a_device_with_too_much_open_is_refused(network: Network, desk: Desk) -> None:
    """By the desk's limit; the certificate is not blamed."""
    listen(network, desk)
    desk.refusal = LimitReached("open call streams of one device", 256)
    peer = QuicPeer(network).run()
    assert peer.over is not None
    assert peer.over[0] == 0x2
    assert "limit" in peer.over[1]


def test_every_stream_passes_the_gate_again(network: Network, desk: Desk) -> None:
    """A certificate that was good a moment ago may not be now."""
    listen(network, desk)
    peer = QuicPeer(network).run()
    desk.kept_out = CertificateRefused("expired")
    error = peer.error(peer.ask(frames.HEALTH))
    assert (error.error, error.code, error.reason) == (
        "stream_failure",
        "certificate_refused",
        "expired",
    )


# -- requests -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "failure"),
    [
        (frames.encode_frame(b"not json"), "invalid_request"),
        (frames.encode_frame(b'{"protocol_version":9,"method":"x"}'), "protocol_mismatch"),
        (frames.encode_frame(b'{"protocol_version":1,"method":"x"}'), "unsupported_method"),
        ((frames.MAX_REQUEST + 1).to_bytes(4, "big"), "invalid_request"),
        (bytes(4), "invalid_request"),
    ],
)
def test_a_bad_request_ends_its_stream_alone(
    network: Network, desk: Desk, sent: bytes, failure: str
) -> None:
    """With one of the four failures; the connection and its other streams go on."""
    listen(network, desk)
    peer = QuicPeer(network).run()
    stream = peer.link.open_stream()
    peer.link.write(stream, sent)
    peer.run()
    assert peer.error(stream).error == failure
    assert peer.over is None
    peer.link.write(stream + 4, frames.write_request(frames.HEALTH))
    peer.run()
    assert peer.answers[stream + 4]


def test_a_request_that_does_not_come(network: Network, desk: Desk) -> None:
    """Ten seconds are its time."""
    listen(network, desk)
    peer = QuicPeer(network).run()
    stream = peer.link.open_stream()
    peer.link.write(stream, b"\x00")
    peer.run(9)
    assert stream not in peer.finished
    peer.run(2)
    assert peer.error(stream).code == NotRegistered.code


def test_a_stream_that_ends_within_a_frame(network: Network, desk: Desk) -> None:
    """It is told so."""
    listen(network, desk)
    peer = QuicPeer(network).run()
    stream = peer.link.open_stream()
    peer.link.write(stream, frames.write_request(frames.HEALTH)[:-1], end=True)
    peer.run()
    assert peer.error(stream).error == "invalid_request"


def test_other_kinds_of_streams_are_not_served(network: Network, desk: Desk) -> None:
    """A unidirectional one closes the connection."""
    listen(network, desk)
    peer = QuicPeer(network).run()
    peer.link.write(2, b"x")
    peer.run()
    assert peer.over is not None
    assert "bidirectional" in peer.over[1]


def test_streams_one_after_another(network: Network, desk: Desk) -> None:
    """Far more than may be open at once."""
    listen(network, desk)
    peer = QuicPeer(network).run()
    for _ in range(70):
        stream = peer.link.open_stream()
        peer.link.write(stream, frames.write_request(frames.HEALTH), end=True)
        peer.run(0.1)
        assert stream in peer.finished


def test_no_more_streams_than_allowed(network: Network, desk: Desk) -> None:
    """The 33rd waits at the peer until another one ends."""
    listen(network, desk)
    peer = QuicPeer(network).run()
    for number in range(33):
        peer.link.write(4 * number, frames.write_request(frames.EVENTS))
    peer.run()
    assert len(desk.asked) == 32


# -- sessions -------------------------------------------------------------------------------------


def test_a_session(network: Network, desk: Desk) -> None:
    """Registration, first word, events one way and frames the other, and its normal end."""
    listen(network, desk)
    peer = QuicPeer(network).run()
    stream = peer.begin_session()
    session = session_of(desk)
    peer.heartbeat(stream)
    assert [each.name for each in session.received_events] == [HEARTBEAT]
    session.say(GatewayFrame(acknowledged=["01A"], drain=Drained("why", 5)))
    peer.run()
    frame = wire.read_frame(messages.NodeEventResponse.FromString(peer.answers[stream][-1]))
    assert (frame.acknowledged, frame.drain) == (["01A"], Drained("why", 5))
    session.carrier.close(None)
    peer.run()
    assert stream in peer.finished
    assert session.reasons == ["closed by the gateway"]
    assert peer.over is None


def test_what_gathers_in_a_turn_is_one_frame(network: Network, desk: Desk) -> None:
    """However often the carrier was woken."""
    listen(network, desk)
    peer = QuicPeer(network).run()
    stream = peer.begin_session()
    session = session_of(desk)
    session.frames.append(GatewayFrame(acknowledged=["01A", "01B"]))
    for _ in range(5):
        session.carrier.wake()
    peer.run()
    assert len(peer.answers[stream]) == 1


def test_a_version_1_node(network: Network, desk: Desk) -> None:
    """It has gRPC: what it says of itself is not enough here."""
    listen(network, desk)
    peer = QuicPeer(network).run()
    request = hello()
    request.ClearField("hello")
    error = peer.error(peer.ask(frames.SESSION, request.SerializeToString()))
    assert error.error == "invalid_request"
    assert desk.asked == []


def test_the_gateway_ends_a_session_with_its_reason(network: Network, desk: Desk) -> None:
    """The node reads the same error as over gRPC."""
    listen(network, desk)
    peer = QuicPeer(network).run()
    stream = peer.begin_session()
    session_of(desk).carrier.close(CertificateSuperseded())
    peer.run()
    assert peer.error(stream).code == CertificateSuperseded.code
    assert session_of(desk).reasons == [CertificateSuperseded.code]


def test_revocation_ends_the_whole_connection(network: Network, desk: Desk) -> None:
    """The desk closes what its device has open: session, event streams, and the connection."""
    listener = listen(network, desk)
    peer = QuicPeer(network).run()
    stream, other = peer.begin_session(), peer.ask(frames.EVENTS)
    began = network.clock.seconds()
    desk.streams[0].close(DeviceRevoked("X", reason="lost"))
    network.run(1.0, until=lambda: peer.over is not None)
    assert network.clock.seconds() - began < 1.0
    assert peer.error(stream).code == peer.error(other).code == DeviceRevoked.code
    told = frames.error_in((peer.over or (0, ""))[1])
    assert told is not None
    assert told.sentence == "This device was revoked: lost."
    assert session_of(desk).reasons == [DeviceRevoked.code]
    assert desk.events.closed == 1
    assert listener.count() == 0
    assert desk.streams == []


def test_the_last_words_are_repeated_to_who_missed_them(network: Network, desk: Desk) -> None:
    """A CONNECTION_CLOSE that got lost is sent again to a peer that still speaks."""
    listen(network, desk)
    peer = QuicPeer(network).run()
    peer.begin_session()
    network.fate = lambda datagram, source, target: [] if target[0] == "10.0.0.2" else [0.001]
    desk.streams[0].close(DeviceRevoked("X"))
    network.run(0.32)
    network.fate = lambda *_: [0.001]
    peer.link.ping()
    peer.run(0.1)
    assert peer.over is not None
    assert "device_revoked" in peer.over[1]


def test_a_refused_registration(network: Network, desk: Desk) -> None:
    """The desk's refusal, and nothing opened."""
    listen(network, desk)
    peer = QuicPeer(network).run()
    desk.refusal = LimitReached("registrations of one device in a minute", 30, 12.0)
    stream = peer.ask(frames.SESSION, hello().SerializeToString())
    error = peer.error(stream)
    assert (error.code, error.retry_after_ms, error.transient) == ("limit_reached", 12_000, True)


def test_somebody_elses_device(network: Network, desk: Desk) -> None:
    """A certificate speaks for its own device alone, at registration and after it."""
    listen(network, desk)
    peer = QuicPeer(network, identity=device_pair(OTHER)).run()
    first = peer.ask(frames.SESSION, hello(DEVICE).SerializeToString())
    assert peer.error(first).code == CertificateRefused.code
    second = peer.ask(frames.SESSION, hello(OTHER).SerializeToString())
    peer.say(second, wire.write_event(NodeEvent(STARTED, session_epoch=3), DEVICE))
    assert peer.error(second).code == CertificateRefused.code


def test_words_before_the_registration_is_answered(network: Network, desk: Desk) -> None:
    """They are out of turn."""
    desk.registering = Deferred()
    listen(network, desk)
    peer = QuicPeer(network).run()
    stream = peer.ask(frames.SESSION, hello().SerializeToString())
    peer.say(stream, wire.write_event(NodeEvent(STARTED), DEVICE))
    assert peer.error(stream).error == "invalid_request"


def test_a_registration_that_is_answered_to_nobody(network: Network, desk: Desk) -> None:
    """The connection is gone by then: nothing is written, nothing breaks."""
    desk.registering = Deferred()
    listener = listen(network, desk)
    peer = QuicPeer(network).run()
    peer.ask(frames.SESSION, hello().SerializeToString())
    peer.link.close(0)
    peer.run()
    answer, desk.registering = desk.registering, None
    desk.register(Peer(DEVICE, "f", 1, "a", "quic"), None).chainDeferred(answer)  # type: ignore[arg-type]
    peer.run(5)
    assert listener.count() == 0


def test_the_first_word_must_come(network: Network, desk: Desk) -> None:
    """Ten seconds after the registration."""
    listen(network, desk)
    peer = QuicPeer(network).run()
    stream = peer.ask(frames.SESSION, hello().SerializeToString())
    peer.run(10)
    assert peer.error(stream).code == NotRegistered.code


def test_noise_within_a_session(network: Network, desk: Desk) -> None:
    """Ends it, with the session told."""
    listen(network, desk)
    peer = QuicPeer(network).run()
    stream = peer.begin_session()
    peer.link.write(stream, frames.encode_frame(b"\xff\xff\xff"))
    peer.run()
    assert peer.error(stream).error == "invalid_request"
    assert session_of(desk).reasons == ["malformed"]


def test_the_node_ends_its_session(network: Network, desk: Desk) -> None:
    """Its end of the stream is the end of the session."""
    listen(network, desk)
    peer = QuicPeer(network).run()
    stream = peer.begin_session()
    peer.link.write(stream, b"", end=True)
    peer.run()
    assert session_of(desk).reasons == ["closed by the node"]
    assert stream in peer.finished


def test_a_connection_that_falls_silent(network: Network, desk: Desk) -> None:
    """Ends its session after the idle time, and leaves no timer behind."""
    listener = listen(network, desk)
    peer = QuicPeer(network).run()
    peer.begin_session()
    network.silent.add("10.0.0.2")
    peer.port.stopListening()
    peer.link.abandon()
    network.run(40)
    assert session_of(desk).reasons == ["connection lost"]
    assert listener.count() == 0
    assert network.clock.getDelayedCalls() == []


def test_a_slow_peer_is_not_written_more_than_it_takes(network: Network, desk: Desk) -> None:
    """Frames gather in the session while nothing is acknowledged."""
    listen(network, desk)
    peer = QuicPeer(network).run()
    peer.begin_session()
    session = session_of(desk)
    network.fate = lambda datagram, source, target: [] if target[0] == "10.0.0.2" else [0.001]
    big = GatewayFrame(dispatches=[dispatch(b"1" * 50_000)])
    for _ in range(100):
        session.say(big)
        peer.run(0.01)
    assert len(session.frames) > 90
    network.fate = lambda *_: [0.001]
    for _ in range(300):
        session.carrier.wake()
        peer.run(0.2)
    assert session.frames == []
    assert len(peer.answers[0]) == 100


# -- calls beside the session -----------------------------------------------------------------


def test_a_device_that_leaves_is_answered(network: Network, desk: Desk) -> None:
    """Though its connection ends with the trust that it gives up."""
    revoking: Deferred[None] = Deferred()
    desk.revoke_self = lambda peer, reason: revoking  # type: ignore[method-assign]
    listen(network, desk)
    peer = QuicPeer(network).run()
    request = messages.RevokeDevicePairingRequest(v=1, reason="sold")
    request.device_id.ulid = DEVICE
    stream = peer.ask(frames.REVOKE, request.SerializeToString())
    desk.streams[0].close(DeviceRevoked("X", reason="sold"))
    network.run(0.1)
    revoking.callback(None)
    peer.run()
    answer = messages.RevokeDevicePairingResponse.FromString(peer.answers[stream][0])
    assert answer.revoked
    assert peer.over is not None
    assert "device_revoked" in peer.over[1]


@pytest.mark.parametrize("method", [frames.ROTATE, frames.REVOKE])
def test_a_call_needs_its_message(network: Network, desk: Desk, method: str) -> None:
    """One, and one only, and for the device of the certificate."""
    listen(network, desk)
    peer = QuicPeer(network).run()
    stream = peer.link.open_stream()
    peer.link.write(stream, frames.write_request(method), end=True)
    peer.run()
    assert peer.error(stream).error == "invalid_request"
    noise = peer.ask(method, b"\xff")
    assert peer.error(noise).error == "invalid_request"
    kind = {
        frames.ROTATE: messages.RotateDeviceCertificateRequest,
        frames.REVOKE: messages.RevokeDevicePairingRequest,
    }[method]
    other = kind(v=1)
    other.device_id.ulid = OTHER
    foreign = peer.ask(method, other.SerializeToString())
    assert peer.error(foreign).error in ("stream_failure", "invalid_request")
    assert peer.over is None


def test_what_is_not_a_session_has_small_frames(network: Network, desk: Desk) -> None:
    """A length beyond what the request can need is refused before its bytes are kept."""
    listen(network, desk)
    peer = QuicPeer(network).run()
    for method, length in ((frames.ROTATE, 64 * 1024 + 1), (frames.EVENTS, frames.MAX_REQUEST + 1)):
        stream = peer.link.open_stream()
        peer.link.write(stream, frames.write_request(method) + length.to_bytes(4, "big"))
        peer.run()
        assert peer.error(stream).error == "invalid_request"


# -- events ---------------------------------------------------------------------------------------


def test_events_are_replayed_and_then_live(network: Network, desk: Desk) -> None:
    """A gap is said, never passed over."""
    listen(network, desk)
    peer = QuicPeer(network).run()
    desk.events.waiting = [
        JournalGap(5),
        JournalEvent(DEVICE, 5, 10, "device.changed", {"name": "pi"}),
    ]
    stream = peer.ask(frames.EVENTS, resume_from=2)
    assert desk.asked == [2]
    desk.events.say(JournalEvent(DEVICE, 6, 11, "job.ended", {"state": "failed"}))
    peer.run()
    answers = [frames.read_answer(each) for each in peer.answers[stream]]
    assert answers == [
        frames.Gap(seq=4),
        frames.Event(5, "device.changed", 10, {"name": "pi"}),
        frames.Event(6, "job.ended", 11, {"state": "failed"}),
    ]


def test_events_wait_for_a_slow_reader(network: Network, desk: Desk) -> None:
    """They are taken page by page, as the network takes them."""
    listen(network, desk)
    peer = QuicPeer(network).run()
    many = [JournalEvent(DEVICE, n, 0, "job.ended", {"x": "y" * 2_000}) for n in range(1, 1_001)]
    desk.events.waiting = many
    network.fate = lambda datagram, source, target: [] if target[0] == "10.0.0.2" else [0.001]
    stream = peer.ask(frames.EVENTS)
    assert sum(desk.events.takes) < 300
    network.fate = lambda *_: [0.001]
    peer.run(20)
    assert len(peer.answers[stream]) == 1_000


def test_a_stream_that_is_given_up_while_it_is_answered(network: Network, desk: Desk) -> None:
    """Request and STOP_SENDING in one datagram: nothing is written, and nothing breaks."""
    listen(network, desk)
    peer = QuicPeer(network).run()
    stream = peer.link.open_stream()
    peer.link.write(stream, frames.write_request(frames.HEALTH))
    peer.link.stop_reading(stream)
    peer.run()
    assert peer.over is None
    assert peer.answers[peer.ask(frames.HEALTH)]


def test_a_reader_that_goes_is_forgotten(network: Network, desk: Desk) -> None:
    """Its following ends with its stream."""
    listen(network, desk)
    peer = QuicPeer(network).run()
    stream = peer.ask(frames.EVENTS)
    peer.engine.reset_stream(stream, 0)
    peer.link.touch()
    peer.run()
    assert desk.events.closed == 1


def test_requests_that_are_given_up_keep_no_place(network: Network, desk: Desk) -> None:
    """A peer that only resets its streams can open as many again."""
    listen(network, desk)
    peer = QuicPeer(network).run()
    for _ in range(40):
        stream = peer.ask(frames.EVENTS)
        peer.engine.reset_stream(stream, 0)
        peer.link.touch()
        peer.run(0.1)
    assert peer.answers[peer.ask(frames.HEALTH)]


def test_a_revocation_of_another_version(network: Network, desk: Desk) -> None:
    """Is refused, as over gRPC; nothing was asked of the desk."""
    listen(network, desk)
    peer = QuicPeer(network).run()
    asked = messages.RevokeDevicePairingRequest(v=7, reason="sold")
    asked.device_id.ulid = DEVICE
    stream = peer.ask(frames.REVOKE, asked.SerializeToString())
    assert peer.error(stream).code == "malformed"


def test_a_place_is_given_again_at_once(network: Network, desk: Desk) -> None:
    """Whoever waits with a 33rd stream is served as soon as another one is over."""
    listen(network, desk)
    peer = QuicPeer(network).run()
    held: list[int] = []
    for _ in range(32):
        held.append(peer.link.open_stream())
        peer.link.write(held[-1], b"\0")
    peer.run(0.5)
    late = peer.link.open_stream()
    peer.link.write(late, frames.write_request(frames.HEALTH), end=True)
    peer.run(0.5)
    peer.link.write(held[0], b"", end=True)
    peer.run(0.5)
    assert late in peer.answers
