"""Bodies that revoke, remove and renew: devices, and the CA of the gateway."""

from __future__ import annotations

import msgspec

from palyra.console.models.common import Contract
from palyra.console.models.nodes import NodeItem


class Revoke(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST devices/{id}/revoke."""

    reason: str = ""


class RevokeAnswer(msgspec.Struct, frozen=True):
    """What a revocation ended."""

    contract: Contract
    device_id: str
    name: str
    certificates: int


class Rotate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST devices/rotate and devices/{id}/rotate: order a new certificate from the devices that
    are named, that an expression matches, or (``everything``) from all."""

    targets: list[str] = []
    where: str = ""
    everything: bool = False
    reason: str = ""


class RotateAnswer(msgspec.Struct, frozen=True):
    """The devices that were told, or will be when they come back."""

    contract: Contract
    nodes: list[NodeItem]


class Remove(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST devices/{id}/remove and devices/clear."""

    reason: str = ""


class RemoveAnswer(msgspec.Struct, frozen=True):
    """What removing a device did; ``revoked`` says that it was revoked by it."""

    contract: Contract
    device_id: str
    name: str
    revoked: bool
    certificates: int
    pairing_requests: int


class ClearAnswer(msgspec.Struct, frozen=True):
    """POST devices/clear: every revoked device was removed."""

    contract: Contract
    removed: list[RemoveAnswer]


class CaItem(msgspec.Struct, frozen=True):
    """One CA of the gateway: whether it signs new certificates, and whether it signed the one
    that the listeners show."""

    fingerprint: str
    issues: bool
    serves: bool
    not_after_unix_ms: int


class CaAnswer(msgspec.Struct, frozen=True):
    """GET ca, POST ca/rotate.

    ``phase`` is steady, overlap (devices move to the new CA) or switched (the listeners show a
    certificate of the new one), since ``started_unix_ms``.  ``left`` are devices that would be
    locked out by the next step, which is taken without them not before ``next_step_unix_ms``.
    """

    contract: Contract
    phase: str
    cas: list[CaItem]
    started_unix_ms: int | None
    next_step_unix_ms: int | None
    left: list[NodeItem]
    left_total: int


class RotateCa(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST ca/rotate."""

    reason: str = ""
