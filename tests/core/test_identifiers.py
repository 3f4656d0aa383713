"""Identifiers: canonical ULIDs only, drawn with fresh entropy; fingerprints."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palyra.core import identifiers
from palyra.errors import MalformedIdentifier

ULID = "01J9ZC5QXG0123456789ABCDEF"
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


@given(st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10))
def test_drawn_ids_are_canonical_and_hold_time_and_entropy(now_ms: int, drawn: bytes) -> None:
    """A new ULID parses, and is the number made of its time and its random bytes."""
    ulid = identifiers.new_ulid(now_ms, lambda size: drawn[:size])
    assert identifiers.parse_ulid(ulid) == ulid
    number = 0
    for character in ulid:
        number = number * 32 + ALPHABET.index(character)
    assert number == int.from_bytes(now_ms.to_bytes(6, "big") + drawn, "big")


@given(st.text(max_size=60))
def test_a_text_is_a_ulid_or_refused(text: str) -> None:
    """Parsing accepts exactly 26 Crockford characters whose number fits 128 bits."""
    fits = len(text) == 26 and set(text) <= set(ALPHABET) and text[0] in "01234567"
    assert identifiers.is_ulid(text) is fits
    if fits:
        assert identifiers.parse_ulid(text) == text
    else:
        with pytest.raises(MalformedIdentifier):
            identifiers.parse_ulid(text)


@pytest.mark.parametrize(
    "text",
    [ULID.lower(), f"{ULID}\n", f" {ULID}", f"8{ULID[1:]}", ULID[:-1], f"{ULID[:-1]}I", f"{ULID}0"],
)
def test_near_misses_are_refused(text: str) -> None:
    """Lower case, white space, overflow, wrong length and letters that look alike are no ids."""
    with pytest.raises(MalformedIdentifier):
        identifiers.parse_ulid(text)


def test_refusal_names_the_field_and_cuts_the_value() -> None:
    """The sentence names the field and shows at most 40 characters of what was sent."""
    with pytest.raises(MalformedIdentifier) as caught:
        identifiers.parse_ulid("x" * 1000, "device_id")
    assert caught.value.field == "device_id"
    assert "x" * 40 + "~" in caught.value.sentence
    assert "x" * 41 not in caught.value.sentence


def test_short_forms_come_from_the_random_part() -> None:
    """People read the random part; prefixes of it are matched in upper case."""
    assert identifiers.short_id(ULID) == "012345"
    assert identifiers.as_prefix("0123") == "0123"
    assert identifiers.as_prefix("abcd") == "ABCD"
    assert identifiers.as_prefix("012") is None
    assert identifiers.as_prefix("iiii") is None
    assert identifiers.has_prefix(ULID, "01234")
    assert not identifiers.has_prefix(ULID, "1234")


def test_unique_lengths_grow_until_all_differ() -> None:
    """Short forms are six characters, longer where two ids share those, whole at worst."""
    other = ULID[:20] + "ZZZZZZ"
    assert identifiers.unique_lengths([ULID]) == 6
    assert identifiers.unique_lengths([ULID, other]) == 11
    assert identifiers.unique_lengths([ULID, ULID[:-1] + "0"]) == 16
    assert identifiers.unique_lengths([ULID, ULID]) == 16


def test_fingerprints_are_sha256_shown_in_groups() -> None:
    """A fingerprint is 64 lower-case hex digits; people compare groups of four."""
    assert identifiers.sha256_hex(b"x") == hashlib.sha256(b"x").hexdigest()
    assert identifiers.grouped("0123456789abcdef0123") == "0123 4567 89ab cdef"
    assert identifiers.grouped("0123456789", digits=6) == "0123 45"


def test_the_example_of_the_specification() -> None:
    """The time part of github.com/ulid/spec's example, and the largest ULID there is."""
    assert identifiers.new_ulid(1_469_918_176_385, bytes).startswith("01ARYZ6S41")
    largest = identifiers.new_ulid(2**48 - 1, lambda size: b"\xff" * size)
    assert largest == "7ZZZZZZZZZZZZZZZZZZZZZZZZZ"
