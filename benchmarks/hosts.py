"""Nodes made of the node host's own rooms, many in one process, over the transport they are told.

Session and channel are those of ``palyra node run``; only the handlers are missing: every dispatch
is answered at once, so that what differs between two transports is the transports.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Sequence
from typing import cast

import attrs
import msgspec
from twisted.internet.defer import Deferred, DeferredList, DeferredSemaphore, gatherResults

from benchmarks.house import run_in_reactor
from benchmarks.paired import Crowd, Member, Served, start_own
from benchmarks.records import ECHO
from palyra._reactor import the_reactor
from palyra.cli.children import Child
from palyra.config.addresses import HostPort
from palyra.core.frames import Dispatch, Hello, Welcome
from palyra.core.identifiers import AttemptId, DeviceId
from palyra.core.jobs import Outcome, Report
from palyra.errors import PalyraError
from palyra.node.link import Channel
from palyra.node.running import Runs, Speaker
from palyra.node.session import NodeSession
from palyra.transport.grpcclient import GatewayChannel
from palyra.transport.interfaces import ICarrier

CONNECTING = 8
"""Nodes that connect at once: the QUIC listener lets 16 of one address shake hands."""
MAX_IN_FLIGHT = 256
"""As in a node host."""
Dial = Callable[[HostPort, bytes, tuple[bytes, bytes]], Channel]


def _quic(address: HostPort, ca_pem: bytes, identity: tuple[bytes, bytes]) -> Channel:
    from palyra.transport.quicclient import QuicChannel

    return QuicChannel(the_reactor(), address, ca_pem, identity)


DIALS: dict[str, Dial] = {"grpc": GatewayChannel, "quic": _quic}


class Party(msgspec.Struct, frozen=True):
    """What a process needs to be these nodes."""

    transport: str
    crowd: Crowd


class AtOnce:
    """Runs that are over as soon as they are dispatched; nothing of them is remembered."""

    def __init__(self) -> None:
        self._speaker: Speaker | None = None

    def attach(self, speaker: Speaker) -> None:
        """A session began."""
        self._speaker = speaker

    def detach(self, speaker: Speaker) -> None:
        """A session ended."""
        self._speaker = None

    def dispatched(self, dispatch: Dispatch) -> None:
        """Give back what came."""
        assert self._speaker is not None, "a session is what dispatches"
        report = Report(dispatch.attempt_id, Outcome.SUCCEEDED, dispatch.input_json, took_ms=1)
        self._speaker.report(report)

    def acknowledged(self, attempt_id: AttemptId) -> None:
        """The gateway has it."""

    def cancel(self, attempt_id: AttemptId, reason: str) -> None:
        """It is over already."""


@attrs.define(eq=False)
class Host:
    """One node with a channel and a session of its own."""

    member: Member
    online: Deferred[None] = attrs.Factory(Deferred)
    lost: Deferred[None] = attrs.Factory(Deferred)
    """Fires or fails as its stream does."""

    async def connect(self, party: Party) -> None:
        """Register and begin the session; over when the gateway has answered on it."""
        address = HostPort.parse(party.crowd.address, "address")
        identity = self.member.key, self.member.chain
        channel = DIALS[party.transport](address, party.crowd.ca, identity)
        welcome = await channel.register(_hello(self.member))

        def begin(carrier: ICarrier) -> NodeSession:
            session = self._session(carrier, welcome)
            session.start()
            return session

        channel.stream(begin, self.member.device_id).chainDeferred(self.lost)
        await DeferredList([self.online, self.lost], fireOnOneCallback=True, fireOnOneErrback=True)

    def _session(self, carrier: ICarrier, welcome: Welcome) -> NodeSession:
        return NodeSession(
            clock=the_reactor(),
            elapsed_s=time.monotonic,
            jitter=random.uniform,
            carrier=carrier,
            welcome=welcome,
            runs=cast(Runs, AtOnce()),
            drained=lambda retry_after_ms: None,
            directed=lambda renew: None,
            heard=self._heard,
        )

    def _heard(self) -> None:
        if not self.online.called:
            self.online.callback(None)


def _hello(member: Member) -> Hello:
    return Hello(
        device_id=DeviceId(member.device_id),
        platform="linux",
        capabilities=(ECHO,),
        memory_id=member.device_id,
        max_in_flight=MAX_IN_FLIGHT,
        extended=True,
    )


def start_hosts(served: Served, nodes: Sequence[Member], transport: str) -> Child:
    """Let a process be these nodes; returns when all of them hold their sessions."""
    crowd = Crowd(served.listener(transport), served.town.authority.ca_pem, list(nodes))
    return start_own(served.children, "hosts", served.town.root, Party(transport, crowd))


async def serve(party: Party) -> None:
    """Be these nodes until one of them is lost."""
    hosts = [Host(member) for member in party.crowd.nodes]
    gate = DeferredSemaphore(CONNECTING)
    connecting = [gate.run(Host.connect, host, party) for host in hosts]
    await gatherResults(connecting, consumeErrors=True)
    print("ready", flush=True)
    lost = [host.lost for host in hosts]
    await DeferredList(lost, fireOnOneCallback=True, fireOnOneErrback=True, consumeErrors=True)


def main() -> None:
    """Be the nodes that stdin names."""
    party = msgspec.json.decode(sys.stdin.buffer.read(), type=Party)
    try:
        run_in_reactor(lambda: serve(party))
    except PalyraError as error:
        sys.exit(f"error: {error.sentence}")
    sys.exit("error: a node lost its session")
