"""Identifiers: ULIDs for things, SHA-256 for keys and certificates.

Every ULID here is drawn with 80 fresh random bits.  ``python-ulid`` counts upward within a
millisecond, which would give the jobs of one fan-out a common short form; only its encoder is used.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from typing import NewType

from ulid import ULID

from palyra.errors import MalformedIdentifier

DeviceId = NewType("DeviceId", str)
JobId = NewType("JobId", str)
FanoutId = NewType("FanoutId", str)
AttemptId = NewType("AttemptId", str)
RequestId = NewType("RequestId", str)
Fingerprint = NewType("Fingerprint", str)

Entropy = Callable[[int], bytes]
"""``os.urandom`` in production; a seeded source in tests."""

SHORT_LENGTH = 6
MIN_PREFIX = 4
_RANDOM_PART = slice(10, 26)
_CANONICAL = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}\Z", re.ASCII)
_PREFIX = re.compile(rf"[0-9A-HJKMNP-TV-Z]{{{MIN_PREFIX},16}}\Z", re.ASCII)


def new_ulid(now_ms: int, entropy: Entropy) -> str:
    """A ULID: 48 bits of ``now_ms`` (Unix milliseconds) and 80 bits from ``entropy``."""
    return str(ULID(now_ms.to_bytes(6, "big") + entropy(10)))


def parse_ulid(text: str, field: str = "id") -> str:
    """``text`` if it is canonical (26 characters, upper case).

    :raises palyra.errors.MalformedIdentifier: it is not.
    """
    if not _CANONICAL.match(text):
        shown = text if len(text) <= 40 else text[:40] + "~"
        raise MalformedIdentifier(field, f"must be 26 upper-case ULID characters (got {shown!r})")
    return text


def is_ulid(text: str) -> bool:
    """Whether ``text`` is a canonical ULID."""
    return _CANONICAL.match(text) is not None


def short_id(ulid: str, length: int = SHORT_LENGTH) -> str:
    """The short form people read: the first characters of the random part."""
    return ulid[_RANDOM_PART][:length]


def unique_lengths(ulids: Iterable[str]) -> int:
    """The shortest short-form length (6 or more) at which the given ids all differ."""
    tails = [ulid[_RANDOM_PART] for ulid in ulids]
    for length in range(SHORT_LENGTH, 16):
        if len({tail[:length] for tail in tails}) == len(tails):
            return length
    return 16


def as_prefix(text: str) -> str | None:
    """``text`` as an upper-case prefix of a random part, or None where it cannot be one."""
    upper = text.upper()
    return upper if _PREFIX.match(upper) else None


def has_prefix(ulid: str, prefix: str) -> bool:
    """Whether the random part of ``ulid`` begins with ``prefix`` (upper case)."""
    return ulid[_RANDOM_PART].startswith(prefix)


def sha256_hex(data: bytes) -> Fingerprint:
    """A fingerprint: 64 lower-case hex digits of SHA-256 (of DER, of a raw key, of a token)."""
    return Fingerprint(hashlib.sha256(data).hexdigest())


def grouped(fingerprint: str, digits: int = 16) -> str:
    """The beginning of a fingerprint in groups of four, as people compare it."""
    head = fingerprint[:digits]
    return " ".join(head[i : i + 4] for i in range(0, len(head), 4))
