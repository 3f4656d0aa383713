"""Tests of :mod:`palyra.mcp.calls`."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import msgspec
import pytest

pytest.importorskip("mcp")

import anyio

from palyra.afar.refusals import GatewayRefused
from palyra.console.models import JobAnswer
from palyra.mcp import calls, gatewayclient
from palyra.mcp.calls import CANCELLED, Asked, CallInterrupted, Calls
from tests.cli.conftest import Stream
from tests.cli.farconsole import FarConsole
from tests.cli.things import (
    JOB,
    event_of_job,
    invoke_answer,
    job,
    job_answer,
    problem,
)
from tests.mcp.asking import asking
from tests.mcp.world import LIMIT_S, asynchronously

ASKED = Asked("p/i", "echo", b'{"a":1}', 5_000)
RUNNING = job(state="dispatched", took_ms=None)


@attrs.define
class Told:
    """What a client heard."""

    wanted: bool = True
    heard: list[tuple[float | None, str]] = attrs.field(factory=list)

    async def tell(self, fraction: float | None, text: str) -> None:
        self.heard.append((fraction, text))


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """What broke is tried again at once."""
    monkeypatch.setattr(calls, "PAUSES_S", (0.0, 0.0))
    monkeypatch.setattr(gatewayclient, "PAUSES_S", (0.0, 0.0))


def invokes(far: FarConsole, **changes: Any) -> None:
    """What the gateway answers to the call; the job ends well in the end."""
    far.on("POST", "nodes/p%2Fi/invoke", invoke_answer(**changes))
    far.on("GET", f"jobs/{JOB}", job_answer())
    far.on("POST", f"jobs/{JOB}/cancel", job_answer())


def run(far: FarConsole, root: Path, told: Told, patience_s: float = 30.0) -> JobAnswer:
    async def act() -> JobAnswer:
        async with asking(far, root) as gateway:
            return await Calls(gateway, patience_s=patience_s).run(ASKED, told)

    return asynchronously(act)


def ending(*events: Any) -> Stream:
    """A stream that ends as a job's does."""
    return Stream.of(*events, msgspec.structs.replace(event_of_job(job()), kind="end"))


@contextlib.contextmanager
def silent(far: FarConsole, *events: Any) -> Iterator[None]:
    """Inside, the job's stream says this and no more, and stays open."""
    over = threading.Event()
    pieces = [*Stream.of(*events).pieces, lambda: over.wait(LIMIT_S)]
    far.on("GET", f"jobs/{JOB}/events", Stream(pieces))
    try:
        yield
    finally:
        over.set()


def test_a_short_one(far: FarConsole, tmp_path: Path) -> None:
    """One request with a key, one for the whole output."""
    invokes(far)
    assert run(far, tmp_path, Told()).job.state == "succeeded"
    (body,) = (body for method, _, _, body in far.asked if method == "POST")
    assert body["capability"] == "echo" and body["input_json"] == {"a": 1}
    assert body["timeout_ms"] == 5_000 and len(body["idempotency_key"]) == 36


def test_two_calls_have_two_keys(far: FarConsole, tmp_path: Path) -> None:
    """A client that asks twice means it."""
    assert ASKED.body().idempotency_key != ASKED.body().idempotency_key


def test_a_long_one_is_followed(far: FarConsole, tmp_path: Path) -> None:
    """Its progress is told in the device's words, cleaned; also that a person is asked."""
    invokes(far, state="dispatched", success=False)
    events = [
        event_of_job(job(state="queued")),
        event_of_job(RUNNING),
        event_of_job(RUNNING, 0.5, "half\u202e"),
        event_of_job(job(state="awaiting_local_mediation", waiting_for="mediation")),
    ]
    far.on("GET", f"jobs/{JOB}/events", ending(*events))
    told = Told()
    run(far, tmp_path, told)
    assert told.heard == [
        (None, "It waits for the device."),
        (None, "It runs."),
        (0.5, "half\\u202e"),
        (None, "The person at the device is asked."),
    ]


def test_one_that_waits_for_approval_is_not_waited_for(far: FarConsole, tmp_path: Path) -> None:
    """At once, and when a rule asks later on."""
    invokes(far, state="queued", waiting_for="approval", success=False)
    run(far, tmp_path, Told())
    invokes(far, state="queued", success=False)
    waits = event_of_job(job(state="queued", waiting_for="approval"))
    far.on("GET", f"jobs/{JOB}/events", Stream.of(waits))
    told = Told()
    run(far, tmp_path, told)
    assert not told.heard


def test_a_stream_that_breaks_is_opened_again(far: FarConsole, tmp_path: Path) -> None:
    """The gateway restarts; the call goes on."""
    invokes(far, state="dispatched", success=False)
    broken = Stream.of(event_of_job(RUNNING), cut=True)
    far.on("GET", f"jobs/{JOB}/events", [broken, broken, broken, ending()])
    assert run(far, tmp_path, Told()).job.state == "succeeded"


def test_the_job_of_a_lost_call_is_named(far: FarConsole, tmp_path: Path) -> None:
    """It may still run."""
    invokes(far, state="dispatched", success=False)
    far.on("GET", f"jobs/{JOB}/events", problem("revoked"), status=401)
    with pytest.raises(CallInterrupted) as lost:
        run(far, tmp_path, Told())
    assert lost.value.job_id == JOB and isinstance(lost.value.cause, GatewayRefused)


def test_who_hears_no_progress_is_answered_in_time(far: FarConsole, tmp_path: Path) -> None:
    """With the state of then: clients give up on a silent server."""
    invokes(far, state="dispatched", success=False)
    far.on("GET", f"jobs/{JOB}", job_answer(None, state="dispatched"))
    with silent(far):
        answer = run(far, tmp_path, Told(wanted=False), patience_s=0.01)
    assert answer.job.state == "dispatched"
    assert not [path for _, path, _, _ in far.asked if path.endswith("cancel")]


def test_a_call_that_is_cancelled_ends_its_job(far: FarConsole, tmp_path: Path) -> None:
    """While it is followed."""
    invokes(far, state="dispatched", success=False)

    async def act() -> None:
        async with asking(far, tmp_path) as gateway, anyio.create_task_group() as group:

            class Cancelling(Told):
                async def tell(self, fraction: float | None, text: str) -> None:
                    group.cancel_scope.cancel()

            await Calls(gateway).run(ASKED, Cancelling())

    with silent(far, event_of_job(RUNNING)):
        asynchronously(act)
    (body,) = (body for _, path, _, body in far.asked if path.endswith("/cancel"))
    assert body == {"reason": CANCELLED}


def test_a_call_that_is_cancelled_early_ends_its_job_too(far: FarConsole, tmp_path: Path) -> None:
    """Before its id was known: the request was out, and a job may exist."""
    invokes(far, state="dispatched", success=False)

    async def act() -> None:
        async with asking(far, tmp_path) as gateway, anyio.create_task_group() as group:
            group.cancel_scope.cancel()
            await Calls(gateway).run(ASKED, Told())

    asynchronously(act)
    assert [path for _, path, _, _ in far.asked if path.endswith("/cancel")]
    far.on("POST", f"jobs/{JOB}/cancel", problem(), status=409)
    asynchronously(act)
