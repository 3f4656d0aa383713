"""gRPC listeners: grpc.aio servers on the reactor's loop (DESIGN: Listeners)."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence

import grpc
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from palyra.config.addresses import HostPort
from palyra.errors import CannotBind, not_listening
from palyra.transport.asyncbridge import as_deferred, run_now
from palyra.wire.service import NodeServiceServicer, add_NodeServiceServicer_to_server

MAX_NODE_MESSAGE = 4 * 1024 * 1024
MAX_PAIRING_MESSAGE = 64 * 1024 + 16 * 1024
NODE_OPTIONS = (("grpc.max_concurrent_streams", 1_024),)
ENROLMENT_OPTIONS = (
    # One call at a time; the second place is for a stream whose end was sent a moment ago and is
    # not counted off yet: a client that calls again at once was refused for it.
    ("grpc.max_concurrent_streams", 2),
    ("grpc.max_connection_age_ms", 30_000),
    ("grpc.max_connection_age_grace_ms", 5_000),
)
"""An unpaired peer gets one call at a time and no connection to keep."""

HANDSHAKE_MS = 10_000
"""How long a peer may take until it is authenticated."""

Certificate = Callable[[], tuple[bytes, bytes]]
"""Gives the key and the certificate chain to serve now, both PEM; called from any thread."""
Roots = Callable[[], bytes]
"""Gives the CA certificates (PEM) that clients may be issued by now; called from any thread."""


class GrpcListener:
    """One gRPC server on one address.  Bound before the reactor runs, stopped as a Deferred.

    With ``client_ca_pem`` a client certificate is demanded.  What is served and who is let in are
    asked for at every handshake; connections that are open stay.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        name: str,
        address: HostPort,
        servicer: NodeServiceServicer,
        certificate: Certificate,
        client_ca_pem: Roots | None,
        max_message: int,
        max_connections: int,
        options: Sequence[tuple[str, int]] = (),
    ) -> None:
        """``max_connections``: more are closed at once, so that no stranger takes every file that
        this process may open."""
        self.name = name
        self.address = address
        self._servicer = servicer
        self._client_ca_pem = client_ca_pem
        self._certificate = certificate
        self._served = self._wanted()
        self._credentials = grpc.dynamic_ssl_server_credentials(
            self._configuration(),
            self._changed_configuration,  # type: ignore[arg-type]  # None means no change
            require_client_authentication=client_ca_pem is not None,
        )
        self._options = [
            ("grpc.max_receive_message_length", max_message),
            ("grpc.max_send_message_length", max_message),
            ("grpc.so_reuseport", 0),
            ("grpc.max_allowed_incoming_connections", max_connections),
            ("grpc.server_handshake_timeout_ms", HANDSHAKE_MS),
            ("grpc.max_metadata_size", 16 * 1024),
            *options,
        ]
        self._server: grpc.aio.Server | None = None

    def bind(self) -> None:
        """Listen; ``address`` then holds the port.

        :raises PortTaken, CannotBind: it is not possible.
        """
        _probe(self.name, self.address)
        run_now(self._start())

    def open(self) -> Deferred[None]:
        """As :meth:`bind`, while the reactor runs; fires when it listens."""
        _probe(self.name, self.address)
        return as_deferred(self._start())

    async def _start(self) -> None:
        server = grpc.aio.server(options=self._options)
        add_NodeServiceServicer_to_server(self._servicer, server)
        try:
            port = server.add_secure_port(str(self.address), self._credentials)
        except RuntimeError as error:
            raise CannotBind(self.name, str(self.address), "the address is refused") from error
        await server.start()
        self._server = server
        self.address = self.address.with_port(port)

    def _wanted(self) -> tuple[bytes, bytes, bytes | None]:
        """Key, chain and client CAs, as they are to be served now."""
        return (*self._certificate(), self._client_ca_pem and self._client_ca_pem())

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        key, chain, roots = self._served
        return grpc.ssl_server_certificate_configuration([(key, chain)], root_certificates=roots)

    def _changed_configuration(self) -> grpc.ServerCertificateConfiguration | None:
        """Asked by gRPC's core at each handshake, in a thread of its own: None for no change."""
        wanted = self._wanted()
        if wanted == self._served:
            return None
        self._served = wanted
        return self._configuration()

    def stop(self, grace_s: float) -> Deferred[None]:
        """Take no new calls, and end the open ones after ``grace_s``."""
        server, self._server = self._server, None
        return as_deferred(_stop(server, grace_s))


async def _stop(server: grpc.aio.Server | None, grace_s: float) -> None:
    if server is not None:
        await server.stop(grace_s)


def _probe(name: str, address: HostPort) -> None:
    """Say exactly why an address cannot be bound: gRPC itself only says that it cannot."""
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, target = found[0]
        with socket.socket(family, kind, protocol) as probe:
            if os.name == "posix":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(target)
            probe.listen(1)
    except OSError as error:
        raise not_listening(name, str(address), address.port, error) from error
