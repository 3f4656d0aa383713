"""What ``events`` says while something is shown: the newest state of what changed."""

from __future__ import annotations

import msgspec

from palyra.console.models.approvals import ApprovalItem
from palyra.console.models.jobs import JobItem
from palyra.console.models.nodes import NodeItem


class Counts(msgspec.Struct, frozen=True):
    """How many there are of what the page's head and navigation count.

    ``approvals_pending`` are calls and pairing requests, ``pairing_pending`` only the latter.
    """

    devices: int
    online: int
    stale: int
    offline: int
    approvals_pending: int
    pairing_pending: int
    jobs_unfinished: int


class FeedEvent(msgspec.Struct, frozen=True):
    """One event of GET events.

    ``kind`` is ``counts``, ``node`` (``node`` is None where it was removed: ``device_id``),
    ``job``, ``approval``, or ``gap``: something was missed, ask again for what is shown.
    """

    kind: str
    counts: Counts | None = None
    device_id: str = ""
    node: NodeItem | None = None
    job: JobItem | None = None
    progress: float | None = None
    progress_text: str = ""
    approval: ApprovalItem | None = None
