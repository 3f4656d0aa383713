"""The console over the network: one endpoint for people's browsers and operators' programs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from cryptography import x509
from OpenSSL import SSL
from twisted.internet.defer import Deferred

from palyra._listeners import listener_of
from palyra.config import Config
from palyra.config.addresses import HostPort
from palyra.config.endpoints import Place, own_files
from palyra.console.admission import IAdmission
from palyra.console.app import ConsoleApp
from palyra.console.hosts import Hosts
from palyra.console.page import PageShell
from palyra.console.routing import Controls
from palyra.console.site import ConsoleRoot, ConsoleSite, Gate
from palyra.core.operators import Caller
from palyra.errors import ConsoleCertificateUnusable, PortTaken
from palyra.gateway.operatorrooms import ConsolePlace
from palyra.pki.certificates import certificate_fingerprint
from palyra.pki.keystore import GatewayIdentity
from palyra.pki.served import CertificateFiles
from palyra.transport.consoletls import (
    Certificate,
    Refused,
    ServerTls,
    TellingFactory,
    nobody_counts,
)
from palyra.transport.endpointstrings import PalyraEndpoint

CLOSE_S = 0.5
"""What answers that are being written get at the end."""
_ANY = ("", "0.0.0.0", "::")
_HTTPS = 443


@attrs.frozen
class Behind:
    """What stands behind the door."""

    controls: Controls
    admission: IAdmission
    identity: GatewayIdentity
    ready: Callable[[], bool]
    """Whether devices are served and jobs are taken."""
    elapsed_ms: Callable[[], int]
    refused: Refused = nobody_counts
    """Told why a connection was turned away."""


class ConsoleDoor:
    """Listens at ``where``; its certificate is that of the gateway, unless it has one of its own.

    ``reactor`` is an IReactorTCP and IReactorTime.
    """

    def __init__(
        self, reactor: Any, where: Place, config: Config, behind: Behind, *, max_connections: int
    ) -> None:
        self.where = where
        own = own_files(where, config.console)
        self.own = None if own is None else CertificateFiles(*own)
        self._names = config.gateway.names
        self._behind = behind
        self._reactor = reactor
        self._max_connections = max_connections
        self._app = ConsoleApp(behind.controls, behind.admission, reactor)
        bound = () if where.address.host in _ANY else (where.address.host,)
        self._hosts = Hosts.of((*self._names, *bound), config.console.proxies())
        self._gate = Gate(self._hosts, elapsed_ms=behind.elapsed_ms)
        self._certificate = _certificate(self.own, behind.identity)
        self._site: ConsoleSite
        self._telling: TellingFactory
        self._port: Any = None

    @property
    def address(self) -> HostPort:
        """Where it listens, once bound."""
        return self.where.address

    @property
    def origin(self) -> str:
        """What people type: plain on this machine alone; a proxy is reached by its first name."""
        names, address = self._names, self.address
        if names and self._hosts.proxies:
            return f"https://{HostPort(names[0], _HTTPS)}".removesuffix(f":{_HTTPS}")
        if address.is_loopback:
            return f"http://{HostPort('localhost', address.port)}"
        return f"https://{HostPort(names[0], address.port)}"

    @property
    def place(self) -> ConsolePlace:
        """How it is reached, and what it shows."""
        names, address = self._names, self.address
        host = names[0] if names and not address.is_loopback else "localhost"
        return ConsolePlace(self.origin, HostPort(host, address.port), self.fingerprint)

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the certificate that it shows now."""
        _, chain = self._certificate()
        return certificate_fingerprint(x509.load_pem_x509_certificates(chain)[0])

    def bind(self) -> None:
        """Listen; ``address`` then holds the port.

        :raises PortTaken, CannotBind: it is not possible.
        :raises ConsoleCertificateUnusable, KeyFilePermission: its own certificate cannot be shown.
        """
        root = ConsoleRoot(self._app.resource(), PageShell(), ready=self._behind.ready)
        self._site = ConsoleSite(
            root, self._gate, self._reactor, knows=self._behind.admission.knows
        )
        tls = ServerTls(
            self._certificate, lambda: self._behind.identity.ca_bundle_pem, refuse_strangers=False
        )
        endpoint = PalyraEndpoint(self._reactor, self.where, tls, self._may_be_plain)
        try:
            self._telling = endpoint.telling(
                self._site,
                max_connections=self._max_connections,
                speaks_for_many=self._hosts.is_proxy,
                refused=self._behind.refused,
            )
        except (OSError, ValueError, SSL.Error) as error:
            file = self.own.certificate if self.own is not None else Path("identity")
            raise ConsoleCertificateUnusable(str(file), _told(error)) from error
        try:
            self._port = endpoint.bind(self._telling)
        except PortTaken as error:
            raise attrs.evolve(error, **_who_has(error.port)) from error
        port = self._port.getHost().port
        self._gate.port = port
        self.where = attrs.evolve(self.where, address=self.address.with_port(port))

    def end_streams(self, of: Callable[[Caller], bool]) -> None:
        """End the streams of the callers that ``of`` says."""
        self._app.end_streams(of)

    def drop(self, of: Callable[[Caller], bool]) -> None:
        """End the connections whose last caller is one that ``of`` says."""
        self._site.drop(of)

    async def stop(self) -> None:
        """Stop listening, end the streams, then every connection."""
        port, self._port = self._port, None
        if port is None:
            return
        self._app.stop()
        stopped: Deferred[None] = port.stopListening()
        await stopped
        await self._telling.close(CLOSE_S)

    def _may_be_plain(self, peer: Any) -> bool:
        return self.address.is_loopback or self._hosts.is_proxy(peer)


def _who_has(port: int) -> dict[str, Any]:
    name, pid = listener_of(port)
    return {"by": name, "pid": pid}


def _certificate(own: CertificateFiles | None, identity: GatewayIdentity) -> Certificate:
    return own.served if own is not None else lambda: identity.served


def _told(error: Exception) -> str:
    if isinstance(error, OSError):
        return (error.strerror or str(error)).lower()
    if isinstance(error, SSL.Error):
        return "the key is not that of the certificate"
    return "it is not a certificate chain with its key, both PEM"
