"""Removing a device in SQL: its record goes, its tombstones stay.

Works in the transaction of the connection it is given.
"""

from __future__ import annotations

from sqlalchemy import Connection

from palyra.core.devices import Removal
from palyra.core.identifiers import DeviceId
from palyra.store import audit, audited, auditread, directory, pairinglog
from palyra.store.revocation import present


def remove(
    connection: Connection, device_id: DeviceId, by: str, reason: str, now_ms: int
) -> Removal:
    """Revoke the device if it was not, and delete it with everything that made it one.

    The audit chain keeps what was done to it, without details.
    """
    before = present(directory.device(connection, device_id), device_id)
    directory.revoke(connection, device_id, by, reason, now_ms)
    tombstones = directory.bury(connection, device_id, by, now_ms)
    requests = pairinglog.delete_requests(connection, device_id)
    certificates = directory.delete_device(connection, device_id)
    auditread.erase(connection, device_id)
    removal = Removal(before, tuple(tombstones), certificates, requests)
    audit.append(connection, audited.removed(removal, by, reason, now_ms))
    return removal
