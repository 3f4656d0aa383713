"""The tables, as SQLAlchemy Core sees them.  Times are Unix milliseconds, JSON is text.

No session id and no token is here in clear: both are found by their SHA-256.  A job is unfinished
exactly while ``finished_at_ms`` is NULL; the partial index on it stays as small as what is running,
however long the history grows.  A job's input is NULL where it is its fan-out's.  A pairing
request's code is NULL where a device came back without one.
"""

from palyra.store.tables.columns import metadata
from palyra.store.tables.console import (
    OF_DEVICE,
    audit,
    audit_heads,
    call_approvals,
    call_targets,
    operator_certificates,
    operator_invitations,
    operators,
    webhooks,
)
from palyra.store.tables.devices import (
    approvals,
    certificates,
    descriptors,
    devices,
    journal,
    meta,
    pairing_codes,
    pairing_requests,
    revocations,
)
from palyra.store.tables.jobs import attempts, fanouts, idempotency_keys, job_notes, jobs

__all__ = [
    "OF_DEVICE",
    "approvals",
    "attempts",
    "audit",
    "audit_heads",
    "call_approvals",
    "call_targets",
    "certificates",
    "descriptors",
    "devices",
    "fanouts",
    "idempotency_keys",
    "job_notes",
    "jobs",
    "journal",
    "meta",
    "metadata",
    "operator_certificates",
    "operator_invitations",
    "operators",
    "pairing_codes",
    "pairing_requests",
    "revocations",
    "webhooks",
]
