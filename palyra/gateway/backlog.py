"""The backlog: jobs that wait to be sent, by device, and how many may wait."""

from __future__ import annotations

from collections import Counter, OrderedDict

from palyra.config.jobs import JobsSection
from palyra.core.callapprovals import APPROVAL
from palyra.core.fanouts import BATCH
from palyra.core.identifiers import DeviceId, JobId
from palyra.core.jobs import Call
from palyra.errors import QueueFull
from palyra.gateway.orders import is_client
from palyra.gateway.unfinished import Live

HELD = (BATCH, APPROVAL)
"""What jobs wait for that may not start yet."""


class Backlog:
    """Waiting jobs in the order they are to be sent; held rows of fan-outs, and calls that wait for
    approval, count with them."""

    def __init__(self, limits: JobsSection) -> None:
        self._limits = limits
        self._waiting: dict[DeviceId, OrderedDict[JobId, Live]] = {}
        self._count = 0
        self._of_client: Counter[str] = Counter()
        self._entering: Counter[DeviceId] = Counter()
        self._held: set[JobId] = set()
        self._asked: set[JobId] = set()
        self._reserved = 0

    @property
    def waiting(self) -> int:
        """How many jobs wait, held rows of fan-outs included."""
        return self._count + self._entering.total() + len(self._held)

    def size(self, device_id: DeviceId) -> int:
        """How many jobs wait for a device."""
        return len(self._waiting.get(device_id, ()))

    def append(self, live: Live, *, first: bool = False) -> None:
        """A job waits: behind the others of its device, or before them."""
        call = live.job.call
        waiting = self._waiting.setdefault(call.device_id, OrderedDict())
        if call.job_id not in waiting:
            self._count += 1
            self._count_client(call, 1)
        waiting[call.job_id] = live
        if first:
            waiting.move_to_end(call.job_id, last=False)

    def take(self, device_id: DeviceId) -> Live | None:
        """The job of a device that is to be sent next; it waits no more."""
        waiting = self._waiting.get(device_id)
        if not waiting:
            return None
        live = next(iter(waiting.values()))
        self.leave(live)
        return live

    def leave(self, live: Live) -> None:
        """A job waits no more.  Again: nothing."""
        call = live.job.call
        waiting = self._waiting.get(call.device_id)
        if waiting is not None and waiting.pop(call.job_id, None) is not None:
            self._count -= 1
            self._count_client(call, -1)
            if not waiting:
                del self._waiting[call.device_id]
        if live.held:
            live.held = False
            self._held.discard(call.job_id)
            if call.job_id in self._asked:
                self._asked.discard(call.job_id)
                self._count_client(call, -1)

    def hold(self, live: Live) -> None:
        """A job may not start yet; :meth:`leave` ends that."""
        call = live.job.call
        if live.held:
            return
        live.held = True
        if live.job.waiting_for in HELD:  # others are let go as soon as they are on record
            self._held.add(call.job_id)
        if live.job.waiting_for == APPROVAL:
            self._asked.add(call.job_id)
            self._count_client(call, 1)

    def enters(self, call: Call) -> None:
        """A job that will wait for its device is being committed."""
        self._entering[call.device_id] += 1
        self._count_client(call, 1)

    def entered(self, call: Call) -> None:
        """It was committed, or was not."""
        self._entering[call.device_id] -= 1
        if not self._entering[call.device_id]:
            del self._entering[call.device_id]
        self._count_client(call, -1)

    def check(self, live: Live) -> None:
        """Refuse what would wait beyond the bounds (QueueFull)."""
        limits, call = self._limits, live.job.call
        if self.size(call.device_id) + self._entering[call.device_id] >= (
            limits.max_waiting_per_device
        ):
            raise QueueFull(call.device_name, limits.max_waiting_per_device)
        if is_client(call.requested_by):
            self._check_clients(call.requested_by)
        self.check_room(1)

    def _count_client(self, call: Call, step: int) -> None:
        if is_client(call.requested_by):
            self._of_client[call.requested_by] += step
            if not self._of_client[call.requested_by]:
                del self._of_client[call.requested_by]

    def _check_clients(self, client: str) -> None:
        """One client has its share, and all of them half: operators always find room."""
        limits = self._limits
        if self._of_client[client] >= limits.max_waiting_per_client:
            raise QueueFull("This client", limits.max_waiting_per_client)
        half = max(1, limits.max_waiting // 2)
        if self._of_client.total() >= half:
            raise QueueFull("The gateway, for its clients,", half)

    def check_room(self, rows: int) -> None:
        """Refuse ``rows`` more waiting jobs than the gateway may have (QueueFull)."""
        waiting = self.waiting + self._reserved
        if waiting + rows > self._limits.max_waiting:
            raise QueueFull("The gateway", self._limits.max_waiting)

    def reserve(self, rows: int) -> None:
        """Keep room for rows that are about to be held (QueueFull where there is none)."""
        self.check_room(rows)
        self._reserved += rows

    def free(self, rows: int) -> None:
        """The rows are held by now, or never will be."""
        self._reserved -= rows
