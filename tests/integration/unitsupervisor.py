"""The stand-in's process that runs one unit: what systemd itself is to a service."""

from __future__ import annotations

import contextlib
import ctypes
import grp
import os
import pwd
import selectors
import shutil
import signal
import socket
import struct
import subprocess
import time
import uuid
from pathlib import Path
from typing import Any

from tests.integration.unitfile import INFINITY, expanded, specified, words
from tests.integration.unitrunner import Manager

PR_SET_CHILD_SUBREAPER = 36
CLEAN = {signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE}
RESTARTED = {
    "no": set(),
    "on-success": {"success"},
    "on-failure": {"exit-code", "signal", "core-dump", "timeout", "watchdog", "protocol"},
    "on-abnormal": {"signal", "core-dump", "timeout", "watchdog"},
    "on-watchdog": {"watchdog"},
    "on-abort": {"signal", "core-dump"},
    "always": {"success", "exit-code", "signal", "core-dump", "timeout", "watchdog", "protocol"},
}
MAX_RESTARTS = 50
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"
_WITH_PIDS = 'SYSTEMD_EXEC_PID=$$; export SYSTEMD_EXEC_PID; exec "$@"'
_WITH_WATCHDOG = f"WATCHDOG_PID=$$; export WATCHDOG_PID; {_WITH_PIDS}"
_CREDENTIALS = struct.Struct("3i")


class Supervisor:
    """Runs a unit until it has ended for good, or is told to stop it."""

    def __init__(self, manager: Manager, unit: str) -> None:
        self.manager, self.unit = manager, unit
        self.file = manager.definition(unit)
        self.state: dict[str, Any] = {"supervisor": os.getpid(), "job": "waiting", "NRestarts": 0}
        self.stop_asked = False
        self.stop_due = INFINITY
        self.kill_due = INFINITY
        self.kill_result = ""
        self.watchdog_due = INFINITY
        self.watchdog_s = INFINITY
        account = self.file.last("User")
        self.account = pwd.getpwnam(account) if account else pwd.getpwuid(os.geteuid())
        self.specifiers = {
            "n": unit, "N": unit.partition(".")[0], "h": self.account.pw_dir,
            "u": self.account.pw_name, "U": str(self.account.pw_uid), "t": str(manager.home),
        }  # fmt: skip
        self.selector = selectors.DefaultSelector()
        self.notify = self._notify_socket()
        self.credentials = manager.home / f"{unit}.credentials"

    def _limit(self, name: str) -> float:
        """A time that tests have made short."""
        with contextlib.suppress(FileNotFoundError):
            return float((self.manager.home / name).read_text())
        return INFINITY

    def _notify_socket(self) -> socket.socket:
        path = self.manager.home / f"{self.unit}.notify"
        path.unlink(missing_ok=True)
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notify.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        notify.bind(str(path))
        path.chmod(0o777)
        notify.setblocking(False)
        self.selector.register(notify, selectors.EVENT_READ, self._notified)
        return notify

    # -- the life of a unit -----------------------------------------------------------------

    def run(self) -> int:
        """From the first start to the last end."""
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
        woken, wakes = socket.socketpair()
        wakes.setblocking(False)
        signal.set_wakeup_fd(wakes.fileno())
        signal.signal(signal.SIGTERM, lambda *_: None)
        self.selector.register(woken, selectors.EVENT_READ, lambda: self._told_to_stop(woken))
        while True:
            result = self._run_once()
            if self.stop_asked or result not in RESTARTED[self.file.last("Restart", "no")]:
                break
            if self._status() in self.file.last("RestartPreventExitStatus").split():
                break
            if self.state["NRestarts"] >= MAX_RESTARTS:
                break
            # The job of a first start that failed has failed, though the unit is tried again.
            self._keep(ActiveState="activating", SubState="auto-restart", Result=result, MainPID=0)
            self._job("failed")
            self._pause(min(self.file.seconds("RestartSec", 0.1), self._limit("restart_s")))
            if self.stop_asked:
                break
            self._keep(NRestarts=self.state["NRestarts"] + 1)
        self._forget_credentials()
        self._keep(
            ActiveState="inactive" if result == "success" else "failed",
            SubState="dead" if result == "success" else "failed",
            MainPID=0,
            Result=result,
            supervisor=0,
            job=self.state["job"] if self.state["job"] != "waiting" else "failed",
        )
        return 0

    def _run_once(self) -> str:
        """Start the process and look after it to its end; what systemd calls the result."""
        self.stop_due = self.kill_due = self.watchdog_due = INFINITY
        self.kill_result = ""
        self.ready = False
        self.watchdog_s = self.file.seconds("WatchdogSec", INFINITY)
        if self.watchdog_s != INFINITY:
            self.watchdog_s = min(self.watchdog_s, self._limit("watchdog_s"))
        try:
            process = self._spawn()
        except OSError as error:
            self._journal(f"<3>Failed at step EXEC spawning: {error}")
            self._keep(ExecMainCode=1, ExecMainStatus=203)
            return "exit-code"
        self.pid = process.pid
        self._keep(
            ActiveState="activating", SubState="start", MainPID=process.pid, ExecMainPID=process.pid
        )
        self.stop_due = time.monotonic() + self.file.seconds("TimeoutStartSec", 90.0)
        if not self._notifies:
            self._said("READY", "1")
        ended = os.pidfd_open(process.pid)
        self.selector.register(ended, selectors.EVENT_READ, lambda: None)
        while process.poll() is None:
            self._turn()
        self.selector.unregister(ended)
        os.close(ended)
        self._drain()
        self._sweep()
        return self._result(process.returncode)

    def _result(self, code: int) -> str:
        clean = code == 0 or str(code) in self.file.last("SuccessExitStatus").split()
        if code < 0:
            number = signal.Signals(-code)
            clean = number in CLEAN or number.name in self.file.last("SuccessExitStatus").split()
        self._keep(MainPID=0, ExecMainCode=2 if code < 0 else 1, ExecMainStatus=abs(code))
        if self.kill_result:
            return self.kill_result
        if clean:
            return "success" if self.ready or self.stop_asked else "protocol"
        return "signal" if code < 0 else "exit-code"

    def _status(self) -> str:
        return str(self.state.get("ExecMainStatus", 0))

    def _turn(self) -> None:
        """Wait for something to happen, and see to it."""
        now = time.monotonic()
        due = min(self.stop_due, self.kill_due, self.watchdog_due)
        for key, _ in self.selector.select(None if due == INFINITY else max(0.0, due - now)):
            key.data()
        now = time.monotonic()
        if now >= self.kill_due:
            self.kill_due = INFINITY
            self._signal(signal.SIGKILL)
        elif now >= self.watchdog_due:
            self._journal("<3>Watchdog timeout!")
            self._end_by(signal.SIGABRT, "watchdog")
        elif now >= self.stop_due:
            self.stop_due = INFINITY
            if self.stop_asked:
                self._end_by(signal.SIGKILL, "timeout")
            else:
                self._end_by(signal.SIGTERM, "timeout")

    def _end_by(self, number: signal.Signals, result: str) -> None:
        self.watchdog_due = self.stop_due = INFINITY
        self.kill_result = result
        self.kill_due = time.monotonic() + min(self._stop_s(), 5.0)
        self._signal(number)

    def _told_to_stop(self, woken: socket.socket) -> None:
        woken.recv(64)
        if self.stop_asked:
            return
        self.stop_asked = True
        self.watchdog_due = INFINITY
        if self.state.get("MainPID"):
            self._keep(ActiveState="deactivating", SubState="stop-sigterm")
            self.stop_due = time.monotonic() + self._stop_s()
            self._signal(signal.SIGTERM)

    @property
    def _notifies(self) -> bool:
        return self.file.last("Type", "simple").startswith("notify")

    def _stop_s(self) -> float:
        return self.file.seconds("TimeoutStopSec", 90.0)

    def _signal(self, number: signal.Signals) -> None:
        """As systemd does: a process that was stopped is to hear it."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)
            os.kill(self.pid, signal.SIGCONT)

    def _pause(self, seconds: float) -> None:
        over = time.monotonic() + seconds
        while not self.stop_asked and time.monotonic() < over:
            for key, _ in self.selector.select(max(0.0, over - time.monotonic())):
                key.data()

    def _sweep(self) -> None:
        """Whatever the process left behind dies with it (KillMode=mixed, control-group)."""
        over = time.monotonic() + 5.0
        while time.monotonic() < over:
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            left = _children(os.getpid())
            if not left:
                return
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)

    # -- what it is run with ----------------------------------------------------------------

    def _spawn(self) -> subprocess.Popen[bytes]:
        environ = self._environment()
        (command,) = self.file.all("ExecStart")
        arguments = [specified(word, self.specifiers) for word in words(command)]
        program = arguments[0].lstrip("-@:+!")
        literal = ":" in arguments[0][: len(arguments[0]) - len(program)]
        arguments[0] = program
        if not os.access(arguments[0], os.X_OK):
            raise FileNotFoundError(f"{arguments[0]}: cannot be executed")
        watched = "WATCHDOG_USEC" in environ
        trampoline = ["/bin/sh", "-c", _WITH_WATCHDOG if watched else _WITH_PIDS, "sh"]
        other = self.account.pw_uid != os.geteuid()
        with (self.manager.home / f"{self.unit}.journal").open("ab") as journal:
            facts = os.fstat(journal.fileno())
            environ["JOURNAL_STREAM"] = f"{facts.st_dev}:{facts.st_ino}"
            return subprocess.Popen(
                [*trampoline, *(arguments if literal else expanded(arguments, environ))],
                stdin=subprocess.DEVNULL,
                stdout=journal,
                stderr=journal,
                env=environ,
                cwd=specified(self.file.last("WorkingDirectory", "/"), self.specifiers),
                umask=int(self.file.last("UMask", "0022"), 8),
                start_new_session=True,
                user=self.account.pw_uid if other else None,
                group=self._group() if other else None,
                extra_groups=[] if other else None,
            )

    def _group(self) -> int:
        named = self.file.last("Group")
        return grp.getgrnam(named).gr_gid if named else self.account.pw_gid

    def _environment(self) -> dict[str, str]:
        environ = {"PATH": PATH, "LANG": "C.UTF-8", "HOME": self.account.pw_dir}
        environ |= {"USER": self.account.pw_name, "LOGNAME": self.account.pw_name}
        environ |= {"SHELL": "/bin/sh", "INVOCATION_ID": uuid.uuid4().hex}
        with contextlib.suppress(FileNotFoundError):
            kept = (self.manager.home / "environment").read_text().splitlines()
            environ |= dict(line.split("=", 1) for line in kept)  # type: ignore[arg-type]
        given = self.file.words("Environment", self.specifiers)
        environ |= dict(each.split("=", 1) for each in given)  # type: ignore[arg-type]
        if self._notifies:
            environ["NOTIFY_SOCKET"] = str(self.manager.home / f"{self.unit}.notify")
        if self.watchdog_s != INFINITY:
            environ["WATCHDOG_USEC"] = str(round(self.watchdog_s * 1e6))
        if self.file.all("LoadCredential"):
            environ["CREDENTIALS_DIRECTORY"] = str(self._load_credentials())
        return environ

    def _load_credentials(self) -> Path:
        """Read with the manager's rights; for the service's user alone."""
        self._forget_credentials()
        self.credentials.mkdir(mode=0o700)
        for each in self.file.all("LoadCredential"):
            name, _, path = specified(each, self.specifiers).partition(":")
            target = self.credentials / name
            shutil.copyfile(path, target)
            target.chmod(0o400)
            if os.geteuid() == 0:
                os.chown(target, self.account.pw_uid, -1)
        if os.geteuid() == 0:
            os.chown(self.credentials, self.account.pw_uid, -1)
        self.credentials.chmod(0o500)
        return self.credentials

    def _forget_credentials(self) -> None:
        if self.credentials.exists():
            self.credentials.chmod(0o700)
            shutil.rmtree(self.credentials)

    # -- what it says -----------------------------------------------------------------------

    def _notified(self) -> None:
        data, ancillary, _, _ = self.notify.recvmsg(65_536, socket.CMSG_SPACE(_CREDENTIALS.size))
        sender = _CREDENTIALS.unpack(ancillary[0][2])[0] if ancillary else 0
        if sender != self.state.get("MainPID"):
            self._journal(f"<4>Got notification message from PID {sender}, but only the main PID")
            return
        with (self.manager.home / f"{self.unit}.notified").open("a") as log:
            log.write(data.decode().replace("\n", " ") + "\n")
        for line in data.decode().split("\n"):
            self._said(*line.split("=", 1))

    def _said(self, name: str, value: str) -> None:
        if name == "READY" and not self.stop_asked:
            self.ready = True
            self.stop_due = INFINITY
            self._feed()
            self._keep(ActiveState="active", SubState="running")
            self._job("done")
        elif name == "WATCHDOG" and self.ready and not self.stop_asked and not self.kill_result:
            self._feed()
        elif name == "STATUS":
            self._keep(StatusText=value)
        elif name == "RELOADING" and self.ready and not self.stop_asked:
            self._keep(ActiveState="reloading", SubState="reload")
        elif name == "STOPPING":
            self.watchdog_due = INFINITY
            if not self.stop_asked:
                self._keep(ActiveState="deactivating", SubState="stop-sigterm")
                self.stop_due = time.monotonic() + self._stop_s()
        elif name == "EXTEND_TIMEOUT_USEC" and self.stop_due != INFINITY:
            self.stop_due = max(self.stop_due, time.monotonic() + int(value) / 1e6)

    def _feed(self) -> None:
        if not self.kill_result:
            self.watchdog_due = time.monotonic() + self.watchdog_s

    def _drain(self) -> None:
        """What it said before it ended."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self._notified()

    # -- what is kept -----------------------------------------------------------------------

    def _keep(self, **changes: Any) -> None:
        self.state |= changes
        self.manager.keep_state(self.unit, self.state)

    def _job(self, word: str) -> None:
        if self.state["job"] == "waiting":
            self._keep(job=word)

    def _journal(self, line: str) -> None:
        with (self.manager.home / f"{self.unit}.journal").open("a") as journal:
            journal.write(f"{line}\n")


def _children(parent: int) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(entry.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(entry.parent.name))
    return found
