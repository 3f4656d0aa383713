"""Stand-ins for what a node host's rooms talk to."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from palyra.capability.catalogue import Catalogue, Offer
from palyra.capability.context import CapabilityContext, DeviceFacts
from palyra.capability.descriptor import Capability
from palyra.capability.outcome import Outcome, OutcomeKind, interrupted
from palyra.config.addresses import HostPort
from palyra.core.frames import Dispatch, Hello, Progress, Waiting, Welcome
from palyra.core.identifiers import AttemptId, DeviceId
from palyra.core.jobs import Report
from palyra.errors import PalyraError
from palyra.node.attempts import AttemptMemory
from palyra.node.identity import Credential, IdentityStore
from palyra.node.mediation import Answer, IMediator, Question
from palyra.pki.authority import Authority
from palyra.pki.csr import check_csr
from palyra.transport.interfaces import ICarrier
from palyra.wire.pairing import RenewalAsked, Renewed

T = TypeVar("T")
NOW_MS = 1_700_000_000_000
PATIENCE_S = 30
DEVICE_ID = DeviceId("01M80NKQCNX4K7QM2ZT9B3FVHD")
FACTS = DeviceFacts(DEVICE_ID, "ab" * 32, "127.0.0.1:7444", NOW_MS, 500, "pi")


def attempt(number: int) -> AttemptId:
    """An attempt id."""
    return AttemptId(f"01M80NKQCNX4K7QM2ZT9B3{number:04d}")


def dispatch(number: int = 1, capability: str = "test.act", **given: Any) -> Dispatch:
    """A dispatch of attempt ``number``."""
    values: dict[str, Any] = {
        "attempt_id": attempt(number),
        "job_id": "01M80NKQCNB8Q2ZNZT9B3FVHD0",
        "number": 1,
        "capability": capability,
        "input_json": b"{}",
        "max_payload_bytes": 65_536,
        "remaining_ms": 30_000,
        "requested_by": "ana",
    }
    return Dispatch(**values | given)


async def act(_: Any, __: Any) -> dict[str, bool]:
    """A handler."""
    return {"done": True}


def catalogue() -> Catalogue:
    """Three capabilities: one with an effect, one without, and one that asks a person."""
    capabilities = (
        Capability(description="x", handler=act, **given)
        for given in (
            {"name": "test.act"},
            {"name": "test.look", "idempotent": True},
            {"name": "test.ask", "needs_mediation": True},
        )
    )
    return Catalogue(Offer(each.descriptor("tests", "1"), each) for each in capabilities)


class Turns:
    """A reactor's thread, whose turns a test takes itself."""

    def __init__(self) -> None:
        self.queue: SimpleQueue[Callable[[], object]] = SimpleQueue()

    def callFromThread(self, call: Callable[..., object], *args: object) -> None:
        """As the reactor's."""
        self.queue.put(lambda: call(*args))

    def turn(self) -> None:
        """What the next thread that ends a work hands over."""
        self.queue.get(timeout=PATIENCE_S)()

    def wait(self, result: Awaitable[T]) -> T:
        """The result of a Deferred; raises what it failed with."""
        assert isinstance(result, Deferred)
        kept: list[T] = []
        failed: list[BaseException] = []
        result.addCallbacks(kept.append, lambda failure: failed.append(failure.value))
        while not kept and not failed:
            self.turn()
        if failed:
            raise failed[0]
        return kept[0]

    def memory(self, path: Path, now_ms: int = NOW_MS) -> AttemptMemory:
        """A memory that was opened and started."""
        memory = AttemptMemory.open(path, reactor=self, entropy=lambda n: b"m" * n, now_ms=now_ms)
        memory.start()
        return memory


@attrs.define(eq=False)
class FakeRun:
    """A run that a test ends."""

    offer: Offer
    context: CapabilityContext
    on_done: Callable[[Outcome], None]
    cancelled: bool = False

    def cancel(self) -> None:
        """Stops at once."""
        self.cancelled = True
        self.on_done(interrupted(OutcomeKind.CANCELLED, self.offer.name, began=True, stopped=True))


class FakeRunner:
    """Starts nothing."""

    def __init__(self) -> None:
        self.runs: list[FakeRun] = []
        self.closed = False

    def start(
        self, offer: Offer, _: bytes, context: CapabilityContext, __: int, done: Any
    ) -> FakeRun:
        """As ThreadRunner's."""
        if self.closed:
            raise RuntimeError("the runner is closed")
        run = FakeRun(offer, context, done)
        self.runs.append(run)
        return run


class FakeSpeaker:
    """A session that keeps what is said."""

    def __init__(self) -> None:
        self.reports: list[Report] = []
        self.said: list[Progress | Waiting] = []

    def report(self, report: Report) -> None:
        self.reports.append(report)

    def progress(self, progress: Progress) -> None:
        self.said.append(progress)

    def waiting(self, waiting: Waiting) -> None:
        self.said.append(waiting)


@implementer(IMediator)
class FakeMediator:
    """A person who answers when the test says so."""

    def __init__(self) -> None:
        self.asked: list[tuple[Question, Deferred[Answer]]] = []

    def ask(self, question: Question) -> Deferred[Answer]:
        answer: Deferred[Answer] = Deferred()
        self.asked.append((question, answer))
        return answer


@implementer(ICarrier)
class FakeCarrier:
    """A connection that only counts."""

    def __init__(self) -> None:
        self.woken = 0
        self.closed: list[PalyraError | None] = []

    def wake(self) -> None:
        self.woken += 1

    def close(self, error: PalyraError | None) -> None:
        self.closed.append(error)


class FakeChannel:
    """A connection to a gateway, whose calls the test answers."""

    made: list[FakeChannel]
    """Every one of a test, which begins with none."""

    def __init__(self, address: HostPort, ca_pem: bytes, identity: tuple[bytes, bytes]) -> None:
        self.address = address
        self.ca_pem = ca_pem
        self.identity = identity
        self.hello: Hello | None = None
        self.reached: Deferred[None] = Deferred()
        self.registered: Deferred[Welcome] = Deferred()
        self.streamed: Deferred[None] = Deferred()
        self.asked: list[tuple[RenewalAsked, Deferred[Renewed]]] = []
        self.leaving: tuple[str, str] | None = None
        self.revoked: Deferred[None] = Deferred()
        self.closed = False
        self.closing: Deferred[None] = succeed(None)
        self.session: Any = None
        self.carrier = FakeCarrier()
        FakeChannel.made.append(self)

    def connect(self) -> Deferred[None]:
        return self.reached

    def register(self, hello: Hello) -> Deferred[Welcome]:
        self.hello = hello
        return self.registered

    def renew(self, asked: RenewalAsked) -> Deferred[Renewed]:
        answer: Deferred[Renewed] = Deferred()
        self.asked.append((asked, answer))
        return answer

    def revoke(self, device_id: DeviceId, reason: str) -> Deferred[None]:
        self.leaving = (device_id, reason)
        return self.revoked

    def stream(self, make: Callable[[Any], Any], device_id: str) -> Deferred[None]:
        self.session = make(self.carrier)
        return self.streamed

    def close(self) -> Deferred[None]:
        self.closed = True
        return self.closing


class FakeQuic(FakeChannel):
    """The same over QUIC."""

    def __init__(
        self,
        address: HostPort,
        ca_pem: bytes,
        identity: tuple[bytes, bytes],
        pin: bytes | None,
        handshake_s: float,
    ) -> None:
        super().__init__(address, ca_pem, identity)
        self.pin = pin
        self.handshake_s = handshake_s


def new_authority() -> Authority:
    """A gateway's CA."""
    return Authority.create(trust_domain="palyra", now_ms=NOW_MS, entropy=os.urandom)


class PairedDevice:
    """A device that is paired, and the CA of its gateway."""

    def __init__(self, path: Path, authority: Authority) -> None:
        self.authority = authority
        self.store = IdentityStore(path)
        self.identity = self.store.open(NOW_MS, os.urandom, DEVICE_ID)
        self.ca_pem = authority.ca_pem.decode()
        csr_der = self.store.new_csr(DEVICE_ID)
        self.first = self.store.accept(DEVICE_ID, self.issue(csr_der), self.ca_pem)

    def issue(self, csr_der: bytes, at_ms: int = NOW_MS, by: Authority | None = None) -> str:
        """A certificate to that CSR, issued then."""
        key = check_csr(csr_der, DEVICE_ID)
        return (by or self.authority).issue_device(key, DEVICE_ID, at_ms).pem.decode()

    def renewed(self, asked: RenewalAsked, at_ms: int = NOW_MS) -> Renewed:
        """What the gateway answers."""
        return Renewed(self.issue(asked.csr_der, at_ms), self.ca_pem, 0, 0)

    def make_next(self, at_ms: int = NOW_MS) -> Credential:
        """A next certificate, issued then, beside the current one."""
        pem = self.issue(self.store.new_csr(DEVICE_ID), at_ms)
        return self.store.accept_next(DEVICE_ID, pem, self.ca_pem)
