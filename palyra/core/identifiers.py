"""Identifiers: ULIDs for things, SHA-256 for keys and certificates.

Every ULID here is drawn with 80 fresh random bits (https://github.com/ulid/spec).  Libraries count
upward within a millisecond, which would give the jobs of one fan-out a common short form; and a job
needs two of them, which their encoders would make a tenth of what its dispatch costs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from typing import NewType

from palyra.errors import MalformedIdentifier

DeviceId = NewType("DeviceId", str)
JobId = NewType("JobId", str)
FanoutId = NewType("FanoutId", str)
AttemptId = NewType("AttemptId", str)
RequestId = NewType("RequestId", str)
Fingerprint = NewType("Fingerprint", str)

Entropy = Callable[[int], bytes]
"""``os.urandom`` in production; a seeded source in tests."""

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [high + low for high in _CROCKFORD for low in _CROCKFORD]
_SHIFTS = range(120, -1, -10)
SHORT_LENGTH = 6
MIN_PREFIX = 4
_RANDOM_PART = slice(10, 26)
_CANONICAL = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}\Z", re.ASCII)
_PREFIX = re.compile(rf"[0-9A-HJKMNP-TV-Z]{{{MIN_PREFIX},16}}\Z", re.ASCII)


def new_ulid(now_ms: int, entropy: Entropy) -> str:
    """A ULID: 48 bits of ``now_ms`` (Unix milliseconds) and 80 bits from ``entropy``."""
    number = now_ms << 80 | int.from_bytes(entropy(10), "big")
    return "".join([_PAIRS[number >> shift & 0x3FF] for shift in _SHIFTS])


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
