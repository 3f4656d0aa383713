"""Daemons that a command starts and that may not outlive it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import IO, TypeVar

from palyra.errors import ChildEnded, TookTooLong

STOP_S = 15.0
POLL_S = 0.05
T = TypeVar("T")


def _private(path: Path) -> IO[bytes]:
    """A new file that only its owner may read."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")


class Child:
    """A process in a session of its own, so that Ctrl-C reaches it through us and in order.

    Its output goes to ``<log>.stdout.log`` and ``<log>.stderr.log``.
    """

    def __init__(self, who: str, command: Sequence[str], log: Path, stdin: str = "") -> None:
        self.who = who
        self.out = log.with_name(f"{log.name}.stdout.log")
        self.err = log.with_name(f"{log.name}.stderr.log")
        with _private(self.out) as out, _private(self.err) as err:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )
        self._say(stdin)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def check(self) -> None:
        """Raise :class:`ChildEnded` with the last line it wrote if it is gone."""
        if self._process.poll() is not None:
            raise ChildEnded(self.who, self.last_line(), str(self.err))

    def last_line(self) -> str:
        """The last line of its errors, else of its output."""
        for file in (self.err, self.out):
            lines = file.read_text("utf-8", "replace").split("\n")
            written = [line.strip() for line in lines if line.strip()]
            if written:
                # A hint is the line after the sentence that it belongs to.
                told = [line for line in written if not line.startswith("hint:")] or written
                return told[-1].removeprefix("error: ")
        return ""

    def lines(self) -> list[str]:
        """What it has printed so far, whole lines only."""
        return self.out.read_text("utf-8", "replace").split("\n")[:-1]

    def stop(self) -> None:
        """End it: SIGTERM, and SIGKILL after :data:`STOP_S`."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _say(self, text: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(text.encode())
            self._process.stdin.flush()
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()


@contextlib.contextmanager
def nursery() -> Iterator[list[Child]]:
    """A list of children, all of which are stopped at the end, the last one first."""
    children: list[Child] = []
    try:
        yield children
    finally:
        _ignore_interrupts()
        with contextlib.ExitStack() as stops:
            for child in children:
                stops.callback(child.stop)


def start(
    children: list[Child], who: str, command: Sequence[str], log: Path, stdin: str = ""
) -> Child:
    """Start a child of a nursery; an interrupt in the middle waits until it is known there."""
    with _undisturbed():
        child = Child(who, command, log, stdin)
        children.append(child)
    return child


def until(look: Callable[[], T | None], children: Sequence[Child], what: str, limit_s: float) -> T:
    """What ``look`` finds in the end.

    :raises ChildEnded: a child went away; :class:`TookTooLong`: nothing came in ``limit_s``.
    """
    over = time.monotonic() + limit_s
    while True:
        found = look()
        if found is not None:
            return found
        for child in children:
            child.check()
        if time.monotonic() > over:
            raise TookTooLong(what, limit_s)
        time.sleep(POLL_S)


@contextlib.contextmanager
def interrupted_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the block as Ctrl-C does, so that its children are stopped."""
    names = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {name: signal.signal(name, _interrupt) for name in [*names, signal.SIGINT]}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


class _Held:
    """Interrupts that have to wait; a signal handler belongs to the process, and so does this."""

    on = False
    came = False


def _interrupt(number: int, frame: FrameType | None) -> None:
    if not _Held.on:
        raise KeyboardInterrupt
    _Held.came = True


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Between fork and bookkeeping an interrupt would leave a child that nobody knows."""
    _Held.on, _Held.came = True, False
    try:
        yield
    finally:
        _Held.on = False
    if _Held.came:
        raise KeyboardInterrupt


def _ignore_interrupts() -> None:
    """An impatient second Ctrl-C must not leave a child behind."""
    for name in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(ValueError):
            signal.signal(name, signal.SIG_IGN)


def gateway_command(
    state_root: Path, enrolment: str, node_rpc: str, console: str = "none"
) -> list[str]:
    """How a gateway is started in the foreground with this interpreter."""
    run = "from twisted.scripts.twistd import run; run()"
    listen = ["--enrolment", enrolment, "--node-rpc", node_rpc, "--console", console]
    return [sys.executable, "-c", run, "-n", "palyra", "--state-root", str(state_root), *listen]


def node_command(state_root: Path, transport: str | None) -> list[str]:
    """How a node host is started in the foreground; it reads the pairing line from stdin.

    A transport that is named is kept with the pairing.
    """
    run = [sys.executable, "-m", "palyra", "node", "run", "--pairing-uri", "-"]
    asked = [] if transport is None else ["--transport", transport]
    return [*run, "--state-root", str(state_root), *asked]
