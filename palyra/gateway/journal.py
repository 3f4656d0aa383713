"""The journals of devices: who follows one, and what happened in nobody's transaction.

A follower reads the record and nothing else: what it is told is on disk, and what it has not taken
costs no memory.  It is told to look after a commit; a device that nobody follows costs a look-up.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from palyra.core.identifiers import DeviceId
from palyra.core.interfaces import IEventJournal
from palyra.core.journal import PAGE, Details, JournalEntry, JournalEvent, JournalGap
from palyra.errors import LimitReached, Malformed, PalyraError
from palyra.transport.interfaces import IEventFollowing

MAX_FOLLOWERS = 1_024
MAX_OF_DEVICE = 4


@implementer(IEventFollowing)
class EventFollowing:
    """One follower of a device's journal; ``wake`` must not call back into it."""

    def __init__(
        self, journal: Journal, log: IEventJournal, device_id: DeviceId, wake: Callable[[], None]
    ) -> None:
        self.device_id = device_id
        self._journal = journal
        self._log = log
        self._wake = wake
        self._after = 0
        self._told = False
        self._closed = False

    async def begin(self, after_seq: int | None) -> None:
        """Stand behind the event ``after_seq``, None: before the oldest one.

        :raises Malformed: there is no such number yet.
        """
        page = await self._log.journal(self.device_id, 0, 0)
        if after_seq is None:
            after_seq = max(0, page.oldest_seq - 1)
        if not 0 <= after_seq <= page.newest_seq:
            problem = f"must be between 0 and {page.newest_seq}, the newest event"
            raise Malformed("resume_from", problem)
        self._after = after_seq

    def take(self, limit: int = PAGE) -> Deferred[list[JournalEvent | JournalGap]]:
        return Deferred.fromCoroutine(self._take(min(limit, PAGE)))

    async def _take(self, limit: int) -> list[JournalEvent | JournalGap]:
        self._told = False
        page = await self._log.journal(self.device_id, self._after, limit)
        if self._closed:
            return []
        if page.oldest_seq > self._after + 1:
            self._after = page.oldest_seq - 1
            return [JournalGap(page.oldest_seq)]
        if page.events:
            self._after = page.events[-1].seq
        return [*page.events]

    def close(self) -> None:
        self._closed = True
        self._journal.leave(self)

    def tell(self) -> None:
        """The journal has grown."""
        if not self._told:
            self._told = True
            self._wake()


class Journal:
    """Who follows which device's journal."""

    _log = Logger()

    def __init__(self, *, log: IEventJournal, now_ms: Callable[[], int]) -> None:
        self._kept = log
        self._now_ms = now_ms
        self._following: dict[DeviceId, list[EventFollowing]] = {}
        self._count = 0
        log.watch(self._following.keys(), self._grown)

    def follow(
        self, device_id: DeviceId, after_seq: int | None, wake: Callable[[], None]
    ) -> Deferred[IEventFollowing]:
        """Follow a device's journal behind an event; None: from the oldest one that is kept.

        Fails with LimitReached where too many follow already, with Malformed where there is no
        such event yet.
        """
        return Deferred.fromCoroutine(self._follow(device_id, after_seq, wake))

    async def _follow(
        self, device_id: DeviceId, after_seq: int | None, wake: Callable[[], None]
    ) -> IEventFollowing:
        following = EventFollowing(self, self._kept, device_id, wake)
        self._enter(following)  # before it reads: it is told of whatever is committed from here on
        try:
            await following.begin(after_seq)
        except BaseException:
            following.close()
            raise
        return following

    def _enter(self, following: EventFollowing) -> None:
        if self._count >= MAX_FOLLOWERS:
            raise LimitReached("open streams of events", MAX_FOLLOWERS)
        same = self._following.get(following.device_id, [])
        if len(same) >= MAX_OF_DEVICE:
            raise LimitReached("open streams of events of one device", MAX_OF_DEVICE)
        self._following.setdefault(following.device_id, same).append(following)
        self._count += 1

    def leave(self, following: EventFollowing) -> None:
        """Follow no more.  Again: nothing."""
        same = self._following.get(following.device_id, [])
        if following in same:
            same.remove(following)
            self._count -= 1
            if not same:
                del self._following[following.device_id]

    def noted(self, device_id: DeviceId, kind: str, details: Details) -> None:
        """Keep what happened to a device now; a failure of the store is logged."""
        entry = JournalEntry(device_id, self._now_ms(), kind, details)
        kept = Deferred.fromCoroutine(self._keep(entry))
        kept.addErrback(lambda failure: self._log.failure("an event is not kept", failure))

    async def _keep(self, entry: JournalEntry) -> None:
        try:
            await self._kept.note([entry])
        except PalyraError as error:
            self._log.warn(
                "{kind} of {device} is not in its journal: {error}",
                kind=entry.kind,
                device=entry.device_id,
                error=error.sentence,
            )

    def _grown(self, device_id: DeviceId) -> None:
        for following in tuple(self._following.get(device_id, ())):
            following.tell()
