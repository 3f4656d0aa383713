"""Ports of this machine: which are free, and who has the others."""

from __future__ import annotations

import socket


def refusal(host: str, port: int) -> OSError | None:
    """Why a daemon could not listen there now; None: it could."""
    try:
        with _bound(host, port):
            return None
    except OSError as error:
        return error


def can_bind(host: str, port: int) -> bool:
    """Whether a daemon could listen there now; port 0 always can."""
    return refusal(host, port) is None


def can_bind_udp(host: str, port: int) -> bool:
    """The same for datagrams."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as made:
        try:
            made.bind((host, port))
        except OSError:
            return False
    return True


def free_port(
    host: str, wanted: int, *, but: frozenset[int] = frozenset(), udp: bool = False
) -> int:
    """``wanted`` where it is free, else another one that is, and that is not in ``but``; with
    ``udp`` it is free for datagrams too."""
    port = wanted
    while True:
        free = port not in but and can_bind(host, port)
        if free and not (udp and not can_bind_udp(host, port)):
            return port
        with _bound(host, 0) as found:
            port = int(found.getsockname()[1])


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        # As daemons do: a port that only remembers closed connections is free.
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
        # Two sockets with that option may be bound to one port; only one of them may listen.
        made.listen(1)
    except OSError:
        made.close()
        raise
    return made
