"""Tests of :mod:`palyra.cli.children`, with real processes."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from palyra.cli import children
from palyra.cli.children import Child, nursery, until
from palyra.errors import ChildEnded, TookTooLong

SLEEP = "import sys; print(sys.stdin.readline(), flush=True); import time; time.sleep(60)"
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def handlers() -> object:
    """Signal handlers are as they were."""
    before = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM)}
    yield
    for name, handler in before.items():
        signal.signal(name, handler)


def child(tmp_path: Path, code: str, stdin: str = "") -> Child:
    return Child("node", [sys.executable, "-c", code], tmp_path / "node", stdin)


def said(made: Child, line: str) -> None:
    until(lambda: line in made.lines() or None, [made], "It said nothing", 30)


def test_a_child_gets_its_input_and_is_stopped(tmp_path: Path) -> None:
    """The pairing line goes in by stdin; the end of the block ends the child."""
    with nursery() as running:
        made = child(tmp_path, SLEEP, "the line\n")
        running.append(made)
        said(made, "the line")
    assert not psutil.pid_exists(made.pid)


def test_no_child_outlives_an_exception(tmp_path: Path) -> None:
    """Whatever goes wrong."""
    with pytest.raises(ZeroDivisionError), nursery() as running:
        running.append(child(tmp_path, SLEEP))
        raise ZeroDivisionError
    assert not psutil.pid_exists(running[0].pid)


def test_a_child_that_does_not_listen_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM first, SIGKILL when the time is over."""
    monkeypatch.setattr(children, "STOP_S", 0.05)
    made = child(tmp_path, STUBBORN)
    said(made, "ready")
    made.stop()
    assert not psutil.pid_exists(made.pid)
    made.stop()


def test_a_child_that_ended_tells_why(tmp_path: Path) -> None:
    """Its last line, without the form of an error, is the reason."""
    code = "import sys; print('error: No way.', file=sys.stderr); sys.exit('hint:  go back')"
    made = child(tmp_path, code)
    with pytest.raises(ChildEnded) as raised:
        until(lambda: None, [made], "It never came", 30)
    assert raised.value.sentence == "The node ended: No way."
    assert raised.value.log == str(tmp_path / "node.stderr.log")


def test_a_child_without_words(tmp_path: Path) -> None:
    """Its output serves where it wrote no error, and nothing is said to be nothing."""
    loud, mute = child(tmp_path, "print('bye')"), child(tmp_path / "..", "")
    for made in (loud, mute):
        with pytest.raises(ChildEnded):
            until(lambda: None, [made], "It never came", 30)
    assert loud.last_line() == "bye"
    assert ChildEnded("node", mute.last_line(), "x").sentence == "The node ended: it said nothing"


def test_waiting_has_a_limit() -> None:
    """What did not happen, and in which time."""
    with pytest.raises(TookTooLong, match="The node was not online within 0 s"):
        until(lambda: None, [], "The node was not online", 0)
    assert until(lambda: 1, [], "", 0) == 1


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_signals_end_the_block(name: str) -> None:
    """A closed terminal and a stop by the system are like Ctrl-C, and only inside the block."""
    number = getattr(signal, name)
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), children.interrupted_by_signals():
        os.kill(os.getpid(), number)
    assert signal.getsignal(number) == before


def test_an_interrupt_does_not_lose_a_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the middle of a start is heard when the child is known."""
    made = Child.__init__

    def interrupted(self: Child, *args: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        made(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Child, "__init__", interrupted)
    with (
        pytest.raises(KeyboardInterrupt),
        children.interrupted_by_signals(),
        nursery() as running,
    ):
        children.start(running, "node", [sys.executable, "-c", SLEEP], tmp_path / "node")
    assert len(running) == 1
    assert not psutil.pid_exists(running[0].pid)


def test_commands(tmp_path: Path) -> None:
    """Both daemons run with this interpreter; the code is in neither command line."""
    gateway = children.gateway_command(tmp_path, "127.0.0.1:1", "127.0.0.1:2")
    node = children.node_command(tmp_path, "grpc")
    assert gateway[0] == node[0] == sys.executable
    assert gateway[3:] == [
        "-n",
        "palyra",
        "--state-root",
        str(tmp_path),
        "--enrolment",
        "127.0.0.1:1",
        "--node-rpc",
        "127.0.0.1:2",
        "--console",
        "none",
    ]
    assert node[1:7] == ["-m", "palyra", "node", "run", "--pairing-uri", "-"]
    assert node[-2:] == ["--transport", "grpc"]
    assert "--transport" not in children.node_command(tmp_path, None)  # it would be kept
