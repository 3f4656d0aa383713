"""``[audit]``: how long rows are kept, and where heads of the chain are anchored."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec


class AuditSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Times in seconds and days."""

    anchor_s: Annotated[float, msgspec.Meta(ge=1, le=86_400)] = 60.0
    """How often the head of the chain is signed and given to the outside, if it moved."""
    anchors: tuple[Literal["log", "syslog"], ...] = ("log",)
    """Where to: the gateway's log (and so the journal of its service), or the system's log."""
    anchor_file: str = ""
    """A file to append heads to as well; best on a machine that the gateway cannot rewrite."""
    keep_rows: Annotated[int, msgspec.Meta(ge=1_000, le=1_000_000_000)] = 5_000_000
    """How many rows are kept, the newest."""
    keep_days: Annotated[float, msgspec.Meta(ge=1, le=36_600)] = 366.0
    """How long rows are kept."""
