"""A link on which nothing arrives any more, and a device that gets another address."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs
import msgspec

from palyra.console.models import Invoke, InvokeAnswer
from tests.integration import errands, plugin
from tests.integration.errands import ONCE, Errand, counted
from tests.integration.faraway import configured, epoch_of
from tests.integration.house import Gateway, House, NodeHost
from tests.integration.netns import Link, laid
from tests.integration.processes import Process, eventually, free_port

SEEN_S = 45.0
"""Within this time a half-open link is found."""
SOON_S = 20.0
"""Much less than any pause of these nodes, and than the silence after which a link is given up."""
BOTH = ("grpc", "quic")
_NODE = """[node]
transport = "{transport}"
first_retry_s = 600.0
max_retry_s = 3600.0
"""


class Away(House):
    """A house whose processes run at the far end of a link."""

    def __init__(self, link: Link) -> None:
        super().__init__()
        self._link = link

    def start(
        self,
        command: Sequence[str],
        log: Path,
        stdin: str = "",
        plugins: Path | None = None,
        env: Mapping[str, str] = {},
    ) -> Process:
        if plugins is not None:
            command = [plugin.interpreter(plugins), *command]
        return super().start(self._link.command(*command), log, stdin, None, env)


@attrs.frozen
class World:
    """A gateway here, and at the far end of a link a node on each transport."""

    link: Link
    gateway: Gateway
    nodes: dict[str, NodeHost]
    path: Path

    def begin(self, gate: Path) -> list[str]:
        """A job on each node that ends when the gate is there; their ids, once they run."""
        errand = Errand(str(self.path / "begun"), str(self.path / "effects"), str(gate))
        body = Invoke(ONCE, msgspec.Raw(msgspec.json.encode(errand)), wait_ms=0, timeout_ms=120_000)
        paths = [f"nodes/{node.device_id}/invoke" for node in self.nodes.values()]
        console = self.gateway.console
        jobs = [console.post(path, body, InvokeAnswer).value.job_id for path in paths]
        begun = self.path / "begun"
        eventually(lambda: set(counted(begun)) >= set(jobs), "both jobs run")
        return jobs

    def presence(self, transport: str) -> str:
        """How the gateway sees that node."""
        return self.gateway.node(self.nodes[transport].device_id).presence

    def epochs(self) -> dict[str, int]:
        """How many sessions each node has had."""
        return {name: epoch_of(self.gateway, node.device_id) for name, node in self.nodes.items()}

    def online(self, transport: str, since: int) -> None:
        """Wait until that node is there with a newer session than that one."""
        eventually(
            lambda: self.epochs()[transport] > since and self.presence(transport) == "online",
            f"the node on {transport} is online again",
            SOON_S,
        )


@contextlib.contextmanager
def world(link: Link, house: House) -> Iterator[World]:
    """Both nodes are online."""
    gateway = house.gateway(config=configured(link.near, f"{link.near}:{free_port()}"))
    gateway.enrolment = f"{link.near}:{free_port()}"
    gateway.node_rpc = f"{link.near}:{free_port()}"
    gateway.start()
    with contextlib.closing(Away(link)) as away:
        plugins = errands.install(away.path / "plugins")
        nodes = {name: away.node(name, plugins) for name in BOTH}
        for name, node in nodes.items():
            away.write_config(node.root, _NODE.format(transport=name))
            node.start(gateway.line())
        for node in nodes.values():
            gateway.approve(node.asks())
        for name, node in nodes.items():
            assert name in node.process.says("online ")
            gateway.online(node.device_id)
        yield World(link, gateway, nodes, house.path)


def test_half_open_links_are_found_and_another_network_is_used_at_once(house: House) -> None:
    """On either transport both ends know within 45 seconds that nothing arrives any more.

    When the device gets another address, on a network that works, it does not sit out the minutes
    that its next try would have waited for, and what ended meanwhile is delivered.  Another address
    while it is online costs the session over gRPC seconds, and the one over QUIC nothing.
    """
    with laid() as link, world(link, house) as made:
        jobs, before = made.begin(made.path / "gate"), made.epochs()
        link.halve()
        (made.path / "gate").touch()
        for name, node in made.nodes.items():
            node.process.says("offline", SEEN_S)
            eventually(lambda name=name: made.presence(name) != "online", f"{name} is away")
        assert {made.gateway.job(job_id).state for job_id in jobs} == {"dispatched"}
        link.mend()
        link.move()
        for name in BOTH:
            made.online(name, before[name])
        assert {made.gateway.ended(job_id).job.state for job_id in jobs} == {"succeeded"}
        assert set(counted(made.path / "effects").values()) == {1}

        before = made.epochs()
        link.move()
        made.online("grpc", before["grpc"])
        assert made.gateway.ended(made.begin(made.path / "gate")[1]).job.state == "succeeded"
        assert made.epochs()["quic"] == before["quic"]
