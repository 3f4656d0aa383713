"""Who may come in over HTTP: the right host and origin, and the token.

A page of another site can reach a server on loopback: through its own name pointed here (the host),
or from its own address (the origin).  Both are refused before the token is looked at.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable

import attrs
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from palyra.config.addresses import HostPort

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_SCHEME = b"bearer "


@attrs.frozen
class Allowed:
    """What the headers of a request may say; ``token`` is never shown."""

    hosts: frozenset[bytes]
    origins: frozenset[bytes]
    token: bytes = attrs.field(repr=False)

    @classmethod
    def of(
        cls, at: HostPort, token: bytes, hosts: Iterable[str] = (), origins: Iterable[str] = ()
    ) -> Allowed:
        """Loopback's names with this port, and what was named besides."""
        own = {str(at), *(f"{name}:{at.port}" for name in LOOPBACK)}
        named = own | set(hosts)
        pages = {f"http://{name}" for name in own} | set(origins)
        return cls(_lowered(named), _lowered(pages), token)


def _lowered(words: Iterable[str]) -> frozenset[bytes]:
    return frozenset(word.lower().encode() for word in words)


class Door:
    """ASGI: lets requests through to ``app``, or answers them itself."""

    def __init__(self, app: ASGIApp, allowed: Allowed) -> None:
        self._app = app
        self._allowed = allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        status, text = self._refusal(scope["headers"]) if scope["type"] == "http" else (404, b"")
        if status:
            await _answer(send, status, text)
        else:
            await self._app(scope, receive, send)

    def _refusal(self, headers: Iterable[tuple[bytes, bytes]]) -> tuple[int, bytes]:
        """The status and what it means; 0: come in.  A header that comes twice is none."""
        given: dict[bytes, list[bytes]] = {}
        for name, value in headers:
            given.setdefault(name.lower(), []).append(value)
        host, origin = given.get(b"host", []), given.get(b"origin", [])
        if len(host) != 1 or host[0].lower() not in self._allowed.hosts:
            return 421, b"This server is not reached under that name."
        if origin and (len(origin) != 1 or origin[0].lower() not in self._allowed.origins):
            return 403, b"Pages of that origin are not let in."
        if not self._knows(given.get(b"authorization", [])):
            return 401, b"The bearer token is missing or wrong."
        return 0, b""

    def _knows(self, given: list[bytes]) -> bool:
        if len(given) != 1 or given[0][: len(_SCHEME)].lower() != _SCHEME:
            return False
        return hmac.compare_digest(given[0][len(_SCHEME) :].strip(), self._allowed.token)


async def _answer(send: Send, status: int, text: bytes) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store")]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    start: Message = {"type": "http.response.start", "status": status, "headers": headers}
    await send(start)
    await send({"type": "http.response.body", "body": text})
