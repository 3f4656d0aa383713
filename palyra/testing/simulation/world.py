"""The world: one gateway, some devices, what is between them, and the steps that a seed makes."""

from __future__ import annotations

import gc
from random import Random

import attrs
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

from palyra.errors import PalyraError
from palyra.store.memory import MemoryStore
from palyra.testing.simulation.callers import Callers
from palyra.testing.simulation.checks import SETTLED_S, Checks
from palyra.testing.simulation.clock import EPOCH_S, HostClock, Timeline
from palyra.testing.simulation.device import SimulatedDevice
from palyra.testing.simulation.disk import GatewayDisk
from palyra.testing.simulation.faults import Faults
from palyra.testing.simulation.gateway import Gateway
from palyra.testing.simulation.network import Link
from palyra.testing.simulation.pairing import pair
from palyra.testing.simulation.trace import Trace, Violation
from palyra.testing.simulation.work import Ledger


@attrs.frozen
class Result:
    """What a run was: how much time passed in it, how much happened, and its trace's hash."""

    seed: int
    steps: int
    simulated_s: float
    events: int
    jobs: int
    faults: dict[str, int]
    digest: str


@implementer(ILogObserver)
class World:
    """Everything that one seed decides."""

    def __init__(self, seed: int, steps: int, *, keep_trace: bool = False) -> None:
        self.seed = seed
        self.steps = steps
        self.step = 0
        self.random = Random(f"palyra {seed}")
        self.timeline = Timeline()
        self.trace = Trace(keep=keep_trace)
        self.wall_offset = 0.0
        self.set_back_s = 0.0
        self.grain_s = self.random.choice([0.1, 0.25, 0.5, 1.0])
        self.gateway: Gateway | None = None
        self.devices: dict[str, SimulatedDevice] = {}
        self.ledger = Ledger()
        store = MemoryStore(now_ms=self.now_ms, entropy=self.random.randbytes)
        self.disk = GatewayDisk(self.random, store)
        self.checks = Checks(store, self.ledger)
        self.callers = Callers(
            random=self.random, checks=self.checks, say=self.say, violated=self._violated
        )
        self.disk.committed = self._committed
        self._violation: BaseException | None = None
        for number in range(self.random.randint(1, 4)):
            self._add_device(f"dev{number}")
        self.faults = Faults(self)

    # -- running ----------------------------------------------------------------------------------

    def run(self) -> Result:
        """Make every step, then let all faults end.

        :raises Violation: a promise was broken.
        """
        globalLogPublisher.addObserver(self)
        try:
            self._run()
        except Exception as error:
            raise self._explained(error) from error
        finally:
            globalLogPublisher.removeObserver(self)
            self._bury()
        return Result(
            self.seed,
            self.steps,
            self.timeline.now,
            self.timeline.events,
            len(self.checks.jobs),
            dict(self.trace.faults),
            self.trace.digest,
        )

    def _run(self) -> None:
        self.start_gateway()
        for device in self.devices.values():
            device.start()
        self.pass_time(self.random.uniform(0.0, 8.0))
        while self.step < self.steps:
            self.step += 1
            self._one_step()
        self._settle()

    def _one_step(self) -> None:
        self.faults.act() if self.random.random() < self.faults.share else self._call()
        self.pass_time(self._pause_s())

    def _pause_s(self) -> float:
        """Mostly a moment, so that much falls together; sometimes long enough to time out."""
        kind = self.random.random()
        if kind < 0.75:
            return self.random.uniform(0.0, 0.05)
        return self.random.uniform(0.0, 2.0) if kind < 0.96 else self.random.uniform(2.0, 60.0)

    def pass_time(self, seconds: float) -> None:
        """Let the world go on for a while, and look whether all is well."""
        self.timeline.advance(seconds)
        self._raise_kept()
        self.checks.after_step()
        self.callers.check()

    def _settle(self) -> None:
        """All faults end, and time passes until every job is final."""
        self.say("all faults end")
        self.faults.heal()
        over = self.timeline.now + SETTLED_S + self.set_back_s
        quiet = 0
        while self.timeline.now < over and quiet < 2:
            self.pass_time(10.0)
            quiet = 0 if self.checks.unfinished else quiet + 1
        self.checks.at_end()
        self.callers.check_end()
        self._bury()
        gc.collect()  # what nobody took of a Deferred is told when it is gone
        self._raise_kept()

    # -- callers --------------------------------------------------------------------------------

    def _call(self) -> None:
        gateway = self.gateway
        if gateway is None:
            return
        callers, random = self.callers, self.random
        devices = gateway.inventory.devices()
        device = random.choice(devices)
        jobs = self.checks.jobs[-20:]
        chosen = random.random()
        if chosen < 0.30:
            callers.submit(gateway, device)
        elif chosen < 0.45:
            callers.submit_keyed(gateway, device)
        elif chosen < 0.70:
            callers.run(gateway, device)
        elif chosen < 0.80 and jobs:
            callers.cancel(gateway, random.choice(jobs))
        elif chosen < 0.87 and jobs:
            callers.wait(gateway, random.choice(jobs))
        elif chosen < 0.93 and jobs:
            callers.follow(gateway, random.choice(jobs))
        else:
            callers.fan_out(gateway, devices)

    # -- the gateway ------------------------------------------------------------------------------

    def start_gateway(self) -> None:
        """A gateway starts on what is durable."""
        clock = HostClock(self.timeline, lambda: self.wall_offset, self.grain_s)
        ids = {device.name: device.device_id for device in self.devices.values()}
        gateway = Gateway(disk=self.disk, clock=clock, random=self.random, devices=ids)
        gateway.start()
        self.gateway = gateway

    def crash_gateway(self, *, told: bool) -> None:
        """The gateway's process dies; what was not durable is gone."""
        gateway, self.gateway = self.gateway, None
        if gateway is not None:
            gateway.clock.kill()
            self.callers.gateway_gone(gateway)
            for device in self.devices.values():
                device.link.gateway_died(told=told)

    def now_ms(self) -> int:
        """The gateway's time of day."""
        return int((EPOCH_S + self.timeline.now + self.wall_offset) * 1000)

    # -- what is noticed ------------------------------------------------------------------------

    def say(self, text: str) -> None:
        """A line of the trace."""
        self.trace.say(self.timeline.now, text)

    def jump(self, seconds: float) -> None:
        """The gateway's wall clock jumps; what waits for a time of day waits longer if back."""
        self.wall_offset += seconds
        self.set_back_s += max(0.0, -seconds)

    def fault(self, kind: str, text: str = "") -> None:
        """A fault is made."""
        self.trace.faults[kind] += 1
        self.say(f"FAULT {kind} {text}")

    def _committed(self, group: list[tuple[str, tuple[object, ...]]]) -> None:
        for job in self.checks.committed(group):
            name = job.call.device_name
            self.say(f"durable: {job.call.job_id} {job.call.capability} {name} {job.state.value}")

    def __call__(self, event: LogEvent) -> None:
        """What no room foresaw is logged as a failure, and is a violation here."""
        failure = event.get("log_failure")
        if not isinstance(failure, Failure) or failure.value is None:
            return
        if event.get("log_namespace") == "twisted.internet.defer":
            text = f"nobody took {failure.value!r}: {event.get('debugInfo', '')}"
            self._violated(Violation(text))
        elif not failure.check(PalyraError):
            self._violated(failure.value)

    def _violated(self, error: BaseException) -> None:
        """The first violation is the one to tell of."""
        self._violation = self._violation or error

    def _raise_kept(self) -> None:
        violation, self._violation = self._violation, None
        if violation is not None:
            raise violation

    def _explained(self, error: Exception) -> Violation:
        what = str(error) if isinstance(error, Violation) else f"{type(error).__name__}: {error}"
        return Violation(
            f"seed {self.seed}, step {self.step} of {self.steps}: {what}\n{self.trace.last()}\n"
            f"replay: python -m palyra.testing.simulate --seed {self.seed} --steps {self.steps}"
        )

    def _bury(self) -> None:
        """End every life, so that nothing is left behind for the next world."""
        self.crash_gateway(told=False)
        for device in self.devices.values():
            device.crash(lose_memory=False, told=False)

    # -- devices ----------------------------------------------------------------------------------

    def _add_device(self, name: str) -> None:
        """A device that is paired, and not running yet."""
        random = self.random
        device_id = pair(self.disk.store, name, self.now_ms(), random)
        own = Random(random.random())
        link = Link(
            name,
            own,
            self.timeline,
            lambda: self.gateway,
            delay_s=random.choice([0.0005, 0.005, 0.05, 0.3]),
        )
        self.devices[name] = SimulatedDevice(
            name=name,
            device_id=device_id,
            timeline=self.timeline,
            link=link,
            random=own,
            ledger=self.ledger,
        )
        self.devices[name].disk.acknowledged = self.checks.acknowledged
