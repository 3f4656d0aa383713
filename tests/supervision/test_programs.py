"""Running programs of the operating system."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest

from palyra.errors import ServiceManagerFailed
from palyra.supervision import programs
from palyra.supervision.programs import MAX_OUTPUT, NOT_FOUND, TIMED_OUT, Ran, run
from palyra.supervision.service import Account
from tests.integration.processes import eventually


def test_what_a_program_says_and_how_it_ends_come_back() -> None:
    """Output, complaint and exit code are those of the program."""
    assert run(["sh", "-c", "echo yes; echo no >&2; exit 3"], check=False) == Ran(
        3, "yes\n", "no\n"
    )


def test_a_refusal_names_the_command_and_its_reason() -> None:
    """With check a failure is one sentence: what was run, and what it said last that matters."""
    script = "echo first >&2; echo 'the reason.' >&2; echo 'See systemctl status.' >&2; exit 1"
    with pytest.raises(ServiceManagerFailed) as caught:
        run(["sh", "-c", script, "a b"])
    assert caught.value.doing.endswith("'a b'")
    assert caught.value.said == "the reason"


def test_what_a_program_says_cannot_steer_a_terminal() -> None:
    """Control characters do not come into an error."""
    assert Ran(1, "", "\x1b[2Jred\x07\n").said == "[2Jred"


def test_a_program_that_is_not_there_is_told_apart() -> None:
    """It has the code that a shell gives it, and is a refusal with check."""
    ran = run(["palyra-no-such-program"], check=False)
    assert (ran.code, ran.said) == (NOT_FOUND, "palyra-no-such-program: No such file or directory")
    with pytest.raises(ServiceManagerFailed):
        run(["palyra-no-such-program"])
    assert run(["echo", "\0"], check=False).code == NOT_FOUND


def test_a_program_without_end_is_ended_with_its_children(tmp_path: Path) -> None:
    """After the time limit nothing of it is left."""
    pid = tmp_path / "pid"
    script = f"sleep 60 & echo $! > {pid}; wait"
    ran = run(["sh", "-c", script], timeout_s=0.5, check=False)
    assert (ran.code, ran.said) == (TIMED_OUT, "it did not end within 0.5 s")
    child = Path("/proc", pid.read_text().strip(), "stat")

    def gone() -> bool:
        try:
            return child.read_text().split()[2] == "Z"
        except OSError:
            return True

    assert eventually(gone, "the end of the child")


def on_disk(most: int) -> IO[bytes]:
    return tempfile.TemporaryFile(buffering=0)


@pytest.mark.parametrize("room", [programs._room, on_disk])
def test_a_program_that_writes_without_end_fails(
    monkeypatch: pytest.MonkeyPatch, room: Callable[[int], IO[bytes]]
) -> None:
    """It fills no memory and no disk; the beginning is kept."""
    monkeypatch.setattr(programs, "_room", room)
    script = "import os, time\nfor _ in range(600): os.write(1, b'a' * 4096)\ntime.sleep(60)"
    ran = run([sys.executable, "-IS", "-c", script], check=False)
    assert ran.code != 0
    assert ran.out == "a" * MAX_OUTPUT


def test_it_has_no_input_no_terminal_and_speaks_english(monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot ask anything, and its words can be read, also with an environment of its own."""
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    script = "cat; (: < /dev/tty) 2> /dev/null || echo none; echo $LC_ALL $ONE; pwd"
    assert run(["sh", "-c", script], environ={"ONE": "1"}).out == "none\nC 1\n/\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_root_runs_it_as_another_user() -> None:
    """Nothing of root's is left to it, no group either."""
    assert run(["id", "-u"], account=Account("x", 65534, 65533)).out == "65534\n"
    ran = run(["sh", "-c", "id -g; id -G"], account=Account("x", 65534, 65533))
    assert ran.out == "65533\n65533\n"
