"""The journal of a device: what happened to it, numbered (CONTRACT section 8: node.stream_events).

A device's events have the numbers 1, 2, 3, ... without a hole; no number is given twice while the
device exists.  The oldest are deleted, so whoever asks for what followed a number may find a gap.
Details never hold a secret: they are shown to the device itself.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from palyra.core.identifiers import DeviceId

APPROVED = "device.approved"
REGISTERED = "device.registered"
CHANGED = "device.changed"
REVOKED = "device.revoked"
IDENTITY_REPLACED = "device.identity_replaced"
SESSION_ENDED = "session.ended"
ISSUED = "certificate.issued"
RENEWAL_ORDERED = "certificate.renewal_ordered"
JOB_ENDED = "job.ended"
SUSPENDED = "capability.suspended"
"""What a device offers under a name is not what was granted."""
RESTORED = "capability.restored"
"""It offers again what was granted."""

KEPT = 1_000
"""The newest events of a device that are kept, at least."""
PRUNED_EVERY = 256
"""Older ones are deleted each time so many were added, so at most KEPT + PRUNED_EVERY are kept."""
PAGE = 256
"""Events that are read at once, at most."""

Details = Mapping[str, str | int | bool]


@attrs.frozen
class JournalEntry:
    """Something that happened to a device and has no number yet.  ``at_ms`` is Unix ms."""

    device_id: DeviceId
    at_ms: int
    kind: str
    details: Details = attrs.Factory(dict)


@attrs.frozen
class JournalEvent:
    """The same once it is on record."""

    device_id: DeviceId
    seq: int
    at_ms: int
    kind: str
    details: Details = attrs.Factory(dict)


@attrs.frozen
class JournalGap:
    """What followed the last event is deleted; the next one is ``oldest_seq``."""

    oldest_seq: int


@attrs.frozen
class JournalPage:
    """Events in their order, and the numbers of the oldest and the newest that are kept at that
    moment (0 where none is)."""

    events: tuple[JournalEvent, ...]
    oldest_seq: int
    newest_seq: int


def pruned_below(seq: int) -> int:
    """The lowest number to keep once ``seq`` is added; 0 where nothing is deleted now."""
    return max(0, seq - KEPT + 1) if seq % PRUNED_EVERY == 0 else 0
