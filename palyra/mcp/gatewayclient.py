"""The console of a gateway from afar, asked from a process that runs on anyio."""

from __future__ import annotations

import contextlib
import logging
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import TypeVar

import anyio
import anyio.to_thread
import httpx2
import msgspec

from palyra.afar.contexts import CA, PAIR, PENDING, Context, Contexts
from palyra.afar.eventstream import EventReader
from palyra.afar.refusals import AnswerUnreadable, GatewayRefused
from palyra.afar.remote import RemoteWay, tls_context
from palyra.afar.renewal import Pending, keep
from palyra.console.models import OperatorCertificateAnswer, Page, Problem, RenewOperator
from palyra.errors import ContextUnusable, GatewayUnreachable, PalyraError, RequestsLimited

PREFIX = "/console/v1/"
TIMEOUT_S = 10.0
SILENCE_S = 40.0
"""After so long without an event or a keep-alive (every 15 s) the gateway is gone."""
MAX_ANSWER = 32 * 1024 * 1024
PAGE_LIMIT = 200
MAX_PAGES = 500
PAUSES_S = (0.2, 1.0, 3.0)
"""Before a request that may be repeated is sent again: a restart takes a few seconds."""

Query = str | int | None
T = TypeVar("T")
_BROKEN = (httpx2.RemoteProtocolError, httpx2.ReadError, httpx2.WriteError)
"""A connection that was kept open had been ended by the gateway."""
_log = logging.getLogger(__name__)


class GatewayClient:
    """One gateway as one operator.  The certificate of the context renews itself.

    Files that another process renewed meanwhile are read again.  Close it with :meth:`aclose`.
    """

    def __init__(
        self, context: Context, contexts: Contexts, *, timeout_s: float = TIMEOUT_S
    ) -> None:
        self.context = context
        self._contexts = contexts
        self._timeout_s = timeout_s
        self._way = RemoteWay(context.address, self._tls)
        self._files: tuple[tuple[int, int, int], ...] = ()
        self._clients: list[httpx2.AsyncClient] = []
        self._renewing = anyio.Lock()

    async def aclose(self) -> None:
        """End every connection."""
        while self._clients:
            await self._clients.pop().aclose()

    # -- what is asked ----------------------------------------------------------------------------

    async def get(self, path: str, kind: type[T], /, wait_ms: int = 0, **query: Query) -> T:
        """GET a resource as ``kind``; the answer may take ``wait_ms`` longer than usual.

        A gateway that has heard too much of us lately is asked again.

        :raises GatewayUnreachable: nothing answers; :class:`GatewayRefused`: it said no.
        """
        for pause_s in PAUSES_S:
            try:
                return await self._get(path, kind, wait_ms, query)
            except GatewayRefused as error:
                if error.problem.code != RequestsLimited.code:
                    raise
            await anyio.sleep(pause_s)
        return await self._get(path, kind, wait_ms, query)

    async def _get(self, path: str, kind: type[T], wait_ms: int, query: Mapping[str, Query]) -> T:
        given: dict[str, Query] = {
            k: value for k, value in query.items() if value not in (None, "")
        }
        if wait_ms:
            given["wait_ms"] = wait_ms
        try:
            data = await self._asked("GET", path, given, None, wait_ms)
        except GatewayUnreachable as error:
            if not isinstance(error.__cause__, _BROKEN):
                raise
            data = await self._asked("GET", path, given, None, wait_ms)
        return self._decoded(data, kind)

    async def post(self, path: str, body: msgspec.Struct, kind: type[T], wait_ms: int = 0) -> T:
        """POST a body and read the answer as ``kind``; errors as :meth:`get`."""
        data = await self._asked("POST", path, {}, msgspec.json.encode(body), wait_ms)
        return self._decoded(data, kind)

    async def post_again(
        self, path: str, body: msgspec.Struct, kind: type[T], wait_ms: int = 0
    ) -> T:
        """As :meth:`post`, sent again where no answer came: twice is as good as once, for instance
        because ``body`` has an idempotency key."""
        for pause_s in PAUSES_S:
            try:
                return await self.post(path, body, kind, wait_ms)
            except PalyraError as error:
                if not passes(error):
                    raise
            await anyio.sleep(pause_s)
        return await self.post(path, body, kind, wait_ms)

    async def pages(
        self, path: str, kind: type[T], page_of: Callable[[T], Page], /, **query: Query
    ) -> AsyncIterator[T]:
        """The pages of a list."""
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            answer = await self.get(path, kind, 0, limit=PAGE_LIMIT, cursor=cursor, **query)
            yield answer
            page = page_of(answer)
            cursor = page.next_cursor
            if not page.has_more or cursor is None:
                return

    async def follow(
        self, path: str, kind: type[T], tell: Callable[[T], Awaitable[bool]], /, **query: Query
    ) -> None:
        """Give every event of a stream to ``tell``, until it says that this was the last.

        :raises GatewayUnreachable: the stream ended before that; else as :meth:`get`.
        """
        given = {key: value for key, value in query.items() if value is not None}
        headers = {"Accept": "text/event-stream"}
        timeout = httpx2.Timeout(self._timeout_s, read=SILENCE_S)
        reader = EventReader()
        async with (
            self._in_our_words(),
            self._client().stream(
                "GET", PREFIX + path, params=given, headers=headers, timeout=timeout
            ) as answer,
        ):
            if answer.status_code >= 400:
                raise self._refusal(answer.status_code, await _read(answer))
            async for piece in answer.aiter_bytes():
                for data in reader.feed(piece):
                    if await tell(self._decoded(data, kind)):
                        return
        raise self._unreachable("its events ended early")

    # -- how --------------------------------------------------------------------------------------

    async def _asked(
        self, method: str, path: str, query: dict[str, Query], body: bytes | None, wait_ms: int
    ) -> bytes:
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        timeout = self._timeout_s + wait_ms / 1000
        async with (
            self._in_our_words(timeout),
            self._client().stream(
                method,
                PREFIX + path,
                params=query,
                content=body,
                headers=headers,
                timeout=httpx2.Timeout(self._timeout_s, read=timeout),
            ) as answer,
        ):
            data = await _read(answer)
        if answer.status_code >= 400:
            raise self._refusal(answer.status_code, data)
        if answer.headers.get("x-palyra-renew"):
            await self._renew()
        return data

    async def _renew(self) -> None:
        """Get the next certificate; what goes wrong is tried again with the next answer."""
        if self._renewing.locked():
            return
        async with self._renewing:
            try:
                pending = Pending(self._contexts.directory(self.context.name) / PENDING)
                content = msgspec.json.encode(RenewOperator(pending.csr_pem))
                async with self._in_our_words():
                    answer = await self._client().post(
                        f"{PREFIX}operators/self/renew",
                        content=content,
                        headers={"Content-Type": "application/json"},
                    )
                if answer.status_code >= 400:
                    raise self._refusal(answer.status_code, answer.content)
                made = self._decoded(answer.content, OperatorCertificateAnswer)
                keep(self.context, self._contexts, pending, made)
            except (PalyraError, OSError) as error:
                _log.warning("the certificate was not renewed: %s", error)

    def _client(self) -> httpx2.AsyncClient:
        """The connections with the certificate that is on the disk now."""
        files = self._signatures()
        if not self._clients or files != self._files:
            client = httpx2.AsyncClient(
                base_url=self.context.url,
                verify=self._tls(),
                trust_env=False,
                timeout=self._timeout_s,
                limits=httpx2.Limits(max_connections=None, max_keepalive_connections=4),
            )
            self._clients.append(client)
            self._files = files
        return self._clients[-1]

    def _signatures(self) -> tuple[tuple[int, int, int], ...]:
        """What tells a file from its successor.

        :raises ContextUnusable: one is not there.
        """
        directory = self._contexts.directory(self.context.name)
        try:
            found = [os.stat(directory / name) for name in (CA, PAIR)]
        except OSError as error:
            raise ContextUnusable(self.context.name, f"{CA} or {PAIR} is missing") from error
        return tuple((each.st_ino, each.st_mtime_ns, each.st_size) for each in found)

    def _tls(self) -> ssl.SSLContext:
        """:raises ContextUnusable, KeyFilePermission: what is kept cannot be used."""
        name = self.context.name
        pair = self._contexts.pair_file(name)
        try:
            return tls_context((self._contexts.directory(name) / CA).read_text(), pair)
        except (OSError, ValueError) as error:
            raise ContextUnusable(name, f"{CA} or {PAIR} is damaged") from error

    @contextlib.asynccontextmanager
    async def _in_our_words(self, timeout_s: float = TIMEOUT_S) -> AsyncIterator[None]:
        """Inside, what goes wrong with a connection is said in our words."""
        try:
            yield
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, OSError) as error:
            cause = cause_of(error)
            # Looks at the certificate over a connection of its own, in a thread: it blocks.
            problem = await anyio.to_thread.run_sync(self._way.problem, cause, timeout_s)
            raise problem from error

    def _refusal(self, status: int, data: bytes) -> PalyraError:
        try:
            return GatewayRefused(msgspec.json.decode(data, type=Problem))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return self._unreachable(f"it answered {status} without a reason")

    def _decoded(self, data: bytes, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(data, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            cause = f"its answer is not one this version reads ({error})"
            raise AnswerUnreadable(self._way.where, cause) from error

    def _unreachable(self, cause: str) -> GatewayUnreachable:
        return GatewayUnreachable(self._way.where, cause)


async def _read(answer: httpx2.Response) -> bytes:
    """The body of an answer.

    :raises ValueError: it is longer than any of ours.
    """
    body = bytearray()
    async for piece in answer.aiter_bytes():
        body += piece
        if len(body) > MAX_ANSWER:
            raise ValueError("its answer does not end")
    return bytes(body)


def passes(error: PalyraError) -> bool:
    """Whether it may go better in a moment: the gateway restarts, or is busy."""
    if isinstance(error, GatewayRefused):
        return error.problem.retryable
    return isinstance(error, GatewayUnreachable) and not isinstance(error, AnswerUnreadable)


def cause_of(error: BaseException) -> Exception:
    """What the system or TLS said, below what the libraries made of it."""
    if isinstance(error, httpx2.TimeoutException):
        return TimeoutError()
    found = list(_below(error))
    kinds = (ssl.SSLError, TimeoutError, OSError)
    known = (each for kind in kinds for each in found if isinstance(each, kind))
    chosen = next(known, error)
    return chosen if isinstance(chosen, Exception) else OSError(str(chosen))


def _below(error: BaseException | None, depth: int = 12) -> Iterator[BaseException]:
    """The errors that an error came from, the first ones first."""
    if error is None or depth == 0:
        return
    yield from _below(error.__cause__ or error.__context__, depth - 1)
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _below(each, depth - 1)
    yield error
