"""Open calls of callers: no session, but they end as sessions do when trust ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from palyra.core.identifiers import DeviceId, Fingerprint
from palyra.errors import CertificateRefused, CertificateSuperseded, LimitReached, PalyraError
from palyra.transport.interfaces import ICallStream, Peer

MAX_STREAMS = 256
"""Streams that one device may have open at once."""

T = TypeVar("T")


@attrs.define
class _Expiry:
    """What ends a stream with its certificate."""

    fingerprint: Fingerprint
    ends: IDelayedCall
    superseded: bool = False

    def forget(self) -> None:
        if self.ends.active():
            self.ends.cancel()


class CallStreams:
    """Every call that waits and every stream of calls, by device."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._open: dict[DeviceId, dict[ICallStream, _Expiry]] = {}
        self._calls: dict[DeviceId, dict[Deferred[Any], Deferred[Any]]] = {}
        """Calls that wait for an answer: what their callers are told, by what they wait for."""

    def count(self) -> int:
        """How many are open."""
        return sum(map(len, self._open.values()))

    def opened(self, peer: Peer, stream: ICallStream, grace_s: float = 0.0) -> None:
        """Keep a stream until it ends, its device is expelled, or ``grace_s`` after its
        certificate has run out.

        :raises LimitReached: the device has too many.
        """
        of_device = self._open.get(peer.device_id, {})
        if len(of_device) >= MAX_STREAMS:
            raise LimitReached("open call streams of one device", MAX_STREAMS)
        life_s = max(0.0, peer.not_after_ms / 1000 + grace_s - self._clock.seconds())
        ends = self._clock.callLater(life_s, stream.close, CertificateRefused("expired"))
        of_device[stream] = _Expiry(peer.fingerprint, ends)
        self._open[peer.device_id] = of_device

    def closed(self, peer: Peer, stream: ICallStream) -> None:
        """The stream has ended."""
        of_device = self._open.get(peer.device_id, {})
        expiry = of_device.pop(stream, None)
        if expiry is not None:
            expiry.forget()
            if not of_device:
                del self._open[peer.device_id]

    def supersede(
        self, device_id: DeviceId, ended: Callable[[Fingerprint], bool], within_s: float
    ) -> None:
        """What was opened with a certificate that is superseded by now ends within that time."""
        for stream, expiry in self._open.get(device_id, {}).items():
            if not expiry.superseded and ended(expiry.fingerprint):
                expiry.superseded = True
                if expiry.ends.getTime() - self._clock.seconds() > within_s:
                    expiry.forget()
                    error = CertificateSuperseded()
                    expiry.ends = self._clock.callLater(within_s, stream.close, error)

    def until_expelled(self, device_id: DeviceId, answer: Deferred[T]) -> Deferred[T]:
        """What ``answer`` fires with, unless the caller is expelled first: then the refusal.

        Whoever stops waiting, by being expelled or by cancelling, cancels ``answer``.
        """
        told: Deferred[T] = Deferred(lambda _: answer.cancel())
        calls = self._calls.setdefault(device_id, {})
        calls[answer] = told

        def pass_on(result: Any) -> None:
            calls.pop(answer, None)
            if not calls and self._calls.get(device_id) is calls:
                del self._calls[device_id]
            if not told.called:
                told.callback(result)

        answer.addBoth(pass_on)
        return told

    def expel(self, device_id: DeviceId, error: PalyraError) -> None:
        """End every call and every stream of a device (revocation)."""
        for answer, told in list(self._calls.get(device_id, {}).items()):
            if not told.called:
                told.errback(error)
            answer.cancel()
        for stream in list(self._open.get(device_id, ())):
            stream.close(error)

    def close_all(self, error: PalyraError) -> None:
        """End every stream: the gateway stops."""
        for device_id in list(self._open):
            self.expel(device_id, error)
