"""A warm thread: a workbench that waits for one run after the other."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from palyra.capability.execution import Workbench

if TYPE_CHECKING:
    from palyra.capability.runner import Run, ThreadRunner

log = Logger()


class Seat:
    """Where one thread sits: its workbench, and whether it was given up."""

    __slots__ = ("abandoned", "bench", "thread")

    def __init__(self) -> None:
        self.thread: threading.Thread = threading.current_thread()
        self.bench: Workbench | None = None
        self.abandoned = False

    def interrupt(self, run: Run) -> None:
        """Cancel the handler of ``run``, from any thread; the caller holds the runner's lock."""
        if self.bench is not None:
            self.bench.interrupt(run)


def serve(runner: ThreadRunner, seat: Seat) -> None:
    """The life of a warm thread: until it is told to stop, or was given up."""
    try:
        seat.bench = bench = Workbench(_complain)
    except OSError:
        runner._gone(seat)
        raise
    try:
        while not seat.abandoned and (run := runner._take()) is not None:
            begun = runner._begin(run, seat)
            runner._ended(run, seat, bench.run(run) if begun else None)
    finally:
        runner._gone(seat)
        bench.close()


def _complain(sentence: str, cause: BaseException | None) -> None:
    if cause is None:
        log.warn("{sentence}", sentence=sentence)
    else:
        log.failure("{sentence}", Failure(cause), level=LogLevel.error, sentence=sentence)
