"""A store with trouble: commits that take their time, and commits that fail."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, fail
from zope.interface import implementer

from palyra.core.approval import ApprovalState
from palyra.core.callapprovals import CallApproval
from palyra.core.devices import (
    CertificateRecord,
    Device,
    Offering,
    Registration,
    Removal,
    Renewal,
    Revocation,
    RotationOrder,
)
from palyra.core.fanouts import Fanout
from palyra.core.identifiers import DeviceId
from palyra.core.interfaces import IdempotencyKey, IStore
from palyra.core.jobs import Job
from palyra.errors import PalyraError
from palyra.store.memory import MemoryStore
from palyra.store.rules import own_job


@implementer(IStore)
class TroubledStore:
    """A :class:`MemoryStore` whose commits of jobs and of what devices may do can wait.

    While ``holding``, they queue up in the order they came and happen at :meth:`release`, as with
    a writer thread.  While ``trouble`` is set, commits of jobs fail with it.  Everything else goes
    to the store below, at once.
    """

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.holding = False
        self.trouble: PalyraError | None = None
        self.commits: list[tuple[str, Job]] = []
        """Every job of a commit that succeeded: ``accept`` or ``update``, and what was kept."""
        self.tries = 0
        """How many commits of jobs and fan-outs were tried, in vain or not."""
        self._held: deque[Callable[[], Any]] = deque()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def release(self, count: int | None = None) -> None:
        """Let ``count`` commits happen, or all of them; later ones wait as before."""
        for _ in range(len(self._held) if count is None else count):
            self._held.popleft()()

    def drop(self) -> None:
        """The gateway was killed: what is held is never written, and nobody hears of it."""
        self._held.clear()

    @property
    def waiting(self) -> int:
        """How many commits are held."""
        return len(self._held)

    def accept(
        self, job: Job, key: IdempotencyKey | None = None, approval: CallApproval | None = None
    ) -> Deferred[None]:
        kept, own = own_job(job), approval and attrs.evolve(approval)
        return self._commit(
            lambda: self._write("accept", [kept], lambda: self.store.accept(kept, key, own))
        )

    def update(self, job: Job) -> Deferred[None]:
        kept = own_job(job)
        return self._commit(lambda: self._write("update", [kept], lambda: self.store.update(kept)))

    def accept_fanout(
        self,
        fanout: Fanout,
        rows: Sequence[Job],
        key: IdempotencyKey | None = None,
        approval: CallApproval | None = None,
    ) -> Deferred[None]:
        kept, own = [own_job(job) for job in rows], approval and attrs.evolve(approval)
        accept = self.store.accept_fanout
        return self._commit(
            lambda: self._write("accept", kept, lambda: accept(fanout, kept, key, own))
        )

    def decide_call(self, approval: CallApproval) -> Deferred[None]:
        own = attrs.evolve(approval)
        return self._commit(lambda: self.store.decide_call(own))

    def close_call(
        self, approval_id: str, state: ApprovalState, reason: str, now_ms: int
    ) -> Deferred[None]:
        return self._commit(lambda: self.store.close_call(approval_id, state, reason, now_ms))

    def register(self, registration: Registration) -> Deferred[Any]:
        return self._commit(lambda: self.store.register(registration))

    def offer(self, offering: Offering) -> Deferred[Any]:
        return self._commit(lambda: self.store.offer(offering))

    def revoke(
        self, device_id: DeviceId, by: str, reason: str, now_ms: int
    ) -> Deferred[Revocation]:
        return self._commit(lambda: self.store.revoke(device_id, by, reason, now_ms))

    def renew(self, renewal: Renewal) -> Deferred[CertificateRecord]:
        return self._commit(lambda: self.store.renew(renewal))

    def order_rotation(self, order: RotationOrder) -> Deferred[list[Device]]:
        return self._commit(lambda: self.store.order_rotation(order))

    def remove(self, device_id: DeviceId, by: str, reason: str, now_ms: int) -> Deferred[Removal]:
        return self._commit(lambda: self.store.remove(device_id, by, reason, now_ms))

    def _write(
        self, kind: str, jobs: Sequence[Job], write: Callable[[], Deferred[None]]
    ) -> Deferred[None]:
        self.tries += 1
        if self.trouble is not None:
            return fail(self.trouble)
        return write().addCallback(lambda _: self.commits.extend((kind, job) for job in jobs))

    def _commit(self, act: Callable[[], Deferred[Any]]) -> Deferred[Any]:
        if not self.holding:
            return act()
        committed: Deferred[Any] = Deferred()
        self._held.append(lambda: act().chainDeferred(committed))
        return committed
