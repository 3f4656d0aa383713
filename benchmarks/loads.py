"""Ways in which jobs come to a gateway: unary calls, a stream, the console."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import attrs
import click
import msgspec

from benchmarks.http2 import Connection, Stream, client_tls, connect
from benchmarks.measuring import Burst
from benchmarks.paired import Served
from benchmarks.records import ECHO, INPUT, RUN_MS
from palyra.cli.client import PREFIX
from palyra.console.models import Invoke, InvokeAnswer
from palyra.wire.service import messages

MAX_UNANSWERED = 1_024
"""What the gateway reads of one stream before it has answered; docs/protocol.md."""
MAX_IN_MESSAGE = 512
HOUR_MS = 3_600_000


class Refused(click.ClickException):
    """A job did not come to the end that was expected: what was measured is worthless."""


@contextlib.asynccontextmanager
async def connected(served: Served) -> AsyncIterator[Connection]:
    """A connection of the town's caller."""
    caller, authority = served.town.caller, served.town.authority
    tls = client_tls(authority.ca_pem, caller.key, caller.chain)
    connection = await connect(served.address, tls)
    try:
        yield connection
    finally:
        connection.close()


def calls(device_ids: Sequence[str], ttl_ms: int = 0) -> Iterator[Any]:
    """Calls of ``echo`` on these devices, one after the other, again and again."""
    made = []
    for device_id in device_ids:
        call = messages.ExecuteCapabilityRequest(
            v=1, capability=ECHO.name, input_json=INPUT, timeout_ms=RUN_MS, ttl_ms=ttl_ms
        )
        call.device_id.ulid = device_id
        made.append(call)
    return itertools.cycle(made)


class Unary:
    """ExecuteCapability, job after job."""

    def __init__(self, connection: Connection, device_ids: Sequence[str]) -> None:
        self._connection = connection
        self._calls = calls(device_ids)
        self.answered = 0

    async def job(self) -> None:
        """One job, to its end."""
        request = next(self._calls).SerializeToString()
        _check(await self._connection.call("ExecuteCapability", request))
        self.answered += 1


def _check(data: bytes) -> None:
    answer = messages.ExecuteCapabilityResponse.FromString(data)
    if not answer.success:
        raise Refused(f"a job ended {answer.state}: {answer.error}")


class JobStream:
    """SubmitJobs: so many jobs unanswered on one stream, a new one for every answer."""

    def __init__(self, connection: Connection, device_ids: Sequence[str], unanswered: int) -> None:
        self._calls = calls(device_ids)
        self._unanswered = unanswered
        self._tags = itertools.count(1)
        self._submitted_s: dict[int, float] = {}
        self._took_s: list[float] = []
        self._until_s = 0.0
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stream: Stream = connection.open("SubmitJobs", self._received, self._ended)
        self.answered = 0

    async def run(self, seconds: float) -> Burst:
        """Submit for so long, then wait for the last answer."""
        began_s = time.perf_counter()
        self._took_s = []
        self._over = asyncio.get_running_loop().create_future()
        self._until_s = began_s + seconds
        self._submit(self._unanswered, began_s)
        await self._over
        return Burst(self._took_s, time.perf_counter() - began_s)

    def close(self) -> None:
        """End the stream."""
        self._stream.cancel()

    def _submit(self, count: int, now_s: float) -> None:
        for start in range(0, count, MAX_IN_MESSAGE):
            tags = list(itertools.islice(self._tags, min(count - start, MAX_IN_MESSAGE)))
            self._submitted_s.update(dict.fromkeys(tags, now_s))
            self._stream.send(submission(tags, self._calls, accepted=False))

    def _received(self, data: bytes) -> None:
        message = messages.SubmitJobResponse.FromString(data)
        now_s = time.perf_counter()
        answers = (message, *message.more)
        for answer in answers:
            if not answer.result.success:
                self._fail(f"a job was refused: {answer.refusal_code} {answer.result.error}")
                return
            self._took_s.append(now_s - self._submitted_s.pop(answer.tag))
        self.answered += len(answers)
        if now_s < self._until_s:
            self._submit(len(answers), now_s)
        elif not self._submitted_s:
            self._over.set_result(None)

    def _ended(self, trailers: bytes) -> None:
        self._fail(f"the stream ended: {trailers!r}")

    def _fail(self, why: str) -> None:
        if not self._over.done():
            self._over.set_exception(Refused(why))


def submission(tags: Sequence[int], calls: Iterator[Any], accepted: bool) -> bytes:
    """One message of several requests."""
    first, *more = (
        messages.SubmitJobRequest(v=1, tag=tag, call=next(calls), report_accepted=accepted)
        for tag in tags
    )
    first.takes_more = True
    first.more.extend(more)
    return bytes(first.SerializeToString())


class Parking:
    """SubmitJobs for devices that are away: a job is done with when it is on record.

    Such jobs are never answered, so each stream carries as many as it may, and then ends.
    """

    def __init__(self, connection: Connection, device_ids: Sequence[str]) -> None:
        self._connection = connection
        self._calls = calls(device_ids, HOUR_MS)
        self.accepted = 0

    async def job(self) -> None:
        """As many jobs as a stream carries, until all of them are on record."""
        over = asyncio.get_running_loop().create_future()
        left = MAX_UNANSWERED

        def received(data: bytes) -> None:
            nonlocal left
            message = messages.SubmitJobResponse.FromString(data)
            for answer in (message, *message.more):
                if answer.final and not over.done():
                    over.set_exception(Refused(f"a job was refused: {answer.refusal_code}"))
                left -= 1
            if not left and not over.done():
                over.set_result(None)

        stream = self._connection.open("SubmitJobs", received, lambda trailers: None)
        for start in range(1, MAX_UNANSWERED + 1, MAX_IN_MESSAGE):
            tags = range(start, start + MAX_IN_MESSAGE)
            stream.send(submission(tags, self._calls, accepted=True))
        await over
        stream.cancel()
        self.accepted += MAX_UNANSWERED


@attrs.define
class ConsoleParking:
    """POST nodes/{id}/invoke with ``wait_ms`` 0 for devices that are away; connections are kept."""

    socket_path: Path
    device_ids: Iterator[str]
    accepted: int = 0
    _idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = attrs.Factory(list)

    async def job(self) -> None:
        """One job, until it is on record."""
        reader, writer = self._idle.pop()
        writer.write(_invocation(next(self.device_ids)))
        head, body = await http_answer(reader)
        if not head.startswith(b"HTTP/1.1 2"):
            raise Refused(f"the console refused a job: {body.decode()}")
        if msgspec.json.decode(body, type=InvokeAnswer).state != "queued":
            raise Refused("a job for a device that is away was not queued")
        self._idle.append((reader, writer))
        self.accepted += 1

    async def open(self, callers: int) -> None:
        """Connect so many callers, one after the other: the socket's backlog is short."""
        while len(self._idle) < callers:
            try:
                pair = await asyncio.open_unix_connection(str(self.socket_path))
            except BlockingIOError:
                await asyncio.sleep(0.01)
            else:
                self._idle.append(pair)

    async def close(self) -> None:
        """Close the connections."""
        for _, writer in self._idle:
            writer.close()
            await writer.wait_closed()


async def http_answer(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Head and body of an answer that has a length, or is one chunk."""
    head = await reader.readuntil(b"\r\n\r\n")
    _, found, rest = head.lower().partition(b"content-length:")
    if found:
        return head, await reader.readexactly(int(rest.split(b"\r\n")[0]))
    _, body, _ = (await reader.readuntil(b"\r\n0\r\n\r\n")).split(b"\r\n", 2)
    return head, body


def _invocation(device_id: str) -> bytes:
    asked = Invoke(ECHO.name, msgspec.Raw(INPUT), wait_ms=0, ttl_ms=HOUR_MS)
    body = msgspec.json.encode(asked)
    path = f"{PREFIX}nodes/{quote(device_id)}/invoke"
    lines = (
        f"POST {path} HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    )
    return "\r\n".join((*lines, "", "")).encode() + body
