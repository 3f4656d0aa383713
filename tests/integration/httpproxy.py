"""An HTTP proxy that knows CONNECT and nothing else, and does as a test tells it.

It leads to names that nobody else knows: what is reached under them came through it.
"""

from __future__ import annotations

import base64
import contextlib
import socket
import threading

from tests.integration.processes import HOST

MAX_HEAD = 16 * 1024


class HttpProxy:
    """Listens on the loopback; a thread a connection, as :class:`tests.integration.relay.Relay`."""

    def __init__(self, *, password: str = "") -> None:
        """With ``password`` (NAME:WORD) it wants that."""
        self._wanted = f"Basic {base64.b64encode(password.encode()).decode()}" if password else ""
        self._password = password
        self.names: dict[str, str] = {}
        """Which HOST stands for which name."""
        self.answer = b""
        """What it says to every request, before it hangs up; empty: what is right."""
        self.silent = False
        self.asked: list[str] = []
        """HOST:PORT of each request that it has led somewhere."""
        self._wires: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server((HOST, 0))
        self.address = f"{HOST}:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """What an environment variable names."""
        return f"http://{self._password}@{self.address}" if self._password else self.whereabouts

    @property
    def whereabouts(self) -> str:
        """The same without what it wants to be told."""
        return f"http://{self.address}"

    def cut(self) -> None:
        """End every connection; new ones are taken."""
        with self._lock:
            wires, self._wires = self._wires, set()
        for wire in wires:
            _end(wire)

    def close(self) -> None:
        """End it all."""
        _end(self._listener)
        self._listener.close()
        self.cut()

    def __enter__(self) -> HttpProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._wires.add(client)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        """One connection, from its beginning to its end."""
        with client, contextlib.suppress(OSError):
            target = self._led(client)
            if target is None:
                return
            with socket.create_connection(target) as server:
                for wire in (client, server):
                    wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self._lock:
                    self._wires.add(server)
                client.sendall(b"HTTP/1.1 200 Connection established\r\nVia: a test\r\n\r\n")
                up = threading.Thread(target=_carry, args=(client, server), daemon=True)
                up.start()
                _carry(server, client)
                up.join()
                with self._lock:
                    self._wires -= {client, server}

    def _led(self, client: socket.socket) -> tuple[str, int] | None:
        """Where a request leads; None where it was refused."""
        head = b""
        while b"\r\n\r\n" not in head and len(head) < MAX_HEAD:
            data = client.recv(MAX_HEAD)
            if not data:
                return None
            head += data
        if self.silent:
            client.recv(1)  # until whoever asked gives up
            return None
        if self.answer:
            client.sendall(self.answer)
            return None
        lines = head.decode("ascii").split("\r\n")
        if self._wanted and f"Proxy-Authorization:{self._wanted}" not in [
            line.replace(": ", ":", 1) for line in lines
        ]:
            client.sendall(b"HTTP/1.1 407 Who are you\r\nProxy-Authenticate: Basic\r\n\r\n")
            return None
        method, target, _ = lines[0].split(" ")
        assert method == "CONNECT", lines[0]
        self.asked.append(target)
        host, _, port = target.rpartition(":")
        return self.names.get(host, host.strip("[]")), int(port)


def _carry(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
    for wire in (source, sink):
        _end(wire)


def _end(wire: socket.socket) -> None:
    """Whoever reads or writes there sees the end."""
    with contextlib.suppress(OSError):
        wire.shutdown(socket.SHUT_RDWR)
