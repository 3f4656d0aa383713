"""Under which names the console is reached, and what a proxy may say of a request.

A page of another site may have its name resolve to this machine (DNS rebinding): its requests name
that site as their host and are refused.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

import attrs
from twisted.internet.address import IPv4Address, IPv6Address

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
_PORTS = {True: 443, False: 80}

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def address_of(text: str) -> _Address | None:
    """An IP address in its one spelling; None: it is none."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def host_name(name: str) -> str:
    """A configured name or a host as it is compared: A-labels, lower case."""
    address = address_of(name)
    if address is not None:
        return str(address)
    try:
        return name.encode("idna").decode("ascii").lower()
    except UnicodeError:
        return name.lower()


@attrs.frozen
class Hosts:
    """The names of the console; loopback's are always among them."""

    names: frozenset[str]
    proxies: tuple[Network, ...] = ()

    @classmethod
    def of(cls, names: Iterable[str], proxies: Iterable[Network] = ()) -> Hosts:
        """From configured names and the networks of proxies."""
        known = frozenset(map(host_name, (*names, *LOOPBACK_NAMES)))
        return cls(known, tuple(proxies))

    def is_proxy(self, peer: Any) -> bool:
        """Whether a connection comes from a proxy, whose word on a request counts."""
        address = address_of(str(getattr(peer, "host", "")))
        return address is not None and any(address in network for network in self.proxies)

    def knows(self, host: bytes, port: int | None, *, secure: bool) -> bool:
        """Whether ``host``, a ``Host`` header, is one of the names with ``port``; None: any."""
        text = host.decode("latin-1").lower()
        if not text or any(mark in text for mark in "/?#@\\ \t"):
            return False
        try:
            parts = urlsplit(f"//{text}")
            given = parts.port
        except ValueError:
            return False
        if host_name(parts.hostname or "") not in self.names:
            return False
        return port is None or port == (_PORTS[secure] if given is None else given)


@attrs.frozen
class Forwarded:
    """What a proxy says of a request; None: it says nothing of that."""

    client: IPv4Address | IPv6Address | None
    secure: bool | None
    host: bytes | None


def forwarded(request: Any, hosts: Hosts) -> Forwarded:
    """What the ``X-Forwarded-*`` headers of a proxy of ours say.

    Of the addresses the last one counts that is no proxy: what stands before it is its own word.
    """
    lines = _values(request, b"x-forwarded-for")
    proto = _values(request, b"x-forwarded-proto")
    host = _values(request, b"x-forwarded-host")
    secure = proto[-1] == b"https" if proto else None
    return Forwarded(_client(lines, hosts), secure, host[-1] if host else None)


def _client(lines: list[bytes], hosts: Hosts) -> IPv4Address | IPv6Address | None:
    for line in reversed(lines):
        address = address_of(line.decode("latin-1").strip("[]"))
        if address is None:
            return None
        if not any(address in network for network in hosts.proxies):
            kind = IPv4Address if address.version == 4 else IPv6Address
            return kind("TCP", str(address), 0)
    return None


def _values(request: Any, name: bytes) -> list[bytes]:
    """The values of a header that may be repeated or listed."""
    headers = request.requestHeaders.getRawHeaders(name) or []
    return [part.strip() for header in headers for part in header.split(b",") if part.strip()]
