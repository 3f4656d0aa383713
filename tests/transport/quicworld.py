"""A gateway with a QUIC listener, a device, and a network of memory between them."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from palyra.config.addresses import HostPort
from palyra.core.devices import AnnouncedCapability
from palyra.core.frames import STARTED, GatewayFrame, Hello, NodeEvent
from palyra.core.identifiers import AttemptId
from palyra.core.jobs import Outcome, Report
from palyra.errors import (
    GatewayUnreachable,
)
from palyra.pki.authority import Authority
from palyra.transport.quicclient import QuicChannel
from palyra.transport.quiclistener import QuicListener
from tests.gateway.enrolling import wall_ms
from tests.transport.desks import FakeSession
from tests.transport.quicpeer import GATEWAY, PORT, listen, soon_on
from tests.transport.serving import AUTHORITY, DEVICE, device_pair
from tests.transport.test_quicserver import Desk
from tests.transport.udp import Host, Network

ADDRESS = HostPort(GATEWAY, PORT)
HELLO = Hello(DEVICE, "linux", (AnnouncedCapability("echo"),), extended=True)
STRANGER = Authority.create(trust_domain="palyra.test", now_ms=wall_ms(), entropy=os.urandom)


class Session:
    """A node's session, as a test tells it."""

    def __init__(self, carrier: Any, events: list[NodeEvent]) -> None:
        self.carrier = carrier
        self.events = events
        self.frames: list[GatewayFrame] = []
        self.taken = 0
        self.fault: Exception | None = None
        carrier.wake()

    def received(self, frame: GatewayFrame) -> None:
        self.frames.append(frame)
        if self.fault is not None:
            raise self.fault

    def take_event(self) -> NodeEvent | None:
        if self.fault is not None:
            raise self.fault
        event = self.events.pop(0) if self.events else None
        self.taken += event is not None
        if self.events:
            self.carrier.wake()
        return event

    def say(self, *events: NodeEvent) -> None:
        self.events.extend(events)
        self.carrier.wake()


class World:
    """A gateway, a device, and the network between them."""

    def __init__(self, **changes: Any) -> None:
        self.network = Network(now_s=wall_ms() / 1000, delay_s=0.001)
        self.desk = Desk()
        self.listener: QuicListener = listen(self.network, self.desk, **changes)
        self.device: Host = self.network.host("10.0.0.2")
        self.channels: list[QuicChannel] = []

    def channel(
        self,
        identity: tuple[bytes, bytes] | None = None,
        ca_pem: bytes = AUTHORITY.ca_pem,
        address: HostPort = ADDRESS,
        **changes: Any,
    ) -> QuicChannel:
        made = QuicChannel(
            self.device,
            address,
            ca_pem,
            identity or device_pair(),
            elapsed_s=self.device.seconds,
            soon=soon_on(self.device),
            **changes,
        )
        self.channels.append(made)
        return made

    def ask(self, call: Deferred[Any], within_s: float = 20.0) -> Any:
        """What a call is answered, or the error that it fails with."""
        results: list[Any] = []
        call.addBoth(results.append)
        self.network.run(within_s, lambda: results)
        assert results, "no answer"
        return results[0].value if isinstance(results[0], Failure) else results[0]

    def carry(self, channel: QuicChannel, *events: NodeEvent) -> tuple[Session, Over]:
        """A session that has said its first word, and how it ends."""
        assert self.ask(channel.register(HELLO)).session_epoch == 3
        sessions: list[Session] = []

        def make_session(carrier: Any) -> Session:
            sessions.append(Session(carrier, [NodeEvent(STARTED, 3), *events]))
            return sessions[0]

        over = Over(channel.stream(make_session, DEVICE))
        self.network.run(1.0, lambda: self.desk.attached.called or over.called)
        return sessions[0], over

    @property
    def served(self) -> FakeSession:
        """The gateway's end of the session."""
        session = self.desk.attached.result
        assert isinstance(session, FakeSession)
        return session

    def end(self) -> None:
        """Everything is closed, and nothing is left of the device."""
        for channel in self.channels:
            self.ask(channel.close())
        assert self.device.ports == []
        self.ask(self.listener.stop(0.0))
        self.network.run(120.0)
        assert self.network.clock.getDelayedCalls() == []


class Over:
    """The end of a stream."""

    def __init__(self, stream: Deferred[None]) -> None:
        self.stream = stream
        self.results: list[Any] = []
        stream.addBoth(self.results.append)

    @property
    def called(self) -> bool:
        return bool(self.results)

    @property
    def error(self) -> BaseException | None:
        assert self.results, "it is not over"
        result = self.results[0]
        return result.value if isinstance(result, Failure) else None


def unreachable(error: Any) -> str:
    """The cause for which a gateway was not reached."""
    assert isinstance(error, GatewayUnreachable), error
    assert str(ADDRESS.port) in error.sentence
    return error.cause


def large(number: int) -> NodeEvent:
    """An event of 40 KB."""
    attempt_id = AttemptId(f"01M80NKQCNX4K7QM2ZT9B3F{number:03}")
    report = Report(attempt_id, Outcome.SUCCEEDED, b"x" * 40_000)
    return NodeEvent("", 3, reports=(report,))
