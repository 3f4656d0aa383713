"""Tests of :mod:`palyra.workers.runners`: a thread for what is ours, a worker for the rest."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from palyra.capability.catalogue import Offer
from palyra.capability.context import CapabilityContext
from palyra.capability.descriptor import Capability
from palyra.capability.outcome import OutcomeKind
from palyra.capability.runner import ThreadRunner
from palyra.workers.runners import Runners
from tests.capability.distributions import make_capability

from .pools import DEVICE, PATIENCE_S, Host, hosting, until


async def own_pid(value: Any, context: CapabilityContext) -> int:
    return os.getpid()


HERE = Offer(
    Capability(name="test.pid", description="Test.", handler=own_pid).descriptor("palyra", "1"),
    Capability(name="test.pid", description="Test.", handler=own_pid),
)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """A host of a pool."""
    with hosting(tmp_path) as each:
        yield each


@pytest.fixture
def runners(host: Host) -> Iterator[Runners]:
    """Both ways to run something."""
    both = Runners(ThreadRunner(4), host.pool)
    both.open()
    yield both
    both.close()


def start(runners: Runners, host: Host, offer: Offer) -> Any:
    """Start a run."""
    context = CapabilityContext("j", DEVICE, deadline_s=time.monotonic() + PATIENCE_S)
    return runners.start(offer, b"{}", context, 1000, host.outcomes.put)


def test_where_it_runs(runners: Runners, host: Host) -> None:
    """An offer with a handler runs in this process, one without in a worker."""
    start(runners, host, HERE)
    assert host.outcome().output == str(os.getpid()).encode()
    start(runners, host, host.offer("acme.pid", "return os.getpid()"))
    assert host.outcome().output not in (b"", str(os.getpid()).encode())


def test_running_here(runners: Runners, host: Host) -> None:
    """What has a thread of this process is named, as long as it has it."""
    go = threading.Event()

    async def blocks(value: Any, context: CapabilityContext) -> None:
        go.wait(PATIENCE_S)

    capability = Capability(name="test.block", description="Test.", handler=blocks)
    run = start(runners, host, Offer(capability.descriptor("palyra", "1"), capability))
    elsewhere = host.offer("acme.wait", "await asyncio.Event().wait()")
    other = start(runners, host, elsewhere)
    assert runners.running_here() == ["test.block"]
    go.set()
    assert host.outcome().kind is OutcomeKind.SUCCEEDED
    until(lambda: runners.running_here() == [], "the thread is free")
    other.cancel()
    run.cancel()
    assert host.outcome().kind is OutcomeKind.CANCELLED


def test_reload(runners: Runners, host: Host, tmp_path: Path) -> None:
    """After a reload other code is run."""
    offer = host.offer("acme.code", "return 1")
    start(runners, host, offer)
    assert host.outcome().output == b"1"
    make_capability(tmp_path, "acme.code", "return 2 #")
    runners.reload()
    start(runners, host, offer)
    assert host.outcome().output == b"2"


def test_close(runners: Runners, host: Host) -> None:
    """After close nothing is run, neither here nor elsewhere."""
    offer = host.offer("acme.pid", "return 1")
    runners.close()
    for each in (HERE, offer):
        with pytest.raises(RuntimeError, match="closed"):
            start(runners, host, each)
