"""Who listens on a port of this machine."""

from __future__ import annotations


def listener_of(port: int) -> tuple[str, int]:
    """Name and pid of the process that listens on a TCP port; empty and 0 where nobody does or
    the system does not tell."""
    import psutil

    try:
        connections = psutil.net_connections(kind="tcp")
    except (psutil.Error, OSError):
        return "", 0
    for each in connections:
        if each.status == psutil.CONN_LISTEN and each.laddr and each.laddr.port == port:
            return _process(each.pid)
    return "", 0


def _process(pid: int | None) -> tuple[str, int]:
    import psutil

    if pid is None:
        return "", 0
    try:
        return psutil.Process(pid).name(), pid
    except psutil.Error:
        return "", pid
