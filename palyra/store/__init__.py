"""The record: what is kept, on SQLite or in memory, and the snapshot of it.

Both stores provide :class:`palyra.core.interfaces.IStore` and pass the same contract tests.
"""

from palyra.store.memory import MemoryStore
from palyra.store.snapshotwriter import SnapshotWriter
from palyra.store.sqlite import SqliteStore

__all__ = ["MemoryStore", "SnapshotWriter", "SqliteStore"]
