"""Where an offer is run: in a thread of this process, or in a worker of its distribution."""

from __future__ import annotations

from palyra.capability.catalogue import Offer
from palyra.capability.context import CapabilityContext
from palyra.capability.runner import OnDone, Run, ThreadRunner


class Runners:
    """Runs every offer of a node host."""

    def __init__(self, threads: ThreadRunner) -> None:
        self._threads = threads

    def open(self) -> None:
        """Start what is kept warm."""
        self._threads.open()

    def start(
        self,
        offer: Offer,
        input_bytes: bytes,
        context: CapabilityContext,
        max_output_bytes: int,
        on_done: OnDone,
    ) -> Run:
        """Run ``offer`` and call ``on_done`` once, from any thread.  RuntimeError after close."""
        assert offer.capability is not None, "what has no handler here has no runner yet"
        return self._threads.start(
            offer.capability, input_bytes, context, max_output_bytes, on_done
        )

    def close(self) -> None:
        """Cancel every run and wait for its end, for a moment."""
        self._threads.close()
