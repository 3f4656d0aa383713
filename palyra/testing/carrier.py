"""A carrier without a network, and a node that behaves as a test tells it to."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
from twisted.internet.defer import Deferred
from zope.interface import implementer

from palyra import __version__
from palyra.core.devices import AnnouncedCapability
from palyra.core.frames import (
    HEARTBEAT,
    RESULT,
    STARTED,
    Dispatch,
    Drained,
    GatewayFrame,
    Hello,
    NodeEvent,
    Welcome,
)
from palyra.core.identifiers import AttemptId
from palyra.core.jobs import Outcome, Report, Standing
from palyra.core.transfers import PIECES_OVER, Incoming, Outgoing
from palyra.core.versions import FEATURES
from palyra.errors import PalyraError
from palyra.gateway.nodesession import NodeSession
from palyra.gateway.sessions import Sessions
from palyra.transport.interfaces import ICarrier, Peer


@implementer(ICarrier)
class MemoryCarrier:
    """Remembers what its session asks of it; frames are taken by hand."""

    def __init__(self) -> None:
        self.woken = 0
        self.closed: list[PalyraError | None] = []

    def wake(self) -> None:
        self.woken += 1

    def close(self, error: PalyraError | None) -> None:
        if not self.closed:
            self.closed.append(error)


@attrs.define(eq=False)
class ScriptedNode:
    """A node on :class:`MemoryCarrier` that keeps the rules of PROTOCOL: Jobs.

    It never starts an attempt id twice, resends what is not acknowledged, and lists at
    registration what it knows.  ``started`` is every start of an attempt, in order.
    """

    peer: Peer
    sessions: Sessions
    capabilities: tuple[AnnouncedCapability, ...] = ()
    extended: bool = True
    max_in_flight: int = 64
    memory_id: str = "memory 1"
    started: list[Dispatch] = attrs.Factory(list)
    running: dict[AttemptId, Dispatch] = attrs.Factory(dict)
    finished: dict[AttemptId, Report] = attrs.Factory(dict)
    """Reports that are not acknowledged."""
    acknowledged: list[str] = attrs.Factory(list)
    cancels: list[tuple[str, str]] = attrs.Factory(list)
    drains: list[Drained] = attrs.Factory(list)
    answers: int = 0
    known: set[str] = attrs.Factory(set)
    carrier: MemoryCarrier = attrs.Factory(MemoryCarrier)
    session: NodeSession | None = None
    opened: list[tuple[MemoryCarrier, NodeSession]] = attrs.Factory(list)
    """Every connection that may still be open: older ones live on until they are closed."""
    incoming: Incoming = attrs.Factory(Incoming)
    outgoing: Outgoing = attrs.Factory(Outgoing)

    # -- the connection -----------------------------------------------------------------------

    def hello(self) -> Hello:
        """What it tells of itself when it registers."""
        standings: dict[str, Standing] = {each: Standing.RUNNING for each in self.running}
        for attempt_id, report in self.finished.items():
            died = report.outcome is Outcome.DIED
            standings[attempt_id] = Standing.DIED if died else Standing.FINISHED
        listed: Mapping[str, Standing] = standings if self.extended else {}
        return Hello(
            device_id=self.peer.device_id,
            platform="test",
            capabilities=self.capabilities,
            version=__version__,
            memory_id=self.memory_id if self.extended else "",
            max_in_flight=self.max_in_flight,
            attempts=listed,
            extended=self.extended,
            features=FEATURES if self.extended else frozenset(),
        )

    def register(self) -> Deferred[Welcome]:
        """RegisterNode."""
        return Deferred.fromCoroutine(self.sessions.register(self.peer, self.hello()))

    def attach(self, epoch: int) -> NodeSession:
        """Open the stream with ``node.started``, and resend what is not acknowledged."""
        self.carrier = MemoryCarrier()
        self.incoming, self.outgoing = Incoming(), Outgoing()
        first = NodeEvent(STARTED, session_epoch=epoch if self.extended else 0)
        session = self.session = self.sessions.attach(self.peer, first, self.carrier)
        self.opened.append((self.carrier, session))
        for report in self.finished.values():
            self._tell(report)
        return session

    def connect(self) -> Deferred[NodeSession]:
        """Register and attach."""
        return self.register().addCallback(lambda welcome: self.attach(welcome.session_epoch))

    def disconnect(self) -> None:
        """The connection breaks."""
        session, self.session = self.session, None
        if session is not None:
            session.ended("connection lost")

    def hang_up(self) -> None:
        """Every connection breaks."""
        self.session = None
        for _, session in self.opened:
            session.ended("connection lost")
        self.opened.clear()

    def notice(self) -> None:
        """See which connections the gateway has closed."""
        for carrier, session in [each for each in self.opened if each[0].closed]:
            self.opened.remove((carrier, session))
            session.ended("closed by the gateway")
        if self.session is not None and not self.session.live:
            self.session = None

    def restart(self, *, lose_memory: bool = False) -> None:
        """The host dies: with its memory it knows what died in the middle, without it nothing."""
        self.disconnect()
        if lose_memory:
            self.memory_id += "'"
            self.known.clear()
            self.finished.clear()
        else:
            died = {each: Report(each, Outcome.DIED) for each in self.running}
            self.finished.update(died)
        self.running.clear()

    # -- what it says and does ------------------------------------------------------------------

    def take(self) -> GatewayFrame:
        """Read what the gateway says, and start what it sends."""
        frame = self.session.take_frame() if self.session is not None else None
        if frame is None:
            return GatewayFrame()
        for chunk in frame.chunks:
            self.incoming.add(chunk)
        for dispatch in frame.dispatches:
            self._start(dispatch)
        for dispatch, transfer_id in frame.transferred:
            self._start(attrs.evolve(dispatch, input_json=self.incoming.claim(transfer_id)))
        for attempt_id in frame.acknowledged:
            self.finished.pop(AttemptId(attempt_id), None)
        self.acknowledged.extend(frame.acknowledged)
        self.cancels.extend(frame.cancels)
        self.answers += frame.answers
        if frame.drain is not None:
            self.drains.append(frame.drain)
        return frame

    def heartbeat(self) -> None:
        """``node.heartbeat``."""
        self.say(NodeEvent(HEARTBEAT))

    def say(self, event: NodeEvent) -> None:
        """Any event."""
        assert self.session is not None, "it is not connected"
        self.session.received(event)

    def finish(
        self,
        attempt_id: AttemptId,
        outcome: Outcome = Outcome.SUCCEEDED,
        output_json: bytes = b'"done"',
    ) -> Report:
        """An attempt ends: remembered first, then reported where there is a connection."""
        self.running.pop(attempt_id, None)
        output = output_json if outcome is Outcome.SUCCEEDED else b""
        report = self.finished[attempt_id] = Report(attempt_id, outcome, output, took_ms=3)
        if self.session is not None:
            self._tell(report)
        return report

    def _tell(self, report: Report) -> None:
        """Report an attempt, in pieces where its output is large."""
        if not self.extended or len(report.output_json) <= PIECES_OVER:
            self.say(NodeEvent(RESULT, reports=(report,)))
            return
        self.outgoing.start(report.output_json)
        bare = attrs.evolve(report, output_json=b"")
        while self.outgoing.busy and self.session is not None:
            chunks, ended = self.outgoing.take()
            transferred = tuple((bare, each) for each in ended)
            self.say(NodeEvent(RESULT, chunks=tuple(chunks), transferred=transferred))

    def _start(self, dispatch: Dispatch) -> None:
        """Start an attempt, unless it was started before: then its report is sent again."""
        kept = self.finished.get(dispatch.attempt_id)
        if kept is not None:
            self._tell(kept)
        elif dispatch.attempt_id not in self.known:
            self.known.add(dispatch.attempt_id)
            self.started.append(dispatch)
            self.running[dispatch.attempt_id] = dispatch
