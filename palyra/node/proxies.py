"""The HTTP proxy of a device: what its environment names, and what a service keeps of that."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from palyra.node.files import HostFile, NodeFiles
from palyra.transport.proxy import ProxyFor, direct_in, proxy_from, proxy_in


def proxies_of(host: HostFile | None, environ: Mapping[str, str]) -> ProxyFor:
    """Which proxy leads where: by the environment where that says anything about it, else by what
    was kept of the environment in which this device was paired or installed."""
    if host is not None and host.http_proxy and proxy_in(environ) is None:
        known = direct_in(environ)
        direct = host.no_proxy if known is None else known
        environ = {"grpc_proxy": host.http_proxy, "no_grpc_proxy": direct}
    return lambda address: proxy_from(environ, address)


def with_proxy(host: HostFile, environ: Mapping[str, str]) -> HostFile:
    """The same with the proxy that the environment names; as it is where it names none.

    A variable that is set and empty says that there is none.
    """
    proxy = proxy_in(environ)
    if proxy is None:
        return host
    return msgspec.structs.replace(host, http_proxy=proxy, no_proxy=direct_in(environ) or "")


def remember_proxy(files: NodeFiles, environ: Mapping[str, str]) -> None:
    """Keep the proxy that the environment names, for a service, which has no such environment.

    :raises StoreCorrupt, DiskFull, OSError: it is not possible; the file is as it was.
    """
    host = files.host()
    if host is not None and (known := with_proxy(host, environ)) != host:
        files.keep_host(known)
