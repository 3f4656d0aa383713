"""What a gateway stands on, and what its rooms must know of its listeners."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from palyra.config import Config
from palyra.config.addresses import HostPort
from palyra.core.identifiers import Entropy
from palyra.gateway.operatorrooms import ConsolePlace
from palyra.gateway.trustcontrol import Serving
from palyra.pki.keystore import GatewayIdentity
from palyra.store.sql import SqlStore


@attrs.frozen
class Ground:
    """What a gateway stands on, from outside."""

    reactor: Any
    elapsed_ms: Callable[[], int]
    entropy: Entropy
    state_root: Path
    config: Config
    store: SqlStore
    identity: GatewayIdentity

    def now_ms(self) -> int:
        """Wall time in Unix milliseconds."""
        return int(self.reactor.seconds() * 1000)


@attrs.frozen
class Doors:
    """What rooms must know of the listeners, which come last."""

    serving: Serving
    node_rpc_address: Callable[[], HostPort]
    pairing_address: Callable[[], HostPort]
    quic_address: Callable[[], str]
    listeners: Callable[[], dict[str, str]]
    console: Callable[[], ConsolePlace | None] = lambda: None
    """Where the console is served over HTTPS; None: only on console.sock."""
