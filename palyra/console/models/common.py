"""What every answer of ``/console/v1`` is made of."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

CONTRACT_VERSION = "control-plane.v1"
NULL = msgspec.Raw(b"null")
"""An output that is not there; msgspec does not decode ``Raw | None``."""


class Contract(msgspec.Struct, frozen=True):
    """Which contract an answer keeps."""

    contract_version: str = CONTRACT_VERSION


class Page(msgspec.Struct, frozen=True, omit_defaults=False):
    """Where a list stands: ``next_cursor`` is given where ``has_more``."""

    limit: int
    returned: int
    has_more: bool
    next_cursor: str | None = None


class Problem(msgspec.Struct, frozen=True):
    """Every refusal: a sentence, a stable code and the hint that comes next."""

    error: str
    code: str
    hint: str
    category: str
    retryable: bool
    validation_errors: list[dict[str, Any]] = []


def _one_of(*values: str) -> msgspec.Meta:
    """Says in the schema which words there are; whoever acts on them refuses others."""
    return msgspec.Meta(extra_json_schema={"enum": list(values)})


RoleName = Annotated[str, _one_of("viewer", "operator", "approver", "admin")]
GrantRisk = Annotated[str, _one_of("none", "low", "medium", "high")]
Verdict = Annotated[str, _one_of("approve", "reject")]
Scope = Annotated[str, _one_of("once", "session", "timeboxed")]
CodeKind = Annotated[str, _one_of("pin", "qr")]


def null() -> msgspec.Raw:
    """NULL, as the factory of a default: a schema cannot write the default itself."""
    return NULL
