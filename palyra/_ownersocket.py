"""UNIX sockets of a state root: mode 0600, and only for the root's owner and for root.

Windows has none: ``AVAILABLE`` is False there.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from pathlib import Path
from typing import Any

from palyra.errors import SocketPathTooLong, StoreUnavailable

MAX_PATH = 107
"""Bytes, as unix(7) has it."""
AVAILABLE = hasattr(socket, "AF_UNIX") and hasattr(os, "geteuid")
_SO_PEERCRED = getattr(socket, "SO_PEERCRED", None)
_LOCAL_PEERCRED = 0x001
_SOL_LOCAL = 0


def check_path(path: Path) -> None:
    """Refuse what no socket can be called.

    :raises SocketPathTooLong: naming the path.
    """
    if len(os.fsencode(path)) > MAX_PATH:
        raise SocketPathTooLong(str(path))


def listen(reactor: Any, path: Path, factory: Any) -> Any:
    """Listen there; the port.  The state root's lock is held, so a socket that is there is a dead
    one.

    :raises SocketPathTooLong: see :func:`check_path`.
    :raises StoreUnavailable: something else is in its place, or the disk does not take it.
    """
    from twisted.internet.error import CannotListenError  # commands have this room without Twisted

    check_path(path)
    try:
        path.unlink(missing_ok=True)
        return reactor.listenUNIX(str(path), factory, mode=0o600)
    except OSError as error:
        cause = error.strerror or str(error)
        raise StoreUnavailable(str(path), cause.lower()) from error
    except CannotListenError as error:
        cause = getattr(error.socketError, "strerror", None) or str(error.socketError)
        raise StoreUnavailable(str(path), cause.lower()) from error


def peer_uid(connection: socket.socket) -> int | None:
    """The user id at the other end of a UNIX socket; None where the platform does not tell."""
    if _SO_PEERCRED is not None:
        data = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERCRED, struct.calcsize("3i"))
        return int(struct.unpack("3i", data)[1])
    if sys.platform == "darwin":
        # struct xucred: version, uid, ngroups, groups[16]
        data = connection.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, struct.calcsize("2IH16I"))
        return int(struct.unpack_from("2I", data)[1])
    return None


def may_speak(uid: int | None) -> bool:
    """Whether that user may: root, the owner, or whom the socket's mode let through where the
    platform does not tell who it is."""
    return uid is None or uid in (0, os.geteuid())


def account_of(uid: int) -> str:
    """The name of a user of this machine as the system has it; ``local:<uid>`` without one."""
    try:
        import pwd

        return pwd.getpwuid(uid).pw_name
    except (ImportError, KeyError):
        return f"local:{uid}"


def own_account() -> str:
    """The name of the user this process runs as."""
    if hasattr(os, "geteuid"):
        return account_of(os.geteuid())
    import getpass

    return getpass.getuser()
