"""Asking a worker what its distribution offers; what it says is a stranger's word."""

from __future__ import annotations

import threading

import attrs

from palyra.capability.frames import MAX_TEXT, PluginFault, Ready, Result
from palyra.capability.wording import one_line
from palyra.core.descriptors import MAX_NAME, Descriptor
from palyra.workers.process import KILL_S, Death, Worker


@attrs.frozen(slots=True)
class Described:
    """What a worker says its distribution offers, and what of it cannot be used; not checked."""

    descriptors: tuple[Descriptor, ...]
    faults: tuple[PluginFault, ...]


class Description:
    """One question to one worker, which is used for nothing else.  Listens to that worker."""

    def __init__(self, distribution: str) -> None:
        self.distribution = distribution
        self._worker: Worker | None = None
        self._heard = threading.Event()
        self._gone = threading.Event()
        self._ready: Ready | None = None
        self._problem = ""
        self.over = False
        """Whether nobody waits for the answer any more."""

    def begin(self, worker: Worker) -> None:
        """This one is asked."""
        self._worker = worker

    def fail(self, problem: str) -> None:
        """Nobody can be asked."""
        self._problem = problem
        self._gone.set()
        self._heard.set()

    def abort(self) -> None:
        """The answer is not wanted any more."""
        if self._worker is not None:
            self._worker.end("the node host is stopping", wanted=True)

    def wait(self, start_s: float, grace_s: float) -> Described:
        """Wait for the answer, and for the end of the worker that gave it."""
        if self._heard.wait(start_s) and self._worker is not None and self._ready is not None:
            self._worker.stop()
            self._gone.wait(grace_s)
        self.over = True
        if self._worker is not None:
            self._worker.end(f"it was not ready in {start_s:g} s", wanted=True)
            self._gone.wait(3 * KILL_S)
        if self._ready is not None:
            return Described(self._ready.descriptors, self._ready.faults)
        cause = one_line(self._problem, MAX_TEXT - 64) or "it did not start in time"
        sentence = f"The process of {self.distribution[:128]} cannot be used: {cause}."
        return Described((), (PluginFault(self.distribution[:MAX_NAME] or "unnamed", sentence),))

    # -- what its worker says -------------------------------------------------------------------

    def ready(self, worker: Worker, ready: Ready) -> None:
        """The answer."""
        self._ready = ready
        self._heard.set()

    def started(self, worker: Worker) -> None:
        """Nothing is run."""

    def progressed(self, worker: Worker, fraction: float | None, text: str) -> None:
        """Nothing is run."""

    def ended(self, worker: Worker, result: Result) -> None:
        """Nothing is run."""

    def died(self, worker: Worker, death: Death) -> None:
        """There is no worker any more."""
        self.fail(death.cause)
