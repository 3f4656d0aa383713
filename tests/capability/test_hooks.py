"""The hooks around a run: the same in a thread of the host and in a worker."""

from __future__ import annotations

import json
import queue
import sys
import types
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import attrs
import msgspec
import pytest

from palyra.capability import Capability, CapabilityContext, DeviceFacts, hookimpl
from palyra.capability.catalogue import Fault
from palyra.capability.registry import Plugin, load_plugin
from palyra.capability.runner import ThreadRunner

from .distributions import make_capability
from .workers import RawWorker

NAME = "acme.watched"
HOOKS = """
@hookimpl
def palyra_before_run(run, input):
    SEEN.append(["before", run.job_id, run.capability, run.device.name, run.remaining_s > 0, input])
    if input == "refuse":
        raise ValueError("not on a Sunday")
    if input == "leave":
        raise SystemExit(3)

@hookimpl
def palyra_after_run(run, outcome):
    SEEN.append(["after", outcome.kind.value, outcome.output.decode(), outcome.error_code])
    raise SystemExit("the outcome stays what it is")

SEEN = []
"""
BODY = """
if input == "seen":
    return SEEN
if input == "wait":
    await asyncio.sleep(3600)
SEEN.append(["ran"])
return input
"""
Ask = Callable[..., tuple[str, Any, str]]
"""Run with an input: kind, output, error."""


def ask_thread(folder: Path) -> Iterator[Ask]:
    sys.path.append(str(folder))
    try:
        loaded = load_plugin(EntryPoint(NAME, "acme_watched", "palyra.capabilities"))
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop("acme_watched", None)
    assert isinstance(loaded, Plugin), loaded
    (capability,) = loaded.capabilities
    runner = ThreadRunner(1)

    def ask(value: Any, wait_s: float = 60.0) -> tuple[str, Any, str]:
        done: queue.Queue[Any] = queue.Queue()
        device = DeviceFacts("d", "f", "u", 0, 0, "pi")
        context = CapabilityContext("job", device, deadline_s=runner._clock() + wait_s)
        runner.start(capability, msgspec.json.encode(value), context, 4096, done.put)
        outcome = done.get(timeout=30)
        output = json.loads(outcome.output or b"null")
        return outcome.kind.value, output, outcome.error_sentence

    yield ask
    runner.close()


def ask_worker(folder: Path) -> Iterator[Ask]:
    with RawWorker("acme-watched", folder) as worker:
        worker.ready()

        def ask(value: Any, wait_s: float = 60.0) -> tuple[str, Any, str]:
            ran = worker.run(NAME, value, job_id="job", remaining_ms=int(wait_s * 1000)).result
            return ran.kind, json.loads(bytes(ran.output)), ran.error

        yield ask


@pytest.fixture(params=[ask_thread, ask_worker], ids=["thread", "worker"])
def ask(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ask]:
    make_capability(tmp_path, NAME, BODY, head=HOOKS)
    yield from request.param(tmp_path)


def test_they_are_called_around_the_handler(ask: Ask) -> None:
    """Before it with the typed input, after it with the outcome; what that raises is logged."""
    assert ask("paper") == ("succeeded", "paper", "")
    before = ["before", "job", NAME, "pi", True]
    assert ask("seen")[1] == [
        [*before, "paper"],
        ["ran"],
        ["after", "succeeded", '"paper"', ""],
        [*before, "seen"],
    ]


@pytest.mark.parametrize(
    ("value", "sentence"),
    [("refuse", "ValueError: not on a Sunday"), ("leave", "SystemExit: 3")],
)
def test_before_may_refuse(ask: Ask, value: str, sentence: str) -> None:
    """The handler is not called, and the run fails with what the plugin said."""
    assert ask(value) == ("failed", None, sentence)
    seen = ask("seen")[1]
    assert ["ran"] not in seen
    assert ["after", "failed", "", "handler_failed"] in seen


def test_after_is_told_of_the_end_of_time(ask: Ask) -> None:
    """Also the run that was interrupted has an outcome."""
    assert ask("wait", 0.3)[0] == "timed_out"
    assert ["after", "timed_out", "", "timed_out"] in ask("seen")[1]


def test_an_input_that_does_not_fit_comes_to_no_hook(tmp_path: Path) -> None:
    """Hooks see typed inputs only; the outcome of what never began is not their business."""
    head = HOOKS.replace("SEEN = []", "SEEN = []\nif True: input = None")
    make_capability(tmp_path, NAME, BODY, head=head, options="input_type=str")
    for ask in ask_worker(tmp_path):
        assert ask(5)[0] == "failed"
        assert [each[0] for each in ask("seen")[1]] == ["before"]


@attrs.frozen
class Point:
    name: str
    module: types.ModuleType
    dist: Any = None

    def load(self) -> types.ModuleType:
        return self.module


async def handle(value: Any, context: CapabilityContext) -> None: ...


def loaded(**hooks: Callable[..., Any]) -> Plugin | Fault:
    module = types.ModuleType("plugin")
    offered = Capability(name="a.b", description="Test.", handler=handle)

    def palyra_capabilities() -> list[Capability]:
        return [offered]

    functions = {"palyra_capabilities": palyra_capabilities, **hooks}
    for name, function in functions.items():
        function.__name__ = name
        module.__dict__[name] = hookimpl(function)
    return load_plugin(Point("a.b", module))


def test_a_plugin_without_them_pays_nothing() -> None:
    """Its capabilities have no hooks to call."""
    plugin = loaded()
    assert isinstance(plugin, Plugin)
    assert plugin.capabilities[0].hooks is None


def test_an_async_hook_is_a_fault() -> None:
    """It would never run; the author is told when the plugin is loaded."""

    async def before(run: Any, input: Any) -> None: ...

    fault = loaded(palyra_before_run=before)
    assert isinstance(fault, Fault)
    assert fault.sentence == "palyra_before_run: must be a plain def, not async."


def test_an_argument_that_there_is_not_is_a_fault() -> None:
    """A hook takes what its specification has, or less."""
    assert isinstance(loaded(palyra_after_run=lambda run: None), Plugin)
    assert isinstance(loaded(palyra_after_run=lambda job: None), Fault)
