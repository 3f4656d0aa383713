"""Sessions carried in memory: frames as objects, or as the bytes of their messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall
from zope.interface import implementer

from palyra._reactor import the_reactor
from palyra.core.frames import STOPPING, GatewayFrame, Hello, NodeEvent, Welcome
from palyra.core.identifiers import DeviceId
from palyra.errors import GatewayUnreachable, PalyraError
from palyra.transport.interfaces import ICarrier, INodeDesk, Peer
from palyra.transport.refusals import error_of, refusal_of
from palyra.wire import registration
from palyra.wire import session as wire
from palyra.wire.pairing import RenewalAsked, Renewed
from palyra.wire.service import messages

ADDRESS = "192.0.2.7"


class Objects:
    """What is said arrives as the same object."""

    def event(self, event: NodeEvent, device_id: str) -> NodeEvent:
        return event

    def frame(self, frame: GatewayFrame) -> GatewayFrame:
        return frame

    def hello(self, hello: Hello) -> Hello:
        return hello

    def welcome(self, welcome: Welcome) -> Welcome:
        return welcome


class Encoded(Objects):
    """What is said is written, parsed and read as on a wire."""

    def event(self, event: NodeEvent, device_id: str) -> NodeEvent:
        data = wire.write_event(event, device_id).SerializeToString()
        return wire.read_event(messages.NodeEventRequest.FromString(data))

    def frame(self, frame: GatewayFrame) -> GatewayFrame:
        data = wire.write_frame(frame, "01M80NKQCNT6MW3K2ZT9B3FVHD", 1).SerializeToString()
        return wire.read_frame(messages.NodeEventResponse.FromString(data))

    def hello(self, hello: Hello) -> Hello:
        data = registration.write_hello(hello).SerializeToString()
        return registration.read_hello(messages.RegisterNodeRequest.FromString(data))

    def welcome(self, welcome: Welcome) -> Welcome:
        data = registration.write_welcome(welcome).SerializeToString()
        return registration.read_welcome(messages.RegisterNodeResponse.FromString(data))


def told(error: PalyraError) -> PalyraError:
    """What a device makes of an error of the gateway."""
    return error_of(refusal_of(error))


class MemoryNetwork:
    """Every connection in memory to one desk."""

    def __init__(self, speech: Objects) -> None:
        self.speech = speech
        self.desk: INodeDesk | None = None
        self.stalled = False
        self.wires: list[Wire] = []

    async def open(self, gateway: Any) -> None:
        self.desk = gateway.node_desk

    def channel(self, identity: tuple[bytes, bytes]) -> MemoryChannel:
        return MemoryChannel(self, identity[1])

    def admit(self, pem: bytes, claimed: str) -> Peer:
        """As a carrier asks the desk who speaks."""
        assert self.desk is not None, "nothing is served"
        peer: Peer = self.desk.admit(pem, claimed, ADDRESS, "memory")
        return peer

    def stall(self) -> None:
        self.stalled = True

    def flow(self) -> None:
        self.stalled = False
        for each in list(self.wires):
            each.move()

    def cut(self) -> None:
        for each in list(self.wires):
            each.end("connection lost", GatewayUnreachable("memory", "the connection was closed"))

    async def close(self) -> None:
        self.cut()


class MemoryChannel:
    """A connection to the desk, in the shape of :class:`palyra.node.link.Channel`."""

    def __init__(self, network: MemoryNetwork, pem: bytes) -> None:
        self._network = network
        self._pem = pem
        self._wire: Wire | None = None

    def connect(self) -> Deferred[None]:
        return succeed(None)

    def register(self, hello: Hello) -> Deferred[Welcome]:
        try:
            peer = self._network.admit(self._pem, hello.device_id)
        except PalyraError as error:
            return fail(told(error))
        assert self._network.desk is not None
        speech = self._network.speech
        registered: Deferred[Welcome] = self._network.desk.register(peer, speech.hello(hello))
        return registered.addCallback(speech.welcome)

    def renew(self, asked: RenewalAsked) -> Deferred[Renewed]:
        peer = self._network.admit(self._pem, asked.device_id)
        assert self._network.desk is not None
        renewed: Deferred[Renewed] = self._network.desk.renew(peer, asked)
        return renewed

    def revoke(self, device_id: DeviceId, reason: str) -> Deferred[None]:
        peer = self._network.admit(self._pem, device_id)
        assert self._network.desk is not None
        revoked: Deferred[None] = self._network.desk.revoke_self(peer, reason)
        return revoked

    def stream(self, make_session: Callable[[ICarrier], Any], device_id: str) -> Deferred[None]:
        self._wire = Wire(self._network, self._pem, DeviceId(device_id))
        return self._wire.carry(make_session)

    def close(self) -> Deferred[None]:
        if self._wire is not None:
            self._wire.end("connection lost", None)
        return succeed(None)


@implementer(ICarrier)
class _End:
    """One end of a wire: what waits is moved in the next turn of the reactor."""

    def __init__(self, move: Callable[[], object], close: Callable[[Any], object]) -> None:
        self._move = move
        self._close = close
        self.wanted = False
        self.call: IDelayedCall | None = None

    def wake(self) -> None:
        self.wanted = True
        if self.call is None:
            self.call = the_reactor().callLater(0, self.move)

    def move(self) -> None:
        self.call = None
        if self.wanted:
            self._move()

    def close(self, error: PalyraError | None) -> None:
        self._close(error)

    def stop(self) -> None:
        if self.call is not None and self.call.active():
            self.call.cancel()


class Wire:
    """Two ends of one session."""

    def __init__(self, network: MemoryNetwork, pem: bytes, device_id: DeviceId) -> None:
        self._network = network
        self._pem = pem
        self._device_id = device_id
        self._node: Any = None
        self._gateway: Any = None
        self._over: Deferred[None] = Deferred(self._cancelled)
        self._of_node = _End(self._from_node, lambda error: self.end("connection lost", error))
        self._of_gateway = _End(self._from_gateway, self._refuse)

    def carry(self, make_session: Callable[[ICarrier], Any]) -> Deferred[None]:
        """Fires at a normal end, fails with what ended it."""
        self._network.wires.append(self)
        self._node = make_session(self._of_node)
        return self._over

    def move(self) -> None:
        """What waited while nothing passed goes on."""
        for end in (self._of_node, self._of_gateway):
            if end.wanted:
                end.wake()

    def end(self, reason: str, error: PalyraError | None) -> None:
        """Both ends hear of it.  Again: nothing."""
        if self not in self._network.wires:
            return
        self._network.wires.remove(self)
        for end in (self._of_node, self._of_gateway):
            end.stop()
        if self._gateway is not None:
            self._gateway.ended(reason)
        if not self._over.called and error is None:
            self._over.callback(None)
        elif not self._over.called:
            self._over.errback(error)

    def _refuse(self, error: PalyraError | None) -> None:
        """The gateway ends it, with an error or normally."""
        self.end("closed by the gateway", error and told(error))

    def _cancelled(self, over: Deferred[None]) -> None:
        over.errback(CancelledError())
        self.end("connection lost", None)

    def _from_node(self) -> None:
        if self._network.stalled:
            return
        self._of_node.wanted = False
        event = self._node.take_event()
        if event is None:
            return
        try:
            self._received(self._network.speech.event(event, self._device_id))
        except PalyraError as error:
            self._refuse(error)
            return
        if event.name == STOPPING:
            self.end("closed by the node", None)

    def _received(self, event: NodeEvent) -> None:
        if self._gateway is not None:
            self._gateway.received(event)
            return
        peer = self._network.admit(self._pem, self._device_id)
        assert self._network.desk is not None
        self._gateway = self._network.desk.attach(peer, event, self._of_gateway)

    def _from_gateway(self) -> None:
        if self._network.stalled or self._gateway is None:
            return
        self._of_gateway.wanted = False
        frame = self._gateway.take_frame()
        if frame is not None:
            self._node.received(self._network.speech.frame(frame))
