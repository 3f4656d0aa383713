"""Announcements: bounded, typed, cleaned; a round trip changes nothing."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra.core.announcement import (
    MAX_BYTES,
    Announcement,
    decode_announcement,
    encode_announcement,
)
from palyra.core.devices import MAX_CAPABILITIES, AnnouncedCapability
from palyra.errors import Malformed

capabilities = st.builds(
    AnnouncedCapability,
    name=st.text(min_size=1, max_size=70),
    available=st.booleans(),
    digest=st.text(max_size=70),
    version=st.text(max_size=70),
    risk=st.sampled_from(["low", "medium", "high"]),
    needs_mediation=st.booleans(),
    idempotent=st.booleans(),
    timeout_ms=st.integers(0, 86_400_000),
    fault=st.text(max_size=20),
)
announcements = st.builds(
    Announcement,
    name=st.text(max_size=60),
    platform=st.text(max_size=70),
    version=st.text(max_size=70),
    capabilities=st.lists(capabilities, max_size=4, unique_by=lambda item: item.name[:8]).map(
        tuple
    ),
)


@settings(max_examples=100)
@given(announcements)
def test_a_round_trip_cleans_once(announcement: Announcement) -> None:
    """What is encoded decodes to itself, cleaned; cleaning it again changes nothing."""
    try:
        data = encode_announcement(announcement)
    except Malformed as refused:
        assert "twice" in refused.sentence
        return
    decoded = decode_announcement(data)
    assert encode_announcement(decoded) == data
    assert decode_announcement(encode_announcement(decoded)) == decoded
    assert len(decoded.capabilities) == len(announcement.capabilities)


@settings(max_examples=100)
@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_arbitrary_bytes_parse_or_are_malformed(data: bytes) -> None:
    """No bytes of a peer raise anything but Malformed."""
    try:
        decode_announcement(data)
    except Malformed as refused:
        assert refused.field == "announcement"


@pytest.mark.parametrize(
    "data",
    [
        b"[]",
        b"null",
        b"{} {}",
        b'{"name": 1}',
        b'{"name": "\xff"}',
        b'{"x": ' + b"[" * 60_000,
        b" " * MAX_BYTES + b"{}",
        b'{"capabilities": [{}]}',
        b'{"capabilities": [{"name": ""}]}',
        b'{"capabilities": [{"name": "echo"}, {"name": "echo"}]}',
        b'{"capabilities": [{"name": "echo", "risk": "none"}]}',
        b'{"capabilities": [{"name": "echo", "timeout_ms": -1}]}',
        b'{"capabilities": [{"name": "echo", "timeout_ms": 86400001}]}',
        b'{"capabilities": [{"name": "echo", "available": 1}]}',
        json.dumps(
            {"capabilities": [{"name": f"a.b{n}"} for n in range(MAX_CAPABILITIES + 1)]}
        ).encode(),
    ],
)
def test_what_does_not_fit_is_malformed(data: bytes) -> None:
    """Wrong types, too much, too deep, nameless or doubled: each is refused as Malformed."""
    with pytest.raises(Malformed):
        decode_announcement(data)


def test_the_most_a_device_may_offer_fits() -> None:
    """The full number of capabilities is accepted."""
    offered = tuple(AnnouncedCapability(f"a.b{n}") for n in range(MAX_CAPABILITIES))
    data = encode_announcement(Announcement(capabilities=offered))
    assert decode_announcement(data).capabilities == offered


def test_nothing_said_and_unknown_fields() -> None:
    """No announcement is an empty one; fields of a later version are passed over."""
    assert decode_announcement(b"") == Announcement()
    assert decode_announcement(b'{"later": [1, {"x": 2}]}') == Announcement()


def test_what_people_see_is_harmless() -> None:
    """Control characters of a peer come out escaped, the name as a name."""
    data = b'{"name": "Evil\\u001b[31m.example", "platform": "\\u202elinux"}'
    announcement = decode_announcement(data)
    assert announcement.name == "evil-31m"
    assert announcement.platform == "\\u202elinux"


def test_a_device_that_offers_very_much_can_pair() -> None:
    """Details of so many capabilities that they do not fit are left out; the names are there."""
    offered = tuple(
        AnnouncedCapability(f"acme.{'x' * 50}{n}", digest="d" * 64, contract="c" * 64, risk="high")
        for n in range(MAX_CAPABILITIES)
    )
    data = encode_announcement(Announcement("pi", capabilities=offered))
    assert len(data) <= MAX_BYTES
    said = decode_announcement(data).capabilities
    assert [each.name for each in said] == [each.name for each in offered]
    assert {(each.digest, each.risk) for each in said} == {("", "high")}
