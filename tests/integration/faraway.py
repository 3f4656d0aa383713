"""A gateway and a node that reach each other over a network that can be made bad.

The gateway calls itself 127.0.0.2, where nothing listens but the relays.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from palyra.console.models import JobItem
from tests.integration import errands
from tests.integration.errands import ONCE, REPEATABLE
from tests.integration.house import Gateway, House, NodeHost, opened, reading
from tests.integration.killing import Pair
from tests.integration.processes import HOST, eventually, free_port
from tests.integration.relay import Relay
from tests.integration.udprelay import UdpRelay

ELSEWHERE = "127.0.0.2"
SEED = 20261122
PAYLOAD_BYTES = 3 * 1024 * 1024
_GATEWAY = """
[gateway]
names = ["{name}"]
shutdown_grace_s = 0.5
[listen]
quic = "{quic}"
[jobs]
max_payload_bytes = {payload}
"""
_NODE = """[node]
transport = "{transport}"
first_retry_s = 0.2
max_retry_s = 0.5
quic_retry_s = 2.0
"""


def configured(name: str, quic: str) -> str:
    """``palyra.toml`` of a gateway that is known under another name."""
    return _GATEWAY.format(name=name, quic=quic, payload=PAYLOAD_BYTES)


class FarPair(Pair):
    """A pair whose node reaches QUIC through the air, and gRPC by a wire of its own."""

    def __init__(self, house: House, transport: str = "quic") -> None:
        self.path = house.path
        port = free_port()
        self.gateway = house.gateway(config=configured(ELSEWHERE, f"{HOST}:{port}")).start()
        self.relay = Relay(self.gateway.node_rpc)
        self.air = UdpRelay(f"{HOST}:{port}", SEED, f"{ELSEWHERE}:{port}")
        self.plugins = errands.install(house.path / "plugins")
        self.node = self.asker = self._node(house, "node", transport)
        self.begun, self.effects = self.path / "begun", self.path / "effects"
        self.ledger, self._calls, self._fanouts, self._locker = {}, {}, {}, None

    def _node(self, house: House, name: str, transport: str) -> NodeHost:
        node = house.node(name, self.plugins)
        house.write_config(node.root, _NODE.format(transport=transport))
        node.options = ["--grpc-url", self.relay.address, "--transport", transport]
        return node

    def approved(self) -> FarPair:
        """Pair for real; the node will soon be online."""
        self.node.start_with_pin(self.gateway, self.gateway.pin())
        self.gateway.approve(self.node.asks())
        return self

    def close(self) -> None:
        """End what the house does not know of."""
        super().close()
        self.air.close()

    # -- what is seen of it ---------------------------------------------------------------------

    @property
    def device_id(self) -> str:
        """The node's."""
        return self.node.device_id

    def transport(self) -> str:
        """What carries the node's session, as operators see it."""
        return self.gateway.node(self.device_id).transport

    def moved_to(self, transport: str, limit_s: float = 30.0) -> None:
        """Wait until the session is carried by that."""
        eventually(
            lambda: (
                self.gateway.node(self.device_id).presence == "online"
                and self.transport() == transport
            ),
            f"the node is online over {transport}",
            limit_s,
        )

    def session_epoch(self) -> int:
        """How many sessions the device has had."""
        return epoch_of(self.gateway, self.device_id)

    def _listed(self) -> Iterator[JobItem]:
        """Errands alone: echoes are nobody's account."""
        return (job for job in super()._listed() if job.capability in (REPEATABLE, ONCE))


def epoch_of(gateway: Gateway, device_id: str) -> int:
    """How many sessions a device has had."""
    with reading(gateway.root / "palyra.sqlite3") as raw:
        ((epoch,),) = raw.execute(
            "SELECT session_epoch FROM devices WHERE device_id = ?", (device_id,)
        ).fetchall()
    return int(epoch)


@contextlib.contextmanager
def far_pair(transport: str = "quic") -> Iterator[FarPair]:
    """A pair in a house of its own, not paired yet; it shows what was said where a test fails."""
    with opened() as house, contextlib.closing(FarPair(house, transport)) as pair:
        try:
            yield pair
        except BaseException:
            print(pair.story())
            raise
