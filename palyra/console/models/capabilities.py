"""Bodies of ``capabilities``: what the gateway knows of a capability, whoever offers it."""

from __future__ import annotations

from typing import Any

import msgspec

from palyra.console.models.common import Contract, Page


class CapabilityDescription(msgspec.Struct, frozen=True):
    """One descriptor.  A device whose capability has this ``digest`` takes this input.

    The schemas are JSON Schema, draft 2020-12; ``distribution`` is the package that brings it.
    """

    digest: str
    name: str
    version: str
    distribution: str
    description: str
    risk: str
    needs_mediation: bool
    idempotent: bool
    timeout_ms: int
    input_schema: dict[str, Any]
    output_schema: dict[str, Any]
    devices: int = 0
    """How many devices announce it."""


class CapabilityCatalogue(msgspec.Struct, frozen=True):
    """GET capabilities, by name."""

    contract: Contract
    page: Page
    capabilities: list[CapabilityDescription]
