"""``events``: what changes while a page is open."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from palyra.console import models, reading
from palyra.console.control import FeedQuery, IFeed
from palyra.console.routing import Asked, Controls, Route, Wake, repeated

TOPICS = ("approvals", "devices", "jobs")
MAX_SHOWN = 200
"""Devices, and jobs, that one stream may name: a few pages of rows."""


def _watch(of: Controls, asked: Asked, wake: Wake) -> Deferred[IFeed]:
    which = FeedQuery(
        devices=reading.names(asked.request, "device", MAX_SHOWN),
        jobs=reading.names(asked.request, "job", MAX_SHOWN),
        topics=reading.names(asked.request, "topic", 8),
        resumed=asked.request.getHeader("last-event-id") is not None,
    )
    return of.feed.watch(which, asked.caller, wake)


ROUTES = (
    Route(
        "GET",
        "events",
        "watch",
        "Watch counts, approvals and what is shown, as it changes.",
        answer=models.FeedEvent,
        query=(
            repeated("device", "A device that is shown, by its full id."),
            repeated("job", "A job that is shown, by its full id."),
            repeated("topic", "What is followed as a whole.", *TOPICS),
        ),
        follow=_watch,
    ),
)
