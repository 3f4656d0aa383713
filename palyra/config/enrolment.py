"""``[enrolment]``: pairing and its limits."""

from __future__ import annotations

from typing import Annotated

import msgspec


class EnrolmentSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long codes and approvals live, and how much a source may try."""

    code_ttl_s: Annotated[int, msgspec.Meta(ge=30, le=86_400)] = 600
    approval_ttl_s: Annotated[int, msgspec.Meta(ge=30, le=86_400)] = 600
    failed_proofs_per_source: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 3
    open_sessions: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 10_000
    open_sessions_per_source: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 8
    session_starts_per_minute: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 1024
    rejoin_grace_s: Annotated[int, msgspec.Meta(ge=0, le=3_660 * 86_400)] = 90 * 86_400
    """How long after its last certificate ran out a device may come back without an approval."""
    allow_v1_codes: bool = False
    """Pair version-1 devices, which send the code itself over a TLS connection."""
    allow_gateway_made_keys: bool = False
    """Make private keys here for version-1 devices, which send no CSR."""
