"""What a node host keeps below its state root, by name: what an uninstall may remove."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from palyra.node.files import HostFile, NodeFiles
from palyra.supervision.installed import InstalledFile
from palyra.supervision.removing import Belongings

PIDFILE = "node-host.pid"
"""twistd's own."""


def belongings(files: NodeFiles) -> Belongings:
    """All that a node host ever writes there, with what a person writes for it: its rules."""
    names = {
        each.name
        for each in (
            files.attempts,
            files.descriptors,
            files.policy,
            files.consents,
            files.control,
            files.control_token,
            files.process,
            files.last_error,
        )
    }
    names |= {f"{files.attempts.name}-{suffix}" for suffix in ("wal", "shm", "journal")}
    names |= {f"{files.consents.name}.corrupt", PIDFILE}
    identity = ("device-identity.json", "node-mtls-client.json", "pairing.json")
    return Belongings(
        names=frozenset(names),
        logs=frozenset({files.stdout_log.name, files.stderr_log.name}),
        directories={files.identity.path.name: Belongings(names=frozenset(identity))},
        proofs={
            files.host_file.name: _reads_as(HostFile),
            files.installed.name: _reads_as(InstalledFile),
        },
        last=(files.host_file.name, files.installed.name),
        lock=files.lock.name,
    )


def _reads_as(kind: type[msgspec.Struct]) -> Callable[[bytes], bool]:
    def proves(data: bytes) -> bool:
        try:
            msgspec.json.decode(data, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return False
        return True

    return proves
