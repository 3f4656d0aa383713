"""``node-host-process.json``: the process that serves a state root, and whether it still does.

Written by every node host when it begins to serve, removed when it ends in peace.  A number alone
proves nothing: it is another process's after a reboot, or a day later.
"""

from __future__ import annotations

import msgspec

SCHEMA_VERSION = 1
PROCESS_FILE = "node-host-process.json"


class ProcessFile(msgspec.Struct, frozen=True):
    """What is kept.  ``boot_id`` names the life of the machine, and ``start_token`` the moment of
    the process's start in it: together with ``pid`` they name one process.  ``manager`` is who
    keeps it running (:class:`palyra.supervision.service.Manager`), empty in a terminal."""

    schema_version: int
    pid: int
    stdout_log_path: str
    stderr_log_path: str
    started_at_unix_ms: int
    boot_id: str = ""
    start_token: str = ""
    manager: str = ""
    version: str = ""
