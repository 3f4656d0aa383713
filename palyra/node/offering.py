"""What a node offers, as it changes: reloads, plugins whose workers die, and those that hang it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from palyra.capability.catalogue import Catalogue, Fault
from palyra.capability.registry import normal_name
from palyra.core.devices import AnnouncedCapability
from palyra.errors import PalyraError

Find = Callable[[], Catalogue]
"""Finds out what is offered; blocks.  PalyraError: what the owner wrote cannot be used."""
InThread = Callable[[Find], Deferred[Catalogue]]
MayAsk = Callable[[str, str, bool], bool]
"""Whether the owner's rules may ask a person before a capability is run: by its name, its risk, and
whether its plugin wants that."""


class Offering:
    """What this node offers now; :meth:`watch` tells of every change.  Reactor thread only."""

    _log = Logger()

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        find: Find,
        in_thread: InThread,
        may_ask: MayAsk = lambda name, risk, needed: needed,
    ) -> None:
        """``catalogue`` is what is offered until :meth:`reload` has found out more;
        ``in_thread`` is :func:`twisted.internet.threads.deferToThread`."""
        self._found = catalogue
        self._find = find
        self._once: Find | None = None
        self._in_thread = in_thread
        self._may_ask = may_ask
        self._withdrawn: dict[str, str] = {}
        self._unavailable: dict[str, str] = {}
        self._watchers: list[Callable[[], object]] = []
        self._asked: list[Deferred[Catalogue]] = []
        self._busy: Deferred[None] | None = None
        self._closed = False
        self._settle()

    @property
    def catalogue(self) -> Catalogue:
        """What can be run; a plugin whose workers die is part of it, since that passes."""
        return self._catalogue

    def announced(self) -> tuple[AnnouncedCapability, ...]:
        """Every capability, as a gateway is told."""
        return self._announced

    def descriptor(self, digest: str) -> bytes | None:
        """The bytes of one of the descriptors."""
        return self._catalogue.descriptor(digest)

    def watch(self, changed: Callable[[], object]) -> None:
        """Call ``changed`` after every change."""
        self._watchers.append(changed)

    # -- reload ---------------------------------------------------------------------------------

    def begin(self, known: Find) -> Deferred[Catalogue]:
        """The first :meth:`reload`, with ``known``: what can be said at once."""
        self._once = known
        return self.reload()

    def reload(self) -> Deferred[Catalogue]:
        """Find out again what is offered.  One at a time; whoever asks meanwhile shares the next.

        Fails with PalyraError where what the owner wrote cannot be used; then all stays as it was.
        """
        if self._closed:
            return succeed(self._catalogue)
        answer: Deferred[Catalogue] = Deferred()
        self._asked.append(answer)
        if self._busy is None:
            self._begin()
        return answer

    def close(self) -> Deferred[None]:
        """Fires when nothing is being found out any more; nothing changes from now on."""
        self._closed = True
        over: Deferred[None] = Deferred()
        if self._busy is None:
            over.callback(None)
        else:
            self._busy.addCallback(over.callback)
        return over

    def _begin(self) -> None:
        asked, self._asked = self._asked, []
        busy = self._busy = Deferred()
        find, self._once = self._once or self._find, None
        self._in_thread(find).addBoth(self._ended, asked, busy)

    def _ended(
        self,
        result: Catalogue | Failure,
        asked: list[Deferred[Catalogue]],
        busy: Deferred[None],
    ) -> None:
        if isinstance(result, Catalogue) and not self._closed:
            self._found = result
            self._changed()
        elif isinstance(result, Failure) and not self._closed:
            self._failed(result)
            self._changed()  # the owner's rules may be others all the same
        self._busy = None
        if self._closed:
            asked, self._asked = [*asked, *self._asked], []
        for each in asked:
            each.callback(result if isinstance(result, Failure) else self._catalogue)
        busy.callback(None)
        if self._asked and self._busy is None:
            self._begin()

    def _failed(self, failure: Failure) -> None:
        error = failure.value
        if isinstance(error, PalyraError):
            self._log.error("reload: all stays as it was: {e}", e=error.sentence)
        else:
            self._log.failure("reload failed; all stays as it was", failure)

    # -- what goes wrong while it runs -------------------------------------------------------------

    def unavailable(self, distribution: str, sentence: str | None) -> None:
        """The workers of a distribution die; None: they may be tried again."""
        key = normal_name(distribution)
        if sentence is None:
            self._unavailable.pop(key, None)
        else:
            self._unavailable[key] = sentence
        self._changed()

    def withdraw(self, names: Iterable[str], sentence: str) -> None:
        """Run these no more until the node host is started again."""
        new = {name: sentence for name in names if name not in self._withdrawn}
        if new:
            self._withdrawn |= new
            self._changed()

    def _changed(self) -> None:
        before = self._catalogue, self._announced
        self._settle()
        if (self._catalogue, self._announced) != before:
            for each in self._watchers:
                each()

    def _settle(self) -> None:
        self._catalogue = self._without_withdrawn()
        self._announced = tuple(map(self._said, self._catalogue.announced()))

    def _without_withdrawn(self) -> Catalogue:
        offers = self._found.offers
        gone = [offers[name] for name in self._withdrawn if name in offers]
        if not gone:
            return self._found
        faults = [
            Fault(
                each.name,
                each.descriptor.distribution,
                each.descriptor.version,
                self._withdrawn[each.name],
                offer=each,
            )
            for each in gone
        ]
        left = (each for name, each in offers.items() if name not in self._withdrawn)
        return Catalogue(left, (*self._found.faults, *faults))

    def _said(self, item: AnnouncedCapability) -> AnnouncedCapability:
        changes: dict[str, Any] = {}
        if not item.needs_mediation and self._may_ask(item.name, item.risk, False):
            changes["needs_mediation"] = True
        offer = self._catalogue.offers.get(item.name)
        if offer is not None and offer.capability is None:
            cause = self._unavailable.get(normal_name(offer.descriptor.distribution))
            if cause is not None:
                changes.update(available=False, fault=cause)
        return attrs.evolve(item, **changes) if changes else item
