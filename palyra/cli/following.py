"""Following a job or a fan-out while it goes on: a live line, lines for a log, or JSON events."""

from __future__ import annotations

import contextlib
import time

import attrs

from palyra.cli import bars
from palyra.cli.client import Console, GatewayRefused
from palyra.cli.present import Screen
from palyra.console.models import FanoutAnswer, FanoutItem, JobEvent, JobItem
from palyra.core.identifiers import short_id

LINE_EVERY_MS = 10_000
LOOK_EVERY_S = 1.0
_STEPS = 10
_AWAY = "the gateway is away; trying again"


@attrs.define
class JobWatch:
    """What is known of a job that is followed."""

    job: JobItem
    fraction: float | None = None
    text: str = ""
    away: bool = False

    def lost(self) -> None:
        """The gateway went away; what is known is what was."""
        self.away = True

    def learn(self, event: JobEvent) -> None:
        """Take in an event."""
        self.away = False
        if event.job is not None and event.job.job_id == self.job.job_id:
            self.job = event.job
            self.fraction, self.text = event.progress, event.progress_text

    @property
    def over(self) -> bool:
        """Whether the end, which is told otherwise, has come."""
        return self.job.state not in bars.UNFINISHED

    def line(self, now_ms: int) -> bars.Parts:
        """The live line."""
        if self.away:
            return [(f"{short_id(self.job.job_id)}  {_AWAY}", "")]
        return bars.job_line(self.job, self.fraction, self.text, now_ms)

    def plain(self, now_ms: int) -> str:
        """The line of a log."""
        return "  ".join(bars.job_facts(self.job, self.fraction, self.text, now_ms))

    @property
    def step(self) -> tuple[str, str, int]:
        """What calls for a new line in a log when it changes: the state, or another 10 %."""
        return self.job.state, self.job.waiting_for, int((self.fraction or 0.0) * _STEPS)


@attrs.define
class FanoutWatch:
    """What is known of a fan-out that is followed."""

    fanout: FanoutItem
    away: bool = False

    def lost(self) -> None:
        """The gateway went away; what is known is what was."""
        self.away = True

    def learn(self, event: JobEvent) -> None:
        """Take in an event."""
        self.away = False
        if event.fanout is not None:
            self.fanout = event.fanout

    @property
    def over(self) -> bool:
        """Whether the end, which is told otherwise, has come."""
        return self.fanout.finished

    def line(self, now_ms: int) -> bars.Parts:
        """The live line."""
        if self.away:
            return [(f"{short_id(self.fanout.fanout_id)}  {_AWAY}", "")]
        return bars.fanout_line(self.fanout)

    def plain(self, now_ms: int) -> str:
        """The line of a log."""
        short = short_id(self.fanout.fanout_id)
        return short + "  " + "".join(text for text, _ in bars.fanout_facts(self.fanout))

    @property
    def step(self) -> int:
        """What calls for a new line in a log when it changes: another 10 %."""
        return _STEPS * bars.ended(self.fanout) // max(1, self.fanout.targets)


@attrs.define
class _Log:
    """Writes a line of a log for every step, and after 10 seconds for less than that."""

    screen: Screen
    watch: JobWatch | FanoutWatch
    _step: object = None
    _at_ms: int = 0

    def look(self) -> None:
        now_ms, step = self.screen.now(), self.watch.step
        if step != self._step or now_ms - self._at_ms >= LINE_EVERY_MS:
            self._step, self._at_ms = step, now_ms
            self.screen.aside(self.watch.plain(now_ms))


def job(screen: Screen, console: Console, watch: JobWatch) -> None:
    """Show how far a job is until it has ended."""
    _follow(screen, console, f"jobs/{watch.job.job_id}/events", watch, told=True)


def fanout(screen: Screen, console: Console, watch: FanoutWatch, *, told: bool) -> None:
    """Show how far a fan-out is until every row has ended; ``told``: also without a terminal.

    Where too many follow already it is looked at every second.
    """
    path = f"fanouts/{watch.fanout.fanout_id}"
    try:
        _follow(screen, console, f"{path}/events", watch, told=told)
    except GatewayRefused as error:
        if (screen.as_json and told) or not error.problem.retryable:
            raise
        look(screen, console, watch)


def look(screen: Screen, console: Console, watch: FanoutWatch, limit_ms: int | None = None) -> None:
    """Look at a fan-out every second until it has finished, or ``limit_ms`` are over."""
    over = None if limit_ms is None else time.monotonic() + limit_ms / 1000
    with screen.moving(lambda: watch.line(screen.now())):
        while not watch.fanout.finished and (over is None or time.monotonic() < over):
            left_s = LOOK_EVERY_S if over is None else over - time.monotonic()
            time.sleep(max(0.0, min(LOOK_EVERY_S, left_s)))
            path = f"fanouts/{watch.fanout.fanout_id}"
            watch.fanout = console.get(path, FanoutAnswer, limit=1).value.fanout


def _follow(
    screen: Screen, console: Console, path: str, watch: JobWatch | FanoutWatch, *, told: bool
) -> None:
    log = _Log(screen, watch)
    events = contextlib.closing(console.events(path, watch.lost))
    with screen.moving(lambda: watch.line(screen.now())), events as coming:
        for answer in coming:
            watch.learn(answer.value)
            if told and screen.as_json:
                screen.json(answer.body)
            elif told and not screen.moves and not watch.over:
                log.look()
