"""What a node host has for its capabilities: where they run, what is offered, and who watches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, execute
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from palyra.capability.catalogue import Catalogue, Offer
from palyra.capability.context import CapabilityContext
from palyra.capability.descriptor import OWNER
from palyra.capability.registry import normal_name
from palyra.capability.runner import OnDone, ThreadRunner
from palyra.config.node import NodeSection
from palyra.node.finding import Finding, pool_settings
from palyra.node.offering import Find, InThread, MayAsk, Offering
from palyra.node.runner import Run
from palyra.node.watchdog import Watchdog
from palyra.plugins.described import DescriptorCache
from palyra.plugins.discovery import Discovery
from palyra.transport.asyncbridge import call_from_thread
from palyra.workers.pool import WorkerPool
from palyra.workers.runners import Runners
from palyra.workers.spawning import WORKER_ARGV

PATIENCE_S = 5.0
"""How long a start waits for plugins that were not described before."""


class OfferRooms:
    """Made without effect, open from :meth:`open` to :meth:`stop`.  Runs handlers for the jobs."""

    _log = Logger()

    def __init__(
        self,
        catalogue: Catalogue,
        section: NodeSection,
        *,
        reactor: Any,
        elapsed_s: Callable[[], float],
        awake_s: Callable[[], float],
        may_ask: MayAsk,
        file: Path | None,
        cache: Path,
        argv: Sequence[str] = WORKER_ARGV,
        path: Sequence[str] | None = None,
    ) -> None:
        """``catalogue`` is what is offered at first, and for ever without the configuration
        ``file``, which is read at every reload.  What plugins describe is kept at ``cache``.
        ``argv`` starts a worker, and plugins are searched on ``path`` (``sys.path``).

        ``elapsed_s`` is the clock of every context's deadline; ``awake_s`` stands still while the
        machine sleeps: nobody is blamed for what did not happen then."""
        self._pool = WorkerPool(
            pool_settings(section.worker),
            argv=argv,
            clock=elapsed_s,
            changed=lambda distribution, why: call_from_thread(self._dies, distribution, why),
        )
        self._runners = Runners(ThreadRunner(section.max_running, clock=elapsed_s), self._pool)
        self._watchdog = Watchdog(
            clock=reactor, elapsed_s=awake_s, runners=self._runners, hung=self._hung
        )
        find: Find = partial(_as_it_is, catalogue)
        known = find
        in_thread: InThread = execute
        if file is not None:
            finding = Finding(
                file, Discovery(self._pool.describe, DescriptorCache(cache), path=path)
            )
            find, known, in_thread = finding.find, finding.known, deferToThread
        self._known = known
        self.offering = Offering(catalogue, find=find, in_thread=in_thread, may_ask=may_ask)
        self._clock = reactor
        self._patience: IDelayedCall | None = None

    def open(self) -> None:
        """Start what is kept warm.

        :raises Malformed: plugins cannot be run as the configured user.
        """
        self._runners.open()

    def begin(self) -> Deferred[None]:
        """Find out what is offered; once, first.

        Fires when that is known, and after :data:`PATIENCE_S` all the same: then what was described
        before is offered, and the rest follows.  A plugin that hangs, or two hundred that are new,
        must not keep a device from its gateway.
        """
        begun: Deferred[None] = Deferred()

        def enough(_: object = None) -> None:
            if self._patience is not None and self._patience.active():
                self._patience.cancel()
            if not begun.called:
                begun.callback(None)

        self._patience = self._clock.callLater(PATIENCE_S, enough)
        self.offering.begin(self._known).addErrback(lambda _: None)  # it was logged, as is the next
        self.reload().addBoth(enough)
        return begun

    def reload(self) -> Deferred[Catalogue]:
        """Read the configuration again, and find out what is installed now.

        Runs that began end as they were.  Fails with PalyraError where the configuration cannot be
        used; then all stays as it was.
        """
        return self.offering.reload().addCallback(self._reloaded)

    def _reloaded(self, catalogue: Catalogue) -> Catalogue:
        self._runners.reload()
        self._log.info(
            "{count} capabilities, {faults} cannot be used",
            count=len(catalogue.offers),
            faults=len(catalogue.broken),
        )
        return catalogue

    async def stop(self) -> None:
        """Cancel every run, and wait until nothing of it is left."""
        if self._patience is not None and self._patience.active():
            self._patience.cancel()
        self._watchdog.stop()
        closed = self.offering.close()
        await deferToThread(self._runners.close)
        await closed

    def start(
        self,
        offer: Offer,
        input_bytes: bytes,
        context: CapabilityContext,
        max_output_bytes: int,
        on_done: OnDone,
    ) -> Run:
        """As :meth:`palyra.workers.runners.Runners.start`, watched where it runs here."""
        if offer.capability is not None:
            self._watchdog.began(offer.name)
        return self._runners.start(offer, input_bytes, context, max_output_bytes, on_done)

    def _dies(self, distribution: str, sentence: str | None) -> None:
        self.offering.unavailable(distribution, sentence)

    def _hung(self, names: Iterable[str], late_s: float) -> None:
        """Others' code that was let into this process has held it up."""
        offers = self.offering.catalogue.offers
        theirs = [
            name
            for name in names
            if name in offers and normal_name(offers[name].descriptor.distribution) != OWNER
        ]
        self.offering.withdraw(
            theirs,
            f"It kept the node host from all else for {late_s:.0f} s; restart the node host.",
        )


def _as_it_is(catalogue: Catalogue) -> Catalogue:
    return catalogue
