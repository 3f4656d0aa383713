"""What a pool keeps: a run that waits or is worked on, and a place with a worker in it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import attrs
import msgspec

from palyra.capability.catalogue import Offer
from palyra.capability.context import CapabilityContext, DeviceFacts
from palyra.capability.frames import Facts, PluginFault, Result, Run
from palyra.capability.outcome import Outcome, OutcomeKind, failed, interrupted, succeeded
from palyra.capability.wording import one_line
from palyra.errors import WorkerDied
from palyra.workers.process import State, Worker

_MAX_ERROR = 1024
_LONGEST_S = 7 * 86_400.0
_CODE_SIGNS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_")
_KINDS = {kind.value: kind for kind in OutcomeKind}


@attrs.define(eq=False, repr=False)
class PoolRun:
    """One run of an offer; :meth:`cancel` is all a caller does with it."""

    offer: Offer
    input_bytes: bytes
    context: CapabilityContext
    max_output_bytes: int
    on_done: Callable[[Outcome], None]
    on_cancel: Callable[[PoolRun], None]
    place: Place | None = None
    tries: int = 0
    began: bool = False
    done: bool = False
    interrupted_as: OutcomeKind | None = None
    give_up_at: float = math.inf

    def cancel(self) -> None:
        """Ask the run to end; its outcome tells whether it did.  Safe from any thread, any time."""
        self.on_cancel(self)

    @property
    def name(self) -> str:
        """Of its capability."""
        return self.offer.name

    def next_look(self) -> float:
        """When time has something to do with this run again."""
        return self.context.deadline_s if self.interrupted_as is None else self.give_up_at

    def frame(self, run_id: int, now: float) -> Run:
        """What a worker is told."""
        return Run(
            run_id=run_id,
            job_id=self.context.job_id,
            capability=self.name,
            input=msgspec.Raw(self.input_bytes or b"{}"),
            settings=msgspec.Raw(self.offer.settings or b"null"),
            remaining_ms=max(1, int(min(self.context.deadline_s - now, _LONGEST_S) * 1000)),
            max_output_bytes=self.max_output_bytes,
            device=_facts(self.context.device),
        )

    def interruption(self, *, stopped: bool) -> Outcome:
        """The outcome of a run that was interrupted, by what interrupted it."""
        kind = self.interrupted_as or OutcomeKind.CANCELLED
        return interrupted(kind, self.name, began=self.began, stopped=stopped)

    def death(self, cause: str, *, gone: bool) -> Outcome:
        """The outcome of a run whose worker died."""
        if self.interrupted_as is not None:
            return self.interruption(stopped=gone)
        return attrs.evolve(failed(WorkerDied(self.name, cause)), stopped=gone)

    def outcome(self, result: Result) -> Outcome:
        """What its worker says, put into our words."""
        kind = _KINDS[result.kind]
        if self.interrupted_as is OutcomeKind.TIMED_OUT:
            return self.interruption(stopped=True)
        if kind is OutcomeKind.SUCCEEDED:
            return succeeded(bytes(result.output))
        if kind is OutcomeKind.FAILED:
            sentence = one_line(result.error, _MAX_ERROR)
            return Outcome(kind, b"", _code(result.error_code), sentence)
        return interrupted(kind, self.name, began=self.began, stopped=True)


@attrs.define(eq=False, repr=False)
class Place:
    """Where one worker of a distribution runs; the pool has ``max_workers`` of these.

    ``since_s`` is when it came into its state; ``worker`` is None until it was spawned.
    """

    key: str
    distribution: str
    since_s: float
    worker: Worker | None = None
    state: State = State.STARTING
    fresh: bool = True
    """Whether it was started after the last reload."""
    was_ready: bool = False
    runs: int = 0
    run: PoolRun | None = None
    contracts: Mapping[str, str] = attrs.Factory(dict)
    faults: Sequence[PluginFault] = ()

    def become(self, state: State, now: float) -> None:
        """Go into a state."""
        self.state = state
        self.since_s = now


def _code(text: str) -> str:
    """An error code that a worker named; a code is a word that programs compare."""
    return text if text and _CODE_SIGNS.issuperset(text) else "handler_failed"


def _facts(device: DeviceFacts) -> Facts:
    return Facts(
        device.device_id,
        device.identity_fingerprint,
        device.grpc_url,
        device.paired_at_unix_ms,
        device.poll_interval_ms,
        device.name,
    )
