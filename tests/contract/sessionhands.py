"""Handlers of a node host that do what a test says, and a memory of attempts without a disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import attrs
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from palyra.capability.catalogue import Catalogue, Offer
from palyra.capability.context import CapabilityContext
from palyra.capability.descriptor import Capability
from palyra.capability.outcome import Outcome, OutcomeKind, interrupted, succeeded
from palyra.core.devices import AnnouncedCapability
from palyra.core.identifiers import AttemptId
from palyra.core.jobs import Report
from palyra.node.attemptfile import IAttemptFile, KeptAttempt
from tests.node.fakes import act

CAPABILITIES = (
    AnnouncedCapability("echo", risk="low", idempotent=True),
    AnnouncedCapability("test.ask", risk="low", needs_mediation=True),
)
"""What the node announces: the same as :func:`catalogue` has."""


def catalogue() -> Catalogue:
    """What the node runs."""
    capabilities = (
        Capability(name="echo", description="x", handler=act, idempotent=True),
        Capability(name="test.ask", description="x", handler=act, needs_mediation=True),
    )
    return Catalogue(Offer(each.descriptor("tests", "1"), each) for each in capabilities)


@implementer(IAttemptFile)
class NoDisk:
    """What a node host keeps in memory alone is all that it remembers."""

    memory_id = "memory 1"

    def start(self) -> None:
        """There is no thread."""

    def stop(self) -> None:
        """There is nothing to write."""

    def kept(self) -> Iterable[KeptAttempt]:
        return ()

    def add(self, attempt_id: AttemptId, forget_at_ms: int) -> Deferred[None]:
        return succeed(None)

    def finish(self, report: Report) -> Deferred[None]:
        return succeed(None)

    def acknowledge(self, attempt_id: AttemptId) -> Deferred[None]:
        return succeed(None)

    def forget(self, now_ms: int) -> Deferred[None]:
        return succeed(None)


@attrs.define(eq=False)
class HandRun:
    """A handler at work, until a test ends it."""

    offer: Offer
    input_json: bytes
    context: CapabilityContext
    on_done: Callable[[Outcome], None]
    cancelled: bool = False

    def finish(self, output: bytes = b'"done"') -> None:
        """It succeeds."""
        self.on_done(succeeded(output))

    def cancel(self) -> None:
        """Stops at once."""
        self.cancelled = True
        kind = OutcomeKind.CANCELLED
        self.on_done(interrupted(kind, self.offer.name, began=True, stopped=True))


class Hands:
    """Runs handlers: those of ``at_once`` give their input back, the others wait."""

    def __init__(self) -> None:
        self.runs: list[HandRun] = []
        self.at_once = False

    def start(
        self,
        offer: Offer,
        input_bytes: bytes,
        context: CapabilityContext,
        max_output_bytes: int,
        on_done: Callable[[Outcome], None],
    ) -> HandRun:
        run = HandRun(offer, input_bytes, context, on_done)
        self.runs.append(run)
        if self.at_once:
            run.finish(input_bytes)
        return run
