"""Followers as the console shows them: jobs and fan-outs as events."""

from __future__ import annotations

from collections.abc import Callable

from zope.interface import implementer

from palyra.console import models
from palyra.console.control import IFollowing
from palyra.core.frames import JobUpdate
from palyra.gateway.fanouts import FanoutView
from palyra.gateway.following import Following
from palyra.gateway.views import fanout_item, job_item


@implementer(IFollowing)
class JobStream:
    """The events of one job."""

    def __init__(self, following: Following) -> None:
        self._following = following

    @property
    def finished(self) -> bool:
        return self._following.finished

    def take(self) -> list[models.JobEvent]:
        events = [_event(update) for update in self._following.take()]
        if self.finished and events:
            events.append(models.JobEvent("end", job=events[-1].job))
        return events

    def close(self) -> None:
        self._following.close()


@implementer(IFollowing)
class FanoutStream:
    """The events of a fan-out and its rows; ``view`` says how it stands."""

    def __init__(self, following: Following, view: Callable[[], FanoutView]) -> None:
        self.finished = False
        self._following = following
        self._view = view
        self._begun = False

    def take(self) -> list[models.JobEvent]:
        updates = self._following.take()
        if self.finished or (self._begun and not updates):
            return []
        self._begun = True
        view = self._view()
        events = [_event(update) for update in updates]
        events.append(models.JobEvent("fanout", fanout=fanout_item(view)))
        if view.finished:
            self.finished = True
            self.close()
            events.append(models.JobEvent("end", fanout=fanout_item(view)))
        return events

    def close(self) -> None:
        self._following.close()


def _event(update: JobUpdate) -> models.JobEvent:
    progress = update.progress
    return models.JobEvent(
        "job",
        job=job_item(update.job),
        progress=progress.fraction if progress is not None else None,
        progress_text=progress.text if progress is not None else "",
    )
