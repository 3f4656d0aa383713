"""TCP connections that arrive from another address: loopback has sixteen million of them."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from collections.abc import Iterator

HOST = "127.0.0.1"


def addresses(first: int = 0) -> Iterator[str]:
    """Loopback addresses that differ: 127.16.x.y."""
    for number in itertools.count(first):
        yield f"127.16.{number // 250 % 250}.{number % 250 + 1}"


class Detour:
    """Listens on a port of its own and carries each connection on from the next of ``sources``."""

    def __init__(self, target: str, sources: Iterator[str]) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._sources = sources
        self._lock = threading.Lock()
        self._listener = socket.create_server((HOST, 0), backlog=128)
        self.address = f"{HOST}:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no further connection."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        with near, contextlib.suppress(OSError):
            with self._lock:
                source = next(self._sources)
            far = socket.create_connection(self._target, source_address=(source, 0))
            with far:
                for wire in (near, far):
                    wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                up = threading.Thread(target=_carry, args=(near, far), daemon=True)
                up.start()
                _carry(far, near)
                up.join()


def _carry(source: socket.socket, sink: socket.socket) -> None:
    """One direction to its end; then the other one ends too."""
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
    for wire in (source, sink):
        with contextlib.suppress(OSError):
            wire.shutdown(socket.SHUT_RDWR)
