"""The store in memory: for tests, and for a gateway that may forget.

It keeps the same rules as the SQL store and passes the same contract tests.  Every Deferred it
returns has fired already; what it keeps and what it hands out are copies.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from zope.interface import implementer

from palyra._files import write_atomic
from palyra.core.identifiers import Entropy, new_ulid
from palyra.core.interfaces import IStore
from palyra.store import audited
from palyra.store.memory.audit import AuditLog
from palyra.store.memory.descriptorlog import DescriptorLog
from palyra.store.memory.directory import DeviceDirectory
from palyra.store.memory.fanoutlog import FanoutLog
from palyra.store.memory.joblog import JobLog
from palyra.store.memory.journal import EventJournal
from palyra.store.memory.operators import OperatorLog
from palyra.store.memory.pairinglog import PairingLog
from palyra.store.memory.records import fired
from palyra.store.memory.webhooks import WebhookLog
from palyra.store.renewal import LIVE
from palyra.store.snapshot import FINAL_JOBS, StoreContent, build_snapshot, newest_jobs

__all__ = ["MemoryStore"]


@implementer(IStore)
class MemoryStore(
    PairingLog,
    DeviceDirectory,
    JobLog,
    FanoutLog,
    EventJournal,
    AuditLog,
    OperatorLog,
    WebhookLog,
    DescriptorLog,
):
    """Provides IStore on dictionaries.  ``now_ms`` is wall time in Unix milliseconds."""

    imported = False

    def __init__(
        self,
        *,
        now_ms: Callable[[], int],
        entropy: Entropy = os.urandom,
        unconfirmed_since_ms: int | None = None,
    ) -> None:
        super().__init__(now_ms)
        self.unconfirmed_since_ms = unconfirmed_since_ms
        self.gateway_id = new_ulid(now_ms(), entropy)
        self.store_epoch = entropy(16).hex()

    @fired
    def confirm(self) -> None:
        self._audit(audited.state_confirmed(self._now_ms()))
        self.unconfirmed_since_ms = None

    @fired
    def close(self) -> None:
        """Nothing to end: there is no thread and no file."""

    @fired
    def write_snapshot(self, path: Path) -> None:
        """Replace ``node-runtime.v1.json``."""
        now_ms = self._now_ms()
        newest = self._list_jobs()
        final = [job for job in newest if job.final][:FINAL_JOBS]
        content = StoreContent(
            gateway_id=self.gateway_id,
            store_epoch=self.store_epoch,
            codes=self._active(now_ms),
            requests=self._list_requests()[:FINAL_JOBS],
            devices=self._list_devices(),
            certificates=self._certificates_where(lambda each: each.state in LIVE),
            revocations=self._list_revocations(),
            jobs=newest_jobs((job for job in newest if not job.final), final),
        )
        write_atomic(path, build_snapshot(content, now_ms))
