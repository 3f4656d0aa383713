"""The connection of a node host: made, kept, and made again with jittered, capped backoff."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import deferLater
from twisted.logger import Logger

from palyra.config.addresses import HostPort
from palyra.core.frames import Hello, Welcome
from palyra.errors import CertificateExpired, CertificateRefused, PalyraError, RemoteRefusal
from palyra.node.identity import IdentityStore
from palyra.node.running import Runs
from palyra.node.session import NodeSession
from palyra.transport.interfaces import ICarrier

FINAL_RETRY_S = 600.0
"""How often a node that was told to stay away (revoked) looks whether a person changed that."""
AT_ONCE_S = 1.0
GOODBYE_S = 1.0
"""How long a gateway may take to end the session after the node's last word."""


class Channel(Protocol):
    """A connection to the gateway, made when its first call is."""

    def register(self, hello: Hello) -> Deferred[Welcome]:
        """RegisterNode."""

    def stream(self, make_session: Callable[[ICarrier], Any], device_id: str) -> Deferred[None]:
        """Carry a session until either side ends it; cancelling ends it here."""

    def close(self) -> Deferred[None]:
        """Close it, if there is one."""


OpenChannel = Callable[[HostPort, bytes, tuple[bytes, bytes]], Channel]
"""Address, CA and identity (key and certificate chain, PEM);
:class:`palyra.transport.grpcclient.GatewayChannel` in production."""


class ConnectionWitness(Protocol):
    """Who watches the connection: a status line, or the log."""

    def online(self, welcome: Welcome, address: HostPort) -> None:
        """Registered; the gateway can dispatch."""

    def offline(self, error: PalyraError | None, retry_s: float) -> None:
        """The session ended, or could not be made; tried again after ``retry_s`` seconds."""


class Connection:
    """Keeps one session with the gateway, for as long as the node host runs."""

    _log = Logger()

    def __init__(
        self,
        *,
        reactor: Any,
        elapsed_s: Callable[[], float],
        address: HostPort,
        channel: OpenChannel,
        jitter: Callable[[float, float], float],
        identity: IdentityStore,
        hello: Callable[[str], Hello],
        runs: Runs,
        witness: ConnectionWitness,
        first_retry_s: float,
        max_retry_s: float,
    ) -> None:
        self._reactor = reactor
        self._elapsed_s = elapsed_s
        self._address = address
        self._channel = channel
        self._jitter = jitter
        self._identity = identity
        self._hello = hello
        self._runs = runs
        self._witness = witness
        self._first_retry_s = first_retry_s
        self._max_retry_s = max_retry_s
        self._store_epoch = ""
        self._failures = 0
        self._drained_ms: int | None = None
        self._session: NodeSession | None = None
        self._running: Deferred[None] | None = None
        self._stopping = False
        self.last_heard_s: float | None = None

    def start(self) -> Deferred[None]:
        """Connect and stay connected; fires after :meth:`stop`."""
        if self._stopping:
            return succeed(None)
        running = Deferred.fromCoroutine(self._run())
        self._running = running
        return running.addErrback(lambda failure: failure.trap(CancelledError) and None)

    def stop(self) -> None:
        """Disconnect, and do not come back; a session that is open says so to the gateway."""
        if self._stopping:
            return
        self._stopping = True
        running = self._running
        if running is None or running.called:
            return
        if self._session is None:
            running.cancel()
            return
        self._session.say_stopping()
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
            retry_s = self._pause(error)
            self._witness.offline(error, retry_s)
            if self._stopping:  # the witness gave up: cancelling finds nothing to wait for here
                return
            await deferLater(self._reactor, retry_s)

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

    async def _serve(self) -> None:
        """One connection: register, then carry the session until it ends."""
        client = self._identity.client()
        if client.current is None:
            raise CertificateRefused("missing")
        expires_s = client.current.cert_expires_at_unix_ms / 1000
        if self._reactor.seconds() >= expires_s:
            when = datetime.datetime.fromtimestamp(expires_s).astimezone()
            raise CertificateExpired(when=f"{when:%d %b %H:%M}")
        key = client.current.private_key_pem.encode()
        chain = client.current.certificate_pem.encode()
        channel = self._channel(self._address, client.ca_bundle_pem.encode(), (key, chain))
        try:
            hello = self._hello(self._store_epoch)
            welcome = await channel.register(hello)
            # At a new one the gateway has lost its memory; every unacknowledged report is sent
            # again at each session anyhow, so it is only remembered here.
            self._store_epoch = welcome.store_epoch
            self._drained_ms = None
            await channel.stream(lambda carrier: self._begin(carrier, welcome), hello.device_id)
        finally:
            session, self._session = self._session, None
            if session is not None:
                session.stop()
            await channel.close()

    def _begin(self, carrier: ICarrier, welcome: Welcome) -> NodeSession:
        session = NodeSession(
            clock=self._reactor,
            elapsed_s=self._elapsed_s,
            jitter=self._jitter,
            carrier=carrier,
            welcome=welcome,
            runs=self._runs,
            drained=self._drained,
            heard=self._heard,
        )
        self._session = session
        session.start()
        self._failures = 0
        self._witness.online(welcome, self._address)
        return session

    def _drained(self, retry_after_ms: int) -> None:
        self._drained_ms = retry_after_ms

    def _heard(self) -> None:
        self.last_heard_s = self._elapsed_s()

    def _pause(self, error: PalyraError | None) -> float:
        """Seconds to the next try: soon after a session that lived, then full jitter, capped.

        A thousand nodes that lost the same gateway come back spread out.
        """
        self._failures += 1
        if isinstance(error, RemoteRefusal) and error.final:
            return FINAL_RETRY_S
        drained_ms, self._drained_ms = self._drained_ms, None
        if drained_ms:
            return drained_ms / 1000 * self._jitter(1.0, 2.0)
        if self._failures == 1:
            return self._jitter(0.0, self._first_retry_s)
        ceiling_s = min(self._max_retry_s, AT_ONCE_S * 2 ** min(self._failures, 16))
        return self._jitter(ceiling_s / 4, ceiling_s)
