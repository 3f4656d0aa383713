"""Versions of nodes and gateways: how far one is from the other, and what both understand.

A node and a gateway whose minor versions differ by one at most always work together.  What else
one of them can do is told by name at the registration, and never guessed from a number.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable

CATALOGS = "catalogs"
"""What a node offers may change within a session."""
DESCRIPTORS = "descriptors"
"""Digests of descriptors are asked for, and descriptors travel in the session."""
PIECES = "pieces"
"""Long payloads travel in pieces that other messages may interleave."""
FEATURES = frozenset({CATALOGS, DESCRIPTORS, PIECES})
"""Of this version, of a node and of a gateway alike."""
MAX_FEATURES = 64
MAX_FEATURE = 64
_RELEASE = re.compile(r"(\d{1,6})\.(\d{1,6})(?:\.(\d{1,6}))?(?![\d.])", re.ASCII)


class Skew(enum.StrEnum):
    """How a node's version stands to its gateway's."""

    NONE = ""
    """The same, or one of them is not known."""
    OLDER = "older"
    NEWER = "newer"
    TOO_OLD = "too_old"
    """By more than one minor version: it may work, and nobody tries that."""
    TOO_NEW = "too_new"


def skew(version: str, gateway: str) -> Skew:
    """How a node of ``version`` stands to a gateway of that version; both as ``MAJOR.MINOR.PATCH``,
    what follows the numbers (``rc1``) is not looked at."""
    its, ours = _numbers(version), _numbers(gateway)
    if its is None or ours is None or its == ours:
        return Skew.NONE
    near = its[0] == ours[0] and abs(its[1] - ours[1]) <= 1
    if its < ours:
        return Skew.OLDER if near else Skew.TOO_OLD
    return Skew.NEWER if near else Skew.TOO_NEW


def features_of(told: Iterable[str]) -> frozenset[str]:
    """What the other end understands, of what this version knows; whatever else it says is for
    versions to come."""
    return FEATURES.intersection(told)


def _numbers(version: str) -> tuple[int, int, int] | None:
    found = _RELEASE.match(version)
    if found is None:
        return None
    major, minor, patch = found.groups()
    return int(major), int(minor), int(patch or 0)
