"""The console over HTTP: who may speak to it at all, the page with its files, and the routes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Protocol
from urllib.parse import unquote_to_bytes

import attrs
import msgspec
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.resource import IResource
from twisted.web.server import NOT_DONE_YET
from werkzeug.exceptions import MethodNotAllowed
from zope.interface import implementer

from palyra.console.answers import whole
from palyra.console.app import OPENAPI, PREFIX
from palyra.console.assets import Asset, read_assets
from palyra.console.bounds import BoundedChannel, BoundedRequest, QuietSite
from palyra.console.hosts import Hosts, address_of, forwarded
from palyra.console.openapi import document
from palyra.console.problems import refuse, refuse_method
from palyra.console.routes import SUBJECTS
from palyra.core.operators import Caller
from palyra.core.rates import source_of
from palyra.core.windows import Windows
from palyra.errors import Malformed, NotFound, PalyraError, RequestsLimited, WrongHost

WINDOW_MS = 3_000
PER_SECOND = 30
PER_SECOND_LOOPBACK = 1_000
"""Requests of one source; a page begins with a burst, so they are counted over the window."""
MAX_SOURCES = 8_192
IDLE_S = 60.0
METRICS = b"/metrics"
_HTML = b"text/html; charset=utf-8"


class Shell(Protocol):
    """The page itself (:class:`palyra.console.page.PageShell`)."""

    def render(self, path: str) -> bytes | None:
        """The document of a decoded path; None: there is no such page."""


class Gate:
    """What every request passes before it is asked for anything."""

    def __init__(self, hosts: Hosts, *, elapsed_ms: Callable[[], int]) -> None:
        self.hosts = hosts
        self.port: int | None = None
        """The port that requests must name; None: any."""
        self._elapsed_ms = elapsed_ms
        self._far = Windows(PER_SECOND * WINDOW_MS // 1000, WINDOW_MS, max_keys=MAX_SOURCES)
        self._near = Windows(PER_SECOND_LOOPBACK * WINDOW_MS // 1000, WINDOW_MS)

    def examine(self, request: ConsoleRequest) -> None:
        """Let a request pass.

        :raises WrongHost, RequestsLimited: not this one.
        """
        hosts = request.requestHeaders.getRawHeaders(b"host") or []
        # What a proxy is reached by from outside need not be our own port.
        port = None if request.proxied else self.port
        if len(hosts) != 1 or not self.hosts.knows(hosts[0], port, secure=request.isSecure()):
            raise WrongHost()
        self._count(str(getattr(request.getClientAddress(), "host", "")))

    def _count(self, host: str) -> None:
        address = address_of(host)
        near = address is not None and address.is_loopback
        windows, now_ms = self._near if near else self._far, self._elapsed_ms()
        source = _source(host)
        wait_ms = windows.wait_ms(source, now_ms)
        if wait_ms:
            raise RequestsLimited(wait_ms / 1000)
        windows.add(source, now_ms)


class ConsoleRequest(BoundedRequest):
    """A request over the network, as it is and as a proxy of ours says it is."""

    proxied = False
    _forwarded_client: IPv4Address | IPv6Address | None = None
    _forwarded_secure: bool | None = None

    def examine(self, method: bytes, path: bytes) -> PalyraError | None:
        """See what the proxy says, then ask the gate."""
        channel: Any = self.channel
        gate: Gate = channel.site.gate
        self.proxied = gate.hosts.is_proxy(self.client)
        if self.proxied:
            self._believe(gate.hosts)
        try:
            gate.examine(self)
        except PalyraError as error:
            return error
        return None

    def known(self) -> bool:
        """As the site says."""
        channel: Any = self.channel
        return bool(channel.site.knows(self))

    def getClientAddress(self) -> IAddress:
        """Who asks: the peer, or whom a proxy speaks for."""
        client: IAddress = self._forwarded_client or self.client
        return client

    def isSecure(self) -> bool:
        """Whether the caller's own connection is TLS."""
        if self._forwarded_secure is not None:
            return self._forwarded_secure
        return bool(super().isSecure())

    def _believe(self, hosts: Hosts) -> None:
        said = forwarded(self, hosts)
        self._forwarded_client, self._forwarded_secure = said.client, said.secure
        if said.host is not None:
            self.requestHeaders.setRawHeaders(b"host", [said.host])


class ConsoleChannel(BoundedChannel):
    """A connection that its site knows, so that it can be ended."""

    site: ConsoleSite

    def connectionMade(self) -> None:
        """It begins."""
        self.site.channels.add(self)
        super().connectionMade()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It is over."""
        self.site.channels.discard(self)
        super().connectionLost(reason)


class ConsoleSite(QuietSite):
    """Serves ``resource`` to connections over the network; ``knows`` is that of IAdmission."""

    requestFactory = ConsoleRequest

    def __init__(
        self, resource: IResource, gate: Gate, reactor: Any, *, knows: Callable[[Any], bool]
    ) -> None:
        super().__init__(resource, reactor=reactor, timeout=IDLE_S)
        self.protocol: Any = ConsoleChannel
        self.gate = gate
        self.knows = knows
        self.channels: set[BoundedChannel] = set()

    def drop(self, of: Callable[[Caller], bool]) -> None:
        """End the connections whose last caller is one that ``of`` says."""
        for channel in list(self.channels):
            channel.end_of(of)


@implementer(IResource)
class ConsoleRoot:
    """Everything under ``/``.

    :param routes: the resource of :class:`palyra.console.app.ConsoleApp`.
    :param ready: whether the gateway serves devices and takes jobs.
    """

    isLeaf = True

    def __init__(self, routes: IResource, shell: Shell, *, ready: Callable[[], bool]) -> None:
        self._routes = routes
        self._shell = shell
        self._ready = ready
        self._assets: Mapping[str, Asset] = {**read_assets(), OPENAPI: _described()}

    def getChildWithDefault(self, name: bytes, request: Any) -> IResource:
        """Nothing is below: this is a leaf."""
        raise AssertionError("a leaf is not asked for children")

    def putChild(self, path: bytes, child: IResource) -> None:
        """Nothing is put below."""
        raise AssertionError("a leaf has no children")

    def render(self, request: Any) -> Any:
        """Answer a request that has passed the gate."""
        request.responseHeaders.removeHeader(b"server")
        path = _text(request.path)
        if path is None or not _is_word(request.method):
            return _finished(request, refuse(request, NotFound("resource", "that")))
        if path.startswith(PREFIX + "/") or request.path == METRICS:
            return self._routes.render(request)
        return _finished(request, self._plain(request, path))

    def _plain(self, request: Any, path: str) -> bytes:
        answer = self._answer_to(request, path)
        if answer is None:
            return refuse(request, NotFound("resource", "that"))
        if request.method not in (b"GET", b"HEAD"):
            return refuse_method(request, MethodNotAllowed(["GET", "HEAD"]))
        return answer()

    def _answer_to(self, request: Any, path: str) -> Callable[[], bytes] | None:
        asset = self._assets.get(path)
        if asset is not None:
            return lambda: asset.answer(request)
        if path == "/healthz":
            return lambda: _status(request, ready=True)
        if path == "/readyz":
            return lambda: _status(request, ready=self._ready())
        page = self._shell.render(path)
        if page is not None:
            return lambda: _page(request, page)
        return None


@attrs.frozen
class Status:
    """What ``/healthz`` and ``/readyz`` say."""

    status: str


def _status(request: Any, *, ready: bool) -> bytes:
    if not ready:
        request.setResponseCode(503)
    request.setHeader(b"content-type", b"application/json")
    return msgspec.json.encode(Status("ok" if ready else "not ready"))


def _page(request: Any, page: bytes) -> bytes:
    request.setHeader(b"content-type", _HTML)
    return page


def _finished(request: Any, body: bytes) -> int:
    if request.code != 304:
        whole(request, body)
    if request.method != b"HEAD":
        request.write(body)
    request.finish()
    return NOT_DONE_YET


def _described() -> Asset:
    """The OpenAPI document: the same for everybody, so nobody has to be signed in for it."""
    return Asset.of(b"application/json", json.dumps(document(SUBJECTS, PREFIX)).encode())


def _text(path: bytes) -> str | None:
    """A path, decoded; None where it is not UTF-8 or does not begin at the root."""
    try:
        text = unquote_to_bytes(path).decode()
    except UnicodeDecodeError:
        return None
    return text if text.startswith("/") else None


def _is_word(method: bytes) -> bool:
    return method.isascii() and method.isalpha()


def _source(host: str) -> str:
    try:
        return source_of(host)
    except Malformed:
        return host
