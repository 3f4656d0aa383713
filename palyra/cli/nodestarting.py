"""Waiting until a node host that was started is online, or says why it is not."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import attrs

from palyra.cli import words
from palyra.cli.nodehost import NodeHost
from palyra.cli.present import Screen
from palyra.cli.tables import cell
from palyra.errors import DidNotStart, NodeHostNotRunning, PalyraError, ServiceManagerFailed
from palyra.node.controlwords import Status, StatusAnswer
from palyra.node.files import NodeFiles
from palyra.supervision import processfile
from palyra.supervision.interfaces import IServiceManager
from palyra.supervision.service import NAME, Manager

RUNNING = "running"
"""The label of one that was there before it was to be started."""
ONLINE_S = 20.0
"""How long a start is watched; it goes on after that."""
SETTLING_S = 2.0
"""For so long after a start nothing is concluded from a service that does not run yet."""
POLL_S = 0.1
_LOOK_S = 1.0
_ANSWER_S = 2.0
_LAST_LINES = 20
_JOURNAL = re.compile(r"^.{,100}?\[\d+\]: ")
"""What journalctl writes before a line: time, machine, program and pid."""


@attrs.frozen
class Begun:
    """How a node host is after its start; ``why`` is a sentence where it is not online."""

    pid: int
    state: str
    took_ms: int
    version: str = ""
    why: str = ""

    @property
    def online(self) -> bool:
        """Whether it has its gateway."""
        return self.state == "online"


def running(state_root: Path) -> StatusAnswer | None:
    """What the node host that runs there says of itself, whoever started it; None where none
    answers."""
    try:
        return NodeHost(state_root).ask(Status(), StatusAnswer, _ANSWER_S).value
    except PalyraError:
        return None


def is_kept(manager: IServiceManager, files: NodeFiles) -> bool:
    """Whether a node host runs that this manager keeps, and none that somebody has started in a
    terminal: the files of a background process are written by both."""
    if not manager.state().running:
        return False
    if manager.kind is not Manager.PROCESS:
        return True
    file = processfile.read_or_none(files.process)
    return file is not None and file.manager == Manager.PROCESS


def begun(
    screen: Screen,
    manager: IServiceManager,
    files: NodeFiles,
    act: Callable[[], object],
    *,
    not_pid: int = 0,
) -> Begun:
    """Do ``act``, which starts it, and watch it until it is online, at most :data:`ONLINE_S`.

    The process ``not_pid`` is the one before it.

    :raises DidNotStart: it has ended.
    :raises PalyraError: the manager refused.
    """
    since = time.monotonic()
    with screen.working("starting"):
        try:
            act()
        except ServiceManagerFailed as error:
            line = "" if manager.state().running else last_line(manager, files)
            if not line:
                raise
            raise DidNotStart(line) from error
        return _Watch(manager, files, since, not_pid).until(since + ONLINE_S)


class _Watch:
    """One start that is watched."""

    def __init__(
        self, manager: IServiceManager, files: NodeFiles, since: float, not_pid: int
    ) -> None:
        self._manager = manager
        self._files = files
        self._since = since
        self._not_pid = not_pid
        self._look_at = time.monotonic() + SETTLING_S
        self._gone = 0
        self._why = "it does not answer yet"

    def until(self, over: float) -> Begun:
        """How it is once it is online, or when the time is over."""
        while True:
            status = self._asked()
            if status is not None and (status.state == "online" or time.monotonic() > over):
                return self._told(status)
            if time.monotonic() > over:
                return Begun(self._manager.state().pid, "", self._took(), "", self._why)
            if status is None:
                self._check()
            time.sleep(POLL_S)

    def _asked(self) -> StatusAnswer | None:
        try:
            answer = NodeHost(self._files.state_root).ask(Status(), StatusAnswer, _ANSWER_S)
        except NodeHostNotRunning:
            return None
        except PalyraError as error:
            self._why = error.sentence
            return None
        return None if answer.value.pid == self._not_pid else answer.value

    def _told(self, status: StatusAnswer) -> Begun:
        why = "" if status.state == "online" else _why(status)
        return Begun(status.pid, status.state, self._took(), status.version, why)

    def _check(self) -> None:
        """Whether it runs at all; two looks, since between two tries of its manager it does not."""
        if time.monotonic() < self._look_at:
            return
        state = self._manager.state()
        self._gone = 0 if state.running else self._gone + 1
        if self._gone > 1:
            raise DidNotStart(last_line(self._manager, self._files) or state.result)
        self._look_at = time.monotonic() + _LOOK_S

    def _took(self) -> int:
        return round((time.monotonic() - self._since) * 1000)


def _why(status: StatusAnswer) -> str:
    error = status.last_error
    if error is not None and not error.healed_at_unix_ms:
        return error.sentence
    return "it is still starting" if status.state == "starting" else "no gateway has answered yet"


def last_line(manager: IServiceManager, files: NodeFiles) -> str:
    """The last thing a node host said before it ended: its error, not the hint below it."""
    from palyra.supervision import logfiles, programs

    command = manager.logs(_LAST_LINES, False)
    if command is not None:
        ran = programs.run(command, timeout_s=10.0, check=False)
        written = ran.out.splitlines() if ran.code == 0 else []
    else:
        written = logfiles.tail(files.stderr_log, _LAST_LINES)
        written = written or logfiles.tail(files.stdout_log, _LAST_LINES)
    said = [_JOURNAL.sub("", line).strip() for line in written]
    ours = [line for line in said if line and "hint: " not in line]
    errors = [line for line in ours if "error: " in line]
    # Below ours a journal has what systemd thinks of it.
    told = errors or [line for line in ours if not line.startswith(f"{NAME}.service: ")]
    return told[-1].rpartition("error: ")[2] if told else ""


def show_begun(screen: Screen, begun: Begun, label: str, more: str = "") -> int:
    """The line about it, and the exit code."""
    pid = f"pid {begun.pid}"
    # One that ran before has not come online now.
    took = "" if label == RUNNING else f" after {words.duration(begun.took_ms)}"
    if screen.tty:
        text = f"{pid}, online{took}{more}" if begun.online else f"{pid}{more}"
        ok(screen, label, text)
    else:
        ok(screen, label, "", str(begun.pid), begun.state or "starting")
    if begun.online:
        return 0
    screen.aside(f"!!  not online yet: {words.escaped(begun.why)}", "yellow")
    return 3


def ok(screen: Screen, label: str, text: str, *fields: str) -> None:
    """``ok  label  text`` on a terminal, ``label<TAB>fields`` for scripts, nothing in JSON."""
    if screen.as_json:
        return
    if screen.tty:
        room = f"  {label:<9}  {words.escaped(text)}" if text else f"  {label}"
        screen.parts(("ok", "green"), (room, ""))
    else:
        screen.table((), [[cell(each) for each in (label, *fields)]])
