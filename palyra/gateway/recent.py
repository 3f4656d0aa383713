"""What changed last: one record of it for everybody who reads along."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from palyra.console.models import FeedEvent
from palyra.core.jobs import Job

KEPT = 256
"""Things that a reader may be behind by; one that is further behind has a gap."""


@attrs.define(eq=False)
class Change:
    """A change of one thing, told with its newest state by whoever reads it first.

    ``job`` is kept of a job that has ended: nothing else remembers its end.
    """

    job: Job | None = None
    _event: FeedEvent | None = None
    _made: bool = False

    def event(self, make: Callable[[Job | None], FeedEvent | None]) -> FeedEvent | None:
        """What readers are told, made once; None where there is nothing to tell yet."""
        if not self._made:
            self._made, self._event = True, make(self.job)
        return self._event


class Recent:
    """The newest change of each of the ``KEPT`` things that changed last."""

    def __init__(self) -> None:
        self.number = 0
        self._lost = 0
        self._changes: dict[str, tuple[int, Change]] = {}

    def note(self, key: str, change: Change) -> None:
        """Something changed.  Costs the same however many read."""
        self.number += 1
        self._changes.pop(key, None)
        self._changes[key] = (self.number, change)
        if len(self._changes) > KEPT:
            self._lost, _ = self._changes.pop(next(iter(self._changes)))

    def since(self, number: int) -> list[tuple[str, Change]] | None:
        """What changed behind ``number``, oldest first; None where some of it is lost."""
        if self._lost > number:
            return None
        found = []
        for key in reversed(self._changes):
            changed_at, change = self._changes[key]
            if changed_at <= number:
                break
            found.append((key, change))
        return found[::-1]

    def forget(self) -> None:
        """Nobody reads any more."""
        self._changes.clear()
        self._lost = self.number


class Reader:
    """How far somebody has read; from now on at first."""

    def __init__(self, recent: Recent) -> None:
        self._recent = recent
        self._number = recent.number

    @property
    def behind(self) -> bool:
        """Whether there is something to read."""
        return self._recent.number != self._number

    def take(self) -> list[tuple[str, Change]] | None:
        """What changed since the last call; None where some of it is lost."""
        found = self._recent.since(self._number)
        self._number = self._recent.number
        return found
