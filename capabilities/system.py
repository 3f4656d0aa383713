"""``system.health`` and ``system.identity``: how the device is, and who it is."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec
import psutil

from palyra.capability import Capability, CapabilityContext, Risk, hookimpl


class NoInput(msgspec.Struct, forbid_unknown_fields=True):
    """An empty object."""


class Cpu(msgspec.Struct):
    """``percent`` is the share of all cores that was busy since the last call."""

    percent: float
    count: int


class Memory(msgspec.Struct):
    """Physical memory."""

    percent: float
    total_bytes: int
    available_bytes: int


class Disk(msgspec.Struct):
    """The file system that holds ``path``."""

    percent: float
    total_bytes: int
    free_bytes: int
    path: str


class Load(msgspec.Struct):
    """Run-queue length, averaged over 1, 5 and 15 minutes (getloadavg(3))."""

    one_min: float
    five_min: float
    fifteen_min: float


class Uptime(msgspec.Struct):
    """Whole seconds since the machine and since the node host started."""

    system_s: int
    process_s: int


class Versions(msgspec.Struct):
    """What runs here."""

    palyra: str
    python: str


class Health(msgspec.Struct):
    """Answer of ``system.health``."""

    status: str
    device_id: str
    grpc_url: str
    poll_interval_ms: int
    generated_at_unix_ms: int
    cpu: Cpu
    memory: Memory
    disk: Disk
    load: Load | None
    uptime: Uptime
    versions: Versions


class Identity(msgspec.Struct):
    """Answer of ``system.identity``; nothing in it is secret."""

    device_id: str
    identity_fingerprint: str
    grpc_url: str
    paired_at_unix_ms: int
    name: str
    hostname: str
    platform: str
    machine: str
    python: str
    palyra: str


class CpuMeter:
    """Busy share between two calls.  psutil keeps its last sample for each thread, so its own
    ``cpu_percent`` would answer 0 in every worker thread that asks for the first time."""

    def __init__(self, sample: Callable[[], Any] = psutil.cpu_times) -> None:
        self._sample = sample
        self._lock = threading.Lock()
        self._total, self._idle = self._read()
        self._percent = 0.0

    def percent(self) -> float:
        """0 to 100 since the last call; the last answer again where no tick has passed."""
        with self._lock:
            total, idle = self._read()
            passed = total - self._total
            if passed > 0:
                busy = 1.0 - (idle - self._idle) / passed
                self._percent = round(100.0 * min(1.0, max(0.0, busy)), 1)
                self._total, self._idle = total, idle
            return self._percent

    def _read(self) -> tuple[float, float]:
        times = self._sample()
        guest = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
        idle = times.idle + getattr(times, "iowait", 0.0)
        return sum(times) - guest, idle


_METER = CpuMeter()


async def health(_: NoInput, context: CapabilityContext) -> Health:
    """How the device is, at this moment."""
    device = context.device
    return Health(
        status="ok",
        device_id=device.device_id,
        grpc_url=device.grpc_url,
        poll_interval_ms=device.poll_interval_ms,
        generated_at_unix_ms=time.time_ns() // 1_000_000,
        cpu=Cpu(percent=_METER.percent(), count=psutil.cpu_count() or 1),
        memory=_memory(),
        disk=_disk(os.path.abspath(os.sep)),
        load=_load(),
        uptime=_uptime(time.time()),
        versions=Versions(palyra=_palyra_version(), python=platform.python_version()),
    )


async def identity(_: NoInput, context: CapabilityContext) -> Identity:
    """Who the device is and where it runs."""
    device = context.device
    return Identity(
        device_id=device.device_id,
        identity_fingerprint=device.identity_fingerprint,
        grpc_url=device.grpc_url,
        paired_at_unix_ms=device.paired_at_unix_ms,
        name=device.name,
        hostname=socket.gethostname(),
        platform=_platform(),
        machine=platform.machine(),
        python=platform.python_version(),
        palyra=_palyra_version(),
    )


def _memory() -> Memory:
    found = psutil.virtual_memory()
    return Memory(percent=found.percent, total_bytes=found.total, available_bytes=found.available)


def _disk(path: str) -> Disk:
    found = psutil.disk_usage(path)
    return Disk(percent=found.percent, total_bytes=found.total, free_bytes=found.free, path=path)


def _load() -> Load | None:
    """None where the system keeps no load average."""
    try:
        one, five, fifteen = psutil.getloadavg()
    except (OSError, AttributeError):
        return None
    return Load(one_min=round(one, 2), five_min=round(five, 2), fifteen_min=round(fifteen, 2))


def _uptime(now: float) -> Uptime:
    """Never negative: a clock that was set back must not make a machine younger than nothing."""
    return Uptime(
        system_s=max(0, int(now - psutil.boot_time())),
        process_s=max(0, int(now - psutil.Process().create_time())),
    )


def _platform() -> str:
    system = platform.system().lower()
    return "macos" if system == "darwin" else system


@functools.cache
def _palyra_version() -> str:
    try:
        return importlib.metadata.version("palyra")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


@hookimpl
def palyra_capabilities() -> list[Capability]:
    """``system.health`` and ``system.identity``."""
    return [
        Capability(
            name="system.health",
            description="Processor, memory, disk, load, uptime and versions of the device.",
            handler=health,
            input_type=NoInput,
            output_type=Health,
            risk=Risk.LOW,
            idempotent=True,
            timeout_s=10.0,
        ),
        Capability(
            name="system.identity",
            description="Id, key fingerprint, gateway, host name and platform of the device.",
            handler=identity,
            input_type=NoInput,
            output_type=Identity,
            risk=Risk.LOW,
            idempotent=True,
            timeout_s=10.0,
        ),
    ]
