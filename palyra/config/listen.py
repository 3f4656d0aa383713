"""``[listen]``: the addresses of the listeners.  Everything is loopback unless configured."""

from __future__ import annotations

import msgspec


class ListenSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """HOST:PORT each; port 0 takes a free one."""

    enrolment: str = "127.0.0.1:7443"
    node_rpc: str = "127.0.0.1:7444"
