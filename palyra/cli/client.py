"""The gateway's HTTP interface, over ``console.sock`` or another way: requests, typed
answers, typed refusals."""

from __future__ import annotations

import contextlib
import http.client
import socket
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Generic, Protocol, TypeVar
from urllib.parse import quote, urlencode

import attrs
import msgspec

from palyra._ownersocket import check_path, own_account
from palyra.afar.eventstream import EventReader
from palyra.afar.refusals import AnswerUnreadable as AnswerUnreadable
from palyra.afar.refusals import GatewayRefused as GatewayRefused
from palyra.afar.refusals import problem_of as problem_of
from palyra.console.models import JobEvent, Page, Problem
from palyra.errors import (
    GatewayNotRunning,
    GatewayUnreachable,
    PalyraError,
    SocketPermission,
)

SOCKET_NAME = "console.sock"
PREFIX = "/console/v1/"
PAGE_LIMIT = 200
DEFAULT_TIMEOUT_S = 10.0
SILENCE_S = 40.0
"""After so long without an event or a keep-alive (every 15 s) the gateway is gone."""
_AGAIN_S = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Pauses before a stream that broke is opened again: a restart takes a few seconds."""
_STEADY_S = 10.0
_PIECE = 64 * 1024

Query = str | int | tuple[str, ...] | None


class Paged(Protocol):
    """A list answer that says where it stands."""

    @property
    def page(self) -> Page:
        """Where the list stands."""


T = TypeVar("T")
L = TypeVar("L", bound=Paged)


@attrs.frozen
class Answer(Generic[T]):
    """A decoded answer, and the bytes it came in (what ``--json`` prints)."""

    value: T
    body: bytes


class _Response(http.client.HTTPResponse):
    """An answer that Ctrl-C may interrupt anywhere, also before it has a file to close."""

    fp = None  # type: ignore[assignment]


class _SocketConnection(http.client.HTTPConnection):
    """HTTP/1.1 over a UNIX socket."""

    response_class = _Response

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Way(Protocol):
    """How a gateway is reached."""

    @property
    def where(self) -> str:
        """What is told where it cannot be reached."""

    def connection(self, timeout_s: float) -> http.client.HTTPConnection:
        """A connection that was not made yet."""

    def problem(self, error: Exception, timeout_s: float) -> PalyraError:
        """What went wrong with a connection, in our words."""

    def answered(self, response: http.client.HTTPResponse) -> None:
        """Look at the head of an answer."""


class SocketWay:
    """The way over ``console.sock`` of a state root on this machine."""

    def __init__(self, state_root: Path) -> None:
        self._root = state_root
        self._path = state_root / SOCKET_NAME

    @property
    def where(self) -> str:
        """What is told where it cannot be reached."""
        return str(self._path)

    def connection(self, timeout_s: float) -> http.client.HTTPConnection:
        """A connection that was not made yet.

        :raises SocketPathTooLong: the system could not make it.
        """
        check_path(self._path)
        return _SocketConnection(self._path, timeout_s)

    def problem(self, error: Exception, timeout_s: float) -> PalyraError:
        """What went wrong with a connection, in our words."""
        if isinstance(error, FileNotFoundError | NotADirectoryError | ConnectionRefusedError):
            return GatewayNotRunning(str(self._root))
        if isinstance(error, PermissionError):
            return SocketPermission(owner_of(self._path), own_account())
        if isinstance(error, TimeoutError):
            return GatewayUnreachable(self.where, f"no answer in {timeout_s:g}s")
        return GatewayUnreachable(self.where, str(error) or type(error).__name__)

    def answered(self, response: http.client.HTTPResponse) -> None:
        """Nothing in it is about this way."""


class Console:
    """One gateway, by its state root or by another way.  A connection lasts for one request."""

    def __init__(
        self, state_root: Path, timeout_s: float = DEFAULT_TIMEOUT_S, *, way: Way | None = None
    ) -> None:
        self.state_root = state_root
        self._way: Way = way or SocketWay(state_root)
        self._timeout_s = timeout_s

    def patiently(self, path: str, kind: type[T], patience_ms: int) -> Answer[T]:
        """GET a resource that takes its time: ``patience_ms`` at most; errors as :meth:`get`."""
        return self._decoded(self._request("GET", path, None, patience_ms), kind)

    def get(self, path: str, kind: type[T], /, wait_ms: int = 0, **query: Query) -> Answer[T]:
        """GET a resource as ``kind``; the answer may take ``wait_ms`` longer than usual.

        :raises GatewayNotRunning: nothing listens; :class:`GatewayRefused`: it said no.
        """
        if wait_ms:
            query["wait_ms"] = wait_ms
        given = {key: value for key, value in query.items() if value is not None and value != ()}
        target = f"{path}?{urlencode(given, doseq=True)}" if given else path
        return self._decoded(self._request("GET", target, None, wait_ms), kind)

    def post(self, path: str, body: msgspec.Struct, kind: type[T], wait_ms: int = 0) -> Answer[T]:
        """POST a body and read the answer as ``kind``; errors as :meth:`get`."""
        return self._decoded(self._request("POST", path, body, wait_ms), kind)

    def pages(
        self, path: str, kind: type[L], /, limit: int | None, **query: Query
    ) -> Iterator[Answer[L]]:
        """The pages of a list, until ``limit`` entries (None: all) have come."""
        cursor, left = None, limit
        while left is None or left > 0:
            size = PAGE_LIMIT if left is None else min(left, PAGE_LIMIT)
            answer = self.get(path, kind, 0, limit=size, cursor=cursor, **query)
            yield answer
            page = answer.value.page
            cursor = page.next_cursor
            left = None if left is None else left - page.returned
            if not page.has_more or cursor is None:
                return

    def events(
        self, path: str, away: Callable[[], object] = lambda: None
    ) -> Generator[Answer[JobEvent], None, None]:
        """What a job or a fan-out does, until its ``end``, which is the last one given.

        A stream that breaks is opened again a few times, and ``away`` is called before; it begins
        with the state of then.  Close the iterator (``contextlib.closing``) where it is left early.
        """
        begun, tries = False, 0
        while True:
            since = time.monotonic()
            try:
                for data in self._stream(path):
                    begun = True
                    answer = self._decoded(data, JobEvent)
                    yield answer
                    if answer.value.kind == "end":
                        return
                raise self._unreachable("its events ended early")
            except PalyraError as error:
                tries = 0 if time.monotonic() - since > _STEADY_S else tries
                if not begun or tries == len(_AGAIN_S) or not _passes(error):
                    raise
            away()
            time.sleep(_AGAIN_S[tries])
            tries += 1

    def _stream(self, path: str) -> Iterator[bytes]:
        """The data of every event that comes over one connection."""
        reader = EventReader()
        with self._connected(SILENCE_S) as connection:
            connection.request("GET", PREFIX + path, None, {"Accept": "text/event-stream"})
            with contextlib.closing(connection.getresponse()) as response:
                if response.status >= 400:
                    raise self._refusal(response.status, response.read())
                while piece := response.read1(_PIECE):
                    yield from reader.feed(piece)

    def _request(
        self, method: str, target: str, body: msgspec.Struct | None, wait_ms: int
    ) -> bytes:
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        content = None if body is None else msgspec.json.encode(body)
        with self._connected(self._timeout_s + wait_ms / 1000) as connection:
            connection.request(method, PREFIX + target, content, headers)
            response = connection.getresponse()
            data = response.read()
            self._way.answered(response)
        if response.status >= 400:
            raise self._refusal(response.status, data)
        return data

    @contextlib.contextmanager
    def _connected(self, timeout_s: float) -> Iterator[http.client.HTTPConnection]:
        """A connection; what goes wrong with it is said in our words."""
        connection = self._way.connection(timeout_s)
        try:
            yield connection
        except PalyraError:
            raise
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise self._way.problem(error, timeout_s) from error
        finally:
            connection.close()

    def _refusal(self, status: int, data: bytes) -> PalyraError:
        try:
            return GatewayRefused(msgspec.json.decode(data, type=Problem))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return self._unreachable(f"it answered {status} without a reason")

    def _decoded(self, data: bytes, kind: type[T]) -> Answer[T]:
        try:
            return Answer(msgspec.json.decode(data, type=kind), data)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            cause = f"its answer is not one this version reads ({error})"
            raise AnswerUnreadable(self._way.where, cause) from error

    def _unreachable(self, cause: str) -> GatewayUnreachable:
        return GatewayUnreachable(self._way.where, cause)


def segment(text: str) -> str:
    """A name or an id as one segment of a path."""
    return quote(text, safe="")


def _passes(error: PalyraError) -> bool:
    """Whether a stream may work again in a moment: the gateway restarts, or is busy."""
    if isinstance(error, GatewayRefused):
        return error.problem.retryable
    lost = isinstance(error, GatewayNotRunning | GatewayUnreachable)
    return lost and not isinstance(error, AnswerUnreadable)


def owner_of(path: Path) -> str:
    """Who owns the first thing on the way to ``path`` that can be looked at."""
    for each in (path, *path.parents):
        with contextlib.suppress(OSError, KeyError, NotImplementedError):
            return each.owner()
    return "another user"
