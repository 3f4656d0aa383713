"""The world: one gateway, some devices, what is between them, and the steps that a seed makes."""

from __future__ import annotations

import gc
from collections.abc import Callable
from random import Random

import attrs
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

from palyra.core.devices import DeviceState
from palyra.core.identifiers import DeviceId, Fingerprint
from palyra.errors import PalyraError
from palyra.gateway.issuing import Issuer
from palyra.store.memory import MemoryStore
from palyra.testing.simulation.callers import Callers
from palyra.testing.simulation.certificates import CertificateChecks
from palyra.testing.simulation.checks import SETTLED_S, Checks
from palyra.testing.simulation.clock import EPOCH_S, HostClock, Timeline
from palyra.testing.simulation.device import SimulatedDevice
from palyra.testing.simulation.disk import AttemptDisk, GatewayDisk
from palyra.testing.simulation.faults import Faults
from palyra.testing.simulation.gateway import Gateway
from palyra.testing.simulation.identity import trust
from palyra.testing.simulation.network import Link
from palyra.testing.simulation.pairing import pair
from palyra.testing.simulation.trace import Trace, Violation
from palyra.testing.simulation.work import Ledger

CALM = 0.15
"""Of the worlds nothing fails in but answers to renewals, and no job may notice any of that."""
LIVES_S = (240.0, 300.0, 600.0, 1_800.0, 86_400.0)
"""How long certificates live; a device may fetch thirty an hour."""
BACK_S = 7_200.0
"""Within this time after all faults ended every device is back: the sixth rejoin in an hour waits
for the end of that hour, the renewals of an hour for that of theirs."""


@attrs.frozen
class Result:
    """What a run was: how much time passed in it, how much happened, and its trace's hash."""

    seed: int
    steps: int
    simulated_s: float
    events: int
    jobs: int
    renewals: int
    rejoins: int
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
        self.calm = self.random.random() < CALM
        self.life_s = self.random.choice(LIVES_S)
        self.grain_s = self.random.choice([0.1, 0.25, 0.5, 1.0])
        self.gateway: Gateway | None = None
        self.devices: dict[str, SimulatedDevice] = {}
        self.ledger = Ledger()
        store = MemoryStore(now_ms=self.now_ms, entropy=self.random.randbytes)
        self.disk = GatewayDisk(self.random, store)
        self.checks = Checks(store, self.ledger)
        self.certificates = CertificateChecks(store, lambda: self.timeline.now)
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
            self.certificates.renewals,
            self.certificates.rejoins,
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
        """All faults end, and time passes until every job is final and every device is back."""
        self.say("all faults end")
        self.faults.heal()
        self._until(lambda: not self.checks.unfinished, SETTLED_S, quiet=2)
        self.checks.at_end(calm=self.calm)
        self._until(lambda: not self._missing(), BACK_S)
        if missing := self._missing():
            raise Violation("; ".join(missing))
        self.certificates.at_end(set_back=self.set_back_s > 0)
        self.callers.check_end()
        self._bury()
        gc.collect()  # what nobody took of a Deferred is told when it is gone
        self._raise_kept()

    def _until(self, done: Callable[[], bool], within_s: float, quiet: int = 1) -> None:
        """Let time pass until that is so, ``quiet`` times in a row, or the time is over."""
        over = self.timeline.now + within_s + self.set_back_s
        seen = int(quiet == 1 and done())
        while self.timeline.now < over and seen < quiet:
            self.pass_time(10.0)
            seen = seen + 1 if done() else 0

    def _missing(self) -> list[str]:
        """What devices that were not revoked still have to do: come back, renew as ordered."""
        gateway = self.gateway
        if gateway is None:
            return ["the gateway is not back"]
        missing = []
        for device in gateway.inventory.devices():
            if device.state is not DeviceState.PAIRED:
                continue
            if gateway.sessions.owner(device.device_id) is None:
                missing.append(f"{device.name} is locked out")
            elif device.rotate_asked_at_ms is not None:
                missing.append(f"{device.name} was never renewed as ordered")
        return missing

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
        gateway = Gateway(
            disk=self.disk,
            clock=clock,
            random=self.random,
            life_ms=int(self.life_s * 1000),
            attached=self._attached,
        )
        gateway.start()
        self.gateway = gateway

    def crash_gateway(self, *, told: bool) -> None:
        """The gateway's process dies; what was not durable is gone."""
        gateway, self.gateway = self.gateway, None
        if gateway is not None:
            gateway.kill()
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

    def _attached(self, device_id: DeviceId, fingerprint: Fingerprint) -> None:
        try:
            self.certificates.attached(device_id, fingerprint)
        except Violation as violation:
            self._violated(violation)

    def _committed(self, group: list[tuple[str, tuple[object, ...]]]) -> None:
        self.certificates.committed(group)
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
        own = Random(random.random())
        disk = AttemptDisk(own)
        clock = HostClock(self.timeline, lambda: self.wall_offset)
        issuer = Issuer(trust=trust(), life_ms=int(self.life_s * 1000), now_ms=self.now_ms)
        kept = pair(self.disk.store, issuer, name, clock, disk)
        link = Link(
            name,
            own,
            self.timeline,
            lambda: self.gateway,
            delay_s=random.choice([0.0005, 0.005, 0.05, 0.3]),
        )
        self.devices[name] = SimulatedDevice(
            kept=kept,
            timeline=self.timeline,
            link=link,
            disk=disk,
            ledger=self.ledger,
            say=self.say,
        )
        self.devices[name].disk.acknowledged = self.checks.acknowledged
