"""Asking the console without a network: whole answers, and connections on which bytes arrive."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import attrs
import msgspec
from treq.testing import StubTreq
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.web.server import Site
from zope.interface import implementer

from palyra.console import models
from palyra.console.admission import IAdmission
from palyra.console.app import PREFIX, ConsoleApp
from palyra.console.routing import Controls
from palyra.core.operators import Caller, Role
from palyra.core.tracing import Tracer
from palyra.errors import PalyraError
from palyra.testing.control import FakeControl

ANA = Caller("local:1000", "ana", Role.ADMIN, "console.sock")


@implementer(IAdmission)
class Everybody:
    """Lets everybody in as one caller."""

    def __init__(self, caller: Caller = ANA) -> None:
        self.caller = caller
        self.refusal: PalyraError | None = None

    def knows(self, request: Any) -> bool:
        return self.refusal is None

    def admit(self, request: Any, route: Any, *, again: bool = False) -> Caller:
        if self.refusal is not None:
            raise self.refusal
        return self.caller


class Part:
    """Any other control: it remembers with the fake one what it is asked, and answers as that."""

    def __init__(self, control: FakeControl) -> None:
        self._control = control

    def __getattr__(self, name: str) -> Any:
        return partial(self._control._answer, name)


class Console:
    """An app over a fake control and a clock that a test moves; ``gateway`` is asked instead."""

    def __init__(
        self, caller: Caller = ANA, tracer: Tracer | None = None, gateway: Any = None
    ) -> None:
        self.control = FakeControl()
        part = Part(self.control)
        self.controls = Controls(
            gateway or self.control,
            *(part, part, part, part, part),
            lambda accept: ("text/plain", b"metrics"),
            tracer,
        )
        self.clock = Clock()
        self.admission = Everybody(caller)
        self.app = ConsoleApp(self.controls, self.admission, self.clock)
        self._resource: Any = self.app.resource()
        self._stub: Any = StubTreq(self._resource)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[Any, Any] | None = None,
    ) -> tuple[int, Any, Any]:
        """Status, body and headers of one request; its body is JSON."""
        status, content, given = self.fetch(path, method, body, headers)
        return status, msgspec.json.decode(content) if content else None, given

    def fetch(
        self,
        path: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: dict[Any, Any] | None = None,
        prefix: str = PREFIX,
    ) -> tuple[int, bytes, Any]:
        """Status, body and headers of one request."""
        answer: list[Any] = []
        response = self._stub.request(
            method, f"http://console{prefix}{path}", data=body, headers=headers
        )
        response.addBoth(answer.append)
        self._stub.flush()
        (given,) = answer
        content: list[bytes] = []
        self._stub.content(given).addCallback(content.append)
        self._stub.flush()
        return given.code, content[0], given.headers

    def connect(self, path: str, *lines: str) -> Reader:
        """A connection that has asked to follow: ``path``, and more header lines."""
        site = Site(self._resource, timeout=None)
        channel: Any = site.buildProtocol(None)
        reader = Reader(channel)
        channel.makeConnection(reader)
        head = "\r\n".join([f"GET {PREFIX}{path} HTTP/1.0", *lines, "", ""])
        channel.dataReceived(head.encode())
        return reader

    def turn(self, seconds: float = 0.0) -> None:
        """Let the reactor turn, after some time."""
        self.clock.advance(seconds)


@attrs.frozen
class Event:
    """One event as it came."""

    name: str
    number: int
    data: models.JobEvent


class Reader(StringTransport):
    """The reading end of a connection; it stops its producer as Twisted's transports do."""

    LIMIT = 64 * 1024

    def __init__(self, channel: Any) -> None:
        super().__init__()
        self._channel = channel
        self._rest = b""
        self._full = False
        self.head = b""
        self.writes = 0
        self.comments = 0

    def write(self, data: bytes) -> None:
        self.writes += 1
        super().write(data)
        if self.producer is not None and self.waiting > self.LIMIT:
            self._full = True
            self.producer.pauseProducing()

    def writeSequence(self, data: Any) -> None:
        self.write(b"".join(data))

    def unregisterProducer(self) -> None:
        """Again: nothing, as in Twisted's transports."""
        self.producer = None

    @property
    def waiting(self) -> int:
        """Bytes that were written and not read."""
        return len(self.received())

    def received(self) -> bytes:
        """What was written and not read."""
        return bytes(self.value())  # type: ignore[no-untyped-call]

    def read(self) -> list[Event]:
        """Take what waits: the events that it completes."""
        self._rest += self.received()
        self.clear()
        if self._full and self.producer is not None:
            self._full = False
            self.producer.resumeProducing()
        if not self.head:
            self.head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        *blocks, self._rest = self._rest.split(b"\n\n")
        self.comments += blocks.count(b":")
        return [_event(block) for block in blocks if block != b":"]

    def leave(self) -> None:
        """Hang up."""
        if self.producer is not None:
            self.producer.stopProducing()
        self._channel.connectionLost(Failure(ConnectionDone()))


def _event(block: bytes) -> Event:
    name, number, data = block.split(b"\n")
    assert (name[:7], number[:4], data[:6]) == (b"event: ", b"id: ", b"data: ")
    content = msgspec.json.decode(data[6:], type=models.JobEvent)
    return Event(name[7:].decode(), int(number[4:]), content)


def item(job_id: str = "JOB1", state: str = "dispatched", note: str = "") -> models.JobItem:
    """A job as lists and events show it."""
    return models.JobItem(
        job_id=job_id,
        device_id="01J00000000000000000000000",
        device_name="pi",
        capability="echo",
        state=state,
        submitted_at_unix_ms=1,
        finished_at_unix_ms=None,
        took_ms=None,
        requested_by="local:ana",
        attempts=1,
        waiting_for="",
        error_code="",
        note=note,
        effect_possible=False,
    )


def told(job_id: str = "JOB1", progress: float | None = None) -> models.JobEvent:
    """What a follower hears of a job."""
    return models.JobEvent("job", item(job_id), progress)


END = models.JobEvent("end")


def logged(act: Callable[[], object]) -> list[LogEvent]:
    """What is logged meanwhile."""
    events: list[LogEvent] = []
    observer: Any = events.append
    globalLogPublisher.addObserver(observer)
    try:
        act()
    finally:
        globalLogPublisher.removeObserver(observer)
    return events
