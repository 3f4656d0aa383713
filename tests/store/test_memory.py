"""Promises of the store in memory."""

from __future__ import annotations

from collections.abc import Awaitable
from pathlib import Path
from typing import TypeVar

import pytest
from twisted.internet.defer import Deferred

from palyra.store.memory import MemoryStore
from palyra.store.snapshot import import_snapshot
from tests.contract.store import StoreContract
from tests.store.samples import NOW_MS, a_job, dispatch, succeed

T = TypeVar("T")


class TestMemoryStore(StoreContract):
    """The contract, on dictionaries."""

    @pytest.fixture(autouse=True)
    def _store(self) -> None:
        self.now_ms = NOW_MS
        self.store = MemoryStore(now_ms=lambda: self.now_ms)

    def wait(self, result: Awaitable[T]) -> T:
        assert isinstance(result, Deferred)
        kept: list[T] = []
        failed: list[BaseException] = []
        result.addCallbacks(kept.append, lambda failure: failed.append(failure.value))
        if failed:
            raise failed[0]
        return kept[0]

    def now_is(self, now_ms: int) -> None:
        self.now_ms = now_ms

    def test_it_writes_a_snapshot(self, tmp_path: Path) -> None:
        """The picture has its devices, requests, revocations and jobs, and can be imported."""
        device = self.registered()
        self.opened("lab-8", "c2")
        self.wait(self.store.accept(a_job("q", device.device_id)))
        self.wait(self.store.accept(succeed(dispatch(a_job("d", device.device_id)))))
        path = tmp_path / "node-runtime.v1.json"
        self.wait(self.store.write_snapshot(path))
        state = import_snapshot(path.read_bytes(), now_ms=NOW_MS)
        assert state.devices == (device,)
        assert len(state.jobs) == 2
        assert len(state.certificates) == 1

    def test_what_it_is_made_from_can_be_old(self) -> None:
        """A state that nobody has confirmed is what a test makes it, until it is confirmed."""
        store = MemoryStore(now_ms=lambda: NOW_MS, unconfirmed_since_ms=7)
        assert store.unconfirmed_since_ms == 7
        self.wait(store.confirm())
        assert store.unconfirmed_since_ms is None

    def test_it_closes(self) -> None:
        """Closing is immediate, and it was not imported."""
        self.wait(self.store.close())
        assert not self.store.imported
