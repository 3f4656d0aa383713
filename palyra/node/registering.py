"""How a node host comes to a registration: which certificate it shows, on which route, and when it
rejoins instead.

Nothing here ends for good.  The gateway decides whether a certificate is of use; this device's
clock, a full disk or a limit on rejoins only say what is tried first (PROTOCOL: Trust, RENEWAL).
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from twisted.logger import Logger

from palyra.core.frames import Hello, Welcome
from palyra.core.transports import Transport
from palyra.errors import (
    CertificateExpired,
    CertificateRefused,
    CertificateSuperseded,
    CertificateUnknown,
    GatewayUnreachable,
    PairingRejected,
    PalyraError,
    PinNotChecked,
    StoreUnavailable,
)
from palyra.node.gateways import Gateways, asked_s
from palyra.node.gatewaytime import GatewayTime
from palyra.node.identity import ClientFile, Credential, IdentityStore
from palyra.node.link import Link, Route
from palyra.node.rejoin import Rejoin, is_final
from palyra.node.routes import Routes, is_unreached
from palyra.transport.statuses import is_cut

CUTS = 3
"""So often in a row the connection is cut off before the certificate is taken for the cause."""
REJECTED_S = 86_400.0
"""How long an operator's no to a rejoin stands before one is asked again."""

Ready = Callable[[], Callable[[], object]]
"""Called when the gateway has answered on a new connection, before it is told anything there; what
it gives is called where the registration fails after that."""


class RegistrationWitness(Protocol):
    """Who watches the certificates."""

    def renewed(self, ends_ms: int) -> None:
        """The next certificate is the current one, until then (Unix ms)."""


class Registering:
    """Registers this device, over one of its certificates."""

    _log = Logger()

    def __init__(
        self,
        *,
        gateways: Gateways,
        elapsed_s: Callable[[], float],
        identity: IdentityStore,
        hello: Callable[[str], Hello],
        witness: RegistrationWitness,
        time: GatewayTime,
        rejoin: Rejoin | None,
    ) -> None:
        """Without ``rejoin`` there is no way back once no certificate is taken any more."""
        self._gateways = gateways
        self._elapsed_s = elapsed_s
        self._identity = identity
        self._hello = hello
        self._witness = witness
        self._time = time
        self._rejoin = rejoin
        self._barred = _Barred(elapsed_s)
        self._store_epoch = ""
        self._cuts = 0
        self._fresh = ""
        self._superseded = ""

    @property
    def _routes(self) -> Routes:
        """Of the gateway that is tried now, or that has the session."""
        return self._gateways.now

    async def connect(self) -> Link:
        """Register, after a rejoin where no certificate of this device seems to be of use.

        :raises PalyraError: it did not work now.
        """
        try:
            return await self._register_usable()
        except PalyraError as error:
            self._cuts = self._cuts + 1 if is_cut(error) else 0
            if not self._seems_lost(error):
                raise
            refused = error
        try:
            await self._come_back(refused)
        except PalyraError as error:
            return await self._regardless(refused, error)
        return await self._register_usable()

    async def register(
        self,
        client: ClientFile,
        credential: Credential,
        route: Route,
        ready: Ready | None = None,
    ) -> Link:
        """A channel with that certificate, on which RegisterNode succeeded.

        With ``ready``, beside a session that goes on meanwhile.

        :raises PalyraError: it did not, and nothing has changed.
        """
        pem, beside = client.ca_bundle_pem, ready is not None
        channel = self._routes.open(route, pem, credential.pair, beside=beside)
        undo: Callable[[], object] | None = None
        try:
            if ready is not None:
                await channel.connect()
                undo = ready()
            hello = self._hello(self._store_epoch)
            welcome = await channel.register(hello)
            self._welcomed(client, credential, welcome)
            self._routes.registered(route, welcome.quic_address)
        except Exception:
            if undo is not None:
                undo()  # before closing, which takes a while: the next one may be ready by then
            await channel.close()
            raise
        return Link(route, channel, credential, welcome, self._elapsed_s(), hello.capabilities)

    # -- which certificate --------------------------------------------------------------------

    async def _register_usable(self) -> Link:
        """Register over the next certificate, where there is one, else over the current one."""
        client = self._identity.client()
        if client.current is None:
            raise CertificateRefused("missing")
        usable = client.usable(self._time.now_ms())
        if len(usable) > 1:  # one that is over would raise a clone warning at the gateway
            usable = [each for each in usable if each.certificate_pem != self._superseded]
        return await self._register_first(client, usable)

    async def _register_first(self, client: ClientFile, tried: Sequence[Credential]) -> Link:
        """Register over the first of these that the gateway takes.

        The other one is tried only where a certificate is refused or cut off.  An answer that got
        lost may have been a yes, after which the current certificate is superseded.
        """
        refused: PalyraError = _ran_out(client)
        for credential in tried:
            try:
                attempt = partial(self._register_first_route, client, credential)
                return await self._gateways.first(attempt)
            except CertificateSuperseded as error:
                self._superseded = credential.certificate_pem
                if not isinstance(refused, GatewayUnreachable):
                    refused = error
                # Else the next one was registered, and its answer was cut off: it is good.
            except CertificateRefused as error:
                refused = error
            except GatewayUnreachable as error:
                refused = error
                if not is_cut(error):
                    break
        raise refused

    async def _register_first_route(self, client: ClientFile, credential: Credential) -> Link:
        """Register on the first route on which the gateway can be reached.

        :raises PalyraError: what it said, on the first route where it said anything; where nobody
            can be reached at all, what gRPC made of that.
        """
        first, *others = self._routes.order()
        try:
            return await self.register(client, credential, first)
        except (GatewayUnreachable, PinNotChecked) as error:
            if not others and is_unreached(error):
                self._routes.lost(first)
            if not others or not (is_unreached(error) or isinstance(error, PinNotChecked)):
                raise
            unreached = error
        if first.transport is Transport.GRPC:
            return await self._over_quic(client, credential, others[0], unreached)
        try:
            link = await self.register(client, credential, others[0])
        except PinNotChecked as refused:
            raise unreached from refused
        self._routes.fell_back(first)
        return link

    async def _over_quic(
        self, client: ClientFile, credential: Credential, quic: Route, unreached: PalyraError
    ) -> Link:
        """Register there, since gRPC, which worked last, ended with that."""
        try:
            return await self.register(client, credential, quic)
        except GatewayUnreachable as error:
            if not is_unreached(error):
                raise
            raise unreached from error

    def _seems_lost(self, error: PalyraError) -> bool:
        """Whether no certificate of this device is of use any more, as far as it can see.

        A gateway that is gone cuts connections too; that its enrolment listener answers tells the
        two apart, and the rejoin finds out.  What a rejoin has just brought is not the cause.
        """
        if is_cut(error) and self._cuts >= CUTS:
            current = self._identity.client().current
            return current is None or current.certificate_pem != self._fresh
        if isinstance(error, CertificateRefused) and error.reason == "expired":
            return True
        return isinstance(error, (CertificateUnknown, CertificateSuperseded))

    def _welcomed(self, client: ClientFile, credential: Credential, welcome: Welcome) -> None:
        # At a new one the gateway has lost its memory; every unacknowledged report is sent again
        # at each session anyhow, so it is only remembered here.
        self._store_epoch = welcome.store_epoch
        self._cuts = 0
        self._fresh = ""
        self._time.heard(welcome.gateway_unix_ms)
        if client.next is not None and credential.certificate_pem == client.next.certificate_pem:
            fingerprint = client.next.fingerprint
            self._kept(lambda: self._identity.registered(fingerprint))
            self._witness.renewed(credential.cert_expires_at_unix_ms)
        if welcome.ca_bundle_pem not in ("", client.ca_bundle_pem):
            self._kept(lambda: self._identity.trust(welcome.ca_bundle_pem))

    def _kept(self, keep: Callable[[], object]) -> None:
        """Keep what the gateway said, where that is possible: the node serves in any case."""
        try:
            keep()
        except PalyraError as error:
            self._log.error("what the gateway told is not on disk: {e}", e=error.sentence)
        except OSError as error:
            self._log.error("what the gateway told is not on disk: {e}", e=error.strerror)

    # -- the way back -------------------------------------------------------------------------

    async def _come_back(self, refused: PalyraError) -> None:
        """Rejoin, where that is possible and its time has come."""
        if self._rejoin is None:
            raise refused
        self._barred.check()
        before = self._identity.client().current
        expired = isinstance(refused, CertificateExpired)
        try:
            await self._rejoin.run(self._time, expired=expired)
        except PalyraError as error:
            self._barred.refused(error)
            raise
        except OSError as error:
            cause = (error.strerror or str(error)).lower()
            raise StoreUnavailable(str(error.filename or "the identity"), cause) from error
        self._cuts = 0
        current = self._identity.client().current
        if current is not None and current != before:
            self._fresh = current.certificate_pem

    async def _regardless(self, refused: PalyraError, error: PalyraError) -> Link:
        """No rejoin now, because of ``error``.  What only this clock calls over is tried then.

        :raises PalyraError: what a person should see of it.
        """
        if isinstance(refused, CertificateExpired):
            client = self._identity.client()
            try:
                return await self._register_first(client, client.held)
            except (CertificateRefused, GatewayUnreachable):
                pass  # as was to be expected
        doubted = isinstance(refused, (CertificateExpired, GatewayUnreachable))
        limited = getattr(error, "retry_after_s", None) is not None
        away = isinstance(refused, GatewayUnreachable)
        if not is_final(error) and doubted and (limited or away):
            # A limit on rejoins is none on sessions: those are tried with the usual pauses.
            self._log.info("no rejoin now: {e}", e=error.sentence)
            raise refused from error
        raise error from refused


class _Barred:
    """What stands against another rejoin, and until when."""

    def __init__(self, elapsed_s: Callable[[], float]) -> None:
        self._elapsed_s = elapsed_s
        self._error: PalyraError | None = None
        self._until_s = 0.0

    def refused(self, error: PalyraError) -> None:
        """A rejoin ended so."""
        pause_s = REJECTED_S if isinstance(error, PairingRejected) else asked_s(error)
        self._error = error if pause_s else None
        self._until_s = self._elapsed_s() + pause_s

    def check(self) -> None:
        """:raises PalyraError: what the last one was refused with, while that stands."""
        if self._error is not None and self._elapsed_s() < self._until_s:
            raise self._error


def _ran_out(client: ClientFile) -> CertificateExpired:
    assert client.current is not None, "a device without a certificate does not come here"
    ended = datetime.datetime.fromtimestamp(client.current.cert_expires_at_unix_ms / 1000)
    return CertificateExpired(when=f"{ended.astimezone():%d %b %H:%M}")
