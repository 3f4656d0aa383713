"""Promises of signed heads and of the lines they are given away in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from palyra.core.audithead import Head, HeadKind, anchors_in

VECTORS: Any = json.loads(Path(__file__, "../vectors/audit.json").resolve().read_text())
KEY = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(VECTORS["seed"]))
HEAD = Head(
    VECTORS["chain_id"], 3, bytes.fromhex(VECTORS["rows"][2]["hash"]), VECTORS["at_ms"]
).signed(KEY)


def test_an_anchor_is_a_line() -> None:
    """The line of the vectors, which is found again."""
    assert HEAD.line == VECTORS["line"]
    assert [*anchors_in([HEAD.line])] == [HEAD]


def test_anchors_are_found_in_any_log() -> None:
    """Whatever stands around them, and among other lines; what is cut off is none."""
    log = [
        f"Nov 22 03:44:00 host palyra[312]: 03:44:00 info  {HEAD.line}",
        "something else",
        f'{{"message": "{HEAD.line}"}}',
        HEAD.line[:-1],
        "palyra-audit-head v1 x 1 2 3 4",
    ]
    assert [*anchors_in(log)] == [HEAD, HEAD]


def test_a_signature_is_by_the_gateways_key() -> None:
    """It holds under that key alone."""
    assert HEAD.holds(KEY.public_key())
    assert not HEAD.holds(Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key())


@pytest.mark.parametrize(
    "change",
    [
        {"chain_id": "01JZ0000000000000000000001"},
        {"seq": 4},
        {"hash": bytes(32)},
        {"at_ms": 1},
        {"kind": HeadKind.SEGMENT},
        {"signature": bytes(64)},
    ],
)
def test_everything_is_signed(change: dict[str, Any]) -> None:
    """A head of which anything was changed does not hold."""
    assert not attrs.evolve(HEAD, **change).holds(KEY.public_key())
