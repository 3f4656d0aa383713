"""``[node]``: the node host on a device, its capabilities, and the processes they run in."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import msgspec

from palyra.core.transports import HOLD_S, GrpcFallback, Preference
from palyra.errors import Malformed

_PIN = msgspec.Meta(
    pattern=r"\A(?:(?:sha256:)?[0-9a-fA-F]{64})?\Z",
    description="must be 64 hex digits, with sha256: before them or without",
)
_NAME = re.compile(r"[a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*)*(?:\.\*)?\Z", re.ASCII)
_MIB = 1024 * 1024
OWN = ("echo", "system.*", "desktop.*")
"""What runs in the node host itself: our own code, and openers whose windows outlive a run."""

Patterns = Annotated[tuple[str, ...], msgspec.Meta(max_length=256)]
"""Names of capabilities; ``PREFIX.*`` is every one below ``PREFIX.``."""


class CapabilitySection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[node.capability."NAME"]``: one capability, as the device's owner wants it.

    ``settings`` are what the plugin's own schema allows; a secret among them is written as
    ``{ file = "/absolute/path" }`` or ``{ credential = "NAME" }``.
    """

    enabled: bool = True
    settings: dict[str, Any] = {}


class WorkerSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[node.worker]``: limits of each process that runs a plugin.  Times in seconds.

    ``user``: run plugins as this user; only root can, and only then is a plugin kept from what the
    node host may read.
    """

    user: Annotated[str, msgspec.Meta(max_length=64)] = ""
    memory_mib: Annotated[int, msgspec.Meta(ge=64, le=1_048_576)] = 1024
    open_files: Annotated[int, msgspec.Meta(ge=32, le=65_536)] = 256
    file_mib: Annotated[int, msgspec.Meta(ge=0, le=1_048_576)] = 64
    processes: Annotated[int, msgspec.Meta(ge=1, le=65_536)] = 256
    max_workers: Annotated[int, msgspec.Meta(ge=1, le=64)] = 4
    idle_s: Annotated[float, msgspec.Meta(ge=1, le=86_400)] = 60.0
    start_s: Annotated[float, msgspec.Meta(ge=1, le=120)] = 10.0


class NodeSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Times in seconds; ``max_running`` jobs run at once, ``max_waiting`` more wait for a place.

    ``server_pin`` is the SHA-256 of the DER of the gateway's certificate, or of its CA's.
    """

    name: Annotated[str, msgspec.Meta(max_length=255)] = ""
    transport: Preference = Preference.AUTO
    grpc_fallback: GrpcFallback = GrpcFallback.UNREACHABLE
    quic_retry_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] = HOLD_S
    server_pin: Annotated[str, _PIN] = ""
    max_running: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 16
    max_waiting: Annotated[int, msgspec.Meta(ge=0, le=10_000)] = 240
    first_retry_s: Annotated[float, msgspec.Meta(gt=0, le=600)] = 10.0
    max_retry_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 60.0
    mediation_timeout_s: Annotated[float, msgspec.Meta(ge=1, le=3600)] = 120.0
    shutdown_grace_s: Annotated[float, msgspec.Meta(ge=0, le=600)] = 10.0
    mediation: Literal["auto", "terminal", "dialog", "requests", "refuse"] = "auto"
    in_process: Patterns = OWN
    disabled: Patterns = ()
    capability: dict[str, CapabilitySection] = {}
    worker: WorkerSection = WorkerSection()

    def __post_init__(self) -> None:
        for field in ("in_process", "disabled", "capability"):
            for name in getattr(self, field):
                if not _NAME.match(name) or (field == "capability" and name.endswith(".*")):
                    problem = f"{name[:64]!r} is no name of a capability"
                    raise Malformed(f"node.{field}", problem)

    @property
    def pin(self) -> bytes | None:
        """The 32 bytes of ``server_pin``; None where there is none."""
        return bytes.fromhex(self.server_pin.rpartition(":")[2]) or None
