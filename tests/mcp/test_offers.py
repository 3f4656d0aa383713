"""Tests of :mod:`palyra.mcp.offers`."""

from __future__ import annotations

from palyra.mcp.offers import OWN, Offer, Shown, granted, offers
from tests.mcp.things import DIGEST, described, device, item

OTHER = "a" * 64


def test_only_what_is_granted_counts() -> None:
    """Not what is withheld, without a descriptor, or on a device that is revoked."""
    items = (item("a"), item("b", granted=False), item("c", digest=""))
    assert granted(device(*items)) == {("a", DIGEST, "low")}
    assert granted(device(*items, trust="revoked")) == frozenset()


def test_the_descriptor_of_most_devices_is_shown() -> None:
    """With the highest risk of all; those of most devices come first."""
    seen = [
        granted(device(item("b"), item("a", risk="medium"), number=1)),
        granted(device(item("b"), item("a", digest=OTHER), number=2)),
        granted(device(item("b"), item("a"), number=3)),
        granted(device(item("b"), number=4)),
    ]
    assert offers(seen) == [Offer("b", DIGEST, 4, "low"), Offer("a", DIGEST, 3, "medium")]


def test_a_tie_is_decided_alike_everywhere() -> None:
    """By the digest."""
    seen = [granted(device(item("a", digest=each), number=1)) for each in (DIGEST, OTHER)]
    assert offers(seen) == offers(reversed(seen)) == [Offer("a", OTHER, 2, "low")]


def test_only_our_own_are_believed_to_be_harmless() -> None:
    """Clients run without asking what only reads; anybody could say so."""
    offer = Offer("test.tool", DIGEST, 1, "low")
    assert Shown(offer, described(distribution=OWN)).harmless
    assert not Shown(offer, described()).harmless
    assert not Shown(offer, described(distribution=OWN, idempotent=False)).harmless
    assert not Shown(offer, described(distribution=OWN, needs_mediation=True)).harmless
    assert not Shown(Offer("test.tool", DIGEST, 1, "high"), described(distribution=OWN)).harmless
    assert Shown(Offer("test.tool", DIGEST, 1, "??"), described()).risk == "??"
