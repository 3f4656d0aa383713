"""What a node says of its capabilities in a session, whatever carries it."""

from __future__ import annotations

from collections import deque

from twisted.internet.defer import CancelledError
from zope.interface import implementer

from palyra.core.descriptors import Descriptor, descriptor_digest
from palyra.core.frames import STARTED, CatalogAnswer, GatewayFrame, NodeEvent
from palyra.transport.interfaces import ICarrier, INodeSession
from tests.contract.sessionplace import Place
from tests.gateway.described import a_descriptor, announced
from tests.node.awaiting import awaiting

MANY = 12
"""Descriptors that are, together, more than one message may be."""


@implementer(INodeSession)
class Teller:
    """A node that says what it is told to, one event a message."""

    def __init__(self, carrier: ICarrier, first: NodeEvent) -> None:
        self.answers: list[CatalogAnswer] = []
        self._carrier = carrier
        self._events = deque([first])
        carrier.wake()

    def say(self, event: NodeEvent) -> None:
        self._events.append(event)
        self._carrier.wake()

    def received(self, frame: GatewayFrame) -> None:
        if frame.catalog is not None:
            self.answers.append(frame.catalog)

    def take_event(self) -> NodeEvent | None:
        if not self._events:
            return None
        event = self._events.popleft()
        if self._events:
            self._carrier.wake()
        return event


def large(number: int) -> Descriptor:
    """A descriptor of about 60 KiB."""
    named = {f"field-{at}": {"description": "x" * 1_000, "type": "string"} for at in range(58)}
    return a_descriptor(f"acme.x{number}", input_schema={"type": "object", "properties": named})


class SessionCatalogContract:
    """Part of :class:`tests.contract.session.SessionContract`."""

    @awaiting
    async def test_a_catalog(self, place: Place) -> None:
        """It is answered with what is granted and what is asked for, and the session goes on."""
        node = place.node()
        link = await node.register()
        epoch = link.welcome.session_epoch
        tellers: list[Teller] = []

        def begin(carrier: ICarrier) -> Teller:
            tellers.append(Teller(carrier, NodeEvent(STARTED, session_epoch=epoch)))
            return tellers[0]

        over = link.channel.stream(begin, node.peer.device_id)
        over.addErrback(lambda failure: failure.trap(CancelledError))
        await place.until(lambda: tellers and place.gateway.sessions.count())
        said = [large(number) for number in range(MANY)]
        before = node.device.grants
        tellers[0].say(NodeEvent(catalog=tuple(map(announced, said))))
        await place.until(lambda: tellers[0].answers)
        digests = tuple(descriptor_digest(each.encode()) for each in said)
        assert tellers[0].answers == [CatalogAnswer(tuple(sorted(before)), digests)]
        for each in said:
            tellers[0].say(NodeEvent(descriptors=(each.encode(),)))
        known = place.gateway.descriptors.of
        await place.until(lambda: all(map(known, digests)))
        assert node.device.session_epoch == epoch and place.gateway.sessions.count() == 1
        over.cancel()
        await link.channel.close()
        await place.until(lambda: place.gateway.sessions.count() == 0)
