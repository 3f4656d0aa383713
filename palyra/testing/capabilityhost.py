"""Runs the capabilities of a plugin as a node does: the same checks, runners and limits.

What is given as a module or as :class:`Capability` values runs in a thread of this process, where a
debugger and a coverage tool see it; what is given as the name of an installed distribution runs in
a worker process of that distribution.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType, TracebackType
from typing import Any, TypeVar

import attrs
import msgspec

from palyra.capability.catalogue import Offer
from palyra.capability.context import CapabilityContext, DeviceFacts
from palyra.capability.descriptor import Capability
from palyra.capability.outcome import Outcome, OutcomeKind
from palyra.capability.registry import load_here
from palyra.capability.runner import ThreadRunner
from palyra.config.jobs import JobsSection
from palyra.config.node import WorkerSection
from palyra.core.schemas import Checker
from palyra.errors import InputInvalid, PalyraError, PayloadTooLarge
from palyra.node.finding import pool_settings
from palyra.plugins.configured import settings_of
from palyra.workers.describing import Described
from palyra.workers.pool import GRACE_S, WorkerPool
from palyra.workers.runners import Runners
from palyra.workers.spawning import WORKER_ARGV

T = TypeVar("T")
Source = str | ModuleType | Capability | Sequence[Capability]
"""A plugin: the name of an installed distribution, a module with the hooks, or capabilities."""

DEVICE = DeviceFacts(
    device_id="01JTESTDEVICE0000000000000",
    identity_fingerprint="0" * 64,
    grpc_url="https://gateway.example.org:7444",
    paired_at_unix_ms=1_700_000_000_000,
    poll_interval_ms=15_000,
    name="test-device",
)
_PATIENCE_S = 60.0
_LOOK_S = 0.005


@attrs.frozen(slots=True)
class Progress:
    """What a handler said of how far it is; ``fraction`` is 0 to 1, None where unknown."""

    fraction: float | None
    text: str


@attrs.frozen(slots=True)
class RunResult:
    """How a run ended.

    ``output`` is the JSON that was answered, as plain values; None where nothing was.  ``stopped``
    is False where the handler did not end when it was told to.  ``stderr`` is what was read
    of what its process has written, stdout too, since the run before; the rest comes with the next
    one.  A thread writes where its test does, and it is empty.
    """

    kind: OutcomeKind
    output: Any = None
    error_code: str = ""
    error: str = ""
    progress: tuple[Progress, ...] = ()
    stopped: bool = True
    stderr: str = ""

    @property
    def succeeded(self) -> bool:
        """Whether the handler answered, with what its output type allows."""
        return self.kind is OutcomeKind.SUCCEEDED

    def typed(self, type_: type[T]) -> T:
        """The output as a value of that type; AssertionError where the run did not succeed."""
        assert self.succeeded, f"{self.kind.value}: {self.error}"
        return msgspec.convert(self.output, type_)


class CapabilityHost:
    """Runs what one plugin offers.  Close it at the end; as a context manager it does so itself."""

    def __init__(
        self, source: Source, *, argv: Sequence[str] = WORKER_ARGV, grace_s: float = GRACE_S
    ) -> None:
        """``grace_s`` is how long a handler has to end when it is told to, in seconds; ``argv``
        what starts a worker.  Nothing is imported or started yet."""
        self.source = source
        self.grace_s = grace_s
        self._written: list[str] = []
        self._pool = WorkerPool(
            pool_settings(WorkerSection()),
            argv=argv,
            grace_s=grace_s,
            log=lambda distribution, line: self._written.append(line),
        )
        self._runners = Runners(ThreadRunner(grace_s=grace_s), self._pool)
        self._looked: tuple[list[Offer], Described] | None = None

    def __enter__(self) -> CapabilityHost:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every run and every process."""
        self._runners.close()

    # -- what there is ----------------------------------------------------------------------

    @property
    def offers(self) -> Mapping[str, Offer]:
        """What the plugin offers, by name, without what cannot be used."""
        if self._looked is None:
            self._looked = self.look()
        return {each.name: each for each in self._looked[0]}

    @property
    def faults(self) -> Mapping[str, str]:
        """What of the plugin cannot be used, and why."""
        if self._looked is None:
            self._looked = self.look()
        return {each.name: each.sentence for each in self._looked[1].faults}

    def look(self) -> tuple[list[Offer], Described]:
        """Find out anew what there is: offers, and what the plugin says of itself."""
        if isinstance(self.source, str):
            said = self._pool.describe(self.source)
            return [Offer(each) for each in said.descriptors], said
        offers, faults = _of_module(self.source)
        descriptors = tuple(each.descriptor for each in offers)
        return offers, Described(descriptors, tuple(faults))

    def take_written(self) -> str:
        """What processes of the plugin have written since the last call; then it is forgotten."""
        written, self._written[:] = "\n".join(self._written), []
        return written

    # -- running ----------------------------------------------------------------------------

    def run(
        self,
        capability: str | Capability,
        input: Any = msgspec.UNSET,
        *,
        settings: Mapping[str, Any] | None = None,
        timeout_s: float | None = None,
        cancel_after: float | None = None,
        cancel_on_progress: bool = False,
        max_payload_bytes: int = JobsSection().max_payload_bytes,
        device: DeviceFacts = DEVICE,
    ) -> RunResult:
        """Run a capability to its end.

        ``input`` is any value that has a JSON form, or JSON as bytes; without one it is ``{}``.  It
        is checked against the schema as a gateway does.  ``settings`` are as they stand in
        palyra.toml, a secret as ``{"file": PATH}``.  ``timeout_s`` is what the caller of the job
        asks for; without it the capability's own.  The run is cancelled ``cancel_after`` seconds
        after it was asked for, or at its first progress.

        :raises SettingsInvalid: a node would not offer the capability with these settings.
        :raises ValueError: the plugin offers no such capability.
        """
        offer = self._offer(capability)
        given = settings_of(offer.descriptor, settings or {})
        offer = attrs.evolve(offer, settings=given)
        raw = _encoded(input)
        if refusal := _refused(offer, raw, max_payload_bytes):
            return refusal
        return self.perform(
            offer,
            raw,
            timeout_s=timeout_s,
            cancel=_cancel_of(cancel_after, cancel_on_progress),
            max_payload_bytes=max_payload_bytes,
            device=device,
        )

    def perform(
        self,
        offer: Offer,
        raw: bytes,
        *,
        timeout_s: float | None = None,
        cancel: Callable[[Watched], None] | None = None,
        max_payload_bytes: int = JobsSection().max_payload_bytes,
        device: DeviceFacts = DEVICE,
    ) -> RunResult:
        """As :meth:`run`, of input that no gateway has looked at.

        ``cancel`` waits until the run is to be cancelled.
        """
        whole_s = offer.descriptor.timeout_ms / 1000
        limit_s = whole_s if timeout_s is None else timeout_s
        watched = Watched()
        context = CapabilityContext(
            "01JTESTJOB0000000000000000",
            device,
            deadline_s=time.monotonic() + limit_s,
            on_progress=watched.progressed,
        )
        run = self._runners.start(offer, raw, context, max_payload_bytes, watched.ended)
        watched.has_begun = lambda: run.began
        if cancel is not None:
            cancel(watched)
            run.cancel()
        return watched.result(limit_s + self.grace_s + _PATIENCE_S, self.take_written)

    def _offer(self, capability: str | Capability) -> Offer:
        name = capability if isinstance(capability, str) else capability.name
        if isinstance(capability, Capability) and not isinstance(self.source, str):
            return Offer(capability.descriptor(), capability)
        if name not in self.offers:
            wrong = "".join(f"; {each}: {why}" for each, why in self.faults.items())
            known = ", ".join(self.offers) or "nothing"
            raise ValueError(f"there is no {name}; the plugin offers {known}{wrong}")
        return self.offers[name]


class Watched:
    """What is heard of one run; called by the threads of a runner."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.moved = threading.Event()
        self.has_begun: Callable[[], bool] = lambda: False
        self._progress: list[Progress] = []
        self._outcome: Outcome | None = None

    def progressed(self, fraction: float | None, text: str) -> None:
        """It said how far it is."""
        self._progress.append(Progress(fraction, text))
        self.moved.set()

    def ended(self, outcome: Outcome) -> None:
        """It is over."""
        self._outcome = outcome
        self.moved.set()
        self.done.set()

    def began(self) -> None:
        """Wait until its handler has been called, or it is over."""
        while not self.has_begun() and not self.done.wait(_LOOK_S):
            pass

    def result(self, limit_s: float, written: Callable[[], str]) -> RunResult:
        """Wait for its end.  TimeoutError where the runner broke its promise of one."""
        if not self.done.wait(limit_s) or self._outcome is None:
            raise TimeoutError(f"the run did not end within {limit_s:g} s")
        return _result(self._outcome, tuple(self._progress), written())


def _cancel_of(
    cancel_after: float | None, cancel_on_progress: bool
) -> Callable[[Watched], None] | None:
    if cancel_on_progress:
        return lambda watched: _wait(watched.moved, cancel_after)
    if cancel_after is not None:
        return lambda watched: _wait(watched.done, cancel_after)
    return None


def _wait(event: threading.Event, limit_s: float | None) -> None:
    event.wait(limit_s)


def _encoded(value: Any) -> bytes:
    if value is msgspec.UNSET:
        return b"{}"
    return value if isinstance(value, bytes) else msgspec.json.encode(value)


def _refused(offer: Offer, raw: bytes, max_payload_bytes: int) -> RunResult | None:
    """What a gateway says to this input, or None where it lets it pass."""
    try:
        if len(raw) > max_payload_bytes:
            raise PayloadTooLarge("input", len(raw), max_payload_bytes)
        _check(offer, raw)
    except PalyraError as error:
        return RunResult(OutcomeKind.FAILED, None, error.code, error.sentence)
    return None


def _check(offer: Offer, raw: bytes) -> None:
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise InputInvalid("input", "is not JSON", offer.name) from exc
    faults = Checker(offer.descriptor.input_schema).faults(value)
    if faults:
        raise InputInvalid.of([(each.field, each.problem) for each in faults], offer.name)


def _result(outcome: Outcome, progress: tuple[Progress, ...] = (), written: str = "") -> RunResult:
    answered = outcome.kind is OutcomeKind.SUCCEEDED
    return RunResult(
        outcome.kind,
        msgspec.json.decode(outcome.output) if answered else None,
        outcome.error_code,
        outcome.error_sentence,
        progress,
        outcome.stopped,
        written,
    )


# -- a plugin that is imported here -------------------------------------------------------------


@attrs.frozen
class _Imported:
    """A module as if it had been found through an entry point."""

    module: ModuleType
    name: str
    dist: None = None

    def load(self) -> ModuleType:
        """The module."""
        return self.module


def _of_module(
    source: ModuleType | Capability | Sequence[Capability],
) -> tuple[list[Offer], Sequence[Any]]:
    if isinstance(source, ModuleType):
        return load_here([_Imported(source, source.__name__)])
    each = [source] if isinstance(source, Capability) else source
    return [Offer(one.descriptor(), one) for one in each], ()
