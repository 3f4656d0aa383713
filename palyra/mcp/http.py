"""Streamable HTTP on loopback."""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Callable

import uvicorn
from mcp.server.transport_security import TransportSecuritySettings
from starlette.types import ASGIApp

from palyra.config.addresses import HostPort
from palyra.errors import McpNotLoopback
from palyra.mcp.server import NodeServer

PATH = "/mcp"
MAX_SESSIONS = 64
SESSION_IDLE_S = 30 * 60.0
MAX_BODY = 5 * 1024 * 1024
MAX_CONNECTIONS = 256
GRACE_S = 3
BACKLOG = 64
_log = logging.getLogger(__name__)


def listening(address: HostPort) -> socket.socket:
    """A socket that listens; port 0 is any.

    :raises McpNotLoopback: the address is not of this machine alone.
    :raises OSError: it cannot be bound.
    """
    host = "127.0.0.1" if address.host in ("", "localhost") else address.host.strip("[]")
    try:
        number = ipaddress.ip_address(host)
    except ValueError as error:
        raise McpNotLoopback(str(address)) from error
    if not number.is_loopback:
        raise McpNotLoopback(str(address))
    family = socket.AF_INET6 if number.version == 6 else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, address.port))
        made.listen(BACKLOG)
    except BaseException:
        made.close()
        raise
    return made


def bound(listener: socket.socket) -> HostPort:
    """Where a socket listens."""
    host, port = listener.getsockname()[:2]
    return HostPort(host, port)


def app_of(server: NodeServer) -> ASGIApp:
    """The server as ASGI; hosts and origins are the door's to check."""
    return server.protocol.streamable_http_app(
        streamable_http_path=PATH,
        max_request_body_size=MAX_BODY,
        session_idle_timeout=SESSION_IDLE_S,
        max_sessions=MAX_SESSIONS,
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )


async def serve(app: ASGIApp, listener: socket.socket, begun: Callable[[], None]) -> None:
    """Serve until the process is told to end; nothing of a request is logged."""
    config = uvicorn.Config(
        app,
        access_log=False,
        log_config=None,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        ws="none",
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=GRACE_S,
    )
    begun()
    await uvicorn.Server(config).serve(sockets=[listener])
