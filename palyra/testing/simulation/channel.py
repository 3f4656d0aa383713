"""Calls over the network: what a node host asks either listener, and what may become of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from palyra.core.frames import Hello, Welcome
from palyra.core.identifiers import DeviceId
from palyra.core.transcript import DeviceProof
from palyra.errors import GatewayUnreachable, PalyraError
from palyra.testing.simulation.clock import HostClock
from palyra.testing.simulation.network import CUT, Desk, Link, Stream, as_remote, away
from palyra.transport.interfaces import ICarrier
from palyra.wire.pairing import (
    Begin,
    Completed,
    RenewalAsked,
    Renewed,
    SessionOpened,
    StatusAnswer,
    StatusQuestion,
)

CALL_TIMEOUT_S = 15.0
T = TypeVar("T")


class Channel:
    """What :class:`palyra.transport.grpcclient.GatewayChannel` is to a paired node host.

    The certificate is looked at in the handshake, where a gateway that does not take it ends the
    connection without a word, and by the gateway at each call.
    """

    def __init__(self, link: Link, clock: HostClock, identity: tuple[bytes, bytes]) -> None:
        self._link = link
        self._clock = clock
        self._pem = identity[1]
        self._reached: Desk | None = None
        self._stream: Stream | None = None

    def connect(self) -> Deferred[None]:
        """A handshake, and an answer that says nothing."""
        return self._call("connect", lambda desk: succeed(None))

    def register(self, hello: Hello) -> Deferred[Welcome]:
        """RegisterNode: its request may be lost, or its answer after the gateway has done it."""
        return self._call("register", lambda desk: desk.register(self._link.name, self._pem, hello))

    def renew(self, asked: RenewalAsked) -> Deferred[Renewed]:
        """RotateDeviceCertificate: as the other calls."""
        return self._call("renew", lambda desk: desk.renew(self._link.name, self._pem, asked))

    def revoke(self, device_id: DeviceId, reason: str) -> Deferred[None]:
        """RevokeDevicePairing: as the other calls."""
        return self._call("revoke", lambda desk: desk.revoke(self._link.name, self._pem, reason))

    def stream(self, make_session: Callable[[ICarrier], Any], device_id: str) -> Deferred[None]:
        """StreamNodeEvents."""
        stream = self._stream = Stream(self._link, self._clock, self._pem)
        return stream.begin(make_session)

    def close(self) -> Deferred[None]:
        """The connection ends with the call on it."""
        if self._stream is not None:
            self._stream.node_left(None)
        return succeed(None)

    def _call(self, name: str, ask: Callable[[Desk], Deferred[T]]) -> Deferred[T]:
        return Call(name, self._link, self._clock, ask, self._shakes_hands).answered

    def _shakes_hands(self, desk: Desk) -> bool:
        """A connection is made once with each life of the gateway."""
        if self._reached is not desk and not desk.shakes_hands(self._pem):
            return False
        self._reached = desk
        return True


class EnrolmentChannel:
    """The same for a device that proves its identity key: nothing is asked of a certificate."""

    def __init__(self, link: Link, clock: HostClock) -> None:
        self._link = link
        self._clock = clock

    def begin(self, message: Begin) -> Deferred[SessionOpened]:
        """BeginPairingSession."""
        return self._call("begin", lambda desk: desk.begin(self._link.name, message))

    def complete(self, proof: DeviceProof) -> Deferred[Completed]:
        """CompletePairingSession."""
        return self._call("complete", lambda desk: desk.complete(self._link.name, proof))

    def status(self, question: StatusQuestion) -> Deferred[StatusAnswer]:
        """GetPairingRequestStatus."""
        return self._call("status", lambda desk: desk.status(self._link.name, question))

    def close(self) -> Deferred[None]:
        """Nothing is left open."""
        return succeed(None)

    def _call(self, name: str, ask: Callable[[Desk], Deferred[T]]) -> Deferred[T]:
        return Call(name, self._link, self._clock, ask, lambda desk: True).answered


class Call(Generic[T]):
    """One call with an answer; ``answered`` fails when that does not come in time."""

    def __init__(
        self,
        name: str,
        link: Link,
        clock: HostClock,
        ask: Callable[[Desk], Deferred[T]],
        shakes_hands: Callable[[Desk], bool],
    ) -> None:
        self.answered: Deferred[T] = Deferred(lambda _: self._stop())
        self._name = name
        self._link = link
        self._clock = clock
        self._ask = ask
        self._shakes_hands = shakes_hands
        self._patience = clock.soon(CALL_TIMEOUT_S, self._give_up)
        if not clock.dead:
            link.timeline.at(link.arrival(), self._asked)

    def _asked(self) -> None:
        gateway = self._link.gateway()
        if gateway is None:
            if not self._link.silent:
                self._clock.soon(0.01, self._end, Failure(away("connection refused")))
        elif self._shakes_hands(gateway):
            self._ask(gateway).addBoth(self._reply, gateway)
        else:
            self._reply(Failure(away(CUT)), gateway)

    def _reply(self, result: Any, gateway: Desk) -> None:
        if not gateway.clock.dead and not self._link.loses(self._name):
            self._link.timeline.at(self._link.arrival(), self._replied, result)

    def _replied(self, result: Any) -> None:
        if not self._link.up or self._clock.dead:
            return
        if isinstance(result, Failure) and not result.check(GatewayUnreachable):
            result.trap(PalyraError)
            assert isinstance(result.value, PalyraError)
            result = Failure(as_remote(result.value))
        self._end(result)

    def _give_up(self) -> None:
        self._end(Failure(away("no answer")))

    def _stop(self) -> None:
        if self._patience.active():
            self._patience.cancel()

    def _end(self, result: Any) -> None:
        self._stop()
        if not self.answered.called:
            if isinstance(result, Failure):
                self.answered.errback(result)
            else:
                self.answered.callback(result)
