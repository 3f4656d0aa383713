"""``python -m palyra.testing.simulation.herd``: ten thousand nodes lose their gateway together.

The nodes are production's connections, with their real pauses; the gateway is its front door
(:mod:`palyra.testing.simulation.frontdoor`) with production's rate.  Shown is how they come back:
how many a second, what of it the gateway could not take, and when the last one is online.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
from collections.abc import Callable
from random import Random
from typing import Any

import attrs
from twisted.logger import globalLogBeginner

from palyra.config.addresses import HostPort
from palyra.config.node import NodeSection
from palyra.core.frames import Hello, Welcome
from palyra.core.identifiers import DeviceId, new_ulid
from palyra.errors import PalyraError
from palyra.gateway.service import RETRY_AFTER_MS
from palyra.gateway.sessions import REGISTRATIONS_PER_S
from palyra.node.connection import Connection
from palyra.node.gateways import Gateways
from palyra.node.identity import ClientFile, Credential
from palyra.node.link import Route
from palyra.node.routes import Routes
from palyra.testing.simulation.clock import EPOCH_S, HostClock, Timeline
from palyra.testing.simulation.frontdoor import Costs, DoorChannel, FrontDoor, Seen

ADDRESS = HostPort("gateway.sim", 7444)
NODES = 10_000
DOWN_S = 5.0
HOUR_S = 3_600.0
PATIENCE_S = 600.0
COSTS = Costs()
CONFIG = NodeSection()
CLIENT = ClientFile(1, "", Credential("", "", int((EPOCH_S + 86_400) * 1000)))


@attrs.frozen
class Return:
    """How a herd came back; times in seconds since the gateway was there again."""

    nodes: int
    away: int
    """How many were not back in the end."""
    half_s: float
    last_s: float
    handshakes: int
    peak_handshakes: int
    peak_registered: int
    refused: int
    timed_out: int
    longest_wait_s: float
    """The longest that a handshake waited and took."""

    def shown(self) -> str:
        """For people."""
        return (
            f"half online after {self.half_s:.1f} s, all after {self.last_s:.1f} s"
            + (f", {self.away:,} not at all" if self.away else "")
            + f"; {self.handshakes:,} handshakes, at most {self.peak_handshakes:,} a second, "
            f"waiting {self.longest_wait_s:.2f} s at most; {self.refused:,} asked to come later, "
            f"{self.timed_out:,} timed out; at most {self.peak_registered:,} registered a second"
        )


class Nobody:
    """Runs, an identity and a witness of a node that has nothing to do but to come back."""

    def client(self) -> ClientFile:
        """A certificate that does not run out meanwhile."""
        return CLIENT

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


class Herd:
    """Nodes that are all online, until their gateway is gone."""

    def __init__(
        self,
        nodes: int,
        *,
        seed: int = 0,
        costs: Costs = COSTS,
        rate_per_s: int = REGISTRATIONS_PER_S,
        jitter: Callable[[float, float], float] | None = None,
        config: NodeSection = CONFIG,
    ) -> None:
        """``jitter`` takes the place of chance in every pause: to see what that is good for."""
        self.timeline = Timeline()
        self.random = Random(f"herd {seed}")
        self.door = FrontDoor(self.timeline, costs, rate_per_s)
        self._clock = HostClock(self.timeline, lambda: 0.0)
        self._jitter = jitter or self.random.uniform
        self._config = config
        self._back: dict[DeviceId, float] = {}
        self._nodes = [self._node() for _ in range(nodes)]
        for node in self._nodes:
            self.timeline.later(self.random.uniform(0.0, nodes / rate_per_s), node.start)
        self._until_all_are_back(PATIENCE_S)

    def restart(self) -> Return:
        """The gateway is stopped, which tells everybody when to come back, and started again."""
        self.door.drain(RETRY_AFTER_MS)
        self.timeline.advance(0.1)
        return self._come_back_after(DOWN_S)

    def crash(self) -> Return:
        """The gateway is killed, which everybody notices within seconds, and started again."""
        return self._come_back_after(DOWN_S)

    def outage(self) -> Return:
        """The gateway is gone for an hour."""
        return self._come_back_after(HOUR_S)

    def end(self) -> None:
        """Nobody tries any more."""
        self._clock.kill()

    def _come_back_after(self, down_s: float) -> Return:
        self.door.stop(lambda: self.random.uniform(0.0, 3.0))
        self.timeline.advance(down_s)
        self._back.clear()
        self.door.seen = Seen()
        self.door.start()
        since_s = self.timeline.now
        self._until_all_are_back(PATIENCE_S)
        return self._told(since_s)

    def _until_all_are_back(self, limit_s: float) -> None:
        over_s = self.timeline.now + limit_s
        while self.door.online < len(self._nodes) and self.timeline.now < over_s:
            self.timeline.advance(1.0)

    def _told(self, since_s: float) -> Return:
        seen = self.door.seen
        back = sorted(at_s - since_s for at_s in self._back.values()) or [0.0]
        return Return(
            nodes=len(self._nodes),
            away=len(self._nodes) - self.door.online,
            half_s=back[len(back) // 2],
            last_s=back[-1],
            handshakes=seen.handshakes.total(),
            peak_handshakes=max(seen.handshakes.values(), default=0),
            peak_registered=max(seen.registered.values(), default=0),
            refused=seen.refused.total(),
            timed_out=seen.timed_out,
            longest_wait_s=seen.longest_wait_s,
        )

    def _node(self) -> Connection:
        device_id = DeviceId(new_ulid(int(EPOCH_S * 1000), self.random.randbytes))
        nobody: Any = Nobody()
        nobody.online = self._online
        nobody.offline = _nothing
        clock, config = self._clock, self._config
        return Connection(
            reactor=clock,
            elapsed_s=clock.elapsed_s,
            routes=Gateways([self._routes()], elapsed_s=clock.elapsed_s),
            jitter=self._jitter,
            identity=nobody,
            hello=lambda epoch: Hello(device_id, "linux", ()),
            runs=nobody,
            witness=nobody,
            first_retry_s=config.first_retry_s,
            max_retry_s=config.max_retry_s,
        )

    def _routes(self) -> Routes:
        clock = self._clock
        return Routes(
            grpc=ADDRESS,
            open_grpc=lambda address, ca_pem, identity: DoorChannel(self.door, clock),
            elapsed_s=clock.elapsed_s,
        )

    def _online(self, welcome: Welcome, route: Route) -> None:
        self._back[welcome.device_id] = self.timeline.now


def _nothing(error: PalyraError | None, retry_s: float) -> None:
    """Nobody watches."""


STORIES = {"restart": Herd.restart, "crash": Herd.crash, "outage": Herd.outage}


def main(arguments: list[str] | None = None) -> int:
    """Show every story; 1 where somebody did not come back."""
    parser = argparse.ArgumentParser(prog="python -m palyra.testing.simulation.herd")
    parser.add_argument("--nodes", type=int, default=NODES, help=f"how many [{NODES}]")
    parser.add_argument("--seed", type=int, default=0, help="of what is left to chance [0]")
    parser.add_argument("--json", action="store_true", help="one JSON object on one line")
    options = parser.parse_args(arguments)
    globalLogBeginner.beginLoggingTo([], redirectStandardIO=False, discardBuffer=True)
    told = {}
    for name, story in STORIES.items():
        told[name] = _played(story, options.nodes, options.seed)
        if not options.json:
            print(f"{name:<8} {told[name].shown()}", flush=True)
    if options.json:
        print(json.dumps({name: attrs.asdict(each) for name, each in told.items()}))
    return 1 if any(each.away for each in told.values()) else 0


def _played(story: Callable[[Herd], Return], nodes: int, seed: int) -> Return:
    """One story.  Collecting garbage among ten thousand nodes again and again would take most of
    its time; it is done once, at the end."""
    gc.disable()
    try:
        herd = Herd(nodes, seed=seed)
        told = story(herd)
        herd.end()
    finally:
        gc.enable()
    return told


if __name__ == "__main__":
    sys.exit(main())
