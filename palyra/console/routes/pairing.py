"""``pairing/requests``: codes, and the devices that ask with them."""

from __future__ import annotations

from palyra.console import models, reading
from palyra.console.routing import PAGED, Route, choice, words
from palyra.core.devices import ClientKind
from palyra.core.operators import Right
from palyra.core.pairing import RequestState

ROUTES = (
    Route(
        "GET",
        "pairing/requests",
        "list_pairing_requests",
        "List pairing requests, active codes and sources with wrong tries.",
        lambda of, asked: of.gateway.pairing_requests(
            reading.text(asked.request, "state"),
            reading.text(asked.request, "client_kind"),
            reading.limit(asked.request),
            reading.cursor(asked.request),
        ),
        models.PairingList,
        query=(
            *PAGED,
            choice("state", "Only those in this state.", *words(RequestState)),
            choice("client_kind", "Only those of this kind.", *words(ClientKind)),
        ),
    ),
    Route(
        "POST",
        "pairing/requests/code",
        "mint_pairing_code",
        "Make a pairing code; the answer is the only one that shows it.",
        lambda of, asked: of.gateway.mint(asked.body, asked.caller),
        models.MintedCode,
        Right.DECIDE,
        models.MintCode,
        example={"method": "qr", "ttl_ms": 600_000, "labels": {"site": "prague"}},
    ),
    Route(
        "POST",
        "pairing/codes/{target}/withdraw",
        "withdraw_pairing_code",
        "Take a pairing code back: no device can use it any more.",
        lambda of, asked: of.gateway.withdraw_code(asked.target, asked.caller),
        models.WithdrawnCode,
        Right.DECIDE,
        models.NoBody,
    ),
    Route(
        "GET",
        "pairing/requests/{target}",
        "show_pairing_request",
        "Show one pairing request.",
        lambda of, asked: of.gateway.pairing_request(asked.target),
        models.PairingAnswer,
    ),
    Route(
        "POST",
        "pairing/requests/{target}/approve",
        "approve_pairing",
        "Approve a pairing request: the device becomes trusted.",
        lambda of, asked: of.gateway.decide(asked.target, True, asked.body, asked.caller),
        models.PairingAnswer,
        Right.DECIDE,
        models.Decision,
        example={"reason": "the new one in the hall", "grants": ["system.health"]},
    ),
    Route(
        "POST",
        "pairing/requests/{target}/reject",
        "reject_pairing",
        "Reject a pairing request.",
        lambda of, asked: of.gateway.decide(asked.target, False, asked.body, asked.caller),
        models.PairingAnswer,
        Right.DECIDE,
        models.Decision,
    ),
)
