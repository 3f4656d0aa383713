"""Where an offer is run: in a thread of this process, or in a worker of its distribution."""

from __future__ import annotations

from palyra.capability.catalogue import Offer
from palyra.capability.context import CapabilityContext
from palyra.capability.runner import OnDone, Run, ThreadRunner
from palyra.workers.places import PoolRun
from palyra.workers.pool import WorkerPool


class Runners:
    """Runs every offer of a node host."""

    def __init__(self, threads: ThreadRunner, pool: WorkerPool) -> None:
        self._threads = threads
        self._pool = pool

    def open(self) -> None:
        """Start what is kept warm.

        :raises Malformed: workers cannot run as the user that is configured.
        """
        self._pool.open()
        self._threads.open()

    def start(
        self,
        offer: Offer,
        input_bytes: bytes,
        context: CapabilityContext,
        max_output_bytes: int,
        on_done: OnDone,
    ) -> Run | PoolRun:
        """Run ``offer`` and call ``on_done`` once, from any thread.  RuntimeError after close."""
        if offer.capability is None:
            return self._pool.start(offer, input_bytes, context, max_output_bytes, on_done)
        given = (offer.capability, input_bytes, context, max_output_bytes, on_done)
        return self._threads.start(*given, settings=offer.settings)

    def running_here(self) -> list[str]:
        """What runs in threads of this process now, or was given up and still does."""
        return self._threads.running()

    def reload(self) -> None:
        """Plugins may be others now: runs that began end where they are, others get new workers."""
        self._pool.retire()

    def close(self) -> None:
        """Cancel every run and wait for its end, for a moment."""
        self._threads.close()
        self._pool.close()
