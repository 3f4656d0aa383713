"""schemathesis against a gateway: what it is told, and what it is not to try."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from palyra.console.routes import ROUTES
from tests.api.world import World
from tests.integration.processes import Ran, run, script

SEED = 7
LEFT_OUT = ("clear_devices", "rotate_ca", "confirm_state")
"""What ends the gateway's usefulness for every request after it."""
STREAMS = tuple(route.name for route in ROUTES if route.follow is not None)
"""They end when their reader does."""
WORDS = (
    *("echo", "system.health", "system.identity", "files.*", "once", "timeboxed", "approve"),
    *("reject", "pin", "qr", "low", "medium", "none", "viewer", "operator", "approver", "admin"),
    *("pi", "spare-1", "site", "prague", "25%", "name = pi", "presence = online", "10.0.0.0/8"),
)
"""What a request may well say."""
OF = {
    "nodes": "devices",
    "inventory": "devices",
    "devices": "devices",
    "jobs": "jobs",
    "fanouts": "fanouts",
    "operators": "operators",
    "approvals": "approvals",
    "pairing/requests": "requests",
    "pairing/codes": "codes",
}
"""What the ids in a path are of."""


