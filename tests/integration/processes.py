"""Processes of the installed package: started, watched, and ended whatever the test did."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import psutil

from tests.integration import plugin

HOST = "127.0.0.1"
LIMIT_S = 20.0
POLL_S = 0.02

# Begins where no other run of the tests on this machine is likely to be.
_PORTS = iter(sorted(range(16_000, 32_000), key=lambda port: (port - 37 * os.getpid()) % 16_000))

T = TypeVar("T")


def eventually(look: Callable[[], T | None], what: str, limit_s: float = LIMIT_S) -> T:
    """What ``look`` gives once that is neither None nor False; the test fails after ``limit_s``."""
    over = time.monotonic() + limit_s
    while True:
        found = look()
        if found is not None and found is not False:
            return found
        if time.monotonic() > over:
            raise AssertionError(f"not within {limit_s:g} s: {what}")
        time.sleep(POLL_S)


def free_port() -> int:
    """A port nobody listens on now, over TCP or UDP, and that no other test was given.

    Below the range from which the system itself gives ports away: what a connection or another
    test is given for a moment is never the port that a daemon is about to listen on.
    """
    for port in _PORTS:
        with (
            contextlib.suppress(OSError),
            socket.socket(type=socket.SOCK_STREAM) as stream,
            socket.socket(type=socket.SOCK_DGRAM) as datagrams,
        ):
            stream.bind((HOST, port))
            datagrams.bind((HOST, port))
            return port
    raise AssertionError("no free port is left")


def script(name: str) -> str:
    """A command of the environment that runs these tests."""
    path = Path(sys.executable).with_name(name)
    assert path.exists(), f"{path} is missing: install the package into this environment"
    return str(path)


def environment(more: Mapping[str, str] = {}) -> dict[str, str]:
    """The environment of a child: the installed package, no state root of the caller's."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("PALYRA_")}
    env |= {"PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1", "TERM": "dumb", "LC_ALL": "C.UTF-8"}
    env.pop("PYTHONPATH", None)
    return env | dict(more)


class Ran:
    """A command that ended."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr

    def __repr__(self) -> str:
        return f"exit {self.code}\nstdout: {self.out}\nstderr: {self.err}"


def run(
    command: Sequence[str],
    cwd: Path,
    stdin: str = "",
    limit_s: float = 60.0,
    env: Mapping[str, str] = {},
) -> Ran:
    """Run a command to its end."""
    return Ran(
        subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            cwd=cwd,
            env=environment(env),
            timeout=limit_s,
            check=False,
        )
    )


class Process:
    """A process whose output is kept in a file, so that it never blocks and can always be read."""

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        stdin: str = "",
        plugins: Path | None = None,
        env: Mapping[str, str] = {},
    ) -> None:
        """With ``plugins`` it runs where the distributions in that directory are installed."""
        self.log = log
        if plugins is not None:
            command = [plugin.interpreter(plugins), *command]
        with log.open("ab") as out:
            self._begins = out.tell()
            self._popen = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=log.parent,
                env=environment(env),
                start_new_session=True,
            )
        assert self._popen.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._popen.stdin.write(stdin.encode())
            self._popen.stdin.close()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._popen.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._popen.poll() is None

    def output(self) -> str:
        """All it has printed so far."""
        return self.log.read_text("utf-8", "replace")

    def said(self) -> str:
        """What it has printed, and not an earlier process with the same log."""
        return self.log.read_bytes()[self._begins :].decode("utf-8", "replace")

    def has_said(self, text: str) -> bool:
        """Whether it has printed ``text``."""
        return text in self.said()

    def says(self, text: str, limit_s: float = LIMIT_S) -> str:
        """Wait until it has printed ``text``; that line."""

        def look() -> str | None:
            alive = self.alive
            found = [line for line in self.said().splitlines() if text in line]
            assert found or alive, f"it ended before it said {text!r}:\n{self.output()}"
            return found[-1] if found else None

        return eventually(look, f"{text!r} in {self.log.name}", limit_s)

    def send(self, number: int) -> None:
        """Send a signal."""
        self._popen.send_signal(number)

    def kill(self) -> None:
        """End it as a power cut would: SIGKILL."""
        self.send(signal.SIGKILL)
        self._popen.wait(LIMIT_S)

    def wait(self, limit_s: float = LIMIT_S) -> int:
        """Its exit status, once it has ended."""
        return self._popen.wait(limit_s)

    def terminate(self) -> int:
        """SIGTERM, and its exit status."""
        self.send(signal.SIGTERM)
        return self.wait()

    def close(self) -> None:
        """Make sure that it does not outlive its test."""
        if self.alive:
            self._popen.kill()
            self._popen.wait(LIMIT_S)


def processes_of(path: Path) -> list[psutil.Process]:
    """The processes that were told a path below ``path``; ours, since nobody else knows it."""

    def told() -> Iterator[psutil.Process]:
        for each in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if any(word.startswith(str(path)) for word in each.cmdline()):
                    yield each

    return list(told())


def is_free(address: str) -> bool:
    """Whether nobody listens on HOST:PORT."""
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) != 0
