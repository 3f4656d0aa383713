"""The gateway's HTTP interface over ``console.sock``: requests, typed answers, typed refusals."""

from __future__ import annotations

import contextlib
import getpass
import http.client
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Generic, Protocol, TypeVar
from urllib.parse import quote, urlencode

import attrs
import msgspec

from palyra.console.models import Page, Problem
from palyra.errors import (
    GatewayNotRunning,
    GatewayUnreachable,
    PalyraError,
    SocketPathTooLong,
    SocketPermission,
)

SOCKET_NAME = "console.sock"
PREFIX = "/console/v1/"
PAGE_LIMIT = 200
DEFAULT_TIMEOUT_S = 10.0
_MAX_SOCKET_PATH = 107

Query = str | int | None


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


@attrs.define
class GatewayRefused(PalyraError):
    """The gateway said no; its own sentence, code and hint are in ``problem``."""

    problem: Problem

    @property
    def sentence(self) -> str:
        return self.problem.error

    @property
    def hint(self) -> str:
        return self.problem.hint


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


class Console:
    """One gateway, by its state root.  A connection lasts for one request."""

    def __init__(self, state_root: Path, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        self.state_root = state_root
        self.socket_path = state_root / SOCKET_NAME
        self._timeout_s = timeout_s

    def get(self, path: str, kind: type[T], wait_ms: int = 0, **query: Query) -> Answer[T]:
        """GET a resource as ``kind``; the answer may take ``wait_ms`` longer than usual.

        :raises GatewayNotRunning: nothing listens; :class:`GatewayRefused`: it said no.
        """
        if wait_ms:
            query["wait_ms"] = wait_ms
        given = {key: value for key, value in query.items() if value is not None}
        target = f"{path}?{urlencode(given)}" if given else path
        return self._decoded(self._request("GET", target, None, wait_ms), kind)

    def post(self, path: str, body: msgspec.Struct, kind: type[T], wait_ms: int = 0) -> Answer[T]:
        """POST a body and read the answer as ``kind``; errors as :meth:`get`."""
        return self._decoded(self._request("POST", path, body, wait_ms), kind)

    def pages(
        self, path: str, kind: type[L], limit: int | None, **query: Query
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

    def _request(
        self, method: str, target: str, body: msgspec.Struct | None, wait_ms: int
    ) -> bytes:
        if len(str(self.socket_path).encode()) > _MAX_SOCKET_PATH:
            raise SocketPathTooLong(str(self.socket_path))
        timeout_s = self._timeout_s + wait_ms / 1000
        connection = _SocketConnection(self.socket_path, timeout_s)
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        content = None if body is None else msgspec.json.encode(body)
        try:
            connection.request(method, PREFIX + target, content, headers)
            response = connection.getresponse()
            data = response.read()
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError) as error:
            raise GatewayNotRunning(str(self.state_root)) from error
        except PermissionError as error:
            raise SocketPermission(_owner(self.socket_path), getpass.getuser()) from error
        except TimeoutError as error:
            raise self._unreachable(f"no answer in {timeout_s:g}s") from error
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(str(error) or type(error).__name__) from error
        finally:
            connection.close()
        if response.status >= 400:
            raise self._refusal(response.status, data)
        return data

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
            raise self._unreachable(cause) from error

    def _unreachable(self, cause: str) -> GatewayUnreachable:
        return GatewayUnreachable(str(self.socket_path), cause)


def segment(text: str) -> str:
    """A name or an id as one segment of a path."""
    return quote(text, safe="")


def problem_of(error: PalyraError) -> Problem:
    """What is shown of an error, in the form the gateway uses."""
    if isinstance(error, GatewayRefused):
        return error.problem
    return Problem(error.sentence, error.code, error.hint, error.category.value, error.retryable)


def _owner(path: Path) -> str:
    """Who owns the first thing on the way to ``path`` that can be looked at."""
    for each in (path, *path.parents):
        with contextlib.suppress(OSError, KeyError, NotImplementedError):
            return each.owner()
    return "another user"
