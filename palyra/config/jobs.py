"""``[jobs]``: limits of jobs and their queues."""

from __future__ import annotations

from typing import Annotated

import msgspec

MAX_PAYLOAD_BYTES = 3 * 1024 * 1024


class JobsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Payload limits in bytes, times in seconds, queues in jobs."""

    timeout_s: Annotated[float, msgspec.Meta(ge=1, le=86_400)] = 30.0
    max_payload_bytes: Annotated[int, msgspec.Meta(ge=1, le=MAX_PAYLOAD_BYTES)] = 65_536
    max_waiting: Annotated[int, msgspec.Meta(ge=1, le=10_000_000)] = 10_000
    max_waiting_per_device: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 1_000
    in_flight_per_device: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 64
