"""Faults: what may go wrong between any two steps, and how it all ends.

Every world draws for itself which kinds it has and how often: many faults of few kinds find other
things than a few of each.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from palyra.errors import DiskFull, PalyraError, StoreUnavailable
from palyra.testing.simulation.device import NodeHost, SimulatedDevice

if TYPE_CHECKING:
    from palyra.testing.simulation.gateway import Gateway
    from palyra.testing.simulation.world import World

JUMPS_S = (1.0, 30.0, 600.0, 7_200.0)
MAX_ROTATIONS = 6
"""In a world: a device may fetch thirty certificates an hour, and no operator wants more."""


class Faults:
    """Makes faults, and knows how to undo each of them."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._random = world.random
        kinds: list[Callable[[], None]] = [
            self._crash_gateway,
            self._crash_in_commit,
            self._stop_gateway,
            self._crash_node,
            self._stop_node,
            self._cut,
            self._stall,
            self._slow_link,
            self._jump,
            self._device_jump,
            self._gateway_disk,
            self._node_disk,
            self._slow_disk,
            self._revoke,
            self._rotate,
            self._lose_answer,
            self._leave,
            self._crash_in_identity,
            self._put_back,
        ]
        chosen = self._random.sample(kinds, self._random.randint(2, len(kinds)))
        calm = [self._rotate, self._lose_answer]
        self._kinds = calm if world.calm else [kind for kind in kinds if kind in chosen]
        self.share = self._random.choice([0.05, 0.15, 0.3])
        self._revocations = 1
        self._rotations = MAX_ROTATIONS
        self._traps: dict[str, bool] = {}
        for device in world.devices.values():
            device.kept.writing = partial(self._identity_written, device)
        world.disk.committing = self._committing
        self._trap: bool | None = None

    def act(self) -> None:
        """Make one fault."""
        self._random.choice(self._kinds)()

    def heal(self) -> None:
        """Nothing is wrong any more, and everything runs."""
        world = self._world
        self._trap = None
        self._traps.clear()
        world.disk.trouble = None
        world.disk.write_s = 0.003
        for device in world.devices.values():
            device.disk.trouble = None
            device.disk.write_s = 0.003
            device.link.heal()
            device.link.to_lose.clear()
            device.link.stalled_until = 0.0
            device.link.delay_s = min(device.link.delay_s, 0.3)
        self._restart_gateway()
        for device in world.devices.values():
            self._restart_node(device)

    # -- the gateway ------------------------------------------------------------------------------

    def _crash_gateway(self) -> None:
        if self._world.gateway is not None:
            told = self._random.random() < 0.7
            self._world.fault("gateway crash", "" if told else "unnoticed")
            self._world.crash_gateway(told=told)
            self._later(self._restart_gateway)

    def _crash_in_commit(self) -> None:
        """The next group of writes is the last: just before it is durable, or just after."""
        if self._world.gateway is not None:
            self._trap = self._random.random() < 0.5

    def _committing(self, durable: bool) -> None:
        if self._trap is durable:
            self._trap = None
            self._world.fault("crash in commit", "after it" if durable else "before it")
            self._world.crash_gateway(told=True)
            self._later(self._restart_gateway)

    def _stop_gateway(self) -> None:
        gateway = self._world.gateway
        if gateway is not None and not gateway.draining:
            self._world.fault("gateway stop")
            gateway.stop().addBoth(self._gateway_stopped, gateway)

    def _gateway_stopped(self, result: object, gateway: Gateway) -> None:
        if isinstance(result, Failure):
            result.trap(PalyraError)
        if self._world.gateway is gateway:
            self._world.say("gateway stopped")
            self._world.crash_gateway(told=True)
            self._later(self._restart_gateway)

    def _restart_gateway(self) -> None:
        if self._world.gateway is None:
            self._world.say("gateway starts")
            self._world.start_gateway()

    def _gateway_disk(self) -> None:
        disk = self._world.disk
        disk.trouble = self._random.choice([DiskFull, StoreUnavailable])
        self._world.fault("gateway disk", disk.trouble.code)
        self._later(self._gateway_disk_works)

    def _gateway_disk_works(self) -> None:
        self._world.disk.trouble = None

    def _slow_disk(self) -> None:
        self._world.fault("slow disk")
        disk = self._random.choice([self._world.disk, self._a_device().disk])
        disk.write_s = self._random.choice([0.003, 0.1, 0.8])

    def _jump(self) -> None:
        jump_s = self._random.choice(JUMPS_S) * self._random.choice([-1, 1])
        self._world.fault("clock jump", f"{jump_s:+g} s")
        self._world.jump(jump_s)

    def _revoke(self) -> None:
        gateway = self._world.gateway
        if gateway is None or not self._revocations:
            return
        self._revocations -= 1
        device = self._random.choice(gateway.inventory.devices())
        self._world.fault("revocation", device.name)
        done = Deferred.fromCoroutine(gateway.revoker.revoke(device, "ana", "stolen"))
        done.addErrback(lambda failure: failure.trap(PalyraError) and None)

    def _rotate(self) -> None:
        """An operator orders new certificates, from one device or from all of them."""
        gateway = self._world.gateway
        if gateway is None or not self._rotations:
            return
        self._rotations -= 1
        devices = gateway.inventory.devices()
        if self._random.random() < 0.6:
            devices = [self._random.choice(devices)]
        self._world.fault("rotation", " ".join(device.name for device in devices))
        done = Deferred.fromCoroutine(gateway.renewals.order(devices, "ana", "rotation"))
        done.addErrback(lambda failure: failure.trap(PalyraError) and None)

    # -- devices and links ------------------------------------------------------------------------

    def _crash_node(self) -> None:
        device = self._a_device()
        lose = self._random.random() < 0.4
        self._world.fault("node crash", f"{device.name}{' and its memory' if lose else ''}")
        device.crash(lose_memory=lose, told=self._random.random() < 0.6)
        self._later(self._restart_node, device)

    def _crash_in_identity(self) -> None:
        """The next change of a device's certificate file is the host's last: made, or just not."""
        self._traps[self._a_device().name] = self._random.random() < 0.5

    def _identity_written(self, device: SimulatedDevice, durable: bool) -> None:
        host = device.host
        if host is not None and self._traps.get(device.name) is durable:
            del self._traps[device.name]
            where = "after" if durable else "before"
            self._world.fault("crash in identity", f"{device.name} {where} the change")
            host.clock.kill()
            self._world.timeline.later(0.0, self._bury, device, host)

    def _bury(self, device: SimulatedDevice, host: NodeHost) -> None:
        if device.host is host:
            device.crash(lose_memory=False, told=True)
        self._later(self._restart_node, device)

    def _put_back(self) -> None:
        """A device is put back from a backup, with an older file of certificates."""
        device = self._a_device()
        usable = [each for each in device.kept.backups if each.current is not None]
        if usable:
            self._world.fault("device put back", device.name)
            device.crash(lose_memory=True, told=True)
            device.kept.client = self._random.choice(usable)
            self._later(self._restart_node, device)

    def _leave(self) -> None:
        """A device is off, or out of reach, until its certificate is nearly or long over."""
        device = self._a_device()
        away_s = self._world.life_s * self._random.uniform(0.3, 2.5)
        off = self._random.random() < 0.5
        self._world.fault("absence", f"{device.name} {'off' if off else 'cut'} {away_s:.0f} s")
        later = self._world.timeline.later
        if off:
            device.crash(lose_memory=False, told=True)
            later(away_s, self._restart_node, device)
        else:
            device.link.cut(silent=self._random.random() < 0.5)
            later(away_s, device.link.heal)

    def _lose_answer(self) -> None:
        """The gateway does what it was asked for, and nobody hears of it."""
        device = self._a_device()
        calls = ["renew"] if self._world.calm else ["renew", "register", "complete"]
        call = self._random.choice(calls)
        self._world.fault("lost answer", f"{device.name} {call}")
        device.link.to_lose.add(call)

    def _stop_node(self) -> None:
        device = self._a_device()
        self._world.fault("node stop", device.name)
        device.stop()
        self._later(self._restart_node, device)

    def _restart_node(self, device: SimulatedDevice) -> None:
        if device.host is None:
            self._world.say(f"{device.name} starts")
            device.start()
        elif device.stopping:
            self._world.timeline.later(5.0, self._restart_node, device)

    def _cut(self) -> None:
        device = self._a_device()
        silent = self._random.random() < 0.5
        self._world.fault("cut", f"{device.name}{' silently' if silent else ''}")
        device.link.cut(silent=silent)
        self._later(device.link.heal)

    def _stall(self) -> None:
        device = self._a_device()
        stall_s = self._random.uniform(0.5, 60.0)
        self._world.fault("stall", f"{device.name} {stall_s:.1f} s")
        device.link.stalled_until = self._world.timeline.now + stall_s

    def _slow_link(self) -> None:
        device = self._a_device()
        device.link.delay_s = self._random.choice([0.0005, 0.02, 0.3, 2.0])
        self._world.fault("slow link", f"{device.name} {device.link.delay_s:g} s")

    def _device_jump(self) -> None:
        device = self._a_device()
        jump_s = self._random.choice(JUMPS_S) * self._random.choice([-1, 1])
        self._world.fault("device clock jump", f"{device.name} {jump_s:+g} s")
        device.wall_offset += jump_s

    def _node_disk(self) -> None:
        device = self._a_device()
        self._world.fault("node disk", device.name)
        device.disk.trouble = DiskFull
        self._later(self._node_disk_works, device)

    def _node_disk_works(self, device: SimulatedDevice) -> None:
        device.disk.trouble = None

    # -- when it ends ---------------------------------------------------------------------------

    def _a_device(self) -> SimulatedDevice:
        return self._random.choice(list(self._world.devices.values()))

    def _later(self, act: Callable[..., None], *arguments: object) -> None:
        """Undo a fault after a while, which may be a long one."""
        short = self._random.random() < 0.7
        delay_s = self._random.uniform(0.01, 3.0) if short else self._random.uniform(3.0, 90.0)
        self._world.timeline.later(delay_s, act, *arguments)
