"""Open streams of callers: no session, but they end as sessions do when trust ends."""

from __future__ import annotations

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from palyra.core.identifiers import DeviceId
from palyra.errors import CertificateRefused, LimitReached, PalyraError
from palyra.transport.interfaces import ICallStream, Peer

MAX_STREAMS = 256
"""Streams that one device may have open at once."""


class CallStreams:
    """Every stream of calls, by device."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._open: dict[DeviceId, dict[ICallStream, IDelayedCall]] = {}
        """And what ends each of them with its certificate."""

    def count(self) -> int:
        """How many are open."""
        return sum(map(len, self._open.values()))

    def opened(self, peer: Peer, stream: ICallStream) -> None:
        """Keep a stream until it ends, its certificate runs out, or its device is expelled.

        :raises LimitReached: the device has too many.
        """
        of_device = self._open.get(peer.device_id, {})
        if len(of_device) >= MAX_STREAMS:
            raise LimitReached("open call streams of one device", MAX_STREAMS)
        life_s = max(0.0, peer.not_after_ms / 1000 - self._clock.seconds())
        expired = CertificateRefused("expired")
        of_device[stream] = self._clock.callLater(life_s, stream.close, expired)
        self._open[peer.device_id] = of_device

    def closed(self, peer: Peer, stream: ICallStream) -> None:
        """The stream has ended."""
        of_device = self._open.get(peer.device_id, {})
        expiry = of_device.pop(stream, None)
        if expiry is not None:
            if expiry.active():
                expiry.cancel()
            if not of_device:
                del self._open[peer.device_id]

    def expel(self, device_id: DeviceId, error: PalyraError) -> None:
        """End every stream of a device (revocation)."""
        for stream in list(self._open.get(device_id, ())):
            stream.close(error)

    def close_all(self, error: PalyraError) -> None:
        """End every stream: the gateway stops."""
        for device_id in list(self._open):
            self.expel(device_id, error)
