"""What every message is held to, whoever reads it."""

from __future__ import annotations

from palyra.core.identifiers import AttemptId
from palyra.errors import Malformed

VERSION = 1
MAX_ATTEMPT_ID = 64
"""Bytes; those of this gateway are ULIDs, and what a node makes up is sent back to it."""


def check_version(version: int) -> None:
    """Every message carries v = 1."""
    if version != VERSION:
        raise Malformed("v", f"must be {VERSION} (got {version})")


def checked_attempt_id(text: str, field: str) -> AttemptId:
    """The id of an attempt in ``field``.

    :raises Malformed: it is longer than ids are.
    """
    if len(text) > MAX_ATTEMPT_ID or len(text.encode()) > MAX_ATTEMPT_ID:
        raise Malformed(field, f"an attempt's id has at most {MAX_ATTEMPT_ID} bytes")
    return AttemptId(text)
