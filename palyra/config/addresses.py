"""HOST:PORT as people write it, IPv6 in brackets."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

import attrs

from palyra.errors import Malformed

MAX_LISTED = 8


@attrs.frozen
class HostPort:
    """An address to listen on or to connect to; port 0 asks the system for a free one."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str, field: str = "address", default_port: int | None = None) -> HostPort:
        """Read ``HOST:PORT`` or ``[IPv6]:PORT``.

        :raises Malformed: naming ``field``, with what was wrong.
        """
        host, bracket, rest = text.partition("]")
        if bracket:
            host, port = host.removeprefix("["), rest.removeprefix(":")
        else:
            host, _, port = text.rpartition(":") if ":" in text else (text, "", "")
        if not port and default_port is not None:
            port = str(default_port)
        numeric = port.isascii() and port.isdigit() and len(port) <= 5
        if not host or not numeric or int(port) > 65535:
            raise Malformed(field, f"must be HOST:PORT, IPv6 in brackets (got {text[:80]!r})")
        return cls(host, int(port))

    @property
    def is_loopback(self) -> bool:
        """Whether no other machine can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def with_port(self, port: int) -> HostPort:
        """The same host with another port."""
        return HostPort(self.host, port)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def listed(texts: Sequence[str], field: str) -> tuple[HostPort, ...]:
    """Addresses to connect to, in the order of trying, at most eight.

    :raises Malformed: naming ``field``; there are more, one is no address, or one comes twice.
    """
    if len(texts) > MAX_LISTED:
        raise Malformed(field, f"names {len(texts)} addresses, and {MAX_LISTED} are the most")
    found: dict[HostPort, HostPort] = {}
    for text in texts:
        each = HostPort.parse(text, field)
        if not each.port:
            raise Malformed(field, f"must have a port that is not 0 (got {text[:80]!r})")
        alike = HostPort(each.host.lower(), each.port)
        if alike in found:
            raise Malformed(field, f"names {text[:80]!r} twice")
        found[alike] = each
    return tuple(found.values())
