"""Callers: operators and programs that submit, wait, cancel, fan out and repeat themselves."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import attrs
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure

from palyra.core.devices import Device
from palyra.core.frames import JobUpdate
from palyra.core.identifiers import FanoutId, JobId
from palyra.core.jobs import Job
from palyra.errors import (
    DeviceOffline,
    Draining,
    IdempotencyConflict,
    JobFinal,
    JobStillRunning,
    NotFound,
    PalyraError,
)
from palyra.gateway.fanouts import FanoutView
from palyra.gateway.orders import FanoutOrder, Order
from palyra.testing.simulation.checks import Checks
from palyra.testing.simulation.gateway import Gateway
from palyra.testing.simulation.trace import Violation
from palyra.testing.simulation.work import BEHAVIOURS, INPUT_SIZES, OUTPUT_SIZES, input_of

SLACK_S = 3.0
"""How much later than its limit a caller may hear: two turns of the wheel on a busy machine."""
SCOPE = "ana POST /nodes/{id}/invoke"
FANOUT_SCOPE = "ana POST /jobs"


@attrs.define(eq=False)
class Call:
    """One caller who waits for an answer of one life of the gateway."""

    number: int
    what: str
    gateway: Gateway
    until_s: float | None
    """On the gateway's clock of elapsed time."""


@attrs.define(eq=False)
class Keyed:
    """A call under an idempotency key, as its caller would repeat it."""

    order: Order
    key: str
    became: JobId | None = None


class Callers:
    """Everybody who wants something; they outlive the gateway and remember what they were told."""

    def __init__(
        self,
        *,
        random: Random,
        checks: Checks,
        say: Callable[[str], None],
        violated: Callable[[Exception], None],
    ) -> None:
        self._random = random
        self._checks = checks
        self._say = say
        self._violated = violated
        self._open: list[Call] = []
        self._calls = 0
        self._keyed: list[Keyed] = []
        self._fanned: list[tuple[FanoutOrder, str]] = []
        self._became: dict[str, FanoutId] = {}

    # -- what they do -----------------------------------------------------------------------------

    def submit(self, gateway: Gateway, device: Device) -> None:
        """A call, for whose end nobody waits."""
        order = self._order(device)
        call = self._called(gateway, f"submit {order.capability} on {device.name}", None)
        done = maybeDeferred(gateway.dispatcher.submit, order)
        done.addBoth(self._answered, call, self._accepted)

    def submit_keyed(self, gateway: Gateway, device: Device) -> None:
        """A call with a key: a new one, or one that is made again."""
        again = self._keyed and self._random.random() < 0.6
        if again:
            keyed = self._random.choice(self._keyed)
        else:
            keyed = Keyed(self._order(device), f"key {len(self._keyed)}")
            self._keyed.append(keyed)
        call = self._called(gateway, f"submit under {keyed.key}", None)

        def accepted(job: Job) -> None:
            self._accepted(job)
            if keyed.became not in (None, job.call.job_id):
                raise Violation(f"{keyed.key} made two jobs: {keyed.became}, {job.call.job_id}")
            keyed.became = job.call.job_id

        made = gateway.submission.to_one(lambda: keyed.order, SCOPE, keyed.key, repr(keyed.order))
        Deferred.fromCoroutine(made).addBoth(self._answered, call, accepted)

    def run(self, gateway: Gateway, device: Device) -> None:
        """A call whose caller waits, for ever or up to a limit."""
        order = self._order(device)
        wait_s = None if self._random.random() < 0.3 else self._random.uniform(0.5, 40.0)
        call = self._called(gateway, f"run {order.capability} on {device.name}", wait_s)
        wait_ms = None if wait_s is None else int(wait_s * 1000)
        limit = None if wait_ms is None else lambda _: wait_ms
        done = maybeDeferred(gateway.dispatcher.run, order, limit)
        done.addBoth(self._answered, call, self._checks.told_final)

    def wait(self, gateway: Gateway, job: Job) -> None:
        """Somebody looks at a job until it ends or the limit is over."""
        wait_s = self._random.uniform(0.5, 30.0)
        call = self._called(gateway, f"wait for {job.call.job_id}", wait_s)
        done = gateway.dispatcher.wait(job, int(wait_s * 1000))
        done.addBoth(self._answered, call, self._looked)

    def cancel(self, gateway: Gateway, job: Job) -> None:
        """Somebody wants a job to end."""
        call = self._called(gateway, f"cancel {job.call.job_id}", None)
        done = maybeDeferred(gateway.dispatcher.cancel, job.call.job_id)
        done.addBoth(self._answered, call, self._looked)

    def follow(self, gateway: Gateway, job: Job) -> None:
        """Somebody watches a job: what is taken is on record, and the end comes last."""
        call = self._called(gateway, f"follow {job.call.job_id}", None)

        def look() -> None:
            gateway.clock.soon(self._random.uniform(0.0, 0.5), take)

        def take() -> None:
            for update in following.take():
                self._guarded(self._looked, update.job)
            if following.finished and call in self._open:
                self._open.remove(call)
                self._say(f"caller {call.number}: {call.what} -> the end")

        following = gateway.followers.follow(job.call.job_id, look)
        current = gateway.dispatcher.job(job.call.job_id)
        current.addCallback(lambda found: following.tell(JobUpdate(found)))
        current.addErrback(lambda failure: failure.trap(PalyraError))

    def fan_out(self, gateway: Gateway, devices: list[Device]) -> None:
        """One call to many devices, often with a key under which it is made again."""
        if self._fanned and self._random.random() < 0.3:
            order, key = self._random.choice(self._fanned)
        else:
            order, key = self._fanout_order(devices), f"fan-out {len(self._fanned)}"
            self._fanned.append((order, key))
        call = self._called(gateway, f"fan out {order.capability} under {key}", None)

        def accepted(view: FanoutView) -> None:
            self._checks.told_fanout(view.fanout, len(order.devices))
            became = self._became.setdefault(key, view.fanout.fanout_id)
            if became != view.fanout.fanout_id:
                raise Violation(f"{key} made two fan-outs: {became}, {view.fanout.fanout_id}")

        made = gateway.submission.to_many(lambda: order, FANOUT_SCOPE, key, repr(order))
        done = Deferred.fromCoroutine(made)
        done.addBoth(self._answered, call, accepted)

    def _fanout_order(self, devices: list[Device]) -> FanoutOrder:
        chosen = self._random.sample(devices, self._random.randint(1, len(devices)))
        batch = self._random.choice([None, None, 1, 2])
        return FanoutOrder(
            devices=tuple(chosen),
            expression="",
            batch=batch,
            max_failures=self._random.choice([None, 0, 1]),
            **self._asked(),
        )

    # -- what they are told -----------------------------------------------------------------------

    def gateway_gone(self, gateway: Gateway) -> None:
        """Its connections are gone: whoever waited there knows nothing."""
        self._open = [call for call in self._open if call.gateway is not gateway]

    def check(self) -> None:
        """Everybody hears by their limit, wherever the time of day goes meanwhile."""
        for call in self._open:
            if call.until_s is not None and call.gateway.clock.elapsed_s() > call.until_s + SLACK_S:
                raise Violation(f"caller {call.number} ({call.what}) was not answered in time")

    def check_end(self) -> None:
        """Nobody waits any more."""
        for call in self._open:
            raise Violation(f"caller {call.number} ({call.what}) was never answered")

    def _answered(self, result: Any, call: Call, check: Callable[[Any], object]) -> None:
        if call.gateway.clock.dead:
            return
        self._open.remove(call)
        refused = isinstance(result, Failure)
        told = getattr(result.value, "code", repr(result.value)) if refused else _shown(result)
        self._say(f"caller {call.number}: {call.what} -> {told}")
        self._guarded(self._refused if refused else check, result, *([call] if refused else []))

    def _guarded(self, check: Callable[..., object], *arguments: Any) -> None:
        """A violation is told to the world: a Deferred would keep it to itself."""
        try:
            check(*arguments)
        except Exception as error:
            self._violated(error)

    def _refused(self, failure: Failure, call: Call) -> None:
        failure.trap(PalyraError)
        error = failure.value
        if isinstance(error, DeviceOffline) and error.job_id:
            self._checks.told_accepted(JobId(error.job_id))
        if isinstance(error, IdempotencyConflict):
            raise Violation(f"caller {call.number}: the same call conflicts with itself")
        if isinstance(error, Draining) and not call.gateway.draining:
            raise Violation(f"caller {call.number}: told of a stop that was none")
        if isinstance(error, NotFound) and call.what.startswith("cancel"):
            raise Violation(f"caller {call.number}: {call.what}: no such job")
        if isinstance(error, JobFinal | JobStillRunning):
            return

    def _looked(self, job: Job) -> None:
        if job.final:
            self._checks.told_final(job)

    def _accepted(self, job: Job) -> None:
        self._checks.told_accepted(job.call.job_id)

    def _called(self, gateway: Gateway, what: str, wait_s: float | None) -> Call:
        self._calls += 1
        until_s = None if wait_s is None else gateway.clock.elapsed_s() + wait_s
        call = Call(self._calls, what, gateway, until_s)
        self._open.append(call)
        self._say(f"caller {call.number}: {what}")
        return call

    def _order(self, device: Device) -> Order:
        return Order(device_id=device.device_id, **self._asked())

    def _asked(self) -> dict[str, Any]:
        random = self._random
        ttl_ms = random.choice([None, None, 2_000, 30_000, 600_000])
        timeout_ms = random.choice([None, None, 3_000, 15_000])
        return {
            "capability": random.choice(list(BEHAVIOURS)),
            "input_json": input_of(random.choice(INPUT_SIZES), random.choice(OUTPUT_SIZES)),
            "requested_by": "ana",
            "ttl_ms": ttl_ms,
            "timeout_ms": timeout_ms,
        }


def _shown(result: Any) -> str:
    if isinstance(result, Job):
        return f"{result.state.value} {result.call.job_id}"
    return f"fan-out {result.fanout.fanout_id}"
