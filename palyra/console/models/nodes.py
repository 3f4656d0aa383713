"""Bodies of ``nodes``, and of the labels and grants of devices."""

from __future__ import annotations

import msgspec

from palyra.console.models.common import Contract, GrantRisk, Page


class CapabilityItem(msgspec.Struct, frozen=True):
    """One capability of a device, as announced and as granted.

    ``digest`` is of its descriptor, empty where the device does not say; ``capabilities`` holds
    the descriptors that the gateway knows.
    """

    name: str
    available: bool
    granted: bool
    version: str
    risk: str
    needs_mediation: bool
    idempotent: bool
    fault: str
    digest: str = ""
    changed: bool = False
    """Whether it was granted, and is not what it was granted as any more."""
    contract: str = ""
    """SHA-256 of what a grant is given for (its schemas, risk, mediation and idempotence), empty
    where the device does not say."""


class NodeItem(msgspec.Struct, frozen=True):
    """One row of the inventory."""

    device_id: str
    name: str
    client_kind: str
    presence: str
    trust: str
    platform: str
    version: str
    capabilities: list[CapabilityItem]
    jobs_running: int
    last_heard_unix_ms: int | None
    transport: str
    address: str
    certificate_expires_unix_ms: int | None
    labels: dict[str, str]
    identity_fingerprint: str
    approved_by: str
    paired_at_unix_ms: int
    certificate_renews_unix_ms: int | None = None
    """When the device is expected to ask for its next certificate."""
    certificate_ca: str = ""
    """Fingerprint of the CA that signed its newest certificate."""
    rotate_asked_unix_ms: int | None = None
    """When an operator ordered a new certificate that it does not use yet."""
    rotate_asked_by: str = ""
    clock_ahead_ms: int | None = None
    """How far its clock was ahead when it registered last, or behind (negative)."""
    grant_risk: str = "low"
    """Up to which risk a capability that it announces later is granted by itself."""
    version_skew: str = ""
    """How its version stands to the gateway's: ``older`` or ``newer`` (one minor version at most),
    ``too_old``, ``too_new``; empty where it is the same, or not known."""


class NodeList(msgspec.Struct, frozen=True):
    """GET nodes, those online first.

    ``total`` is how many devices there are on all pages; None under an expression.
    """

    contract: Contract
    page: Page
    nodes: list[NodeItem]
    waiting_for_approval: int
    total: int | None = None


class NodeAnswer(msgspec.Struct, frozen=True):
    """GET nodes/{id}."""

    contract: Contract
    node: NodeItem


class JournalItem(msgspec.Struct, frozen=True):
    """Something that happened to a device, by the number that it has there."""

    seq: int
    at_unix_ms: int
    kind: str
    details: dict[str, str | int | bool]


class JournalList(msgspec.Struct, frozen=True):
    """GET devices/{id}/journal: newest first; what is older than ``oldest_seq`` was deleted."""

    contract: Contract
    page: Page
    events: list[JournalItem]
    oldest_seq: int


class LabelNode(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST devices/{id}/labels.  A label without a value is a group; ``unlabel`` are keys."""

    name: str | None = None
    labels: dict[str, str] = {}
    unlabel: list[str] = []


class GrantNode(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST devices/{id}/grants: capabilities to grant and to withhold, and the risk up to which
    later ones are granted by themselves (None: as it was).

    ``contracts`` are those of capabilities to grant, as they were shown: where the device offers
    another one by now, nothing is changed.
    """

    grant: list[str] = []
    withhold: list[str] = []
    grant_risk: GrantRisk | None = None
    contracts: dict[str, str] = {}
