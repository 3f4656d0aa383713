"""Work beside the reactor: in its order, to its end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from palyra.errors import Malformed
from palyra.gateway.onethread import OneThread
from tests.gateway.house import fired, result_of


class Turns:
    """As much of a reactor as threads use: what they hand over waits for its turn."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], object]] = []

    def callFromThread(self, act: Callable[..., object], *given: Any, **named: Any) -> None:
        self.waiting.append(lambda: act(*given, **named))

    def turn(self) -> None:
        while self.waiting:
            self.waiting.pop(0)()


def test_one_thread_after_the_other() -> None:
    """Everything happens in one thread that is not this one, in order; results come in turns of
    the reactor; a stop waits for what was begun."""
    reactor, seen = Turns(), list[int]()

    def work(number: int) -> int:
        seen.append(threading.get_ident())
        return number

    thread = OneThread(reactor, "work")
    thread.start()
    answers = [thread(work, number) for number in range(5)]
    thread.stop()
    assert len(seen) == 5 and len(set(seen)) == 1 and threading.get_ident() not in seen
    assert not any(fired(each) for each in answers)
    reactor.turn()
    assert [result_of(each) for each in answers] == list(range(5))


def test_a_failure_is_the_callers() -> None:
    """The thread goes on."""
    reactor = Turns()

    def refuse() -> None:
        raise Malformed("x", "is wrong")

    thread = OneThread(reactor, "work")
    thread.start()
    bad, good = thread(refuse), thread(int, "7")
    thread.stop()
    reactor.turn()
    with pytest.raises(Malformed):
        result_of(bad)
    assert result_of(good) == 7


def test_a_stop_without_a_start() -> None:
    """A gateway whose start failed early stops what it never began; twice is once."""
    thread = OneThread(Turns(), "work")
    thread.stop()
    thread.start()
    thread.stop()
    thread.stop()
