"""One worker process as its host sees it: what may be said to it, what it may say, how it ends."""

from __future__ import annotations

import contextlib
import enum
import signal
import threading
import time
from collections.abc import Callable
from typing import Protocol

import attrs

from palyra.capability.frames import (
    MAX_PAYLOAD_BYTES,
    MAX_READY_BYTES,
    ROOM_BYTES,
    VERSION,
    Cancel,
    FromWorker,
    Hello,
    Limits,
    Progress,
    Ready,
    Result,
    Run,
    Started,
    Stop,
    decode_from_worker,
    encode_frame,
)
from palyra.capability.wording import one_line
from palyra.errors import Malformed
from palyra.workers.killing import reap
from palyra.workers.pipes import Mutterings, Pen, read_frame
from palyra.workers.spawning import Spawned

KILL_S = 5.0
"""How long a look is kept at whether all of a killed worker is gone, in seconds."""
_SELF_S = 0.5
"""How long a worker that closed its pipe has to end by itself, so that its status is known."""
_MAX_CAUSE = 300
_PROGRESS_PER_SECOND = 20
_PROGRESS_AT_ONCE = 40
"""More than a worker of ours can have said since its run began, however late it is heard."""

Log = Callable[[str, str], None]
"""Takes a distribution and a line that one of its workers wrote; called from any thread."""


class State(enum.Enum):
    """What a worker is doing."""

    STARTING = "starting"
    IDLE = "idle"
    RUNNING = "running"
    STOPPING = "stopping"
    ENDING = "ending"


@attrs.frozen(slots=True)
class Death:
    """How a worker ended: ``cause`` is words without a point at their end.

    ``wanted``: it was told to stop, or was killed by its host's decision.  ``gone``: nothing that
    it started is left.
    """

    cause: str
    wanted: bool
    gone: bool


class Listener(Protocol):
    """Whoever uses a worker.  Called from the worker's threads, without any lock."""

    def ready(self, worker: Worker, ready: Ready) -> None:
        """It can run; once, first."""

    def started(self, worker: Worker) -> None:
        """The handler of its run is about to be called."""

    def progressed(self, worker: Worker, fraction: float | None, text: str) -> None:
        """How far its run is."""

    def ended(self, worker: Worker, result: Result) -> None:
        """Its run is over, and it is idle."""

    def died(self, worker: Worker, death: Death) -> None:
        """There is nothing left of it; once, last."""


class Worker:
    """A worker that was spawned.  ``clock`` is monotonic seconds.

    Every method returns at once and may be called from any thread; whatever is said to a worker
    that is ending is lost, and :meth:`Listener.died` follows.
    """

    def __init__(
        self,
        spawned: Spawned,
        distribution: str,
        listener: Listener,
        *,
        log: Log,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        child = spawned.child
        assert child.stdin is not None and child.stdout is not None and child.stderr is not None
        self.distribution = distribution
        self.pid = child.pid
        self._child = child
        self._tree = spawned.tree
        self._frames, self._errors = child.stdout, child.stderr
        self._listener = listener
        self._clock = clock
        self._lock = threading.Lock()
        self._state = State.STARTING
        self._run_id = 0
        self._began = False
        self._max_output_bytes = 0
        self._progress = 0
        self._run_since_s = 0.0
        self._pen = Pen(child.stdin)
        self._mutterings = Mutterings(lambda line: log(distribution, line))
        self._ending = threading.Event()
        self._cause = ""
        self._wanted = False
        self._threads = (
            _thread("palyra-worker-out", self._read),
            _thread("palyra-worker-err", lambda: self._mutterings.listen(self._errors)),
        )

    @property
    def state(self) -> State:
        """What it is doing."""
        return self._state

    def open(self, limits: Limits) -> None:
        """Listen to it, and say hello.  OSError where this process gets no more threads; then it
        is killed, and nobody is told."""
        try:
            for thread in (*self._threads, _thread("palyra-worker-end", self._bury)):
                thread.start()
        except RuntimeError as cause:
            self._tree.kill(KILL_S)
            self._close()
            raise OSError(str(cause)) from cause
        self._pen.write(encode_frame(Hello(VERSION, limits)))

    def run(self, run: Run) -> None:
        """Run something; only while it is idle."""
        with self._lock:
            if self._state is not State.IDLE:
                return
            self._state = State.RUNNING
            self._run_id = run.run_id
            self._began = False
            self._max_output_bytes = run.max_output_bytes
            self._progress = 0
            self._run_since_s = self._clock()
            self._mutterings.new_run()
            self._pen.write(encode_frame(run))

    def cancel(self) -> None:
        """Nobody wants the result of its run any more."""
        with self._lock:
            if self._state is State.RUNNING:
                self._pen.write(encode_frame(Cancel(self._run_id)))

    def stop(self) -> None:
        """Let it exit; only while it is idle."""
        with self._lock:
            if self._state is State.IDLE:
                self._state = State.STOPPING
                self._pen.write(encode_frame(Stop()))

    def end(self, cause: str = "", *, wanted: bool = False) -> None:
        """Kill it with everything it started.  No ``cause``: it ended by itself, say how."""
        with self._lock:
            if self._state is State.ENDING:
                return
            self._wanted = wanted or self._state is State.STOPPING
            self._cause = cause
            self._state = State.ENDING
        self._ending.set()

    # -- its threads ------------------------------------------------------------------------

    def _read(self) -> None:
        cause = ""
        try:
            while (body := read_frame(self._frames, self._limit)) is not None:
                self._take(decode_from_worker(body))
        except Malformed as exc:
            cause = one_line(f"it broke the protocol: {exc.field} {exc.problem}", _MAX_CAUSE)
        except (OSError, ValueError):
            pass
        finally:
            self.end(cause)

    def _bury(self) -> None:
        self._ending.wait()
        cause = self._cause
        exited = not cause and self._tree.exited(_SELF_S)
        gone = self._killed()
        for thread in self._threads:
            thread.join(KILL_S)
        self._close()
        if not cause:
            status = self._child.returncode
            cause = how_it_ended(status) if exited else "it closed its side of the pipe"
        if last := self._mutterings.last_line().rstrip("."):
            cause = f"{cause}; its last line: {last}"
        self._listener.died(self, Death(cause, self._wanted, gone))

    def _killed(self) -> bool:
        """Kill all of it; whether it is known that nothing is left."""
        try:
            return self._tree.kill(KILL_S)
        except OSError:  # this process has no file to spare, so it cannot look
            self._child.kill()
            reap(self._child, KILL_S)
            return False

    def _close(self) -> None:
        """Close the pipes, but none that a thread still reads: it would wait for that thread."""
        self._pen.close()
        for thread, stream in zip(self._threads, (self._frames, self._errors), strict=True):
            if not thread.is_alive():
                stream.close()
        if self._child.stdin is not None:
            with contextlib.suppress(OSError):
                self._child.stdin.close()

    # -- what it says -----------------------------------------------------------------------

    def _limit(self) -> int:
        with self._lock:
            if self._state is State.STARTING:
                return MAX_READY_BYTES
            if self._state is State.RUNNING:
                return min(self._max_output_bytes, MAX_PAYLOAD_BYTES) + ROOM_BYTES
            return ROOM_BYTES

    def _take(self, frame: FromWorker) -> None:
        with self._lock:
            if self._state is State.ENDING:
                return
            self._check(frame)
            self._advance(frame)
        match frame:
            case Ready():
                self._listener.ready(self, frame)
            case Started():
                self._listener.started(self)
            case Progress():
                self._listener.progressed(self, frame.fraction, frame.text)
            case Result():
                self._listener.ended(self, frame)

    def _check(self, frame: FromWorker) -> None:
        """Whether it may say that now.

        :raises Malformed: it may not.
        """
        kind = type(frame).__name__.lower()
        if isinstance(frame, Ready):
            if self._state is not State.STARTING:
                raise Malformed("frame", f"of type {kind} comes while it is {self._state.value}")
            if frame.v != VERSION:
                raise Malformed("frame", f"speaks version {frame.v}; this host speaks {VERSION}")
            return
        if self._state is not State.RUNNING:
            raise Malformed("frame", f"of type {kind} comes while it is {self._state.value}")
        if frame.run_id != self._run_id:
            raise Malformed("frame", f"is of run {frame.run_id}; run {self._run_id} is under way")
        if isinstance(frame, Result):
            if frame.kind == "succeeded":  # else there is none, and its ``null`` may be too long
                self._check_output(frame)
        elif isinstance(frame, Started) is self._began:
            raise Malformed("frame", f"of type {kind} comes out of order")

    def _check_output(self, result: Result) -> None:
        output = bytes(result.output)
        if len(output) > self._max_output_bytes:
            limit = self._max_output_bytes
            raise Malformed("output", f"has {len(output)} bytes; the limit is {limit}")
        try:
            output.decode()
        except UnicodeDecodeError as cause:
            raise Malformed("output", "is not UTF-8") from cause

    def _advance(self, frame: FromWorker) -> None:
        match frame:
            case Ready() | Result():
                self._state = State.IDLE
            case Started():
                self._began = True
            case Progress():
                self._count_progress()

    def _count_progress(self) -> None:
        """A worker limits itself to ten a second; what sends a flood is no worker of ours."""
        self._progress += 1
        earned = (self._clock() - self._run_since_s) * _PROGRESS_PER_SECOND
        if self._progress > _PROGRESS_AT_ONCE + earned:
            raise Malformed("frame", "of type progress comes too often")


def _thread(name: str, target: Callable[[], None]) -> threading.Thread:
    return threading.Thread(target=target, name=name, daemon=True)


def how_it_ended(status: int) -> str:
    """An exit status of :mod:`subprocess`, in words."""
    if status >= 0:
        return f"it exited with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        return f"it was killed by signal {-status}"
    perhaps = ", out of memory perhaps" if name == "SIGKILL" else ""
    return f"it was killed by signal {-status} ({name}){perhaps}"
