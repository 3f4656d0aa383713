"""Heads of the audit chain: signed statements of how far it was, given to the outside.

    palyra-audit-head v1 <chain> <seq> <hash> <unix_ms> <signature>

The signature is Ed25519 over LP("palyra-audit-head-v1", chain, LE64 seq, hash, LE64 unix_ms, kind);
hash and signature are lower-case hex.  Whoever keeps such a line, and the public key, where the
gateway cannot change them can show later what the chain was.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Iterator

import attrs
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from palyra.core.transcript import lp

KEY_PURPOSE = "palyra-audit-head-v1"
"""What the signing key is derived for."""
_LINE = re.compile(
    r"palyra-audit-head v1 (?P<chain>[0-7][0-9A-HJKMNP-TV-Z]{25}) (?P<seq>[0-9]{1,18}) "
    r"(?P<hash>[0-9a-f]{64}) (?P<at>[0-9]{1,15}) (?P<signature>[0-9a-f]{128})\b",
    re.ASCII,
)


class HeadKind(enum.Enum):
    """Why a head was signed."""

    ANCHOR = "anchor"
    """To be kept outside."""
    SEGMENT = "segment"
    """The rows up to it were deleted."""
    START = "start"
    """The chain that a new one follows, where a state was restored."""


@attrs.frozen
class Head:
    """Row ``seq`` of a chain had this hash (32 bytes) at a time; ``signature`` is 64 bytes."""

    chain_id: str
    seq: int
    hash: bytes
    at_ms: int
    kind: HeadKind = HeadKind.ANCHOR
    signature: bytes = b""

    @property
    def payload(self) -> bytes:
        """What is signed."""
        return lp(
            KEY_PURPOSE.encode(),
            self.chain_id.encode(),
            self.seq.to_bytes(8, "little"),
            self.hash,
            self.at_ms.to_bytes(8, "little"),
            self.kind.value.encode(),
        )

    @property
    def line(self) -> str:
        """An anchor as it is given to the outside."""
        hashed, signature = self.hash.hex(), self.signature.hex()
        return f"palyra-audit-head v1 {self.chain_id} {self.seq} {hashed} {self.at_ms} {signature}"

    def signed(self, key: Ed25519PrivateKey) -> Head:
        """The same, signed."""
        return attrs.evolve(self, signature=key.sign(self.payload))

    def holds(self, key: Ed25519PublicKey) -> bool:
        """Whether the signature is one by that key."""
        try:
            key.verify(self.signature, self.payload)
        except InvalidSignature:
            return False
        return True


def anchors_in(lines: Iterable[str]) -> Iterator[Head]:
    """The anchors in a log, wherever they stand in its lines."""
    for line in lines:
        for found in _LINE.finditer(line):
            yield Head(
                found["chain"],
                int(found["seq"]),
                bytes.fromhex(found["hash"]),
                int(found["at"]),
                HeadKind.ANCHOR,
                bytes.fromhex(found["signature"]),
            )
