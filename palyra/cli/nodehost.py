"""The node host of this machine, where it listens: one request, one typed answer."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TypeVar

import msgspec

from palyra._ownersocket import AVAILABLE, own_account
from palyra.cli.client import Answer, GatewayRefused, owner_of
from palyra.console.models import Problem
from palyra.errors import (
    NodeHostNotRunning,
    NodeHostSilent,
    PalyraError,
    SocketPermission,
)
from palyra.node.controlwords import MAX_ANSWER, PATIENCE_S, Answered, Asked, RefusedAnswer
from palyra.supervision.controlpoint import control_point

_PIECE = 64 * 1024
_decoder = msgspec.json.Decoder(Answered)
A = TypeVar("A")


class NodeHostRefused(GatewayRefused):
    """The node host said no, in its own words."""


class NodeHost:
    """A node host, by its state root; ``unix`` is whether it listens on a UNIX socket."""

    def __init__(self, state_root: Path, *, unix: bool = AVAILABLE) -> None:
        self._root = state_root
        self._point = control_point(state_root / "node-host", unix=unix)
        self._path = self._point.path

    def ask(self, asked: Asked, kind: type[A], timeout_s: float = PATIENCE_S) -> Answer[A]:
        """What it answers, and the bytes it came in.  Blocks for ``timeout_s`` at most.

        :raises NodeHostNotRunning: nobody listens; :class:`NodeHostRefused`: it said no.
        :raises PalyraError: it cannot be asked, or does not answer.
        """
        self._point.check()
        try:
            line = self._exchange(msgspec.json.encode(asked) + b"\n", timeout_s)
        except OSError as error:
            raise self._problem(error, timeout_s) from error
        return self._read(line, kind)

    def _exchange(self, line: bytes, timeout_s: float) -> bytes:
        over_s = time.monotonic() + timeout_s
        with self._point.connect(timeout_s) as link:
            link.sendall(line)
            answer = bytearray()
            while not answer.endswith(b"\n"):
                # Root may ask a stranger: one that answers a byte at a time must not keep it.
                left_s = over_s - time.monotonic()
                if left_s <= 0:
                    raise TimeoutError
                link.settimeout(left_s)
                piece = link.recv(_PIECE)
                if not piece or len(answer) > MAX_ANSWER:
                    raise ConnectionAbortedError("it hung up before it had answered")
                answer += piece
            return bytes(answer)

    def _read(self, line: bytes, kind: type[A]) -> Answer[A]:
        try:
            said = _decoder.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise self._unreadable(str(error)) from error
        if isinstance(said, RefusedAnswer):
            problem = Problem(said.error, said.code, said.hint, said.category, said.retryable)
            raise NodeHostRefused(problem)
        if not isinstance(said, kind):
            raise self._unreadable(type(said).__name__)
        return Answer(said, line)

    def _unreadable(self, what: str) -> PalyraError:
        cause = f"its answer is not one this version reads ({what})"
        return NodeHostSilent(str(self._path), cause)

    def _problem(self, error: OSError, timeout_s: float) -> PalyraError:
        if isinstance(error, FileNotFoundError | NotADirectoryError | ConnectionRefusedError):
            return NodeHostNotRunning(str(self._root))
        if isinstance(error, PermissionError):
            ask = "palyra node status"
            return SocketPermission(owner_of(self._path), own_account(), self._path.name, ask)
        if isinstance(error, TimeoutError):
            return NodeHostSilent(str(self._path), f"nothing in {timeout_s:g}s")
        return NodeHostSilent(str(self._path), error.strerror or str(error))
