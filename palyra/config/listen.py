"""``[listen]``: the addresses of the listeners.  Everything is loopback unless configured."""

from __future__ import annotations

from typing import Annotated

import msgspec

_QUIC = msgspec.Meta(
    pattern=r"\A(?:node_rpc|none|\S+:[0-9]{1,5})\Z",
    description="must be node_rpc, none or HOST:PORT",
)


class ListenSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """HOST:PORT each; port 0 takes a free one.  ``quic`` is ``node_rpc`` for the same address over
    UDP, or ``none``."""

    enrolment: str = "127.0.0.1:7443"
    node_rpc: str = "127.0.0.1:7444"
    quic: Annotated[str, _QUIC] = "node_rpc"
    max_quic_connections: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 256
