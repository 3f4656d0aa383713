"""Tests of :mod:`palyra.workers.process` against processes that say what they should not."""

from __future__ import annotations

import errno
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palyra.capability.frames import Facts, Ready, Result, Run
from palyra.workers.killing import best_containment
from palyra.workers.process import Death, State, Worker, how_it_ended
from palyra.workers.spawning import Spawned, Spawner

from .pools import LIMITS, PATIENCE_S, until

FACTS = Facts("01D", "f1", "https://gateway:7444", 5, 100, "pi")
FAKE = """
import json, os, struct, sys, time
def raw(body): os.write(1, struct.pack(">I", len(body)) + body)
def say(**frame): raw(json.dumps(frame).encode())
def hear():
    return json.loads(sys.stdin.buffer.read(struct.unpack(">I", sys.stdin.buffer.read(4))[0]))
def ready(v=1): say(type="ready", v=v, descriptors=[])
def result(output=1, run_id=7): say(type="result", run_id=run_id, kind="succeeded", output=output)
def started(run_id=7): say(type="started", run_id=run_id)
assert hear()["type"] == "hello"
"""
BROKE = "it broke the protocol: "


class Ear:
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.results: list[Result] = []
        self.is_ready = threading.Event()
        self.deaths: SimpleQueue[Death] = SimpleQueue()

    def ready(self, worker: Worker, ready: Ready) -> None:
        self.heard.append("ready")
        self.is_ready.set()

    def started(self, worker: Worker) -> None:
        self.heard.append("started")

    def progressed(self, worker: Worker, fraction: float | None, text: str) -> None:
        self.heard.append("progress")

    def ended(self, worker: Worker, result: Result) -> None:
        self.heard.append("ended")
        self.results.append(result)

    def died(self, worker: Worker, death: Death) -> None:
        self.deaths.put(death)

    def death(self) -> Death:
        """How it ended."""
        return self.deaths.get(timeout=PATIENCE_S)


def begin(
    script: str, clock: Callable[[], float] = time.monotonic, tree: Any = None
) -> tuple[Worker, Ear]:
    """A process that heard hello and then does what the script says."""
    argv = [sys.executable, "-I", "-c", FAKE + script]
    spawned = Spawner(argv, None, best_containment()).spawn("acme")
    if tree is not None:
        spawned = Spawned(spawned.child, tree(spawned.tree))
    ear = Ear()
    worker = Worker(spawned, "acme", ear, log=lambda distribution, line: None, clock=clock)
    worker.open(LIMITS)
    return worker, ear


def asked(**changes: Any) -> Run:
    """A run frame."""
    run = Run(7, "job", "acme.it", msgspec.Raw(b"1"), msgspec.Raw(b"null"), 1000, 100, FACTS)
    return msgspec.structs.replace(run, **changes)


def test_a_whole_life() -> None:
    """Start, ready, a run, the next, and out."""
    worker, ear = begin(
        "ready()\n"
        "for n in (7, 8):\n"
        "    assert hear()['run_id'] == n\n"
        "    started(n); say(type='progress', run_id=n, fraction=None, text='t'); result(n, n)\n"
        "assert hear()['type'] == 'stop'\n"
    )
    assert ear.is_ready.wait(PATIENCE_S)
    for number in (7, 8):
        assert worker.state is State.IDLE
        worker.run(asked(run_id=number))
        until(lambda count=number - 6: len(ear.results) == count, "the run ends")  # type: ignore[misc]
    worker.stop()
    assert ear.death() == Death("it exited with status 0", wanted=True, gone=True)
    assert ear.heard == ["ready", *["started", "progress", "ended"] * 2]
    assert [bytes(each.output) for each in ear.results] == [b"7", b"8"]


@pytest.mark.parametrize(
    ("script", "cause"),
    [
        ("os.write(1, b'Hello, world')", BROKE + "frame has 1214606444 bytes; the limit is"),
        ("os.write(1, b'\\0\\0\\0\\x02{]')", BROKE + "frame "),
        ("say(type='surprise')", BROKE + "frame "),
        ("started()", BROKE + "frame of type started comes while it is starting"),
        ("ready(); ready()", BROKE + "frame of type ready comes while it is idle"),
        ("ready(v=2)", BROKE + "frame speaks version 2; this host speaks 1"),
        ("ready(); result()", BROKE + "frame of type result comes while it is idle"),
        ("os.close(1); time.sleep(600)", "it closed its side of the pipe"),
        ("os.write(1, b'\\0\\0'); os._exit(4)", "it exited with status 4"),
        ("raise SystemExit('Aua.')", "it exited with status 1; its last line: Aua"),
    ],
)
def test_before_a_run(script: str, cause: str) -> None:
    """What is no frame, or comes at the wrong time, ends the process and is the cause."""
    worker, ear = begin(f"{script}\ntime.sleep(600)")
    death = ear.death()
    assert death.cause.startswith(cause), death.cause
    assert (death.wanted, death.gone, worker.state) == (False, True, State.ENDING)


@pytest.mark.parametrize(
    ("script", "cause"),
    [
        ("started(); started()", "frame of type started comes out of order"),
        ("say(type='progress', run_id=7, fraction=0, text='')", "frame of type progress comes out"),
        ("result(run_id=8)", "frame is of run 8; run 7 is under way"),
        ("result('x' * 200)", "output has 202 bytes; the limit is 100"),
        ("result('x' * 70_000)", "frame has 7"),
        ("ready()", "frame of type ready comes while it is running"),
        ('raw(b\'{"type":"result","run_id":7,"kind":"succeeded","output":"\\xff"}\')',
         "output is not UTF-8"),
        ("started()\nfor _ in range(99): say(type='progress', run_id=7, fraction=0, text='')",
         "frame of type progress comes too often"),
        ("started(); say(type='progress', run_id=7, fraction=0, text='x' * 1025)", "frame "),
        ("started(); say(type='progress', run_id=7, fraction=2, text='')", "frame "),
    ],
)  # fmt: skip
def test_in_a_run(script: str, cause: str) -> None:
    """A worker that answers a run with what it must not is killed, and no result is taken."""
    worker, ear = begin(f"ready(); hear()\n{script}\ntime.sleep(600)")
    assert ear.is_ready.wait(PATIENCE_S)
    worker.run(asked())
    death = ear.death()
    assert death.cause.startswith(BROKE + cause), death.cause
    assert "ended" not in ear.heard


def test_progress_that_is_heard_late() -> None:
    """What gathered while this process did not listen, stopped by Ctrl-Z perhaps, is no flood."""
    now = [0.0]
    worker, ear = begin(
        "ready(); hear(); started(); sys.stdin.buffer.read(4)\n"
        "for _ in range(600): say(type='progress', run_id=7, fraction=0, text='')\n"
        "result()\ntime.sleep(600)",
        clock=lambda: now[0],
    )
    assert ear.is_ready.wait(PATIENCE_S)
    worker.run(asked())
    until(lambda: "started" in ear.heard, "it began")
    now[0] = 60.0
    worker.cancel()
    until(lambda: bool(ear.results), "the run ends")
    assert ear.heard.count("progress") == 600
    worker.end("enough", wanted=True)
    ear.death()


class Blind:
    """A tree that cannot be looked at."""

    def __init__(self, tree: Any) -> None:
        self.exited = tree.exited

    def kill(self, timeout_s: float) -> bool:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def test_a_tree_that_cannot_be_looked_at() -> None:
    """Whoever waits for a worker's end is told, and that it is not known to be gone."""
    worker, ear = begin("ready(); time.sleep(600)", tree=Blind)
    worker.end("enough", wanted=True)
    assert ear.death() == Death("enough", wanted=True, gone=False)
    assert worker._child.returncode is not None


def test_a_worker_that_does_not_read(tmp_path: Path) -> None:
    """Sending more than a pipe holds to one that does not listen holds nobody up."""
    worker, ear = begin("ready(); time.sleep(600)")
    assert ear.is_ready.wait(PATIENCE_S)
    worker.run(asked(input=msgspec.Raw(b'"' + b"x" * 2_000_000 + b'"')))
    worker.cancel()
    worker.end("it does not listen", wanted=True)
    assert ear.death() == Death("it does not listen", wanted=True, gone=True)


def test_words_to_one_that_is_ending() -> None:
    """Whatever is said to a worker that is being ended is lost without harm."""
    worker, ear = begin("ready(); time.sleep(600)")
    worker.end("enough")
    worker.run(asked())
    worker.cancel()
    worker.stop()
    worker.end("again")
    assert ear.death().cause == "enough"
    assert ear.deaths.empty()


@given(st.integers(min_value=-300, max_value=2**32))
def test_how_it_ended(status: int) -> None:
    """Every exit status has words without a point at their end."""
    words = how_it_ended(status)
    assert words.startswith("it ") and str(abs(status)) in words and not words.endswith(".")
