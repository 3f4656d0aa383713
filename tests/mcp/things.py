"""Devices, descriptors and jobs that these tests show, and a gateway that answers with them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from palyra.afar.contexts import Context, Contexts
from palyra.console.models import (
    CallerAnswer,
    CallerItem,
    CapabilityDescription,
    CapabilityItem,
    NodeItem,
)
from palyra.pki.authority import DAY_MS
from palyra.pki.keypair import key_pem
from tests.cli import things
from tests.cli.farconsole import OPERATOR, FarConsole

DIGEST = "d" * 64
JOB = "01M80NKQCNX4K7QM2ZT9B3FVHD"


def item(name: str = "test.tool", **changes: Any) -> CapabilityItem:
    """A capability that is granted on a device."""
    given: dict[str, Any] = {
        "name": name,
        "available": True,
        "granted": True,
        "version": "1",
        "risk": "low",
        "needs_mediation": False,
        "idempotent": True,
        "fault": "",
        "digest": DIGEST,
    }
    return CapabilityItem(**{**given, **changes})


def device(*capabilities: CapabilityItem, number: int = 1, trust: str = "trusted") -> NodeItem:
    """A device that has these."""
    device_id = f"01M80NKQCNX4K7QM2ZT9B3FV{number:02}"
    return things.node(device_id=device_id, trust=trust, capabilities=list(capabilities))


def described(name: str = "test.tool", **changes: Any) -> CapabilityDescription:
    """A descriptor as the gateway gives it."""
    given: dict[str, Any] = {
        "digest": DIGEST,
        "name": name,
        "version": "1",
        "distribution": "palyra-cap-test",
        "description": "Does it.",
        "risk": "low",
        "needs_mediation": False,
        "idempotent": True,
        "timeout_ms": 1000,
        "input_schema": {"type": "object", "properties": {}, "additionalProperties": False},
        "output_schema": {},
    }
    return CapabilityDescription(**{**given, **changes})


def catalogue(*found: CapabilityDescription) -> dict[str, Any]:
    """GET capabilities, however it is paged."""
    page = {"limit": 1, "returned": len(found), "has_more": False, "next_cursor": None}
    contract = {"contract_version": "control-plane.v1"}
    return {"contract": contract, "page": page, "capabilities": list(found)}


def caller(role: str = "operator", operator_id: str = JOB) -> CallerAnswer:
    """GET auth/self."""
    rights = {
        "viewer": ["read"],
        "operator": ["read", "submit"],
        "approver": ["read", "decide"],
        "admin": ["read", "submit", "decide", "administer"],
    }[role]
    return CallerAnswer(things.CONTRACT, CallerItem(operator_id, "agent", role, rights, "gw"))


def kept(far: FarConsole, root: Path, name: str = "far") -> tuple[Context, Contexts]:
    """A context whose operator has a certificate."""
    contexts = Contexts(root / "palyra")
    context = Context(name, far.url, "agent", OPERATOR)
    key = ec.generate_private_key(ec.SECP256R1())
    issued = far.ca.issue_operator(
        key.public_key(), OPERATOR, int(time.time() * 1000), life_ms=DAY_MS
    )
    contexts.add(context, far.ca.ca_pem, key_pem(key) + issued.pem)
    return context, contexts


def answering(far: FarConsole, role: str = "operator") -> None:
    """A gateway with one device that has one capability."""
    far.on("GET", "auth/self", caller(role))
    far.on("GET", "nodes", things.node_list(device(item())))
    far.on("GET", "capabilities", catalogue(described()))
