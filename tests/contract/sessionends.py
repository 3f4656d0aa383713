"""A node host's end of a session, with the rooms that it has in production."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from palyra.capability.context import DeviceFacts
from palyra.core.devices import Device
from palyra.core.frames import Hello, Renew, Welcome
from palyra.core.jobs import Job
from palyra.errors import PalyraError, RemoteRefusal
from palyra.gateway.nodesession import NodeSession as GatewaySession
from palyra.gateway.orders import Order
from palyra.node.attempts import AttemptMemory
from palyra.node.identity import Credential
from palyra.node.link import Channel
from palyra.node.owner import Owner
from palyra.node.running import Runs
from palyra.node.session import NodeSession
from palyra.pki.csr import make_csr
from palyra.transport.interfaces import ICarrier, Peer
from palyra.wire.pairing import RenewalAsked
from tests.contract.sessionhands import CAPABILITIES, HandRun, Hands, NoDisk, catalogue
from tests.gateway.applicants import renewal
from tests.gateway.enrolling import Applicant, FakeTrust, Gateway, wall_ms
from tests.node.fakes import FakeMediator
from tests.transport.serving import AUTHORITY, KEY, KEY_PEM

AGE_S = 3_600
MAX_PAYLOAD = 3 * 1024 * 1024
Until = Callable[[Callable[[], object]], Awaitable[None]]
"""Waits until something holds."""


class ServingTrust(FakeTrust):
    """The CA that the listeners of the tests serve a certificate of."""

    def __init__(self) -> None:
        super().__init__()
        self.issuing = AUTHORITY
        self.authorities = (AUTHORITY,)
        self.roots = (AUTHORITY.ca_certificate,)
        self.ca_bundle_pem = AUTHORITY.ca_pem
        self.ca_hashes = (bytes.fromhex(AUTHORITY.ca_hash),)
        self.serving_ca_hash = AUTHORITY.ca_hash


class SessionGateway(Gateway):
    """The rooms of a gateway, an hour old, at the time that TLS libraries know."""

    def __init__(self) -> None:
        self._born = False
        super().__init__(identity=ServingTrust())

    def begin(self) -> None:
        if not self._born:
            self._born = True
            self.clock.rightNow = wall_ms() / 1000 - AGE_S
        super().begin()


class Carriers(Protocol):
    """One way of carrying sessions from nodes to one gateway."""

    async def open(self, gateway: SessionGateway) -> None:
        """Serve this gateway's desk."""

    def channel(self, identity: tuple[bytes, bytes]) -> Channel:
        """As :data:`palyra.node.link.OpenChannel` makes it, for that key and certificate chain."""

    def stall(self) -> None:
        """Let nothing pass, in either direction, and lose nothing that the ends would miss."""

    def flow(self) -> None:
        """Let everything pass again."""

    def cut(self) -> None:
        """Break every connection that there is; new ones can be made at once."""

    async def close(self) -> None:
        """Serve no more."""


@attrs.define
class Registered:
    """A channel on which RegisterNode succeeded."""

    channel: Channel
    welcome: Welcome


class Connected:
    """One session of a node, and what became of it."""

    def __init__(self, end: NodeEnd, link: Registered) -> None:
        self.link = link
        self.drains: list[int] = []
        self.orders: list[Renew] = []
        self.heard = 0
        self.over = False
        self.error: Exception | None = None
        """What ended it; None where it ended normally."""
        self._end = end
        self._session: NodeSession | None = None
        carried = Deferred.fromCoroutine(self._carry())
        self._carried = carried.addBoth(self._ended)

    @property
    def session(self) -> NodeSession:
        """The node's end of it, while it is open."""
        assert self._session is not None, "the session is over"
        return self._session

    @property
    def code(self) -> str:
        """The stable code of what ended it; empty for a normal end."""
        return code_of(self.error) if self.error is not None else ""

    def end(self) -> None:
        """The node host ends it without a word."""
        self._carried.cancel()

    async def _carry(self) -> None:
        """As :class:`palyra.node.link.Link` does it."""
        try:
            await self.link.channel.stream(self._begin, self._end.applicant.device_id)
        finally:
            session, self._session = self._session, None
            if session is not None:
                session.stop()
            await self.link.channel.close()

    def _begin(self, carrier: ICarrier) -> NodeSession:
        session = self._session = NodeSession(
            clock=self._end.clock,
            elapsed_s=self._end.clock.seconds,
            jitter=lambda low, high: high,
            carrier=carrier,
            welcome=self.link.welcome,
            runs=self._end.runs,
            drained=self.drains.append,
            directed=self.orders.append,
            heard=self._heard,
        )
        session.start()
        return session

    def _heard(self) -> None:
        self.heard += 1

    def _ended(self, result: Failure | None) -> None:
        self.over = True
        if isinstance(result, Failure):
            assert isinstance(result.value, Exception)
            self.error = result.value


class NodeEnd:
    """A paired device and its node host."""

    def __init__(
        self,
        gateway: SessionGateway,
        carriers: Carriers,
        until: Until,
        applicant: Applicant,
        certificate_pem: str,
    ) -> None:
        self.applicant = applicant
        self.until = until
        self.credential = Credential(certificate_pem, KEY_PEM.decode(), 0)
        self.clock = Clock()
        self.hands = Hands()
        self.mediator = FakeMediator()
        self.memory = AttemptMemory(NoDisk())
        self.connections: list[Connected] = []
        self._gateway = gateway
        self._carriers = carriers
        device_id = applicant.device_id
        self.runs = Runs(
            reactor=self.clock,
            elapsed_s=self.clock.seconds,
            call_from_thread=lambda function, *given: function(*given),
            catalogue=catalogue(),
            runner=self.hands,
            memory=self.memory,
            owner=Owner(applicant.name, mediator=self.mediator),
            facts=DeviceFacts(device_id, "ab" * 32, "127.0.0.1:7444", 0, 500, applicant.name),
            now_ms=gateway.now_ms,
            max_waiting=4_096,
            mediation_timeout_s=120,
            noticed=lambda line, count: None,
        )

    @property
    def peer(self) -> Peer:
        """As the gateway knows it."""
        return self._gateway.peer(self.applicant.device_id)

    @property
    def device(self) -> Device:
        """As the gateway's record has it."""
        return self._gateway.inventory.paired(self.applicant.device_id)

    @property
    def owner(self) -> GatewaySession | None:
        """The gateway's end of the session that owns dispatch."""
        return self._gateway.sessions.owner(self.applicant.device_id)

    def channel(self) -> Channel:
        """A connection of its own."""
        key, chain = self.credential.private_key_pem, self.credential.certificate_pem
        return self._carriers.channel((key.encode(), chain.encode()))

    def hello(self) -> Hello:
        """What it tells when it registers."""
        return Hello(
            device_id=self.applicant.device_id,
            platform="test",
            capabilities=CAPABILITIES,
            version="1.0",
            memory_id=self.memory.memory_id,
            max_in_flight=64,
            attempts=self.runs.standings(),
            extended=True,
        )

    async def register(self) -> Registered:
        """RegisterNode, on a channel of its own."""
        channel = self.channel()
        welcome: Welcome = await channel.register(self.hello())
        return Registered(channel, welcome)

    def open(self, link: Registered) -> Connected:
        """Open a session on a link that is registered."""
        connected = Connected(self, link)
        self.connections.append(connected)
        return connected

    async def connect(self) -> Connected:
        """Register, open a session, and wait until it owns dispatch."""
        link = await self.register()
        connected = self.open(link)
        epoch = link.welcome.session_epoch
        await self.until(lambda: self.owner is not None and self.owner.epoch == epoch)
        return connected

    def submit(self, input_json: bytes = b"{}", capability: str = "echo", **changes: Any) -> Job:
        """Ask the gateway to have it done; the job is on record."""
        given: dict[str, Any] = {"max_payload_bytes": MAX_PAYLOAD, "ttl_ms": 60_000, **changes}
        kept: list[Job] = []
        order = Order(
            device_id=self.applicant.device_id,
            capability=capability,
            input_json=input_json,
            requested_by="ana",
            **given,
        )
        self._gateway.dispatcher.submit(order).addCallback(kept.append)
        return kept[0]

    async def started(self, count: int = 1) -> HandRun:
        """Wait until so many handlers were started; gives the newest."""
        await self.until(lambda: len(self.hands.runs) >= count)
        return self.hands.runs[-1]

    async def ended(self, *jobs: Job) -> None:
        """Wait until these are final."""
        await self.until(lambda: all(self._gateway.kept(job).final for job in jobs))

    def renewal(self) -> RenewalAsked:
        """What it asks for its next certificate."""
        csr_der = make_csr(KEY, self.applicant.device_id)
        return renewal(self.applicant, self.peer, csr_der)


def code_of(error: BaseException) -> str:
    """The gateway's stable code, whether the error came over a wire or not."""
    if isinstance(error, RemoteRefusal):
        return error.remote_code
    assert isinstance(error, PalyraError), repr(error)
    return error.code
