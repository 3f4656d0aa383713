"""Bodies of ``pairing/requests``."""

from __future__ import annotations

import msgspec

from palyra.console.models.common import CodeKind, Contract, GrantRisk, Page
from palyra.console.models.nodes import CapabilityItem


class SeenBefore(msgspec.Struct, frozen=True):
    """What is known of a device id that asks to pair: ``kind`` is never, same_key, another_key
    or revoked."""

    kind: str
    name: str = ""
    at_unix_ms: int | None = None
    identity_fingerprint: str = ""
    by: str = ""
    reason: str = ""
    removed_at_unix_ms: int | None = None
    certificate_ended_unix_ms: int | None = None
    """Of a rejoin: when its last certificate ran out."""


class PairingItem(msgspec.Struct, frozen=True):
    """One pairing request, with what an operator must see before deciding."""

    request_id: str
    state: str
    device_id: str
    name: str
    client_kind: str
    platform: str
    version: str
    source: str
    identity_fingerprint: str
    capabilities: list[CapabilityItem]
    labels: dict[str, str]
    method: str
    issued_by: str
    issued_at_unix_ms: int
    created_at_unix_ms: int
    expires_at_unix_ms: int
    seen_before: SeenBefore
    decided_by: str
    reason: str
    approval_id: str


class PairingList(msgspec.Struct, frozen=True):
    """GET pairing/requests and nodes/pending; ``failed_tries`` are sources with wrong tries."""

    contract: Contract
    page: Page
    requests: list[PairingItem]
    codes: list[CodeItem]
    failed_tries: list[FailedTries]
    pins_paused_until_unix_ms: int | None = None
    """Until when nobody may pair by PIN, after too many wrong ones."""


class PairingHistory(msgspec.Struct, frozen=True):
    """GET devices/{id}/pairing: every time that a device asked to pair, newest first."""

    contract: Contract
    page: Page
    requests: list[PairingItem]


class CodeItem(msgspec.Struct, frozen=True):
    """A pairing code, without the code: active, or ``burnt`` by wrong tries of late."""

    code_id: str
    method: str
    issued_by: str
    issued_at_unix_ms: int
    expires_at_unix_ms: int
    labels: dict[str, str]
    source: str
    failed: int
    state: str = "active"
    nameplate: int | None = None


class FailedTries(msgspec.Struct, frozen=True):
    """Wrong tries from one source in the last ten minutes."""

    source: str
    count: int


class PairingAnswer(msgspec.Struct, frozen=True):
    """The answer to a decision."""

    contract: Contract
    request: PairingItem


class MintCode(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST pairing/requests/code.  ``qr_matrix`` asks for the picture of a pairing line too."""

    method: CodeKind = "pin"
    issued_by: str = ""
    ttl_ms: int | None = None
    labels: dict[str, str] = {}
    source: str = ""
    qr_matrix: bool = False


class MintedCode(msgspec.Struct, frozen=True):
    """A new code: the only time it is ever shown, as ``uri`` or as ``pin``; the other is empty.

    ``address`` is where devices pair, ``loopback_only``: no other machine can.  ``qr_matrix`` are
    the rows of the QR code of ``uri``, without its border: ``1`` is dark.
    """

    contract: Contract
    code: CodeItem
    uri: str
    address: str
    loopback_only: bool
    pin: str = ""
    qr_matrix: list[str] = []

    def __repr__(self) -> str:
        return f"<MintedCode {self.code.code_id}>"


class WithdrawnCode(msgspec.Struct, frozen=True):
    """POST pairing/codes/{id}/withdraw: no device can use it any more."""

    contract: Contract
    code: CodeItem


class Decision(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST pairing/requests/{id}/approve|reject.  ``grants`` None grants what was announced;
    ``grant_risk`` (none, low, medium, high) grants what is announced later up to that risk."""

    reason: str = ""
    grants: list[str] | None = None
    grant_risk: GrantRisk = "low"
    accept_new_identity: bool = False
    decision_scope: str = "once"
    decision_scope_ttl_ms: int | None = None
