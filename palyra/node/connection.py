"""The connection of a node host: made, kept, made again after a pause, and handed over to the next
certificate (PROTOCOL: RENEWAL) or another transport without a gap."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from palyra.config.addresses import HostPort
from palyra.core.frames import Hello, Renew, Welcome
from palyra.core.transfers import PIECES_OVER
from palyra.core.transports import Transport
from palyra.core.versions import CATALOGS, PIECES
from palyra.errors import ClockSkew, GatewayUnreachable, PalyraError
from palyra.node.backoff import Backoff
from palyra.node.gateways import Gateways
from palyra.node.gatewaytime import GatewayTime
from palyra.node.identity import ClientFile, Credential, IdentityStore
from palyra.node.link import Link, Route
from palyra.node.moving import Moving
from palyra.node.pause import Pause
from palyra.node.registering import Registering
from palyra.node.rejoin import Rejoin
from palyra.node.renewal import Renewal
from palyra.node.running import Runs
from palyra.node.session import NodeSession
from palyra.node.witness import ConnectionWitness, Offers, Steadfast
from palyra.transport.chain import check_dates
from palyra.transport.interfaces import ICarrier
from palyra.transport.statuses import OUT_OF_DATE

GOODBYE_S = 1.0
"""How long a gateway may take to end the session after the node's last word."""
WHOLE = 1 << 62
"""Bytes above which an output travels in pieces, to a gateway that takes none."""
HANDOVER_S = 30.0
"""How long the old session may still bring acknowledgements after a handover."""
PROBE_S = {Transport.GRPC: 5.0, Transport.QUIC: 10.0}
"""How long a gateway may stay silent once the network has changed: QUIC looks for another way by
itself meanwhile."""


class Connection:
    """Keeps one session with the gateway, for as long as the node host runs.

    Two for the moment of a handover: the newer one is this device's session, the older one only
    ends in peace.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        reactor: Any,
        elapsed_s: Callable[[], float],
        routes: Gateways,
        jitter: Callable[[float, float], float],
        identity: IdentityStore,
        hello: Callable[[str], Hello],
        runs: Runs,
        witness: ConnectionWitness,
        first_retry_s: float,
        max_retry_s: float,
        renewal: Renewal | None = None,
        rejoin: Rejoin | None = None,
        look: Callable[[HostPort], Deferred[list[bytes]]] | None = None,
        offers: Offers | None = None,
        pieces_over: int = PIECES_OVER,
    ) -> None:
        """Without ``renewal`` and ``rejoin`` a certificate is used to its end, and that is that.

        ``look`` fetches the chain that the gateway shows, to name both times where TLS refuses it
        on its dates.  Without ``offers`` what ``hello`` says never changes, and no descriptor is
        sent.  Outputs of more than ``pieces_over`` bytes travel in pieces.
        """
        self._pieces_over = pieces_over
        self._offers = offers
        self.granted: tuple[str, ...] = ()
        self._reactor = reactor
        self._elapsed_s = elapsed_s
        self._gateways = routes
        self._jitter = jitter
        self._identity = identity
        self._runs = runs
        self._witness = witness = Steadfast(witness)
        self._renewal = renewal
        self._look = look
        self._way = Registering(
            gateways=routes,
            elapsed_s=elapsed_s,
            identity=identity,
            hello=hello,
            witness=witness,
            time=GatewayTime(lambda: int(reactor.seconds() * 1000), witness.clock_differs),
            rejoin=rejoin,
        )
        self._moving = Moving(
            reactor=reactor,
            gateways=routes,
            busy=lambda: renewal is not None and renewal.busy,
            move=self._move,
        )
        self._backoff = Backoff(
            elapsed_s=elapsed_s,
            jitter=jitter,
            first_retry_s=first_retry_s,
            max_retry_s=max_retry_s,
        )
        self._pause = Pause(reactor, elapsed_s)
        self._doubted = False
        self._main: Link | None = None
        self._over: Deferred[None] = Deferred()
        self._carried: dict[Link, Deferred[None]] = {}
        self._patience: dict[Link, IDelayedCall] = {}
        self._running: Deferred[None] | None = None
        self._stopping = False
        self.last_heard_s: float | None = None
        self.tried = False
        """Whether the first connection has come, or has failed."""

    @property
    def route(self) -> Route | None:
        """How the gateway is reached now; None without a session."""
        main = self._main
        return main.route if main is not None and main.session is not None else None

    @property
    def welcome(self) -> Welcome | None:
        """What the gateway said at the newest registration; None without a session."""
        return None if self._main is None else self._main.welcome

    @property
    def retry_in_s(self) -> float | None:
        """In how many seconds the next try begins; None while connected or connecting."""
        return self._pause.left_s

    def start(self) -> Deferred[None]:
        """Connect and stay connected; fires after :meth:`stop`."""
        if self._stopping:
            return succeed(None)
        running = Deferred.fromCoroutine(self._run())
        self._running = running
        return running.addErrback(lambda failure: failure.trap(CancelledError) and None)

    def offer(self) -> None:
        """What this node offers has changed: tell the gateway, now or at the next session."""
        main = self._main
        if main is not None and main.session is not None:
            self._announce(main, main.session)
            self._witness.usable(self._usable())

    def nudge(self) -> None:
        """The network has changed, or the machine has slept: what was true of the way to the
        gateway may not be true any more.

        A session is asked for a sign of life and made anew where none comes; a pause is cut short,
        down to what the gateway has asked for; a try that is under way is let end, and if it fails
        the next one follows soon.
        """
        self._doubted = True
        if self._renewal is not None:
            self._renewal.woke()
        if self._pause.left_s is not None:
            self._pause.shorten(self._backoff.sooner_s())
        elif (main := self._main) is not None and main.session is not None:
            main.session.probe(PROBE_S[main.route.transport])

    def stop(self) -> None:
        """Disconnect, and do not come back; a session that is open says so to the gateway."""
        if self._stopping:
            return
        self._stopping = True
        self._moving.stop()
        if self._renewal is not None:
            self._renewal.stop()
        running = self._running
        if running is None or running.called:
            return
        session = self._main.session if self._main is not None else None
        if session is None:
            running.cancel()
            return
        session.say_stopping()
        patience = self._reactor.callLater(GOODBYE_S, running.cancel)

        def ended(result: Any) -> Any:
            if patience.active():
                patience.cancel()
            return result

        running.addBoth(ended)

    async def _run(self) -> None:
        while True:
            error = await self._attempt()
            if self._stopping:
                return
            self.tried = True
            explained = await self._explained(error)
            retry_s = self._backoff.pause_s(error, soon=self._doubted)
            self._witness.offline(explained, retry_s)
            if self._stopping:  # the witness gave up: cancelling finds nothing to wait for here
                return
            await self._pause.wait(retry_s)
            self._doubted = False

    async def _attempt(self) -> PalyraError | None:
        """One connection from its beginning to its end, and what ended it."""
        try:
            await self._serve()
        except PalyraError as refusal:
            return refusal
        except CancelledError:
            if self._stopping:
                raise
        except Exception:
            # Whatever it was, a node that does not come back could not be helped from afar.
            self._log.failure("the connection failed in a way nobody foresaw")
        return None

    async def _explained(self, error: PalyraError | None) -> PalyraError | None:
        """What a person can act on: of a clock that is off, both times."""
        if self._look is None or not isinstance(error, GatewayUnreachable):
            return error
        if error.cause != OUT_OF_DATE:
            return error
        try:
            chain = await self._look(self._gateways.now.grpc.address)
            check_dates(chain[0], int(self._reactor.seconds() * 1000))
        except ClockSkew as skew:
            return skew
        except CancelledError:
            if self._stopping:
                raise
        except Exception as unknown:
            # It is gone meanwhile, or anybody's, with dates that no clock shows: the first word
            # stands.
            self._log.debug("why is not known: {e}", e=unknown)
        return error

    # -- serving ------------------------------------------------------------------------------

    async def _serve(self) -> None:
        """Register, then carry this device's session, over one link after another, to its end."""
        link = await self._way.connect()
        over = self._over = Deferred()
        try:
            self._carry(link)
            await over
        finally:
            self._moving.stop()
            if self._renewal is not None:
                self._renewal.stop()
            self._main = None
            for carried in list(self._carried.values()):
                carried.cancel()
                await carried
            await self._moving.over()

    def _carry(self, link: Link) -> None:
        """Make that link this device's session; the one before it may end in peace."""
        old, self._main = self._main, link
        if old is not None:
            running = self._carried[old]
            self._patience[old] = self._reactor.callLater(HANDOVER_S, running.cancel)
        if self._renewal is not None:
            self._renewal.begin(
                link.channel,
                link.credential,
                link.welcome,
                self._hand_over,
                self._moving.give_way,
            )
        self._moving.begin(link.route)
        device_id = link.welcome.device_id
        carried = Deferred.fromCoroutine(
            link.carry(lambda carrier: self._begin(link, carrier), device_id)
        )
        self._carried[link] = carried
        carried.addBoth(self._ended, link)

    async def _hand_over(self) -> Callable[[], object]:
        """Register over the next certificate; the session moves when what this gives is called.

        Until then, and where it fails, the session that there is goes on as it was.
        """
        client, main = self._identity.client(), self._main
        assert client.next is not None and main is not None, "it is why a renewal hands over"
        return await self._beside(main, client, client.next, main.route)

    async def _move(self) -> Callable[[], object]:
        """The same over QUIC, with the certificate that there is."""
        main = self._main
        assert main is not None, "without a session there is none to move"
        client = self._identity.client()
        return await self._beside(main, client, main.credential, self._gateways.now.quic)

    async def _beside(
        self, main: Link, client: ClientFile, credential: Credential, route: Route
    ) -> Callable[[], object]:
        """Register there, and leave ``main`` as it is until the gateway has answered on the new
        connection: a network that swallows packets takes its time, and no dispatch waits for it.
        """
        link = await self._way.register(client, credential, route, ready=main.hold)
        return lambda: self._carry(link)

    def _ended(self, result: Failure | None, link: Link) -> None:
        """A link is closed; what ended this device's session ends the attempt."""
        del self._carried[link]
        patience = self._patience.pop(link, None)
        if patience is not None and patience.active():
            patience.cancel()
        error = result.value if isinstance(result, Failure) else None
        self._gateways.now.ended(link.route, error, self._elapsed_s() - link.began_s)
        if link is not self._main or self._over.called:
            return
        self._main = None
        if isinstance(result, Failure):
            self._over.errback(result)
        else:
            self._over.callback(None)

    def _begin(self, link: Link, carrier: ICarrier) -> NodeSession:
        self._backoff.connected()
        self.tried = True
        self.last_heard_s = self._elapsed_s()
        self._grant(link, link.welcome.granted)
        self._witness.online(link.welcome, link.route)
        session = NodeSession(
            clock=self._reactor,
            elapsed_s=self._elapsed_s,
            jitter=self._jitter,
            carrier=carrier,
            welcome=link.welcome,
            runs=self._runs,
            drained=lambda retry_after_ms: self._drained(link, retry_after_ms),
            directed=lambda renew: self._directed(link, renew),
            heard=lambda: self._heard(link),
            descriptor=self._described,
            granted=lambda granted: self._grant(link, granted),
            pieces_over=self._pieces_over if PIECES in link.welcome.features else WHOLE,
        )
        self._announce(link, session)
        return session

    def _announce(self, link: Link, session: NodeSession) -> None:
        """Say what is offered, where that is not what was said on that link."""
        if self._offers is None or (now := self._offers.announced()) == link.said:
            return
        link.said = now
        if CATALOGS in link.welcome.features:
            session.announce(now)
        else:
            session.end()  # the next registration says it

    def _described(self, digest: str) -> bytes | None:
        return None if self._offers is None else self._offers.descriptor(digest)

    def _grant(self, link: Link, granted: tuple[str, ...]) -> None:
        if link is self._main:
            self.granted = granted
            self._witness.usable(self._usable())

    def _usable(self) -> int:
        """How many capabilities can be run here and were granted."""
        if self._offers is None:
            return len(self.granted)
        usable = {each.name for each in self._offers.announced() if each.available}
        return len(usable.intersection(self.granted))

    def _drained(self, link: Link, retry_after_ms: int) -> None:
        if link is not self._main or not retry_after_ms:
            return  # the older one of a handover is drained as a matter of course
        other_in_s = self._gateways.leave(retry_after_ms / 1000)
        if other_in_s:
            self._backoff.drained(other_in_s)
        else:
            self._backoff.drained(retry_after_ms / 1000, elsewhere=True)

    def _directed(self, link: Link, renew: Renew) -> None:
        if link is self._main and self._renewal is not None:
            self._renewal.directed(renew)

    def _heard(self, link: Link) -> None:
        self.last_heard_s = self._elapsed_s()
        if link is self._main:
            self._doubted = False
