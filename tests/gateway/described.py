"""Capabilities that a device describes: descriptors, and what is announced of them."""

from __future__ import annotations

from typing import Any

import attrs

from palyra.core.descriptors import Descriptor, descriptor_digest
from palyra.core.devices import AnnouncedCapability

INPUT = {
    "type": "object",
    "properties": {"path": {"type": "string", "maxLength": 20}},
    "required": ["path"],
    "additionalProperties": False,
}


def a_descriptor(name: str = "acme.lamp", **changes: Any) -> Descriptor:
    """A capability of somebody else's package."""
    values: dict[str, Any] = {
        "api": 1,
        "name": name,
        "version": "1.0",
        "distribution": "palyra-cap-acme",
        "description": "Do something with a file.",
        "risk": "medium",
        "needs_mediation": False,
        "idempotent": False,
        "timeout_ms": 5_000,
        "max_concurrency": 1,
        "input_schema": INPUT,
        "output_schema": {},
        **changes,
    }
    return Descriptor(**values)


def announced(said: Descriptor, **changes: Any) -> AnnouncedCapability:
    """What its device announces of it."""
    offered = AnnouncedCapability(
        name=said.name,
        digest=descriptor_digest(said.encode()),
        version=said.version,
        risk=said.risk,
        needs_mediation=said.needs_mediation,
        idempotent=said.idempotent,
        timeout_ms=said.timeout_ms,
        contract=said.contract(),
    )
    return attrs.evolve(offered, **changes)


def faulty(name: str) -> AnnouncedCapability:
    """A capability that cannot be run, as a node announces it."""
    return AnnouncedCapability(name, available=False, risk="medium", fault="It is broken.")
