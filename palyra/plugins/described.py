"""Descriptors that a worker gave once, kept on disk: a plugin is asked again when it has changed.

The key is the distribution, its version and the digest of its list of files, for one interpreter
and one version of this program.  What cannot be read is nothing, and is written anew.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
from twisted.logger import Logger

from palyra import __version__
from palyra._files import write_atomic
from palyra.core.descriptors import Descriptor
from palyra.errors import PalyraError
from palyra.plugins.installed import Installed

SCHEMA_VERSION = 1
MAX_FILE_BYTES = 32 * 1024 * 1024
MAX_ENTRIES = 1_000


class _Entry(msgspec.Struct, frozen=True):
    version: str
    record: str
    descriptors: tuple[Descriptor, ...]


class _File(msgspec.Struct, frozen=True):
    schema_version: int
    made_by: str
    entries: dict[str, _Entry]


class DescriptorCache:
    """What is known of distributions; one thread at a time.  Without ``path`` it is empty."""

    _log = Logger()

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._entries: dict[str, _Entry] = {}
        self._changed = False

    def load(self) -> None:
        """Read what is on disk; whatever is wrong with it, then there is nothing."""
        self._entries = {}
        if self._path is None:
            return
        try:
            if self._path.stat().st_size > MAX_FILE_BYTES:
                return
            kept = msgspec.json.decode(self._path.read_bytes(), type=_File)
        except (OSError, msgspec.MsgspecError, UnicodeError, RecursionError):
            return
        if kept.schema_version == SCHEMA_VERSION and kept.made_by == _made_by():
            self._entries = kept.entries

    def get(self, what: Installed) -> tuple[Descriptor, ...] | None:
        """What it described, if it is as it was then."""
        entry = self._entries.get(what.key)
        if entry is None or not what.record:
            return None
        same = (entry.version, entry.record) == (what.version, what.record)
        return entry.descriptors if same else None

    def put(self, what: Installed, descriptors: Sequence[Descriptor]) -> None:
        """Remember what it described."""
        if what.record:
            self._entries[what.key] = _Entry(what.version, what.record, tuple(descriptors))
            self._changed = True

    def save(self, present: Sequence[Installed]) -> None:
        """Write what is known of those that are still installed, where something has changed."""
        keys = {each.key for each in present[:MAX_ENTRIES]}
        kept = {key: entry for key, entry in self._entries.items() if key in keys}
        if self._path is None or not (self._changed or len(kept) < len(self._entries)):
            return
        self._entries, self._changed = kept, False
        data = msgspec.json.encode(_File(SCHEMA_VERSION, _made_by(), kept))
        try:
            write_atomic(self._path, data)
        except (OSError, PalyraError) as error:
            self._log.warn("what plugins describe is not kept on disk: {e}", e=str(error))


def _made_by() -> str:
    """Another interpreter may import another file under the same name."""
    return f"{__version__} {sys.version_info[:3]} {sys.prefix}"
