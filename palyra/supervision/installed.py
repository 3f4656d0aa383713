"""``node-host/installed.json``: the mark that a service was installed for this state root."""

from __future__ import annotations

from pathlib import Path

import msgspec

from palyra._versioned import VersionedFile

SCHEMA_VERSION = 1
INSTALLED_FILE = "installed.json"


class InstalledFile(msgspec.Struct, frozen=True):
    """What was installed, so that it can be found, told and taken away again.

    ``manager`` and ``scope`` are as :mod:`palyra.supervision.service` spells them; ``files`` are
    those of the service manager, absolute.  ``account`` is whom a system service runs as, and
    ``account_made`` whether install made that user.
    """

    schema_version: int
    manager: str
    scope: str
    state_root: str
    python: str
    version: str
    installed_at_unix_ms: int
    files: tuple[str, ...] = ()
    account: str = ""
    account_made: bool = False


def mark_at(path: Path) -> VersionedFile[InstalledFile]:
    """The mark that is kept at ``path``, to read and to write."""
    return VersionedFile(path, InstalledFile, SCHEMA_VERSION)
