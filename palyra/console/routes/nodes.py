"""``nodes`` and ``inventory``: the devices, as they are listed and used."""

from __future__ import annotations

import attrs

from palyra.console import models, reading
from palyra.console.routing import PAGED, WHERE, Route, choice, text
from palyra.core.operators import Right

_SEARCH = text("search", "Words, each a part of the name or of a label, or the start of an id.")
_TRUST = choice("trust", "Only devices that are so.", "trusted", "revoked")
_LENGTH = 64
"""Of a capability's name at most, and of a digest."""
_NAME = text("name", "Only capabilities of this name.", _LENGTH)
_DIGEST = text("digest", "Only the capability whose descriptor has this SHA-256 (hex).", _LENGTH)
_LIST = Route(
    "GET",
    "nodes",
    "list_nodes",
    "List the devices that were not removed.",
    lambda of, asked: of.gateway.nodes(
        reading.limit(asked.request),
        reading.cursor(asked.request),
        reading.where(asked.request),
        reading.text(asked.request, "search") or "",
        reading.text(asked.request, "trust") or "",
    ),
    models.NodeList,
    query=(*PAGED, WHERE, _SEARCH, _TRUST),
    listed=True,
)
_ONE = Route(
    "GET",
    "nodes/{target}",
    "show_node",
    "Show one device.",
    lambda of, asked: of.gateway.node(asked.target),
    models.NodeAnswer,
    listed=True,
)

ROUTES = (
    _LIST,
    attrs.evolve(_LIST, path="inventory", name="list_inventory"),
    attrs.evolve(_LIST, path="devices", name="list_devices"),
    Route(
        "GET",
        "nodes/pending",
        "list_pending",
        "List the pairing requests that wait for a decision.",
        lambda of, asked: of.gateway.pairing_requests(
            "pending_approval", None, reading.limit(asked.request), reading.cursor(asked.request)
        ),
        models.PairingList,
        query=PAGED,
    ),
    _ONE,
    attrs.evolve(_ONE, path="inventory/{target}", name="show_inventory"),
    attrs.evolve(_ONE, path="devices/{target}", name="show_device"),
    Route(
        "GET",
        "capabilities",
        "list_capabilities",
        "List the capabilities whose descriptors the gateway knows.",
        lambda of, asked: of.gateway.capabilities(
            reading.limit(asked.request),
            reading.cursor(asked.request),
            reading.text(asked.request, "name", _LENGTH) or "",
            reading.text(asked.request, "digest", _LENGTH) or "",
        ),
        models.CapabilityCatalogue,
        query=(*PAGED, _NAME, _DIGEST),
        listed=True,
    ),
    Route(
        "GET",
        "devices/{target}/journal",
        "list_journal",
        "List what happened to a device, newest first.",
        lambda of, asked: of.gateway.journal(
            asked.target, reading.limit(asked.request), reading.cursor(asked.request)
        ),
        models.JournalList,
        query=PAGED,
        listed=True,
    ),
    Route(
        "GET",
        "devices/{target}/pairing",
        "list_pairing_history",
        "List the pairing requests of a device, newest first.",
        lambda of, asked: of.gateway.pairing_history(
            asked.target, reading.limit(asked.request), reading.cursor(asked.request)
        ),
        models.PairingHistory,
        query=PAGED,
    ),
    Route(
        "POST",
        "nodes/{target}/invoke",
        "invoke",
        "Run a capability on one device and wait for it.",
        lambda of, asked: of.gateway.invoke(asked.target, asked.body, asked.caller),
        models.InvokeAnswer,
        Right.SUBMIT,
        models.Invoke,
        keyed=True,
        accepted=lambda answer: getattr(answer, "accepted_only", False),
        example={"capability": "echo", "input_json": {"text": "hello"}, "timeout_ms": 30_000},
    ),
)
