"""``palyra node logs``: what the node host has logged, wherever that is."""

from __future__ import annotations

import contextlib
import os
import queue
import shlex
import subprocess
import sys
import threading
from collections.abc import Generator
from pathlib import Path

import click
import msgspec

from palyra.cli import nodeservice
from palyra.cli.noderoot import check_owner, check_scope, node_state_root
from palyra.cli.options import Call, Verb, pass_call
from palyra.cli.present import Screen
from palyra.errors import NotInstalled, ServiceManagerFailed, StoreUnavailable
from palyra.node.files import NodeFiles
from palyra.supervision import logfiles, programs
from palyra.supervision.installed import mark_at
from palyra.supervision.service import STDERR_LOG

MAX_LINES = 100_000
MAX_BYTES = 64 * 1024 * 1024
"""Of lines in one object."""
MAX_LINE = 64 * 1024


class Lines(msgspec.Struct, frozen=True):
    """``logs --json``."""

    lines: list[str]


class Line(msgspec.Struct, frozen=True):
    """One of ``logs --follow --json``."""

    line: str


@click.command(cls=Verb)
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(0, MAX_LINES),
    default=100,
    show_default=True,
    help="How many of the last lines.",
)
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written, until Ctrl-C.")
@pass_call
def logs(call: Call, lines: int, follow: bool) -> int:
    """Print what the node host has logged."""
    root = node_state_root(call)
    check_owner(root, "logs")
    files = NodeFiles(root)
    mark = mark_at(files.installed).read()
    if mark is not None:
        check_scope(root, mark.scope, "logs")
    command = None if mark is None else nodeservice.manager_of(mark).logs(lines, follow)
    if command is not None:
        return _printed_by(command, call.screen, follow)
    if mark is None and not (files.stdout_log.exists() or files.stderr_log.exists()):
        raise NotInstalled(str(root))
    if not follow:
        _print_files(call.screen, files, lines)
        return 0
    with contextlib.closing(_followed(files, lines)) as followed:
        for line in followed:
            _show(call.screen, line)
    return 0


def _printed_by(command: list[str], screen: Screen, follow: bool) -> int:
    """Let the manager's own program print them: Ctrl-C is then its own, and so is a pager."""
    if screen.as_json and follow:
        return _told_on(command, screen)
    if screen.as_json:
        _show_json(screen, programs.run(command, max_output=MAX_BYTES).out.splitlines())
        return 0
    sys.stdout.flush()
    try:
        if os.name == "posix":
            os.execvp(command[0], command)
        return subprocess.run(command, check=False).returncode
    except OSError as error:
        raise _failed(command, error) from error


def _told_on(command: list[str], screen: Screen) -> int:
    """The same, one object a line; that program ends with this one."""
    try:
        told = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, errors="replace")
    except OSError as error:
        raise _failed(command, error) from error
    with told:
        try:
            pipe = told.stdout
            assert pipe is not None, "it was asked for"
            for line in iter(lambda: pipe.readline(MAX_LINE), ""):
                _show(screen, line.removesuffix("\n"))
        finally:
            told.terminate()
    return told.returncode


def _failed(command: list[str], error: OSError) -> ServiceManagerFailed:
    said = (error.strerror or str(error)).lower()
    return ServiceManagerFailed(shlex.join(command), said)


def _print_files(screen: Screen, files: NodeFiles, lines: int) -> None:
    try:
        logged = logfiles.tail(files.stdout_log, lines)
        besides = logfiles.tail(files.stderr_log, lines)
    except OSError as error:
        raise _unreadable(files, error) from error
    told = [*logged, f"{STDERR_LOG}:", *besides] if besides else logged
    if screen.as_json:
        return _show_json(screen, told)
    for line in told:
        screen.line(line)
    return None


def _show(screen: Screen, line: str) -> None:
    if screen.as_json:
        screen.json(msgspec.json.encode(Line(line)))
    else:
        screen.line(line)


def _show_json(screen: Screen, lines: list[str]) -> None:
    screen.json(msgspec.json.encode(Lines(lines)))


def _unreadable(files: NodeFiles, error: OSError) -> StoreUnavailable:
    return StoreUnavailable(error.filename or str(files.root), (error.strerror or "").lower())


class _Enough(Exception):
    """Nobody reads on."""


def _followed(files: NodeFiles, lines: int) -> Generator[str, None, None]:
    """The last lines of the log and what is written to it, and to the other file, from now on."""
    written: queue.Queue[str | OSError] = queue.Queue(maxsize=1000)
    enough = threading.Event()

    def pause(seconds: float) -> None:
        if enough.wait(seconds):
            raise _Enough

    def look(path: Path, last: int, before: str) -> None:
        try:
            for line in logfiles.follow(path, last=last, pause=pause):
                written.put(before + line)
                pause(0)
        except _Enough:
            pass
        except OSError as error:
            written.put(error)

    looks = ((files.stdout_log, lines, ""), (files.stderr_log, 0, f"{STDERR_LOG}: "))
    threads = [threading.Thread(target=look, args=each) for each in looks]
    try:
        for each in threads:
            each.start()
        while True:
            line = written.get()
            if isinstance(line, OSError):
                raise _unreadable(files, line)
            yield line
    finally:
        enough.set()
        for each in threads:
            while each.is_alive():
                with contextlib.suppress(queue.Empty):  # one may wait for room
                    written.get_nowait()
                each.join(0.05)
