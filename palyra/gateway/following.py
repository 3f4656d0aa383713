"""Followers: whoever watches what becomes of a job, or of all rows of a fan-out.

A follower is told to look and takes what it can carry.  Of each job it gets the newest state and
progress: one that reads slowly misses what lay between, and costs no more memory than its jobs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import attrs
from zope.interface import implementer

from palyra.core.frames import JobUpdate
from palyra.core.identifiers import FanoutId, JobId
from palyra.errors import LimitReached
from palyra.transport.interfaces import IJobFollowing


@implementer(IJobFollowing)
class Following:
    """One follower of a job, or of a fan-out's rows; ``wake`` must not call back into it."""

    def __init__(
        self,
        followers: Followers,
        subject: JobId | FanoutId,
        wake: Callable[[], None],
        client: str = "",
    ) -> None:
        self.subject = subject
        self.client = client
        self.finished = False
        self._followers = followers
        self._wake = wake
        self._news: dict[JobId, JobUpdate] = {}

    def take(self) -> list[JobUpdate]:
        news, self._news = list(self._news.values()), {}
        if any(update.job.final and update.job.call.job_id == self.subject for update in news):
            self.finished = True
            self.close()
        return news

    def close(self) -> None:
        self._followers.leave(self)

    def tell(self, update: JobUpdate) -> None:
        """Something changed."""
        idle = not self._news
        job = attrs.evolve(update.job, notes=[])  # the dispatcher's goes on changing
        self._news[job.call.job_id] = JobUpdate(job, update.progress)
        if idle:
            self._wake()


class Followers:
    """Everybody who follows, by what they follow (:class:`palyra.gateway.settlement.Watcher`)."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._per_client = max(1, limit // 8)
        self._following: dict[JobId | FanoutId, list[Following]] = {}
        self._count = 0
        self._of_client: Counter[str] = Counter()

    def follow(
        self, subject: JobId | FanoutId, wake: Callable[[], None], client: str = ""
    ) -> Following:
        """Follow a job, or the rows of a fan-out; ``client`` names a paired client.

        :raises LimitReached: too many follow already, or this client has its share.
        """
        if self._count >= self._limit:
            raise LimitReached("open streams of events", self._limit)
        if client and self._of_client[client] >= self._per_client:
            raise LimitReached("open streams of events of one client", self._per_client)
        following = Following(self, subject, wake, client)
        self._following.setdefault(subject, []).append(following)
        self._count += 1
        self._of_client[client] += 1
        return following

    def leave(self, following: Following) -> None:
        """Follow no more.  Again: nothing."""
        same = self._following.get(following.subject, [])
        if following in same:
            same.remove(following)
            self._count -= 1
            self._of_client[following.client] -= 1
            if not self._of_client[following.client]:
                del self._of_client[following.client]
            if not same:
                del self._following[following.subject]

    def changed(self, update: JobUpdate) -> None:
        """A job's new state is on record, or it got further."""
        if not self._following:
            return
        call = update.job.call
        for following in (*self._following.get(call.job_id, ()), *self._of_fanout(call.fanout_id)):
            following.tell(update)

    def _of_fanout(self, fanout_id: FanoutId | None) -> tuple[Following, ...]:
        return () if fanout_id is None else tuple(self._following.get(fanout_id, ()))
