"""The network between node hosts and the gateway: slow, cut, stalled, and silent about it.

Each device has one link.  A stream keeps its order and loses nothing but its end; a call may lose
its request or its answer.  What a side is told of a break, and when, is the link's to decide.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Protocol

import attrs
from twisted.internet.defer import Deferred, fail
from zope.interface import implementer

from palyra.core.frames import STOPPING, GatewayFrame, Hello, NodeEvent, Welcome
from palyra.core.transcript import DeviceProof
from palyra.errors import (
    GatewayUnreachable,
    PalyraError,
)
from palyra.testing.simulation.clock import HostClock, Timeline
from palyra.transport.interfaces import ICarrier, IGatewaySession, INodeSession
from palyra.transport.refusals import error_of, refusal_of
from palyra.wire.pairing import (
    Begin,
    Completed,
    RenewalAsked,
    Renewed,
    SessionOpened,
    StatusAnswer,
    StatusQuestion,
)

ADDRESS = "gateway.sim:7444"
WRITE_S = 0.0005
PIECE_S = 0.1
"""A message with pieces of a payload is large, so that much happens in the middle of a transfer."""
CUT = "the connection was closed"
"""All that a device hears of a gateway that does not take its certificate in the handshake."""


class Desk(Protocol):
    """The gateway, as the network reaches it."""

    clock: HostClock

    def shakes_hands(self, pem: bytes) -> bool:
        """Whether a connection comes about with that certificate, by its dates."""

    def register(self, device: str, pem: bytes, hello: Hello) -> Deferred[Welcome]:
        """RegisterNode."""

    def attach(
        self, device: str, pem: bytes, first: NodeEvent, carrier: ICarrier
    ) -> IGatewaySession:
        """StreamNodeEvents, once the node has said its first word."""

    def renew(self, device: str, pem: bytes, asked: RenewalAsked) -> Deferred[Renewed]:
        """RotateDeviceCertificate."""

    def revoke(self, device: str, pem: bytes, reason: str) -> Deferred[None]:
        """RevokeDevicePairing."""

    def begin(self, device: str, message: Begin) -> Deferred[SessionOpened]:
        """BeginPairingSession."""

    def complete(self, device: str, proof: DeviceProof) -> Deferred[Completed]:
        """CompletePairingSession."""

    def status(self, device: str, question: StatusQuestion) -> Deferred[StatusAnswer]:
        """GetPairingRequestStatus."""


def as_remote(error: PalyraError) -> PalyraError:
    """What a device makes of a refusal of the gateway's."""
    return error_of(refusal_of(error))


@attrs.define(eq=False)
class Link:
    """The way between one device and the gateway.

    ``silent``: nobody is told when something on it is lost.  Before ``stalled_until`` everything
    is late.  Of each call named in ``to_lose`` the next answer is lost.
    """

    name: str
    random: Random
    timeline: Timeline
    desk: Callable[[], Desk | None]
    delay_s: float = 0.01
    write_s: float = 0.0
    up: bool = True
    silent: bool = False
    stalled_until: float = 0.0
    streams: list[Stream] = attrs.Factory(list)
    to_lose: set[str] = attrs.Factory(set)

    def arrival(self) -> float:
        """When what is sent now arrives."""
        sent = max(self.timeline.now, self.stalled_until)
        return sent + self.delay_s * self.random.uniform(0.5, 2.5)

    def gateway(self) -> Desk | None:
        """The gateway, if it can be reached."""
        return self.desk() if self.up else None

    def notice_s(self) -> float | None:
        """After how long a side notices a break; None: by silence only."""
        return None if self.silent else self.random.uniform(0.0, 3.0)

    def loses(self, call: str) -> bool:
        """Whether the answer of a call gets lost now."""
        lost = call in self.to_lose
        self.to_lose.discard(call)
        return lost

    def cut(self, *, silent: bool) -> None:
        """Nothing passes any more."""
        self.up, self.silent = False, silent
        for stream in list(self.streams):
            stream.tear(self.notice_s(), self.notice_s())

    def heal(self) -> None:
        """Whatever is sent from now on passes; what was torn stays so."""
        self.up, self.silent = True, False

    def gateway_died(self, *, told: bool) -> None:
        """Its end of every stream is gone; the nodes are told so, or are not."""
        for stream in list(self.streams):
            stream.tear(self.notice_s() if told else None, None)

    def node_died(self, *, told: bool) -> None:
        """The node's end of every stream is gone."""
        for stream in list(self.streams):
            stream.tear(None, self.notice_s() if told else None)


class Stream:
    """One StreamNodeEvents call: a pipe each way, and what each side knows of its end."""

    def __init__(self, link: Link, clock: HostClock, pem: bytes) -> None:
        self.link = link
        self._clock = clock
        self._pem = pem
        self._torn = False
        self._gateway: Desk | None = None
        self._gateway_session: IGatewaySession | None = None
        self._gateway_over = False
        self._node_session: INodeSession | None = None
        self._ended: Deferred[None] = Deferred(lambda _: self.node_left(None, told=True))
        self._node_over = False
        self._node_end = _Carrier(self._from_node, clock, self.node_left)
        self._gateway_end: _Carrier | None = None
        self._arrived_s = [0.0, 0.0]

    def begin(self, make_session: Callable[[ICarrier], Any]) -> Deferred[None]:
        """The node opens the stream; fires when the gateway ended it, fails when it broke."""
        self.link.streams.append(self)
        if self.link.gateway() is None and not self.link.silent:
            self.link.streams.remove(self)
            return fail(away("connection refused"))
        self._node_session = make_session(self._node_end)
        return self._ended

    # -- the node's side ----------------------------------------------------------------------

    def _from_node(self) -> bool:
        """Write what the node has to say; whether it may go on."""
        if self._node_over or self._node_session is None:
            return False
        event = self._node_session.take_event()
        if event is not None:
            self._node_end.write_s = PIECE_S if event.chunks else WRITE_S
            self._send(0, self._to_gateway, event)
        return event is None or event.name != STOPPING

    def node_left(self, error: PalyraError | None, told: bool = False) -> None:
        """The node ended the call; ``told``: whoever waits for its end knows."""
        if self._node_over:
            return
        self._node_over = True
        self._forget()
        self._send(0, self._gateway_hears_end, "connection lost")
        if not told and not self._ended.called:
            if error is None:
                self._ended.callback(None)
            else:
                self._ended.errback(error)

    def _node_hears(self, frame: GatewayFrame) -> None:
        if not self._node_over and not self._clock.dead and self._node_session is not None:
            self._node_session.received(frame)

    def _node_hears_end(self, error: PalyraError | None) -> None:
        if not self._node_over and not self._clock.dead:
            self._node_over = True
            self._forget()
            if error is None:
                self._ended.callback(None)
            else:
                self._ended.errback(error)

    # -- the gateway's side -------------------------------------------------------------------

    def _to_gateway(self, event: NodeEvent) -> None:
        if self._gateway_session is None:
            self._attach(event)
        elif not self._gateway_over and not self._dead_gateway:
            self._gateway_session.received(event)
            if event.name == STOPPING:
                self._gateway_hears_end("closed by the node")
                self._send(1, self._node_hears_end, None)

    def _attach(self, first: NodeEvent) -> None:
        gateway = self._gateway = self.link.desk()
        if gateway is None or self._gateway_over:
            return
        carrier = self._gateway_end = _Carrier(
            self._from_gateway, gateway.clock, self._gateway_closes
        )
        try:
            self._gateway_session = gateway.attach(self.link.name, self._pem, first, carrier)
        except PalyraError as error:
            self._gateway_over = True
            self._send(1, self._node_hears_end, as_remote(error))

    def _from_gateway(self) -> bool:
        if self._gateway_over or self._gateway_session is None:
            return False
        frame = self._gateway_session.take_frame()
        if frame is not None:
            if self._gateway_end is not None:
                self._gateway_end.write_s = PIECE_S if frame.chunks else WRITE_S
            self._send(1, self._node_hears, frame)
        return True

    def _gateway_closes(self, error: PalyraError | None) -> None:
        assert self._gateway is not None, "it has a carrier"
        self._gateway.clock.soon(0.001, self._gateway_closed, error)

    def _gateway_closed(self, error: PalyraError | None) -> None:
        if not self._gateway_over:
            self._from_gateway()
            self._gateway_hears_end("closed by the gateway")
            told = None if error is None else as_remote(error)
            self._send(1, self._node_hears_end, told)

    def _gateway_hears_end(self, reason: str) -> None:
        if not self._gateway_over:
            self._gateway_over = True
            if self._gateway_session is not None and not self._dead_gateway:
                self._gateway_session.ended(reason)

    @property
    def _dead_gateway(self) -> bool:
        return self._gateway is None or self._gateway.clock.dead

    # -- between them -------------------------------------------------------------------------

    def tear(self, node_s: float | None, gateway_s: float | None) -> None:
        """Nothing of it passes any more; the sides notice after so long, or by silence."""
        if self._torn:
            return
        self._torn = True
        later = self.link.timeline.later
        if node_s is not None:
            later(node_s, self._node_hears_end, away("the connection was closed"))
        if gateway_s is not None:
            later(gateway_s, self._gateway_hears_end, "connection lost")
        self._forget()

    def _send(self, way: int, act: Callable[..., None], what: Any) -> None:
        """Everything one way arrives in the order it was sent."""
        arrival = max(self.link.arrival(), self._arrived_s[way])
        self._arrived_s[way] = arrival
        self.link.timeline.at(arrival, self._deliver, act, what)

    def _deliver(self, act: Callable[..., None], what: Any) -> None:
        if not self._torn and self.link.up:
            act(what)

    def _forget(self) -> None:
        if self in self.link.streams and (self._torn or self._node_over):
            self.link.streams.remove(self)


@implementer(ICarrier)
class _Carrier:
    """One end's writer: it takes what gathered, writes it, and looks again."""

    def __init__(
        self,
        write: Callable[[], bool],
        clock: HostClock,
        close: Callable[[PalyraError | None], None],
    ) -> None:
        self._write = write
        self._clock = clock
        self._close = close
        self._wanted = False
        self._writing = False
        self.write_s = WRITE_S

    def wake(self) -> None:
        self._wanted = True
        if not self._writing:
            self._writing = True
            self._clock.soon(0.0, self._turn)

    def close(self, error: PalyraError | None) -> None:
        self._close(error)

    def _turn(self) -> None:
        self._wanted = False
        if self._write():
            self._clock.soon(self.write_s, self._written)

    def _written(self) -> None:
        self._writing = False
        if self._wanted:
            self.wake()


def away(cause: str) -> GatewayUnreachable:
    """The gateway could not be reached."""
    return GatewayUnreachable(ADDRESS, cause)
