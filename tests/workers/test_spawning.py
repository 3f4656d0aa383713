"""Tests of :mod:`palyra.workers.spawning`."""

from __future__ import annotations

import os
import pwd
import sys

import pytest

from palyra.errors import Malformed
from palyra.workers.killing import MARK, best_containment
from palyra.workers.spawning import WORKER_ARGV, Account, Spawner, environment

from .pools import PATIENCE_S


def test_the_command() -> None:
    """A worker is this interpreter, isolated from the directory and the environment."""
    assert (sys.executable, "-I", "-m", "palyra.capability.worker") == WORKER_ARGV


def test_little_is_told() -> None:
    """A worker gets where programs are, language and time; nothing of ours, and no secret."""
    ours = {
        "PATH": "/bin", "HOME": "/root", "LANG": "C", "LC_TIME": "C", "TZ": "UTC", "TMPDIR": "/t",
        "PALYRA_STATE_ROOT": "/s", "PYTHONPATH": "/p", "LD_PRELOAD": "/l", "TOKEN": "secret",
        "SSH_AUTH_SOCK": "/a", "DISPLAY": ":0", MARK: "of somebody else",
    }  # fmt: skip
    kept = {
        "PATH": "/bin",
        "HOME": "/root",
        "LANG": "C",
        "LC_TIME": "C",
        "TZ": "UTC",
        "TMPDIR": "/t",
    }
    assert environment(ours, None, "m") == {**kept, MARK: "m"}
    assert environment(ours, Account(1, 1, "/nonexistent"), "m")["HOME"] == "/nonexistent"


def test_what_a_service_manager_gave_stays_here() -> None:
    """A plugin can neither speak for the node host nor find the credentials of other plugins."""
    ours = {
        "CREDENTIALS_DIRECTORY": "/run/credentials/palyra-node.service",
        "NOTIFY_SOCKET": "/run/systemd/notify",
        "WATCHDOG_USEC": "30000000",
        "JOURNAL_STREAM": "8:1",
        "INVOCATION_ID": "x",
    }
    assert environment(ours, None, "m") == {MARK: "m"}


def test_an_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """root may name a user that there is; nobody else may name any."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    nobody = pwd.getpwnam("nobody")
    assert Account.named("nobody") == Account(nobody.pw_uid, nobody.pw_gid, nobody.pw_dir)
    with pytest.raises(Malformed, match="there is no user 'no-such-user'"):
        Account.named("no-such-user")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Malformed, match="only root"):
        Account.named("nobody")


def test_a_worker_of_its_own() -> None:
    """It leads a session, is in the root directory, and has three files open."""
    code = "import os; print(os.getsid(0) == os.getpid(), os.getcwd(), len(os.listdir('/dev/fd')))"
    spawned = Spawner([sys.executable, "-I", "-c", code], None, best_containment()).spawn("dist")
    out, _ = spawned.child.communicate(timeout=PATIENCE_S)
    assert spawned.tree.kill(PATIENCE_S)
    assert out.split() == [b"True", b"/", b"4"]  # the fourth is the listing itself
