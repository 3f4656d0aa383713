"""``python -I -m palyra.capability.worker DISTRIBUTION``: the process that a plugin's code runs in.

Its host speaks :mod:`palyra.capability.frames` on its stdin and stdout.  It contains faults and not
malice: nobody but the host is kept from anything that its user may do.  It ends with status 0 when
it is told to or when its host is gone, and with 70 when it does not understand its host.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from queue import SimpleQueue
from typing import TYPE_CHECKING

import msgspec

from palyra.capability.announcing import Loaded, load_distribution
from palyra.capability.context import CapabilityContext, DeviceFacts
from palyra.capability.frames import (
    MAX_FRAME_BYTES,
    MAX_HELLO_BYTES,
    MAX_PAYLOAD_BYTES,
    MAX_TEXT,
    VERSION,
    Cancel,
    FromHost,
    Hello,
    Limits,
    Progress,
    Result,
    Run,
    Started,
    Stop,
)
from palyra.capability.hostpipe import HostPipe, complain, flush_output, give_up
from palyra.capability.limits import die_with_parent, explained, limit_of, set_limits
from palyra.capability.outcome import Outcome, OutcomeKind, failed, interrupted
from palyra.errors import CapabilityUnknown, Malformed

if TYPE_CHECKING:
    from palyra.capability.descriptor import Capability
    from palyra.capability.execution import Workbench

_MAX_TRACEBACK = 16 * 1024
_OVER = OutcomeKind.TIMED_OUT


class Job:
    """One run, from its frame to its result."""

    __slots__ = (
        "bench", "capability", "context", "input_bytes", "interrupted_as", "max_output_bytes",
        "run_id", "settings",
    )  # fmt: skip

    def __init__(self, asked: Run, capability: Capability, context: CapabilityContext) -> None:
        self.run_id = asked.run_id
        self.capability = capability
        self.context = context
        self.input_bytes = bytes(asked.input)
        self.settings = bytes(asked.settings)
        self.max_output_bytes = min(asked.max_output_bytes, MAX_PAYLOAD_BYTES)
        self.interrupted_as: OutcomeKind | None = None
        self.bench: Workbench | None = None

    def interrupt(self, kind: OutcomeKind) -> None:
        """Ask the handler to end, from any thread; only the first reason counts."""
        if self.interrupted_as is None:
            self.interrupted_as = kind
            self.context._interrupt()
            if self.bench is not None:
                self.bench.interrupt(self)

    def cancel(self) -> None:
        """Nobody wants the result; a host that asks because time is over wants to hear that."""
        over = self.context.remaining_s() <= 0
        self.interrupt(_OVER if over else OutcomeKind.CANCELLED)


class Worker:
    """The order of frames, and the one run at a time.

    The thread that listens takes frames as they come, so that a cancel reaches a handler that
    blocks and the host's end is noticed at once; runs are done in the thread that calls ``work``.
    """

    def __init__(self, pipe: HostPipe, limits: Limits) -> None:
        self._pipe = pipe
        self._limits = limits
        self._lock = threading.Lock()
        self._inbox: SimpleQueue[Job | None] = SimpleQueue()
        self._capabilities: dict[str, Capability] = {}
        self._idle = False
        self._job: Job | None = None
        self._last: int | None = None

    def listen(self) -> None:
        """Start to take frames."""
        threading.Thread(target=self._listen, name="palyra-host", daemon=True).start()

    def announce(self, loaded: Loaded) -> None:
        """Say what there is; from now on it can be run."""
        self._capabilities = {each.name: each for each in loaded.capabilities}
        frame = loaded.frame()
        with self._lock:
            self._idle = True
        self._pipe.send(frame)

    def work(self) -> None:
        """Run what comes, one after the other, until the host says stop."""
        from palyra.capability.execution import Workbench  # asyncio is slow; ready goes first

        bench = Workbench(_complain, functools.partial(explained, limits=self._limits))
        while (job := self._inbox.get()) is not None:
            outcome = self._outcome(bench, job)
            job.context._end()
            flush_output()
            self._finish(job, outcome)
        bench.close()

    # -- the thread that listens ------------------------------------------------------------------

    def _listen(self) -> None:
        try:
            while True:
                self._take(self._pipe.read(MAX_FRAME_BYTES))
        except EOFError:
            os._exit(0)
        except (Malformed, OSError) as exc:
            give_up(str(exc))
        except BaseException as exc:
            give_up(f"{type(exc).__name__} while it listened to the host")

    def _take(self, frame: FromHost) -> None:
        with self._lock:
            if self._idle and isinstance(frame, Run):
                self._accept(frame)
            elif self._idle and isinstance(frame, Stop):
                self._idle = False
                self._inbox.put(None)
            elif isinstance(frame, Cancel) and self._job and self._job.run_id == frame.run_id:
                self._job.cancel()
            elif not isinstance(frame, Cancel) or frame.run_id != self._last:
                give_up(f"the host said {type(frame).__name__.lower()} out of turn")

    def _accept(self, frame: Run) -> None:
        capability = self._capabilities.get(frame.capability)
        if capability is None:
            unknown = CapabilityUnknown(frame.device.name, frame.capability)
            self._last = frame.run_id
            self._pipe.send(_result(frame.run_id, failed(unknown)))
            return
        self._idle = False
        self._job = Job(frame, capability, self._context(frame))
        self._inbox.put(self._job)

    def _context(self, frame: Run) -> CapabilityContext:
        def tell(fraction: float | None, text: str) -> None:
            self._pipe.send(Progress(frame.run_id, fraction, text))

        deadline_s = time.monotonic() + frame.remaining_ms / 1000
        device = DeviceFacts(**msgspec.structs.asdict(frame.device))
        return CapabilityContext(frame.job_id, device, deadline_s=deadline_s, on_progress=tell)

    # -- the thread that works --------------------------------------------------------------------

    def _outcome(self, bench: Workbench, job: Job) -> Outcome:
        job.bench = bench
        remaining_s = job.context.remaining_s()
        if remaining_s <= 0:
            job.interrupt(OutcomeKind.TIMED_OUT)
        if job.interrupted_as is not None:
            name = job.capability.name
            return interrupted(job.interrupted_as, name, began=False, stopped=True)
        self._pipe.send(Started(job.run_id))
        timer = bench.call_later(remaining_s, functools.partial(job.interrupt, _OVER))
        try:
            return bench.run(job)
        finally:
            timer.cancel()

    def _finish(self, job: Job, outcome: Outcome) -> None:
        with self._lock:
            self._job, self._last = None, job.run_id
            self._idle = True
        self._pipe.send(_result(job.run_id, outcome))


def _result(run_id: int, outcome: Outcome) -> Result:
    return Result(
        run_id,
        outcome.kind.value,
        msgspec.Raw(outcome.output or b"null"),
        outcome.error_code,
        outcome.error_sentence[:MAX_TEXT],
    )


def _complain(sentence: str, cause: BaseException | None) -> None:
    trace = "".join(traceback.format_exception(cause)) if cause is not None else ""
    complain(f"{sentence}\n{trace[-_MAX_TRACEBACK:]}".rstrip())


def _explain(exc: BaseException, *, limits: Limits) -> str:
    _complain("a plugin cannot be used", exc)
    return limit_of(exc, limits)


def _greeted(pipe: HostPipe) -> Hello:
    """What the host says first; without it this process ends."""
    try:
        frame = pipe.read(MAX_HELLO_BYTES)
    except EOFError:
        os._exit(0)
    except (Malformed, OSError) as exc:
        give_up(str(exc))
    if not isinstance(frame, Hello):
        give_up(f"the host said {type(frame).__name__.lower()} before hello")
    if frame.v != VERSION:
        give_up(f"the host speaks version {frame.v}, this worker {VERSION}")
    return frame


def main(arguments: Sequence[str]) -> int:
    """Be the worker of the distribution that is named."""
    if len(arguments) != 1:
        complain("usage: python -I -m palyra.capability.worker DISTRIBUTION")
        return 2
    pipe = HostPipe.take()
    die_with_parent()
    limits = _greeted(pipe).limits
    set_limits(limits)
    worker = Worker(pipe, limits)
    worker.listen()
    worker.announce(load_distribution(arguments[0], functools.partial(_explain, limits=limits)))
    worker.work()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
