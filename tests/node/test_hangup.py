"""Tests of :mod:`palyra.node.hangup`."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator

import pytest

from palyra.node import hangup
from palyra.node.hangup import Hangup

if sys.platform == "win32":
    pytest.skip("there is no such signal", allow_module_level=True)


class Reactor:
    """Calls at once."""

    def callFromThread(self, call: Callable[[], object]) -> None:
        call()


class World:
    """Counts what is done; its terminal is what the test says."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.terminal = False

    def hangup(self) -> Hangup:
        return Hangup(
            Reactor(), lambda: self.done.append("reload"), lambda: self.done.append("lost")
        )


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = World()
    monkeypatch.setattr(hangup, "_on_terminal", lambda: made.terminal)
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield made
    signal.signal(signal.SIGHUP, before)


def test_it_reloads(world: World) -> None:
    """From then on, and until it is closed; then the signal is whose it was."""
    listening = world.hangup()
    listening.open()
    signal.raise_signal(signal.SIGHUP)
    assert world.done == ["reload"]
    listening.close()
    listening.close()
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL


def test_a_terminal_that_is_there_is_no_reason_to_stop(world: World) -> None:
    """Somebody sent the signal to a node host in the foreground."""
    world.terminal = True
    listening = world.hangup()
    listening.open()
    signal.raise_signal(signal.SIGHUP)
    world.terminal = False
    signal.raise_signal(signal.SIGHUP)
    assert world.done == ["reload", "lost"]
    listening.close()


def test_nohup_is_respected(world: World) -> None:
    """Whoever ignores the signal wants the process to outlive its terminal."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    listening = world.hangup()
    listening.open()
    signal.raise_signal(signal.SIGHUP)
    listening.close()
    assert world.done == []
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_a_terminal_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as somebody holds its other end."""
    import pty

    ours, theirs = pty.openpty()
    with os.fdopen(theirs) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert hangup._on_terminal()
        os.close(ours)
        assert not hangup._on_terminal()
    with open(os.devnull, encoding="utf-8") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert not hangup._on_terminal()
    monkeypatch.setattr(sys, "stdin", None)
    assert not hangup._on_terminal()
