"""Where handlers run, as the node host's rooms see it: threads of this process, or workers."""

from __future__ import annotations

from typing import Protocol

from palyra.capability.catalogue import Offer
from palyra.capability.context import CapabilityContext
from palyra.capability.runner import OnDone


class Run(Protocol):
    """A handler at work."""

    def cancel(self) -> None:
        """Ask it to end; its outcome tells whether it did."""


class Runner(Protocol):
    """What runs handlers."""

    def start(
        self,
        offer: Offer,
        input_bytes: bytes,
        context: CapabilityContext,
        max_output_bytes: int,
        on_done: OnDone,
    ) -> Run:
        """Run a handler and call ``on_done`` once, from any thread.  RuntimeError: it is closed."""
