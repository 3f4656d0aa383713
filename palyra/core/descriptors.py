"""Descriptors: everything a host, a gateway and a person must know of one capability.

A descriptor travels and is kept as the bytes its digest was made of, by whoever offers the
capability; nothing is encoded again before a check.  The contract is what a grant is given for:
another schema, risk, mediation or idempotence is another capability under an old name.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal

import msgspec

from palyra.core.devices import clean_text
from palyra.errors import Malformed

MAX_BYTES = 64 * 1024
MAX_NAME = 64
MAX_TEXT = 64
MAX_DESCRIPTION = 1024
MAX_TIMEOUT_MS = 24 * 3_600_000
MAX_CONCURRENCY = 1024
_FIELD = "descriptor"
_encode = msgspec.json.Encoder(order="deterministic").encode

Schema = dict[str, Any]
"""A JSON Schema of the profile in :mod:`palyra.core.schemas`."""


class Descriptor(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One capability without its handler.  ``timeout_ms`` is the run time when the caller names
    none; ``max_concurrency`` the most runs at once on one node.

    ``settings_schema`` is of what the device's owner may configure; None: nothing.
    """

    api: Annotated[int, msgspec.Meta(ge=1)]
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME)]
    version: Annotated[str, msgspec.Meta(max_length=MAX_TEXT)]
    distribution: Annotated[str, msgspec.Meta(max_length=2 * MAX_TEXT)]
    description: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_DESCRIPTION)]
    risk: Literal["low", "medium", "high"]
    needs_mediation: bool
    idempotent: bool
    timeout_ms: Annotated[int, msgspec.Meta(ge=1, le=MAX_TIMEOUT_MS)]
    max_concurrency: Annotated[int, msgspec.Meta(ge=1, le=MAX_CONCURRENCY)]
    input_schema: Schema
    output_schema: Schema
    settings_schema: Schema | None = None

    def encode(self) -> bytes:
        """The bytes that are digested, kept and sent: JSON with members in order."""
        return _encode(self)

    def contract(self) -> str:
        """SHA-256 (hex) of what a grant is given for."""
        facts = {
            "name": self.name,
            "input": self.input_schema,
            "output": self.output_schema,
            "risk": self.risk,
            "needs_mediation": self.needs_mediation,
            "idempotent": self.idempotent,
        }
        return hashlib.sha256(_encode(facts)).hexdigest()


_decoder = msgspec.json.Decoder(Descriptor)


def descriptor_digest(data: bytes) -> str:
    """SHA-256 (hex) of a descriptor's bytes."""
    return hashlib.sha256(data).hexdigest()


def decode_descriptor(data: bytes) -> Descriptor:
    """A descriptor from a peer; fields that a later version adds are ignored.

    :raises Malformed: above 64 KiB, not that JSON, or text that may not be shown as it is.
    """
    if len(data) > MAX_BYTES:
        raise Malformed(_FIELD, f"is longer than {MAX_BYTES // 1024} KiB")
    try:
        said = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as cause:
        raise Malformed(_FIELD, f"is not valid ({clean_text(str(cause), 200)})") from cause
    for field in ("name", "version", "distribution", "description"):
        if clean_text(getattr(said, field), None) != getattr(said, field):
            raise Malformed(f"{_FIELD}.{field}", "must be one line of printable characters")
    return said
