"""``node-host/last-error.json``: what went wrong last, also for those who ask when nothing runs."""

from __future__ import annotations

import enum
from pathlib import Path

import msgspec

from palyra._versioned import VersionedFile
from palyra.core.devices import clean_text
from palyra.node.controlwords import LastError

SCHEMA_VERSION = 1
MAX_TEXT = 240
MAX_FILE = 16 * 1024


class Outage(enum.StrEnum):
    """What a node host can be kept from."""

    GATEWAY = "gateway"
    CERTIFICATE = "certificate"
    STORAGE = "storage"


class LastErrorFile(msgspec.Struct, frozen=True):
    """``last-error.json``; the fields of :class:`LastError`, and which kind of outage it is."""

    schema_version: int
    outage: Outage
    code: str
    sentence: str
    hint: str
    began_at_unix_ms: int
    healed_at_unix_ms: int = 0
    where: str = ""

    @property
    def error(self) -> LastError:
        """As people are told it; made safe again, for anybody's editor may have been there."""
        return LastError(
            clean_text(self.code, MAX_TEXT),
            clean_text(self.sentence, MAX_TEXT),
            clean_text(self.hint, MAX_TEXT),
            self.began_at_unix_ms,
            self.healed_at_unix_ms,
            clean_text(self.where, MAX_TEXT),
        )


def last_error_at(path: Path) -> VersionedFile[LastErrorFile]:
    """The file, to read and to write."""
    return VersionedFile(path, LastErrorFile, SCHEMA_VERSION, max_bytes=MAX_FILE)
