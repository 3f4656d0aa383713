"""Where a node host listens for its owner, and how the owner's commands get there.

A UNIX socket, where the system has them.  Elsewhere (Windows) a port on loopback and a token: the
named pipe that would be usual there is served by no selector loop, and Twisted needs one.  Every
user of the machine reaches that port, so nothing is read of a connection before it has said the
token, which stands in a file that only the owner can read and is another one after each start.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
import socket
from pathlib import Path
from typing import Annotated, Any

import msgspec
from zope.interface import Attribute, Interface, implementer

from palyra._files import check_private, write_atomic
from palyra._ownersocket import (
    AVAILABLE,
    account_of,
    check_path,
    listen,
    may_speak,
    own_account,
    peer_uid,
)

SOCKET_FILE = "control.sock"
TOKEN_FILE = "control.json"
SCHEMA_VERSION = 1
MAX_GREETING = 128
"""Bytes of a line that may be a token."""
_HOST = "127.0.0.1"
_MAX_FILE = 4096
_TOKEN_BYTES = 32


class ControlFile(msgspec.Struct, frozen=True):
    """``control.json``: the port on loopback, and what a connection has to say first."""

    schema_version: Annotated[int, msgspec.Meta(ge=1)]
    port: Annotated[int, msgspec.Meta(ge=1, le=65_535)]
    token: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]

    def __repr__(self) -> str:
        return f"ControlFile(port={self.port})"


class IControlPoint(Interface):
    """Both ends of one place."""

    path: Path = Attribute("The file that says where it is; there while somebody listens.")
    greeted: bool = Attribute("Whether a connection has to say something before its request.")

    def check() -> None:
        """:raises SocketPathTooLong: nothing can listen there."""

    def listen(reactor: Any, factory: Any) -> Any:
        """Listen there; the port.  The lock of the state root is held, so whatever is there was
        left by a node host that is dead.

        :raises PalyraError, OSError: it is not possible.
        """

    def forget() -> None:
        """Listening is over: take away what says where it was."""

    def speaker(connection: socket.socket) -> str | None:
        """The account at the other end of a connection; None: it may not speak."""

    def greets(line: bytes) -> bool:
        """Whether that is what a connection has to say first."""

    def connect(timeout_s: float) -> socket.socket:
        """A connection to the node host on which a request can be sent.  Blocks.

        :raises OSError: FileNotFoundError or ConnectionRefusedError where nobody listens.
        :raises PalyraError: it cannot be trusted.
        """


@implementer(IControlPoint)
class SocketPoint:
    """``control.sock``: the system says who is at the other end."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / SOCKET_FILE
        self.greeted = False

    def check(self) -> None:
        """unix(7) allows 107 bytes."""
        check_path(self.path)

    def listen(self, reactor: Any, factory: Any) -> Any:
        """A socket of mode 0600."""
        return listen(reactor, self.path, factory)

    def forget(self) -> None:
        """The socket went with its port."""

    def speaker(self, connection: socket.socket) -> str | None:
        """The owner or root."""
        uid = peer_uid(connection)
        if not may_speak(uid):
            return None
        return account_of(os.geteuid() if uid is None else uid)

    def greets(self, line: bytes) -> bool:
        """No greeting is asked for."""
        return False

    def connect(self, timeout_s: float) -> socket.socket:
        """The socket's mode says who may."""
        link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        return _connected(link, str(self.path), b"", timeout_s)


@implementer(IControlPoint)
class LoopbackPoint:
    """A port on 127.0.0.1, and ``control.json``."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / TOKEN_FILE
        self.greeted = True
        self._token = b""

    def check(self) -> None:
        """A path of any length will do."""

    def listen(self, reactor: Any, factory: Any) -> Any:
        """Whatever port is free, and a token that nobody has heard before.

        The file comes after the port is ours: a token is never told to whoever had it before us.
        """
        self.forget()
        port = reactor.listenTCP(0, factory, interface=_HOST)
        token = secrets.token_hex(_TOKEN_BYTES)
        file = ControlFile(SCHEMA_VERSION, port.getHost().port, token)
        try:
            write_atomic(self.path, msgspec.json.encode(file))
        except BaseException:
            port.stopListening()
            raise
        self._token = token.encode()
        return port

    def forget(self) -> None:
        """The token is void."""
        self._token = b""
        with contextlib.suppress(OSError):  # Windows keeps a file that somebody is reading
            self.path.unlink(missing_ok=True)

    def speaker(self, connection: socket.socket) -> str | None:
        """Whoever could read the file, once it has said the token."""
        return own_account()

    def greets(self, line: bytes) -> bool:
        """In the same time for every wrong token."""
        return bool(self._token) and hmac.compare_digest(line, self._token)

    def connect(self, timeout_s: float) -> socket.socket:
        """To the port in the file, with its token.

        :raises KeyFilePermission: others could read it, so it protects nothing.
        """
        file = self._read()
        link = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        return _connected(link, (_HOST, file.port), file.token.encode() + b"\n", timeout_s)

    def _read(self) -> ControlFile:
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        with os.fdopen(os.open(self.path, flags), "rb") as opened:
            check_private(self.path)
            data = opened.read(_MAX_FILE)
        try:
            return msgspec.json.decode(data, type=ControlFile)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ConnectionAbortedError("it does not say where it listens") from error


def control_point(directory: Path, *, unix: bool = AVAILABLE) -> IControlPoint:
    """That of the node host which keeps its files in ``directory``."""
    return SocketPoint(directory) if unix else LoopbackPoint(directory)


def _connected(link: socket.socket, to: Any, greeting: bytes, timeout_s: float) -> socket.socket:
    try:
        link.settimeout(timeout_s)
        link.connect(to)
        link.sendall(greeting)
    except BaseException:
        link.close()
        raise
    return link
