"""Simulated nodes, many in one process: each has a certificate, a connection and a stream of its
own and answers every dispatch at once.  They keep no memory of attempts, as a node host does."""

from __future__ import annotations

import asyncio
import random
import sys
from typing import Any

import msgspec

from benchmarks.http2 import Connection, StreamEnded, client_tls, connect
from benchmarks.measuring import run
from benchmarks.paired import Crowd, Member
from benchmarks.records import ECHO
from palyra.config.addresses import HostPort
from palyra.core.frames import HEARTBEAT, STARTED, Hello
from palyra.wire.registration import write_hello
from palyra.wire.service import messages

CONNECTING = 32
"""Nodes that connect at once."""
MAX_IN_FLIGHT = 4_096


class Node:
    """One simulated node."""

    def __init__(self, member: Member, lost: asyncio.Future[None]) -> None:
        self._member = member
        self._lost = lost
        self._epoch = 0
        self.interval_s = 0.0

    async def connect(self, crowd: Crowd) -> None:
        """Register and open the stream."""
        tls = client_tls(crowd.ca, self._member.key, self._member.chain)
        self._connection = await connect(HostPort.parse(crowd.address, "address"), tls)
        welcome = await self._register(self._connection)
        self._epoch = welcome.session_epoch
        self.interval_s = welcome.heartbeat_interval_ms / 1000
        self._stream = self._connection.open("StreamNodeEvents", self._received, self._ended)
        self._said = asyncio.get_running_loop().create_future()
        self._say(STARTED)
        self.beat()
        await self._said

    def beat(self) -> None:
        """Say that it is alive."""
        self._say(HEARTBEAT)

    async def _register(self, connection: Connection) -> Any:
        hello = Hello(
            device_id=self._member.device_id,  # type: ignore[arg-type]
            platform="linux",
            capabilities=(ECHO,),
            memory_id=self._member.device_id,
            max_in_flight=MAX_IN_FLIGHT,
            extended=True,
        )
        data = await connection.call("RegisterNode", write_hello(hello).SerializeToString())
        answer = messages.RegisterNodeResponse.FromString(data)
        if not answer.accepted:
            raise StreamEnded(f"a node was not registered: {answer.reason}")
        return answer.welcome

    def _received(self, data: bytes) -> None:
        if not self._said.done():
            self._said.set_result(None)
        message = messages.NodeEventResponse.FromString(data)
        if message.dispatches:
            event = self._event()
            for dispatch in message.dispatches:
                event.reports.add(
                    request_id=dispatch.request_id.ulid,
                    outcome=messages.ATTEMPT_OUTCOME_SUCCEEDED,
                    output_json=dispatch.input_json,
                    took_ms=1,
                )
            self._send(event)

    def _ended(self, trailers: bytes) -> None:
        if not self._lost.done():
            self._lost.set_exception(StreamEnded(f"a node lost its stream: {trailers!r}"))

    def _say(self, name: str) -> None:
        event = self._event()
        event.event_name = name
        self._send(event)

    def _event(self) -> Any:
        event = messages.NodeEventRequest(v=1, session_epoch=self._epoch)
        event.device_id.ulid = self._member.device_id
        return event

    def _send(self, event: Any) -> None:
        self._stream.send(event.SerializeToString())


async def serve(crowd: Crowd) -> None:
    """Be these nodes until one of them is lost."""
    lost = asyncio.get_running_loop().create_future()
    nodes = [Node(member, lost) for member in crowd.nodes]
    gate = asyncio.Semaphore(CONNECTING)

    async def connected(node: Node) -> None:
        async with gate:
            await node.connect(crowd)

    await asyncio.gather(*map(connected, nodes))
    print("ready", flush=True)
    beating = [asyncio.ensure_future(_beating(node)) for node in nodes]
    try:
        await lost
    finally:
        for task in beating:
            task.cancel()


async def _beating(node: Node) -> None:
    while True:
        await asyncio.sleep(node.interval_s * random.uniform(0.85, 1.0))
        node.beat()


def main() -> None:
    """Be the nodes that stdin names."""
    crowd = msgspec.json.decode(sys.stdin.buffer.read(), type=Crowd)
    try:
        run(serve(crowd))
    except StreamEnded as error:
        sys.exit(f"error: {error.message}")
