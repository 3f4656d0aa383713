"""The feed: what is live, for pages that are open.

A change costs the same however many watch, and next to nothing while nobody does: it is noted once,
and read by whoever watches when their connection carries more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall
from zope.interface import implementer

from palyra.console import models
from palyra.console.control import FeedQuery, IFeed, IFeedControl
from palyra.core.devices import PresenceState
from palyra.core.frames import JobUpdate
from palyra.core.identifiers import DeviceId, JobId, is_ulid
from palyra.core.interfaces import LISTED_OUTPUT
from palyra.core.jobs import Job
from palyra.core.operators import Caller
from palyra.errors import LimitReached, Malformed
from palyra.gateway.approvals import Approvals
from palyra.gateway.dispatch import Dispatcher
from palyra.gateway.inventory import Inventory
from palyra.gateway.nodeview import NodeView
from palyra.gateway.recent import Change, Recent
from palyra.gateway.roster import Roster
from palyra.gateway.views import job_item
from palyra.gateway.watch import DEVICES, JOBS, TOPICS, Watch

INTERVAL_S = 0.25
"""The time between two looks of a page for news."""
COUNTS_S = 1.0
"""The time between two words on counts: they change with every job."""
MAX_WATCHES = 512
MAX_OF_OPERATOR = 64
MAX_OF_SESSION = 4

Approval = Callable[[str, Caller], Deferred[models.ApprovalAnswer]]


@implementer(IFeedControl)
class Feed:
    """Everybody who watches, and what changed (:class:`palyra.gateway.settlement.Watcher`).

    ``approval`` shows an approval to somebody; ``calls_waiting`` counts the calls that wait for
    one.  ``clock`` is an IReactorTime.
    """

    def __init__(
        self,
        *,
        clock: Any,
        inventory: Inventory,
        roster: Roster,
        view: NodeView,
        dispatcher: Dispatcher,
        approvals: Approvals,
        approval: Approval,
        calls_waiting: Callable[[], int],
    ) -> None:
        self._clock = clock
        self._inventory = inventory
        self._roster = roster
        self._view = view
        self._dispatcher = dispatcher
        self._approvals = approvals
        self._approval = approval
        self._calls_waiting = calls_waiting
        self._open: dict[Watch, Caller] = {}
        self._held: Counter[str] = Counter()
        self._shown: dict[str, list[Watch]] = {}
        self._topics = Counter(dict.fromkeys(TOPICS, 0))
        self.recent = {DEVICES: Recent(), JOBS: Recent()}
        self.counts = self._counted()
        self._counted_s = self._looked_s = clock.seconds() - COUNTS_S
        self._soon = False
        self._next: IDelayedCall | None = None
        roster.watchers.append(self._device_changed)
        dispatcher.watchers.append(self)
        approvals.watchers.append(self.approval_changed)

    # -- who watches ------------------------------------------------------------------------------

    def watch(self, which: FeedQuery, by: Caller, wake: Callable[[], None]) -> Deferred[IFeed]:
        return Deferred.fromCoroutine(self._watch(which, by, wake))

    async def _watch(self, which: FeedQuery, by: Caller, wake: Callable[[], None]) -> IFeed:
        _check(which)
        self._check_room(by)
        self._look_at_counts()
        watch = Watch(self, which, wake, lambda approval_id: self._approval(approval_id, by))
        self._enter(watch, by)
        self.look_soon()
        await DeferredList([self._begin_job(watch, job_id) for job_id in which.jobs])
        for device_id in which.devices:
            watch.note(device_id, Change())
        return watch

    def _begin_job(self, watch: Watch, job_id: str) -> Deferred[None]:
        """Say how a job is now; one that is not there is not shown."""

        def note(job: Job) -> None:
            watch.note(job_id, _ended(job) if job.final else Change())

        return self._dispatcher.job(JobId(job_id)).addCallbacks(note, lambda _: None)

    def _check_room(self, by: Caller) -> None:
        if len(self._open) >= MAX_WATCHES:
            raise LimitReached("open streams of what is live", MAX_WATCHES)
        if self._held[by.operator_id] >= MAX_OF_OPERATOR:
            raise LimitReached("open streams of what is live of one operator", MAX_OF_OPERATOR)
        if by.session and self._held[_session(by)] >= MAX_OF_SESSION:
            raise LimitReached("open streams of one browser session", MAX_OF_SESSION)

    def _enter(self, watch: Watch, by: Caller) -> None:
        self._open[watch] = by
        self._held.update((by.operator_id, _session(by)))
        self._topics.update(watch.which.topics)
        for shown in watch.which.devices | watch.which.jobs:
            self._shown.setdefault(shown, []).append(watch)

    def leave(self, watch: Watch) -> None:
        """It watches no more.  Again: nothing."""
        by = self._open.pop(watch, None)
        if by is None:
            return
        for key in (by.operator_id, _session(by)):
            self._held[key] -= 1
            if not self._held[key]:
                del self._held[key]
        self._topics.subtract(watch.which.topics)
        for shown in watch.which.devices | watch.which.jobs:
            self._shown[shown].remove(watch)
            if not self._shown[shown]:
                del self._shown[shown]
        if not self._open:
            self._rest()

    def _rest(self) -> None:
        """Nobody watches: remember nothing, wait for nothing."""
        for recent in self.recent.values():
            recent.forget()
        if self._next is not None:
            self._next.cancel()
        self._next, self._soon = None, False

    # -- what changes -----------------------------------------------------------------------------

    def changed(self, update: JobUpdate) -> None:
        """A job's new state is on record, or it got further."""
        if not self._open:
            return
        call = update.job.call
        shown = self._shown.get(call.job_id, ())
        if shown or self._topics[JOBS]:
            change = _ended(update.job) if update.job.final else Change()
            self._note(JOBS, call.job_id, change)
        for watch in self._shown.get(call.device_id, ()):
            watch.busy.add(call.device_id)
        self.look_soon()

    def _device_changed(self, device_id: DeviceId) -> None:
        if self._open:
            self._note(DEVICES, device_id, Change())
            self.look_soon()

    def approval_changed(self, approval_id: str) -> None:
        """A call or a pairing request waits for an operator, or waits no more."""
        for watch in self._open:
            watch.approval_changed(approval_id)
        self.look_soon()

    def _note(self, topic: str, key: str, change: Change) -> None:
        if self._topics[topic]:
            self.recent[topic].note(key, change)
        for watch in self._shown.get(key, ()):
            watch.note(key, change)

    # -- when it is told --------------------------------------------------------------------------

    def look_soon(self) -> None:
        """Somebody has news: look at the next time that is due."""
        if not self._soon and self._open:
            self._soon = True
            self._look_in(self._looked_s + INTERVAL_S - self._clock.seconds(), INTERVAL_S)

    def _look_in(self, wait_s: float, at_most_s: float) -> None:
        """Look then, or earlier where that was said before; a clock that was set back waits too."""
        wait_s = max(0.0, min(wait_s, at_most_s))
        if self._next is None:
            self._next = self._clock.callLater(wait_s, self._look)
        elif self._next.getTime() > self._clock.seconds() + wait_s:
            self._next.reset(wait_s)

    def _look(self) -> None:
        """Wake whoever has something to take."""
        self._next, self._soon = None, False
        self._looked_s = self._clock.seconds()
        self._look_at_counts()
        for watch in list(self._open):
            if watch.has_news:
                watch.wake()

    def _look_at_counts(self) -> None:
        counts, now_s = self._counted(), self._clock.seconds()
        if counts == self.counts:
            return
        left_s = self._counted_s + COUNTS_S - now_s
        if self._open and 0 < left_s <= COUNTS_S:
            self._look_in(left_s, COUNTS_S)
        else:
            self.counts, self._counted_s = counts, now_s

    def _counted(self) -> models.Counts:
        pairing = self._approvals.waiting
        return models.Counts(
            devices=len(self._roster),
            online=self._roster.count(PresenceState.ONLINE),
            stale=self._roster.count(PresenceState.STALE),
            offline=self._roster.count(PresenceState.OFFLINE),
            approvals_pending=pairing + self._calls_waiting(),
            pairing_pending=pairing,
            jobs_unfinished=self._dispatcher.unfinished,
        )

    # -- how it is told ---------------------------------------------------------------------------

    def running(self, device_id: str) -> int:
        """How many jobs a device has that are not final."""
        return self._dispatcher.running(DeviceId(device_id))

    def node_event(self, device_id: str) -> models.FeedEvent:
        """A device as it is now."""
        device = self._inventory.device(DeviceId(device_id))
        node = None if device is None else self._view.item(device)
        return models.FeedEvent("node", device_id=device_id, node=node)

    def job_event(self, job_id: str, ended: Job | None) -> models.FeedEvent | None:
        """A job as it is on record; None where that is about to be told by another change."""
        if ended is not None:
            return models.FeedEvent("job", job=job_item(ended))
        update = self._dispatcher.told(JobId(job_id))
        if update is None:
            return None
        progress = update.progress
        return models.FeedEvent(
            "job",
            job=job_item(update.job),
            progress=progress.fraction if progress is not None else None,
            progress_text=progress.text if progress is not None else "",
        )


def _check(which: FeedQuery) -> None:
    for field, given in (("device", which.devices), ("job", which.jobs)):
        if not all(map(is_ulid, given)):
            raise Malformed(field, "must be a full id")
    if not which.topics <= TOPICS:
        raise Malformed("topic", f"must be one of {', '.join(sorted(TOPICS))}")


def _session(by: Caller) -> str:
    return f"session {by.session}"


def _ended(job: Job) -> Change:
    """A job that has ended, without the payloads that nobody is told here."""
    if len(job.output_json or b"") > LISTED_OUTPUT or len(job.call.input_json) > LISTED_OUTPUT:
        job = _without_payloads(job)
    return Change(job)


def _without_payloads(job: Job) -> Job:
    call = attrs.evolve(job.call, input_json=b"")
    output = job.output_json[:LISTED_OUTPUT] if job.output_json else job.output_json
    return attrs.evolve(job, call=call, output_json=output, notes=[])
