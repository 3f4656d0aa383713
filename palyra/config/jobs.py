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
    max_waiting_per_client: Annotated[int, msgspec.Meta(ge=1, le=10_000_000)] = 4_096
    """Jobs that one paired client has made wait, so that it leaves room for others: as many as
    four of its streams may have unanswered."""
    max_ttl_s: Annotated[float, msgspec.Meta(ge=1, le=366 * 86_400)] = 7 * 86_400.0
    """How long a call may wait for a device that is away."""
    max_targets: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 10_000
    """Devices that one fan-out may address."""
    max_followers: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 256
    """Streams of events that may be open at once."""
    keep_for_s: Annotated[float, msgspec.Meta(ge=86_400, le=3_660 * 86_400)] = 30 * 86_400.0
    """How long ended jobs are kept."""
    keep_at_most: Annotated[int, msgspec.Meta(ge=1_000, le=100_000_000)] = 1_000_000
    """How many ended jobs are kept."""
    in_flight_per_device: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 64
