"""Tests of :mod:`palyra.transport.crowd`."""

from __future__ import annotations

import pytest
from twisted.internet.address import IPv4Address, IPv6Address

from palyra.transport.crowd import Crowd


def peer(host: str) -> IPv4Address | IPv6Address:
    kind = IPv6Address if ":" in host else IPv4Address
    return kind("TCP", host, 4711)


def joined(crowd: Crowd, *hosts: str) -> None:
    for host in hosts:
        crowd.joined(peer(host))


@pytest.mark.parametrize(
    ("first", "same", "other"),
    [
        ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
        ("2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"),
        ("::ffff:192.0.2.7", "192.0.2.7", "::ffff:192.0.2.8"),
    ],
)
def test_a_quarter_of_one_source(first: str, same: str, other: str) -> None:
    """An IPv4 address, or a /64 of IPv6; whoever leaves makes room."""
    crowd = Crowd(8)
    joined(crowd, first, first)
    assert crowd.refusal(peer(same)) == "too_many_of_source"
    assert crowd.refusal(peer(other)) is None
    crowd.left(peer(first))
    assert crowd.refusal(peer(same)) is None


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1", "10.0.0.1"])
def test_whoever_is_many_is_not_counted(host: str) -> None:
    """This machine, and a proxy; the whole has its bound all the same."""
    crowd = Crowd(8, lambda found: found.host == "10.0.0.1")
    joined(crowd, *[host] * 7)
    assert crowd.refusal(peer(host)) is None
    joined(crowd, host)
    assert crowd.refusal(peer(host)) == "too_many_connections"


def test_at_least_one() -> None:
    """Also where there are few; what has no address is counted in the whole alone."""
    crowd = Crowd(2)
    assert crowd.refusal(peer("192.0.2.7")) is None
    crowd.joined(None)
    assert crowd.refusal(None) is None
    crowd.left(None)
