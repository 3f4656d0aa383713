"""A store with trouble: commits that take their time, and commits that fail."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail
from zope.interface import implementer

from palyra.core.devices import Registration, Revocation
from palyra.core.identifiers import DeviceId
from palyra.core.interfaces import IStore
from palyra.core.jobs import Job
from palyra.errors import PalyraError
from palyra.store.memory import MemoryStore
from palyra.store.rules import own_job


@implementer(IStore)
class TroubledStore:
    """A :class:`MemoryStore` whose commits of jobs, registrations and revocations can wait.

    While ``holding``, they queue up in the order they came and happen at :meth:`release`, as with
    a writer thread.  While ``trouble`` is set, commits of jobs fail with it.  Everything else goes
    to the store below, at once.
    """

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.holding = False
        self.trouble: PalyraError | None = None
        self.commits: list[tuple[str, Job]] = []
        """Every commit of a job that succeeded: ``accept`` or ``update``, and what was kept."""
        self.tries = 0
        """How many commits of jobs were tried, in vain or not."""
        self._held: deque[Callable[[], Any]] = deque()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def release(self, count: int | None = None) -> None:
        """Let ``count`` commits happen, or all of them; later ones wait as before."""
        for _ in range(len(self._held) if count is None else count):
            self._held.popleft()()

    @property
    def waiting(self) -> int:
        """How many commits are held."""
        return len(self._held)

    def accept(self, job: Job) -> Deferred[None]:
        kept = own_job(job)
        return self._commit(lambda: self._write("accept", kept))

    def update(self, job: Job) -> Deferred[None]:
        kept = own_job(job)
        return self._commit(lambda: self._write("update", kept))

    def register(self, registration: Registration) -> Deferred[Any]:
        return self._commit(lambda: self.store.register(registration))

    def revoke(
        self, device_id: DeviceId, by: str, reason: str, now_ms: int
    ) -> Deferred[Revocation]:
        return self._commit(lambda: self.store.revoke(device_id, by, reason, now_ms))

    def _write(self, kind: str, job: Job) -> Deferred[None]:
        self.tries += 1
        if self.trouble is not None:
            return fail(self.trouble)
        write = self.store.accept if kind == "accept" else self.store.update
        written: Deferred[None] = write(job)
        return written.addCallback(lambda _: self.commits.append((kind, job)))

    def _commit(self, act: Callable[[], Deferred[Any]]) -> Deferred[Any]:
        if not self.holding:
            return act()
        committed: Deferred[Any] = Deferred()
        self._held.append(lambda: act().chainDeferred(committed))
        return committed
