"""A TCP relay between a node and its gateway: a wire whose directions can be held and cut."""

from __future__ import annotations

import contextlib
import socket
import threading

from tests.integration.processes import HOST

UP, DOWN = "up", "down"
"""What the node says, and what the gateway says."""


class _Gate:
    """One direction of the wire: bytes pass while there is an allowance."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._allowed: int | None = None
        self.passed = 0

    def hold_after(self, size: int) -> None:
        """Let ``size`` more bytes pass."""
        with self._changed:
            self._allowed = size

    def open(self) -> None:
        """Let everything pass, first of all what was held."""
        with self._changed:
            self._allowed = None
            self._changed.notify_all()

    @property
    def holds(self) -> bool:
        """Whether nothing passes now."""
        return self._allowed == 0

    def take(self, size: int) -> int:
        """Wait until something may pass; how much of ``size`` bytes that is."""
        with self._changed:
            self._changed.wait_for(lambda: self._allowed != 0)
            if self._allowed is not None:
                size = min(size, self._allowed)
                self._allowed -= size
            self.passed += size
            return size


class Relay:
    """Listens on a port, by itself a free one, and carries everything to ``target`` and back."""

    def __init__(self, target: str, port: int = 0) -> None:
        host, _, there = target.rpartition(":")
        self._target = (host, int(there))
        self._gates = {UP: _Gate(), DOWN: _Gate()}
        self._wires: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._refuses = False
        self._listener = socket.create_server((HOST, port))
        self.address = f"{HOST}:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def hold(self, direction: str, after: int = 0) -> None:
        """Let ``after`` more bytes pass in a direction, and keep what follows."""
        self._gates[direction].hold_after(after)

    def let(self, direction: str) -> None:
        """Let everything pass in one direction, first of all what was held there."""
        self._gates[direction].open()

    def holds(self, direction: str) -> bool:
        """Whether a direction is held."""
        return self._gates[direction].holds

    def passed(self, direction: str) -> int:
        """How many bytes have passed in a direction."""
        return self._gates[direction].passed

    def cut(self) -> None:
        """End every connection and refuse new ones; what was held is lost."""
        self._refuses = True
        with self._lock:
            wires, self._wires = self._wires, set()
        for wire in wires:
            _end(wire)

    def accept(self) -> None:
        """Take connections again; what is held stays so."""
        self._refuses = False

    def mend(self) -> None:
        """Carry everything again."""
        self.accept()
        for gate in self._gates.values():
            gate.open()

    def close(self) -> None:
        """End it all."""
        self._listener.close()
        self.cut()
        self.mend()

    def _accept(self) -> None:
        while True:
            try:
                node, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(node,), daemon=True).start()

    def _serve(self, node: socket.socket) -> None:
        """One connection, from its beginning to its end."""
        with node, contextlib.suppress(OSError):
            if self._refuses:
                return
            with socket.create_connection(self._target) as gateway:
                for wire in (node, gateway):
                    wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self._lock:
                    self._wires |= {node, gateway}
                up = threading.Thread(target=self._carry, args=(node, gateway, UP), daemon=True)
                up.start()
                self._carry(gateway, node, DOWN)
                up.join()
                with self._lock:
                    self._wires -= {node, gateway}

    def _carry(self, source: socket.socket, sink: socket.socket, direction: str) -> None:
        """Carry one direction to its end; then the other one ends too, once it is not held."""
        gate = self._gates[direction]
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                while data:
                    size = gate.take(len(data))
                    sink.sendall(data[:size])
                    data = data[size:]
        for wire in (source, sink):
            _end(wire)


def _end(wire: socket.socket) -> None:
    """Whoever reads or writes there sees the end; the socket itself stays until both have."""
    with contextlib.suppress(OSError):
        wire.shutdown(socket.SHUT_RDWR)
