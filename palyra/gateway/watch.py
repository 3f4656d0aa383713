"""One page that watches: what it has not been told yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from palyra.console import models
from palyra.console.control import FeedQuery, IFeed
from palyra.core.jobs import Job
from palyra.gateway.recent import KEPT, Change, Reader, Recent

APPROVALS, DEVICES, JOBS = "approvals", "devices", "jobs"
TOPICS = frozenset({APPROVALS, DEVICES, JOBS})
GAP = models.FeedEvent("gap")

Show = Callable[[str], Deferred[models.ApprovalAnswer]]


class Source(Protocol):
    """Where a watch takes from (:class:`palyra.gateway.feed.Feed`)."""

    counts: models.Counts

    @property
    def recent(self) -> Mapping[str, Recent]:
        """What changed last, by topic."""

    def running(self, device_id: str) -> int:
        """How many jobs a device has that are not final."""

    def node_event(self, device_id: str) -> models.FeedEvent:
        """A device as it is now."""

    def job_event(self, job_id: str, ended: Job | None) -> models.FeedEvent | None:
        """A job as it is on record."""

    def look_soon(self) -> None:
        """Some watch has news."""

    def leave(self, watch: Watch) -> None:
        """It watches no more."""


@implementer(IFeed)
class Watch:
    """Of each thing only the newest change; what was too much to keep is one ``gap``.

    ``wake`` must not call back into it; ``show`` loads an approval as this page may see it.
    """

    _log = Logger()

    def __init__(
        self, source: Source, which: FeedQuery, wake: Callable[[], None], show: Show
    ) -> None:
        self.which = which
        self.finished = False
        self.wake = wake
        self.busy: set[str] = set()
        """Devices that are shown and of which a job changed."""
        self._source = source
        self._show = show
        self._gap = which.resumed
        self._given: models.Counts | None = None
        self._named: dict[str, Change] = {}
        self._running: dict[str, int] = {}
        self._readers = {
            topic: Reader(recent)
            for topic, recent in source.recent.items()
            if topic in which.topics
        }
        self._asked: dict[str, None] = {}
        self._loading = False
        self._approvals: dict[str, models.ApprovalItem] = {}

    # -- what it hears ----------------------------------------------------------------------------

    @property
    def has_news(self) -> bool:
        """Whether there is something to take."""
        return bool(
            self._gap
            or self._named
            or self.busy
            or self._approvals
            or self._given != self._source.counts
            or any(reader.behind for reader in self._readers.values())
        )

    def note(self, key: str, change: Change) -> None:
        """Something that is named changed."""
        self._named[key] = change

    def approval_changed(self, approval_id: str) -> None:
        """Load it, one after the other: they are in the store."""
        if APPROVALS not in self.which.topics:
            return
        self._asked.pop(approval_id, None)
        self._asked[approval_id] = None
        if len(self._asked) > KEPT:
            self._asked.clear()
            self._gap = True
        if not self._loading:
            self._load()

    def _load(self) -> None:
        if not self._asked or self.finished:
            return
        self._loading = True
        approval_id = next(iter(self._asked))
        del self._asked[approval_id]
        loading = maybeDeferred(self._show, approval_id)
        loading.addCallbacks(self._loaded, self._not_loaded)
        loading.addCallback(lambda _: self._load_next())

    def _load_next(self) -> None:
        self._loading = False
        self._source.look_soon()
        self._load()

    def _loaded(self, answer: models.ApprovalAnswer) -> None:
        self._approvals.pop(answer.approval.approval_id, None)
        self._approvals[answer.approval.approval_id] = answer.approval
        if len(self._approvals) > KEPT:
            self._approvals.clear()
            self._gap = True

    def _not_loaded(self, failure: Failure) -> None:
        """It went with its device, or the store is in trouble: the page asks for what there is."""
        self._log.debug("an approval was not shown: {why}", why=failure.getErrorMessage())
        self._gap = True

    # -- IFeed ------------------------------------------------------------------------------------

    def take(self) -> list[models.FeedEvent]:
        jobs, nodes = self._news(JOBS), self._news(DEVICES)
        self._split_named(jobs, nodes)
        events = [GAP] if self._gap else []
        self._gap = False
        if self._given != self._source.counts:
            self._given = self._source.counts
            events.append(models.FeedEvent("counts", counts=self._given))
        events += [models.FeedEvent("approval", approval=item) for item in self._approvals.values()]
        self._approvals.clear()
        events += [self._node(device_id, change) for device_id, change in nodes.items()]
        told = (self._job(job_id, change) for job_id, change in jobs.items())
        return events + [event for event in told if event is not None]

    def close(self) -> None:
        self.finished = True
        self._source.leave(self)

    def _news(self, topic: str) -> dict[str, Change]:
        """What changed of a topic; a gap where that is too much."""
        reader = self._readers.get(topic)
        found = reader.take() if reader is not None else []
        if found is None:
            self._gap = True
        return dict(found or ())

    def _split_named(self, jobs: dict[str, Change], nodes: dict[str, Change]) -> None:
        for key, change in self._named.items():
            (jobs if key in self.which.jobs else nodes)[key] = change
        self._named.clear()
        for device_id in self.busy:
            if self._running.get(device_id) != self._source.running(device_id):
                nodes.setdefault(device_id, Change())
        self.busy.clear()

    def _node(self, device_id: str, change: Change) -> models.FeedEvent:
        event = change.event(lambda _: self._source.node_event(device_id))
        assert event is not None, "a device is told as it is, or as gone"
        if device_id in self.which.devices and event.node is not None:
            self._running[device_id] = event.node.jobs_running
        return event

    def _job(self, job_id: str, change: Change) -> models.FeedEvent | None:
        return change.event(lambda ended: self._source.job_event(job_id, ended))
