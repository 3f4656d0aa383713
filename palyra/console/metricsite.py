"""``/metrics`` on a loopback listener of its own: plain HTTP, nothing else, no credentials."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.web.iweb import IRequest
from twisted.web.resource import Resource

from palyra.config.addresses import HostPort
from palyra.console.bounds import BoundedChannel, BoundedRequest, QuietSite
from palyra.console.hosts import Hosts
from palyra.console.routing import Exposition
from palyra.errors import PalyraError, WrongHost, not_listening


def expose(request: IRequest, exposition: Exposition) -> bytes:
    """Answer a request with the metrics, in the format that it accepts."""
    accept = request.getHeader(b"accept") or b""
    content_type, body = exposition(accept.decode("latin-1"))
    request.setHeader(b"content-type", content_type.encode())
    request.setHeader(b"cache-control", b"no-store")
    return body


class _MetricsRequest(BoundedRequest):
    """A request that names this machine: a page of another site may have its own name lead here."""

    def examine(self, method: bytes, path: bytes) -> PalyraError | None:
        channel: Any = self.channel
        given = self.requestHeaders.getRawHeaders(b"host") or []
        known = len(given) == 1 and channel.site.hosts.knows(given[0], None, secure=False)
        return None if known else WrongHost()


class _Exposed(Resource):
    isLeaf = True

    def __init__(self, exposition: Exposition) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._exposition = exposition

    def render(self, request: Any) -> Any:
        request.responseHeaders.removeHeader(b"server")
        return super().render(request)  # type: ignore[no-untyped-call]

    def render_GET(self, request: IRequest) -> bytes:
        if request.path != b"/metrics":
            request.setResponseCode(404)
            request.setHeader(b"content-type", b"text/plain; charset=utf-8")
            return b"Only /metrics is here.\n"
        return expose(request, self._exposition)


class MetricsListener:
    """Answers ``GET /metrics`` at ``address``, which no other machine can reach."""

    name = "metrics"

    def __init__(self, reactor: Any, address: HostPort, exposition: Exposition) -> None:
        self._reactor = reactor
        self.address = address
        site: Any = QuietSite(_Exposed(exposition), reactor=reactor)  # type: ignore[no-untyped-call]
        site.requestFactory = _MetricsRequest
        site.hosts = Hosts.of([address.host])
        site.protocol = BoundedChannel
        self._site = site
        self._port: Any = None

    def bind(self) -> None:
        """Listen.

        :raises PortTaken, CannotBind: it is not possible.
        """
        host, port = self.address.host, self.address.port
        try:
            self._port = self._reactor.listenTCP(port, self._site, interface=_numeric(host))
        except CannotListenError as error:
            raise not_listening(self.name, str(self.address), port, error.socketError) from error
        self.address = self.address.with_port(self._port.getHost().port)

    def stop(self) -> Deferred[None]:
        """Stop listening; connections that are open end with the answers they wait for."""
        stopped: Deferred[None] = self._port.stopListening()
        return stopped


def _numeric(host: str) -> str:
    return "127.0.0.1" if host == "localhost" else host
