"""``[console]``: where operators and programs reach the gateway, and how long they stay."""

from __future__ import annotations

import ipaddress
from typing import Annotated

import msgspec

_ENDPOINT = msgspec.Meta(
    pattern=r"\A(?:none|palyra:.+)\Z",
    description="must be an endpoint as palyra:PORT:interface=ADDRESS, or none",
)
_NETWORK = msgspec.Meta(min_length=2, max_length=64)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class ConsoleSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The names it is reached by are those of ``[gateway]``."""

    endpoint: Annotated[str, _ENDPOINT] = "palyra:7142:interface=127.0.0.1"
    """A Twisted endpoint string with our own prefix; ``none``: only console.sock."""
    certificate: str = ""
    """File of a certificate chain (PEM) of one's own; empty: the gateway's own certificate."""
    private_key: str = ""
    behind_proxy: tuple[Annotated[str, _NETWORK], ...] = ()
    """Addresses or networks of proxies: they may speak plain HTTP, and their X-Forwarded-For,
    -Proto and -Host count."""
    session_idle_s: Annotated[int, msgspec.Meta(ge=60, le=86_400)] = 1_800
    session_s: Annotated[int, msgspec.Meta(ge=300, le=7 * 86_400)] = 43_200
    operator_certificate_s: Annotated[int, msgspec.Meta(ge=3_600, le=366 * 86_400)] = 2_592_000

    def __post_init__(self) -> None:
        if bool(self.certificate) != bool(self.private_key):
            raise ValueError("certificate and private_key belong together")
        self.proxies()

    def proxies(self) -> tuple[Network, ...]:
        """``behind_proxy`` as networks; ValueError where one is none."""
        return tuple(map(ipaddress.ip_network, self.behind_proxy))
