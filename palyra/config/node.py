"""``[node]``: the node host on a device."""

from __future__ import annotations

from typing import Annotated

import msgspec

from palyra.core.transports import HOLD_S, GrpcFallback, Preference

_PIN = msgspec.Meta(
    pattern=r"\A(?:(?:sha256:)?[0-9a-fA-F]{64})?\Z",
    description="must be 64 hex digits, with sha256: before them or without",
)


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

    @property
    def pin(self) -> bytes | None:
        """The 32 bytes of ``server_pin``; None where there is none."""
        return bytes.fromhex(self.server_pin.rpartition(":")[2]) or None
