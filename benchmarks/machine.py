"""What a measurement was made on: numbers without it say nothing."""

from __future__ import annotations

import importlib.metadata
import os
import platform

import msgspec

PACKAGES = ("palyra", "grpcio", "protobuf", "SQLAlchemy", "Twisted", "uvloop")


class Machine(msgspec.Struct, frozen=True):
    """Processors, versions, and the load average of the last minute before the measurement."""

    cpus: int
    system: str
    python: str
    versions: dict[str, str]
    load_before: float

    @classmethod
    def here(cls, load_before: float) -> Machine:
        """This machine."""
        return cls(
            cpus=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else _cpus(),
            system=f"{platform.system()} {platform.release()} {platform.machine()}",
            python=f"{platform.python_implementation()} {platform.python_version()}",
            versions={name: _version(name) for name in PACKAGES},
            load_before=round(load_before, 2),
        )

    def line(self) -> str:
        """All of it in two lines."""
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return (
            f"{self.cpus} CPUs, {self.system}, {self.python}, load {self.load_before} before\n"
            f"{versions}"
        )


def load() -> float:
    """The load average of the last minute; 0 where the system has none."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return 0.0


def _cpus() -> int:
    return os.cpu_count() or 1


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
