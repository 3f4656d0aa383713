"""How many connections a listener has, and how many of them come from one source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

from palyra.core.rates import source_of
from palyra.errors import Malformed

OfPeer = Callable[[Any], bool]
"""Whether something holds of the peer of a connection (IAddress)."""


def nobody(peer: Any) -> bool:
    """It holds of no peer."""
    return False


class Crowd:
    """Bounds connections: ``most`` in all, and a quarter of them of one source.

    Nobody shall keep the others out.  This machine is no source, nor is whom ``speaks_for_many``
    says: a proxy.
    """

    def __init__(self, most: int, speaks_for_many: OfPeer = nobody) -> None:
        self._most = most
        self._of_one = max(1, most // 4)
        self._speaks_for_many = speaks_for_many
        self._all = 0
        self._sources: Counter[str] = Counter()

    def refusal(self, peer: Any) -> str | None:
        """Why another connection of a peer is not taken, as a code; None: it is."""
        if self._all >= self._most:
            return "too_many_connections"
        source = self._source(peer)
        if source is not None and self._sources[source] >= self._of_one:
            return "too_many_of_source"
        return None

    def joined(self, peer: Any) -> None:
        """A connection has begun."""
        self._all += 1
        source = self._source(peer)
        if source is not None:
            self._sources[source] += 1

    def left(self, peer: Any) -> None:
        """A connection is over; once for each that began."""
        self._all -= 1
        source = self._source(peer)
        if source is not None:
            self._sources[source] -= 1
            if not self._sources[source]:
                del self._sources[source]

    def _source(self, peer: Any) -> str | None:
        host = str(getattr(peer, "host", ""))
        try:
            source = source_of(host)
        except Malformed:
            return None
        address = ip_address(host.partition("%")[0])
        near = (getattr(address, "ipv4_mapped", None) or address).is_loopback
        return None if near or self._speaks_for_many(peer) else source
