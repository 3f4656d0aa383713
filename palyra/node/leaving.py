"""Leaving: a device tells its gateway that it goes, and takes its own trust away by that.

It is asked for where the node host does not run any more.  Every way to the gateway is tried, with
every certificate that may be of use, for ten seconds in all.  A gateway that answers gets first
what it has not heard of yet (:mod:`palyra.node.delivering`).
"""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred, TimeoutError

from palyra.config import load
from palyra.config.node import NodeSection
from palyra.core.identifiers import DeviceId, parse_ulid
from palyra.errors import (
    CertificateExpired,
    CertificateRefused,
    CertificateUnknown,
    ConfigInvalid,
    GatewayUnreachable,
    NotPaired,
    PalyraError,
    RemoteRefusal,
    Unreached,
)
from palyra.node.delivering import DELIVER_S, Delivery
from palyra.node.files import NodeFiles
from palyra.node.identity import ClientFile, Credential
from palyra.node.link import Route
from palyra.node.proxies import proxies_of
from palyra.node.routes import Routes, is_unreached
from palyra.node.service import preferring
from palyra.node.ways import Ways

IN_ALL_S = 10.0
EACH_S = 4.0
"""For one way, while another one is left: a network that swallows packets takes its time."""
_GONE = frozenset({"device_revoked", "not_found"})
"""What a gateway says of a device that has left already."""


@attrs.frozen
class Told:
    """The gateway knows; on which way it was told, and whether it knew ``already``.  It has not
    confirmed so many results: their jobs ended as ``outcome_unknown`` there."""

    address: str
    already: bool = False
    undelivered: int = 0


def leave(state_root: Path, reason: str, reactor: Any) -> Deferred[Told]:
    """Tell the gateway of that state root, where no node host runs any more; see
    :meth:`Leaving.tell`.

    :raises NotPaired: there is no gateway to tell.
    :raises PalyraError: the pairing cannot be read.
    """
    files = NodeFiles(state_root)
    host, client = files.host(), files.identity.client()
    if host is None or client.current is None:
        raise NotPaired(str(state_root))
    config = preferring(_config(state_root), None, host)
    ways = Ways(
        reactor=reactor,
        elapsed_s=time.monotonic,
        files=files,
        host=host,
        config=config,
        proxies=proxies_of(host, os.environ),
    )
    device_id = DeviceId(parse_ulid(host.device_id, "device_id"))
    return Leaving(
        device_id,
        client,
        ways.gateways().each,
        delivery=Delivery.of(
            device_id, files, reactor=reactor, elapsed_s=time.monotonic, entropy=os.urandom
        ),
        reactor=reactor,
        elapsed_s=time.monotonic,
        reason=reason,
    ).tell()


def _config(state_root: Path) -> NodeSection:
    """What the owner wants; a file that cannot be read must not keep a device from leaving."""
    try:
        return load(state_root / "palyra.toml").node
    except ConfigInvalid:
        return NodeSection()


class Leaving:
    """Tells the gateway of one device, once."""

    def __init__(
        self,
        device_id: DeviceId,
        client: ClientFile,
        gateways: Sequence[Routes],
        *,
        reactor: Any,
        elapsed_s: Callable[[], float],
        reason: str,
        delivery: Delivery | None = None,
    ) -> None:
        """The reactor's ``seconds()`` is the time of day.  ``delivery`` comes first."""
        self._device_id = device_id
        self._client = client
        self._gateways = gateways
        self._reactor = reactor
        self._elapsed_s = elapsed_s
        self._reason = reason
        self._delivery = delivery
        self._over_s = 0.0
        self._refused: PalyraError | None = None
        self._unreached: PalyraError | None = None
        self._gone: str = ""

    def tell(self) -> Deferred[Told]:
        """Fires when it was told, or knew; fails with what stands against it on every way:
        GatewayUnreachable, CertificateExpired where no certificate is left by this clock, what it
        refused it with."""
        in_all_s = IN_ALL_S if self._delivery is None else IN_ALL_S + DELIVER_S
        telling = Deferred.fromCoroutine(self._tell())
        return telling.addTimeout(in_all_s, self._reactor, self._out_of_time)

    async def _tell(self) -> Told:
        self._over_s = self._elapsed_s() + IN_ALL_S
        tries = list(self._tries())
        for number, (routes, route, credential) in enumerate(tries, 1):
            left_s = self._over_s - self._elapsed_s()
            limit_s = min(EACH_S, left_s) if number < len(tries) else left_s
            told = await self._try(routes, route, credential, limit_s)
            if told is not None:
                return told
        if self._gone:
            return Told(self._gone, already=True)
        raise self._why()

    def _tries(self) -> Iterator[tuple[Routes, Route, Credential]]:
        """Those that seem good by this clock, and where none does all: it may be wrong."""
        now_ms = int(self._reactor.seconds() * 1000)
        for credential in self._client.usable(now_ms) or self._client.held:
            for routes in self._gateways:
                for route in routes.order():
                    yield routes, route, credential

    async def _try(
        self, routes: Routes, route: Route, credential: Credential, limit_s: float
    ) -> Told | None:
        """None: not on this way; why is kept."""
        limit_s = max(0.1, limit_s)
        if not await self._deliver(routes, route, credential, limit_s):
            return None
        try:
            channel = routes.open(route, self._client.ca_bundle_pem, credential.pair)
        except PalyraError as error:
            self._unreached = self._unreached or error
            return None
        try:
            revoked = channel.revoke(self._device_id, self._reason)
            await revoked.addTimeout(limit_s, self._reactor)
        except TimeoutError:
            self._is_silent(route)
        except PalyraError as error:
            if isinstance(error, RemoteRefusal) and error.remote_code in _GONE:
                return Told(str(route), already=True)
            self._keep(error, route)
        else:
            return Told(str(route), undelivered=self._delivery.left if self._delivery else 0)
        finally:
            await channel.close()
        return None

    async def _deliver(
        self, routes: Routes, route: Route, credential: Credential, limit_s: float
    ) -> bool:
        """Say what is left to say; whether the gateway may be told on this way then.  What it will
        not hear is no reason to stay."""
        delivery, began_s = self._delivery, self._elapsed_s()
        if delivery is None or delivery.said:
            return True
        try:
            channel = routes.open(route, self._client.ca_bundle_pem, credential.pair)
            await delivery.deliver(route, channel, credential, limit_s)
        except TimeoutError:
            self._is_silent(route)
            return False
        except PalyraError as error:
            if is_unreached(error):
                self._keep(error, route)
                return False
        else:
            self._over_s += self._elapsed_s() - began_s
        return True

    def _is_silent(self, route: Route) -> None:
        silent = GatewayUnreachable(str(route.address), Unreached.NO_ANSWER)
        self._unreached = self._unreached or silent

    def _keep(self, error: PalyraError, route: Route) -> None:
        if isinstance(error, CertificateUnknown):
            self._gone = str(route)  # unless another certificate is known there
        elif isinstance(error, CertificateRefused | RemoteRefusal):
            self._refused = self._refused or error
        else:
            self._unreached = self._unreached or error

    def _why(self) -> PalyraError:
        """What a person can act on."""
        now_ms = int(self._reactor.seconds() * 1000)
        held = self._client.held
        if held and not self._client.usable(now_ms):
            ended = datetime.datetime.fromtimestamp(held[-1].cert_expires_at_unix_ms / 1000)
            return CertificateExpired(when=f"{ended.astimezone():%d %b %H:%M}")
        return self._refused or self._unreached or CertificateRefused("missing")

    def _out_of_time(self, result: Any, limit_s: float) -> Any:
        if isinstance(getattr(result, "value", None), CancelledError):
            raise self._why()
        return result
