"""``[node]``: the node host on a device."""

from __future__ import annotations

from typing import Annotated

import msgspec


class NodeSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Times in seconds; ``max_running`` jobs run at once, ``max_waiting`` more wait for a place."""

    name: Annotated[str, msgspec.Meta(max_length=255)] = ""
    max_running: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 16
    max_waiting: Annotated[int, msgspec.Meta(ge=0, le=10_000)] = 240
    first_retry_s: Annotated[float, msgspec.Meta(gt=0, le=600)] = 10.0
    max_retry_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 60.0
    mediation_timeout_s: Annotated[float, msgspec.Meta(ge=1, le=3600)] = 120.0
    shutdown_grace_s: Annotated[float, msgspec.Meta(ge=0, le=600)] = 10.0
