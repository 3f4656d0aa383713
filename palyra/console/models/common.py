"""What every answer of ``/console/v1`` is made of."""

from __future__ import annotations

from typing import Any

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


def null() -> msgspec.Raw:
    """NULL, as the factory of a default: a schema cannot write the default itself."""
    return NULL
