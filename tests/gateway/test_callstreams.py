"""Streams of callers: they end with the trust in their device, and with the gateway."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock
from zope.interface import implementer
from zope.interface.verify import verifyObject

from palyra.core.identifiers import DeviceId, Fingerprint
from palyra.errors import CertificateRefused, DeviceRevoked, Draining, LimitReached, PalyraError
from palyra.gateway import callstreams
from palyra.gateway.callstreams import CallStreams
from palyra.transport.interfaces import ICallStream, Peer

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
