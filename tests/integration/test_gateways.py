"""A device that knows several addresses of its gateway: real processes, and wires that come and
go."""

from __future__ import annotations

import contextlib
import json

from tests.integration.house import NodeHost, opened
from tests.integration.processes import HOST, eventually, free_port
from tests.integration.relay import DOWN, Relay


def kept(node: NodeHost) -> dict[str, object]:
    """What it has on disk of where its gateways are."""
    host = json.loads((node.root / "node-host" / "node-host.json").read_bytes())
    return {each: host[each] for each in ("grpc_url", "gateway_urls")}


def test_addresses_are_tried_in_their_order() -> None:
    """The second one carries the session while nobody is at the first; when it ends the first is
    looked at again; where that only hangs up, the second one once more.  Naming another one at the
    next start is all that it takes to move."""
    with opened() as house, contextlib.ExitStack() as wires:
        gateway = house.gateway().start()
        port, second = free_port(), Relay(gateway.node_rpc)
        wires.callback(second.close)
        first = f"{HOST}:{port}"
        node = house.node()
        node.options = ["--grpc-url", first, "--grpc-url", second.address, "--transport", "grpc"]
        node.pair(gateway)
        node.process.says(f"{first} does not answer, using {second.address} for now")
        assert kept(node) == {"grpc_url": first, "gateway_urls": [first, second.address]}

        wire = Relay(gateway.node_rpc, port)
        wires.callback(wire.close)
        second.cut()
        eventually(lambda: wire.passed(DOWN) > 0, "the first one is looked at again")
        gateway.online(node.device_id)

        passed = second.passed(DOWN)
        second.accept()
        wire.cut()  # it listens on, and hangs up at once: as a balancer whose gateway is gone
        eventually(lambda: second.passed(DOWN) > passed, "the second one is taken again")
        gateway.online(node.device_id)
        node.process.terminate()

        third = Relay(gateway.node_rpc)
        wires.callback(third.close)
        node.options = ["--grpc-url", third.address]
        node.start()
        node.process.says(f"gateway\tnow {third.address}")
        eventually(lambda: third.passed(DOWN) > 0, "it has moved")
        gateway.online(node.device_id)
        assert kept(node) == {"grpc_url": third.address, "gateway_urls": []}
        node.process.terminate()
