"""Faults: what may go wrong between any two steps, and how it all ends.

Every world draws for itself which kinds it has and how often: many faults of few kinds find other
things than a few of each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from palyra.errors import DiskFull, PalyraError, StoreUnavailable
from palyra.testing.simulation.device import SimulatedDevice

if TYPE_CHECKING:
    from palyra.testing.simulation.gateway import Gateway
    from palyra.testing.simulation.world import World

JUMPS_S = (1.0, 30.0, 600.0, 7_200.0)


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
        ]
        chosen = self._random.sample(kinds, self._random.randint(2, len(kinds)))
        self._kinds = [kind for kind in kinds if kind in chosen]
        self.share = self._random.choice([0.05, 0.15, 0.3])
        self._revocations = 1
        world.disk.committing = self._committing
        self._trap: bool | None = None

    def act(self) -> None:
        """Make one fault."""
        self._random.choice(self._kinds)()

    def heal(self) -> None:
        """Nothing is wrong any more, and everything runs."""
        world = self._world
        self._trap = None
        world.disk.trouble = None
        world.disk.write_s = 0.003
        for device in world.devices.values():
            device.disk.trouble = None
            device.disk.write_s = 0.003
            device.link.heal()
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

    # -- devices and links ------------------------------------------------------------------------

    def _crash_node(self) -> None:
        device = self._a_device()
        lose = self._random.random() < 0.2
        self._world.fault("node crash", f"{device.name}{' and its memory' if lose else ''}")
        device.crash(lose_memory=lose, told=self._random.random() < 0.6)
        self._later(self._restart_node, device)

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
