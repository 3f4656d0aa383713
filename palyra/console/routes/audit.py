"""``audit``: the chain of what was done."""

from __future__ import annotations

from palyra.console import models, reading
from palyra.console.routing import PAGED, Route, number, text

ROUTES = (
    Route(
        "GET",
        "audit",
        "list_audit",
        "List audit rows: the newest first, or oldest first behind a number.",
        lambda of, asked: of.audit.rows(
            reading.audit_filter(asked.request),
            reading.limit(asked.request),
            reading.cursor(asked.request),
        ),
        models.AuditList,
        query=(
            *PAGED,
            text("who", "Only rows of this operator or client."),
            text("action", "Only this action, or (ending in a dot) all that begin with it."),
            text("subject", "Only rows about this, as kind:id."),
            text("chain", "Only this chain; default the present one."),
            number("after_seq", "Oldest first, beginning behind this row."),
        ),
        listed=True,
    ),
    Route(
        "GET",
        "audit/heads",
        "list_audit_heads",
        "List the signed heads of the chain, newest first.",
        lambda of, asked: of.audit.heads(
            reading.limit(asked.request), reading.cursor(asked.request)
        ),
        models.AuditHeads,
        query=PAGED,
    ),
    Route(
        "GET",
        "audit/verify",
        "verify_audit",
        "Look through the chain for any change or gap.",
        lambda of, asked: of.audit.verify(),
        models.AuditVerification,
    ),
)
