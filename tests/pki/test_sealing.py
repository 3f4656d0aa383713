"""Sealed entries open in their place, under their key, whole."""

from __future__ import annotations

import hashlib
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra.errors import Malformed, SealedEntryUnreadable
from palyra.pki.sealing import Sealer

SEALER = Sealer(b"k" * 32, entropy=os.urandom)
PLACE = {"path": "identity", "entry": "ca", "purpose": "key"}
SEALED = SEALER.seal(b"secret", **PLACE)


def problem(sealer: Sealer, sealed: bytes, **place: str) -> str:
    with pytest.raises(SealedEntryUnreadable) as refused:
        sealer.open(sealed, **{**PLACE, **place})
    assert "secret" not in str(refused.value)
    return refused.value.problem


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=100), st.text(), st.text(), st.text())
def test_round_trip(plain: bytes, path: str, entry: str, purpose: str) -> None:
    """What is sealed opens to the same bytes in the same place."""
    sealed = SEALER.seal(plain, path=path, entry=entry, purpose=purpose)
    assert SEALER.open(sealed, path=path, entry=entry, purpose=purpose) == plain


def test_header() -> None:
    """The header names the format, its version and the key, and the nonce is fresh each time."""
    assert SEALED[:5] == b"PLYS\x01"
    assert SEALED[5:13] == SEALER.key_id == hashlib.sha256(b"k" * 32).digest()[:8]
    assert SEALER.seal(b"secret", **PLACE)[13:25] != SEALED[13:25]
    assert b"secret" not in SEALED


@pytest.mark.parametrize("field", ["path", "entry", "purpose"])
def test_out_of_place(field: str) -> None:
    """A sealed entry that was moved elsewhere, or is used for something else, does not open."""
    assert "out of place" in problem(SEALER, SEALED, **{field: "other"})


def test_fields_do_not_run_together() -> None:
    """Places that read the same when joined are different places."""
    sealed = SEALER.seal(b"secret", path="ab", entry="c", purpose="")
    assert "out of place" in problem(SEALER, sealed, path="a", entry="bc", purpose="")


def test_error_names_the_entry() -> None:
    """The refusal says which entry it is."""
    with pytest.raises(SealedEntryUnreadable, match="identity:ca cannot be read"):
        SEALER.open(b"", **PLACE)


def test_reasons() -> None:
    """No sealed entry, another version and another key are told apart."""
    other = Sealer(b"x" * 32, entropy=os.urandom)
    assert "another store key" in problem(other, SEALED)
    assert "version is 2" in problem(SEALER, SEALED[:4] + b"\x02" + SEALED[5:])
    assert "not a sealed" in problem(SEALER, b"XXXX" + SEALED[4:])
    assert "not a sealed" in problem(SEALER, SEALED[:40])


def test_whose_seal() -> None:
    """A key knows its own entries from those of another key and from what is no entry."""
    assert SEALER.sealed(SEALED)
    assert not Sealer(b"x" * 32, entropy=os.urandom).sealed(SEALED)
    assert not SEALER.sealed(b"") and not SEALER.sealed(b"XXXX" + SEALED[4:])


def test_key_length() -> None:
    """A store key is 32 bytes."""
    with pytest.raises(Malformed, match="32 bytes"):
        Sealer(b"short", entropy=os.urandom)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, len(SEALED) - 1), st.integers(1, 255), st.binary(max_size=80))
def test_damage(place: int, flip: int, noise: bytes) -> None:
    """Any changed byte, and any noise, is refused with the typed error."""
    changed = bytearray(SEALED)
    changed[place] ^= flip
    for sealed in (bytes(changed), noise, SEALED[:13] + noise):
        problem(SEALER, sealed)
