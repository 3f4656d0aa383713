"""A real worker process, spoken to in frames; it is gone when the test ends."""

from __future__ import annotations

import os
import select
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import attrs
import msgspec

from palyra.capability.frames import (
    HEAD_BYTES,
    MAX_READY_BYTES,
    VERSION,
    Facts,
    FromHost,
    FromWorker,
    Hello,
    Limits,
    Progress,
    Ready,
    Result,
    Run,
    Started,
    decode_from_worker,
    encode_frame,
    frame_length,
)

from .distributions import worker_argv

PATIENCE_S = 60.0
"""Longer than anything here takes on a loaded machine."""
MIB = 1024 * 1024
LIMITS = Limits(memory_bytes=1024 * MIB, open_files=256, file_bytes=64 * MIB, processes=256)
DEVICE = Facts("01D", "f1", "https://gateway:7444", 5, 100, "pi")


@attrs.frozen
class Ran:
    """All that a worker said of one run."""

    result: Result
    progress: tuple[Progress, ...]
    started: bool

    @property
    def output(self) -> Any:
        """What the handler answered; AssertionError where it did not."""
        assert self.result.kind == "succeeded", self.result.error
        return msgspec.json.decode(self.result.output)


class RawWorker:
    """Starts ``distribution``, found in ``dirs``, and says hello, unless ``greet`` is False."""

    def __init__(
        self, distribution: str, *dirs: Path, limits: Limits = LIMITS, greet: bool = True
    ) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed at the exit
        self.process = subprocess.Popen(
            [*worker_argv(*dirs), distribution],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            cwd="/",
        )
        self._runs = 0
        self._until_s = time.monotonic() + PATIENCE_S
        if greet:
            self.send(Hello(VERSION, limits))

    def __enter__(self) -> RawWorker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self._stderr):
            assert stream is not None
            stream.close()

    def send(self, *frames: FromHost) -> None:
        """Send frames in one write."""
        self.write(b"".join(map(encode_frame, frames)))

    def write(self, data: bytes) -> None:
        """Send what may be no frame."""
        assert self.process.stdin is not None
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self.process.stdin.fileno(), rest) :]

    def hang_up(self) -> None:
        """Close the pipe that the worker listens to, as the end of the host does."""
        assert self.process.stdin is not None
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.process.stdin.fileno())
        os.close(null)

    def read(self) -> FromWorker | None:
        """The next frame; None at the end of the pipe."""
        head = self._exactly(HEAD_BYTES)
        if not head:
            return None
        return decode_from_worker(self._exactly(frame_length(head, MAX_READY_BYTES)))

    def ready(self) -> Ready:
        """The first frame."""
        frame = self.read()
        assert isinstance(frame, Ready), self.stderr()
        return frame

    def asked(self, capability: str, input: Any = None, **changes: Any) -> Run:
        """A run frame with the next number."""
        self._runs += 1
        run = Run(
            run_id=self._runs,
            job_id=f"job-{self._runs}",
            capability=capability,
            input=msgspec.Raw(msgspec.json.encode(input)),
            settings=msgspec.Raw(b"null"),
            remaining_ms=int(PATIENCE_S * 1000),
            max_output_bytes=64 * 1024,
            device=DEVICE,
        )
        return msgspec.structs.replace(run, **changes)

    def run(self, capability: str, input: Any = None, **changes: Any) -> Ran:
        """Run and wait for the result."""
        run = self.asked(capability, input, **changes)
        self.send(run)
        return self.result_of(run)

    def result_of(self, run: Run) -> Ran:
        """Read up to the result of a run that was sent."""
        started, progress = False, list[Progress]()
        while True:
            frame = self.read()
            assert isinstance(frame, Started | Progress | Result), self.stderr()
            assert frame.run_id == run.run_id
            if isinstance(frame, Result):
                return Ran(frame, tuple(progress), started)
            if isinstance(frame, Progress):
                progress.append(frame)
            else:
                assert not started and not progress, "started comes once and first"
                started = True

    def status(self) -> int:
        """The exit status, when it has ended."""
        return self.process.wait(PATIENCE_S)

    def stderr(self) -> str:
        """What it has written to its fd 2, and to 1."""
        self._stderr.seek(0)
        return self._stderr.read().decode()

    def _exactly(self, count: int) -> bytes:
        assert self.process.stdout is not None
        fd = self.process.stdout.fileno()
        got = b""
        while len(got) < count:
            left_s = self._until_s - time.monotonic()
            assert select.select([fd], [], [], max(0, left_s))[0], "the worker says nothing"
            piece = os.read(fd, count - len(got))
            if not piece:
                assert not got, "the pipe ends inside a frame"
                return b""
            got += piece
        return got
