"""Which HTTP proxy leads to an address, by the variables and the rules of gRPC.

gRPC would read the environment itself.  It is read here instead, so that everything a device opens
takes one way, also in a service, which has no such environment.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import TypeAlias
from urllib.parse import unquote, urlsplit

import attrs

from palyra.config.addresses import HostPort
from palyra.errors import GatewayUnreachable, ProxyUnusable, Unreached

VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")
"""The first one that is set counts; one that is set and empty says that there is no proxy."""
DIRECT = ("no_grpc_proxy", "no_proxy")
"""The first one that is set names what is reached without a proxy."""
DEFAULT_PORT = 80
MAX_NAMED = 2048
"""Characters of what a variable may hold."""
_PLAIN = re.compile(r"[A-Za-z0-9._:-]+")
_GRPC_REFUSED = re.compile(r"HTTP proxy returned response code (\d{3})")
_AT_THE_PROXY = (Unreached.REFUSED, Unreached.NO_ROUTE, Unreached.NO_NETWORK, Unreached.NO_NAME)
"""What is told of the only address to which a connection is made: the proxy's."""


@attrs.frozen
class Proxy:
    """An HTTP proxy, which is asked to CONNECT."""

    address: HostPort
    authorization: str = attrs.field(default="", repr=False)
    """The value of the header Proxy-Authorization; empty: there is none."""

    def __str__(self) -> str:
        return str(self.address)

    def refused(self, status: int) -> ProxyUnusable:
        """What it means that CONNECT was answered with that status, which is no success."""
        if status == 407:
            known = "it does not take the name and password that it is given (407)"
            return self.unusable(known if self.authorization else "it wants a name and password")
        if status in (502, 503, 504):
            return self.unusable(f"it does not reach it ({status})")
        return self.unusable(f"it refuses to ({status})")

    def unusable(self, problem: str) -> ProxyUnusable:
        """An error that names this proxy, and none of its secrets."""
        return ProxyUnusable(str(self), problem)

    def blamed(self, error: GatewayUnreachable, details: str) -> GatewayUnreachable:
        """What gRPC made of a connection through this proxy: the proxy's fault, where it is."""
        refused = _GRPC_REFUSED.search(details)
        if refused is not None:
            return self.refused(int(refused[1]))
        return self.unusable(error.cause) if error.cause in _AT_THE_PROXY else error


def as_asked(target: HostPort) -> HostPort:
    """The address as a CONNECT may name it.

    :raises GatewayUnreachable: what is named there is no name; it could end the head, also where
        gRPC writes that, which takes escapes for what they stand for.
    """
    try:
        host = target.host.encode("idna").decode()
    except UnicodeError:
        host = ""
    if not _PLAIN.fullmatch(host):
        raise GatewayUnreachable(ascii(str(target)), Unreached.NO_NAME)
    return HostPort(host, target.port)


ProxyFor: TypeAlias = Callable[[HostPort], Proxy | None]
"""Which proxy leads to an address; None: none, or it is not needed.

It raises ProxyUnusable where one is named that cannot be one."""


def proxy_in(environ: Mapping[str, str]) -> str | None:
    """What the environment names as proxy: empty where it says that there is none, None where it
    says nothing.  It may hold a password."""
    return next((environ[each] for each in VARIABLES if each in environ), None)


def direct_in(environ: Mapping[str, str]) -> str | None:
    """What the environment names as reached without a proxy; None where it says nothing."""
    return next((environ[each] for each in DIRECT if each in environ), None)


def proxy_from(environ: Mapping[str, str], target: HostPort) -> Proxy | None:
    """The proxy that leads to that address; None: there is none, or it is reached without one.

    A loopback address is always reached without one.

    :raises ProxyUnusable: one is named that cannot be used.
    """
    named = proxy_in(environ)
    if not named or target.is_loopback or _is_direct(environ, target.host):
        return None
    return _read(named, next(each for each in VARIABLES if each in environ))


def _read(named: str, variable: str) -> Proxy:
    problem = ProxyUnusable(f"in {variable}", "it must be http://HOST:PORT")
    if len(named) > MAX_NAMED or not named.isascii() or not named.isprintable():
        raise problem
    try:
        parts = urlsplit(named if "://" in named else f"http://{named}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise problem from None  # its text has the password in it
    if parts.scheme != "http" or not host or " " in host or port == 0:
        raise problem
    return Proxy(HostPort(host, port or DEFAULT_PORT), _authorization(parts.netloc))


def _authorization(netloc: str) -> str:
    user_info, at, _ = netloc.rpartition("@")
    if not at or not user_info:
        return ""
    return "Basic " + base64.b64encode(unquote(user_info).encode()).decode()


def _is_direct(environ: Mapping[str, str], host: str) -> bool:
    """Whether that host needs no proxy; entries match as gRPC has it: the end of a name, or the
    network of an address."""
    entries = (each.strip() for each in (direct_in(environ) or "").split(",") if each)
    return any(host.lower().endswith(each.lower()) or _is_within(host, each) for each in entries)


def _is_within(host: str, network: str) -> bool:
    address, slash, bits = network.partition("/")
    if not slash or not bits.isascii() or not bits.isdigit():
        return False
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(f"{address}/{bits}", strict=False)
    except ValueError:
        return False
