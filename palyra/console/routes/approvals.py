"""``approvals``: what waits for an operator's yes, and what was said."""

from __future__ import annotations

from palyra.console import models, reading
from palyra.console.routing import PAGED, Route, choice, words
from palyra.core.approval import ApprovalState
from palyra.core.operators import Right

ROUTES = (
    Route(
        "GET",
        "approvals",
        "list_approvals",
        "List approvals of pairing requests and of calls, newest first.",
        lambda of, asked: of.approvals.approvals(
            reading.text(asked.request, "state"),
            reading.text(asked.request, "kind"),
            reading.limit(asked.request),
            reading.cursor(asked.request),
            asked.caller,
        ),
        models.ApprovalList,
        query=(
            *PAGED,
            choice("state", "Only those in this state.", *words(ApprovalState)),
            choice("kind", "Only one kind.", "pairing", "call"),
        ),
    ),
    Route(
        "GET",
        "approvals/{target}",
        "show_approval",
        "Show one approval with everything that is asked.",
        lambda of, asked: of.approvals.approval(asked.target, asked.caller),
        models.ApprovalAnswer,
    ),
    Route(
        "POST",
        "approvals/{target}/decision",
        "decide_approval",
        "Approve or reject; of a call its digest says what was seen.",
        lambda of, asked: of.approvals.decide(asked.target, asked.body, asked.caller),
        models.ApprovalAnswer,
        Right.DECIDE,
        models.ApprovalDecision,
        example={"decision": "reject", "reason": "nobody asked for it"},
    ),
)
