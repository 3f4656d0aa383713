"""The journals of devices in memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from palyra.core.identifiers import DeviceId
from palyra.core.journal import JournalEntry, JournalPage
from palyra.store.memory.records import Records, fired


class EventJournal(Records):
    """Provides :class:`palyra.core.interfaces.IEventJournal`."""

    @fired
    def journal(self, device_id: DeviceId, after_seq: int, limit: int) -> JournalPage:
        kept = self._journals.get(device_id, [])
        events = tuple(each for each in kept if each.seq > after_seq)[:limit]
        return JournalPage(events, kept[0].seq if kept else 0, kept[-1].seq if kept else 0)

    @fired
    def note(self, entries: Sequence[JournalEntry]) -> None:
        for entry in entries:
            self._note(entry)

    def watch(self, followed: Collection[DeviceId], grown: Callable[[DeviceId], object]) -> None:
        self._followed, self._tell = followed, grown
