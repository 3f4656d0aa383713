"""Streams of callers: they end with the trust in their device, and with the gateway."""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from zope.interface import implementer
from zope.interface.verify import verifyObject

from palyra.core.devices import INVOKE_OTHERS, ClientKind
from palyra.core.frames import Wanted
from palyra.core.identifiers import DeviceId, Fingerprint
from palyra.core.jobs import Job, JobState
from palyra.errors import CertificateRefused, DeviceRevoked, Draining, LimitReached, PalyraError
from palyra.gateway import callstreams
from palyra.gateway.callstreams import CallStreams
from palyra.transport.interfaces import ICallStream, Peer
from tests.gateway.enrolling import Gateway
from tests.gateway.house import attempt_of, fired, result_of

ANNA, BOB = DeviceId("anna"), DeviceId("bob")


@implementer(ICallStream)
class Stream:
    """A stream that keeps how it was closed."""

    def __init__(self) -> None:
        self.errors: list[PalyraError] = []

    def close(self, error: PalyraError) -> None:
        self.errors.append(error)


def peer(device_id: DeviceId, not_after_ms: int = 60_000) -> Peer:
    return Peer(device_id, Fingerprint("f"), not_after_ms, "address", "grpc")


def test_a_revoked_device() -> None:
    """All its streams are closed, and nobody else's; closing them is left to them."""
    clock = Clock()
    streams = CallStreams(clock)
    mine, also_mine, other = Stream(), Stream(), Stream()
    assert verifyObject(ICallStream, mine)
    for owner, stream in ((ANNA, mine), (ANNA, also_mine), (BOB, other)):
        streams.opened(peer(owner), stream)
    error = DeviceRevoked("anna")
    streams.expel(ANNA, error)
    streams.expel(DeviceId("nobody"), error)
    assert [each.errors for each in (mine, also_mine, other)] == [[error], [error], []]
    for owner, stream in ((ANNA, mine), (ANNA, also_mine), (ANNA, mine), (BOB, other)):
        streams.closed(peer(owner), stream)
    assert streams.count() == 0 and clock.getDelayedCalls() == []


def test_a_certificate_that_runs_out() -> None:
    """A stream ends with the certificate it was opened with, to the second."""
    clock = Clock()
    streams = CallStreams(clock)
    stream = Stream()
    streams.opened(peer(ANNA), stream)
    clock.advance(59.9)
    assert stream.errors == []
    clock.advance(0.2)
    (error,) = stream.errors
    assert isinstance(error, CertificateRefused) and error.reason == "expired"
    streams.closed(peer(ANNA), stream)
    assert streams.count() == 0


def test_a_certificate_on_the_wall_clock() -> None:
    """What is left of it counts from now; one that has run out already ends its stream at once."""
    clock = Clock()
    clock.rightNow = 1_800_000_000.0
    streams = CallStreams(clock)
    late, over = Stream(), Stream()
    streams.opened(peer(ANNA, 1_800_003_600_000), late)
    streams.opened(peer(BOB, 1_799_999_999_000), over)
    clock.advance(0)
    assert len(over.errors) == 1 and late.errors == []
    clock.advance(3_599.5)
    assert late.errors == []
    clock.advance(0.6)
    assert len(late.errors) == 1


def test_a_gateway_that_stops() -> None:
    """Every stream is closed."""
    streams = CallStreams(Clock())
    opened = [Stream(), Stream()]
    for owner, stream in zip((ANNA, BOB), opened, strict=True):
        streams.opened(peer(owner), stream)
    streams.close_all(Draining())
    assert [type(error) for stream in opened for error in stream.errors] == [Draining, Draining]
    assert streams.count() == 2


def test_no_device_has_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more is refused, and does not count."""
    monkeypatch.setattr(callstreams, "MAX_STREAMS", 2)
    clock = Clock()
    streams = CallStreams(clock)
    for stream in (Stream(), Stream()):
        streams.opened(peer(ANNA), stream)
    with pytest.raises(LimitReached):
        streams.opened(peer(ANNA), refused := Stream())
    streams.closed(peer(ANNA), refused)
    streams.opened(peer(BOB), Stream())
    assert streams.count() == 3 and len(clock.getDelayedCalls()) == 3


# -- calls that wait ---------------------------------------------------


def test_an_answer_passes() -> None:
    """What it fires with, or fails with; nothing of it is kept."""
    streams = CallStreams(Clock())
    good, bad = Deferred[str](), Deferred[str]()
    told, refused = (streams.until_expelled(ANNA, each) for each in (good, bad))
    good.callback("done")
    assert result_of(told) == "done" and len(streams._calls[ANNA]) == 1
    bad.errback(LimitReached("x", 1))
    with pytest.raises(LimitReached):
        result_of(refused)
    assert streams._calls == {}


def test_an_answer_that_is_there_already() -> None:
    """It is passed on at once."""
    streams = CallStreams(Clock())
    answer: Deferred[int] = Deferred()
    answer.callback(1)
    assert result_of(streams.until_expelled(ANNA, answer)) == 1 and streams._calls == {}


def test_who_is_expelled_stops_waiting() -> None:
    """Every waiting call of that device fails with the refusal, and stops what it waited for; a
    late answer is nobody's, and nobody else is touched."""
    streams = CallStreams(Clock())
    stopped: list[object] = []
    mine, deaf = Deferred[int](stopped.append), Deferred[int](lambda _: None)
    other: Deferred[int] = Deferred(stopped.append)
    waiting = [streams.until_expelled(ANNA, each) for each in (mine, deaf)]
    theirs = streams.until_expelled(BOB, other)
    for _ in range(2):
        streams.expel(ANNA, DeviceRevoked("anna"))
    for each in waiting:
        with pytest.raises(DeviceRevoked):
            result_of(each)
    assert stopped == [mine] and not fired(theirs) and set(streams._calls) == {BOB}
    other.callback(1)
    assert result_of(theirs) == 1 and streams._calls == {}


def test_who_gives_up_stops_waiting() -> None:
    """Cancelling the call cancels what it waits for."""
    streams = CallStreams(Clock())
    stopped: list[object] = []
    answer: Deferred[int] = Deferred(stopped.append)
    told = streams.until_expelled(ANNA, answer)
    told.cancel()
    with pytest.raises(CancelledError):
        result_of(told)
    assert stopped == [answer] and streams._calls == {}


@pytest.mark.parametrize("key", ["", "k"])
@pytest.mark.parametrize("act", ["revoke", "remove"])
def test_a_caller_that_is_revoked(gateway: Gateway, key: str, act: str) -> None:
    """Its call that waits fails within the same turn, and the job goes on to its end."""
    device, node = gateway.online()
    client = gateway.device("laptop", kind=ClientKind.CLI, grants=frozenset({INVOKE_OTHERS}))
    accepted: list[Job] = []
    wanted = Wanted(device.device_id, "echo", b"{}", idempotency_key=key)
    answer = gateway.node_desk.run(gateway.peer(client.device_id), wanted, accepted.append)
    node.take()
    assert not fired(answer)
    take_away = gateway.revoker.revoke if act == "revoke" else gateway.revoker.remove
    result_of(Deferred.fromCoroutine(take_away(client, "ana", "lost")))
    with pytest.raises(DeviceRevoked) as caught:
        result_of(answer)
    assert caught.value.reason == "lost"
    (job,) = accepted
    assert gateway.kept(job).state is JobState.DISPATCHED and node.cancels == []
    node.finish(attempt_of(gateway.kept(job)))
    assert gateway.kept(job).state is JobState.SUCCEEDED


def test_a_caller_that_is_its_own_target(gateway: Gateway) -> None:
    """Its own call is refused too, and its job has ended with it."""
    device, node = gateway.online()
    answer = gateway.node_desk.run(node.peer, Wanted(device.device_id, "echo", b"{}"))
    node.take()
    result_of(Deferred.fromCoroutine(gateway.revoker.revoke(device, "ana", "lost")))
    with pytest.raises(DeviceRevoked):
        result_of(answer)


def test_a_newer_certificate_is_in_use() -> None:
    """What was opened with an older one ends soon, what was opened with the new one stays."""
    clock = Clock()
    streams = CallStreams(clock)
    old, new = Stream(), Stream()
    streams.opened(peer(ANNA), old)
    newer = Peer(ANNA, Fingerprint("g"), 90_000, "address", "quic")
    streams.opened(newer, new)
    for _ in range(3):  # each registration says it
        streams.supersede(ANNA, lambda each: each == "f", 30.0)
        clock.advance(10)
    assert [each.code for each in old.errors] == ["certificate_superseded"]
    assert new.errors == []
    streams.closed(peer(ANNA), old)
    streams.closed(newer, new)
    assert clock.getDelayedCalls() == []


def test_a_superseded_certificate_that_runs_out() -> None:
    """It ends no later than it would have."""
    clock = Clock()
    streams = CallStreams(clock)
    stream = Stream()
    streams.opened(peer(ANNA), stream)
    clock.advance(55)
    streams.supersede(ANNA, lambda _: True, 30.0)
    clock.advance(5)
    assert [each.code for each in stream.errors] == ["certificate_refused"]
    streams.closed(peer(ANNA), stream)


def test_a_grace_after_the_certificate() -> None:
    """A connection may have one, as its session does."""
    clock = Clock()
    streams = CallStreams(clock)
    stream = Stream()
    streams.opened(peer(ANNA), stream, 300.0)
    clock.advance(359)
    assert stream.errors == []
    clock.advance(1)
    assert [each.code for each in stream.errors] == ["certificate_refused"]
    streams.closed(peer(ANNA), stream)
