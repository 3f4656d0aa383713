"""A feed that says what a test tells it to."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from palyra.console import models
from palyra.console.control import FeedQuery, IFeed, IFeedControl
from palyra.core.operators import Caller
from palyra.errors import PalyraError


@implementer(IFeed)
class FakeFeed:
    """What one page watches.  ``closed`` counts the calls of ``close``."""

    def __init__(self, wake: Callable[[], None] = lambda: None) -> None:
        self.finished = False
        self.closed = 0
        self._wake = wake
        self._events: list[models.FeedEvent] = []

    def say(self, *events: models.FeedEvent) -> None:
        """Something changed: it waits to be taken, and whoever watches is woken."""
        self._events += events
        if not self.closed:
            self._wake()

    def take(self) -> list[models.FeedEvent]:
        events, self._events = self._events, []
        return events

    def close(self) -> None:
        self.closed += 1


@implementer(IFeedControl)
class FakeFeedControl:
    """Every question is kept in ``asked``, and every feed in ``feeds``.

    A feed has ``news`` to be taken at once; with ``refusal`` nobody may watch.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[FeedQuery, Caller]] = []
        self.feeds: list[FakeFeed] = []
        self.news: list[models.FeedEvent] = []
        self.refusal: PalyraError | None = None

    def watch(self, which: FeedQuery, by: Caller, wake: Callable[[], None]) -> Deferred[IFeed]:
        self.asked.append((which, by))
        if self.refusal is not None:
            return fail(self.refusal)
        feed = FakeFeed(wake)
        feed.say(*self.news)
        self.feeds.append(feed)
        return succeed(feed)
