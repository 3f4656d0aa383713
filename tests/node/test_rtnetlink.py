"""Tests of :mod:`palyra.node.rtnetlink`, with messages as Linux writes them."""

from __future__ import annotations

import socket
import struct
import sys

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra.node.rtnetlink import MOST_KNOWN, News

LO, ETH = 1, 2
UP, RUNNING, LOWER_UP = 0x1, 0x40, 0x10000
PERMANENT, TENTATIVE, OPTIMISTIC, DEPRECATED = 0x80, 0x40, 0x4, 0x20
NEWLINK, DELLINK, NEWADDR, DELADDR, NEWROUTE, DELROUTE, DONE = 16, 17, 20, 21, 24, 25, 3
MULTI = 2
MAIN, LOCAL = 254, 255
FOUR, SIX = 2, 10
HERE, THERE = bytes((10, 0, 0, 7)), bytes((10, 0, 0, 8))


def message(kind: int, body: bytes, flags: int = 0) -> bytes:
    return (
        struct.pack("=IHHII", 16 + len(body), kind, flags, 0, 0) + body + b"\0" * (-len(body) % 4)
    )


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def link(
    index: int = ETH, flags: int = UP | RUNNING, kind: int = NEWLINK, family: int = 0, is_: int = 0
) -> bytes:
    return message(kind, struct.pack("=BxHiII", family, 1, index, flags, 0), is_)


def address(
    ip: bytes = HERE,
    flags: int = PERMANENT,
    *,
    index: int = ETH,
    kind: int = NEWADDR,
    lifetime: int = 600,
    is_: int = 0,
) -> bytes:
    head = struct.pack("=BBBBI", SIX if len(ip) == 16 else FOUR, 24, flags & 0xFF, 0, index)
    said = attribute(1, ip) + attribute(8, struct.pack("=I", flags))
    return message(
        kind, head + said + attribute(6, struct.pack("=IIII", lifetime, lifetime, 1, 1)), is_
    )


def route(
    gateway: bytes = THERE,
    *,
    table: int = MAIN,
    sort: int = 1,
    flags: int = 0,
    out: int = ETH,
    kind: int = NEWROUTE,
    expires: int = 0,
) -> bytes:
    head = struct.pack("=BBBBBBBBI", FOUR, 0, 0, 0, table, 3, 0, sort, flags)
    said = attribute(5, gateway) + attribute(4, struct.pack("=I", out))
    said += attribute(15, struct.pack("=I", table)) + attribute(12, struct.pack("=I", expires) * 8)
    return message(kind, head + said)


def heard(*messages: bytes) -> list[bool]:
    """Whether each of these is news, one after the other."""
    news = News()
    return [news.take(each)[0] for each in messages]


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([link(), link(), link(flags=UP | RUNNING | LOWER_UP)], [True, False, False]),
        ([link(), link(flags=UP), link(flags=UP), link()], [True, True, False, True]),
        ([link(flags=0), link(flags=UP)], [False, False]),
        ([link(), link(kind=DELLINK), link(kind=DELLINK)], [True, True, False]),
        ([link(LO), link(family=7)], [False, False]),
    ],
    ids=["a scan", "the cable", "not used", "gone", "loopback, bridge"],
)
def test_links(messages: list[bytes], expected: list[bool]) -> None:
    """A link that can be used, or no longer, is news."""
    assert heard(*messages) == expected


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([address(), address(lifetime=900)], [True, False]),
        ([address(), address(THERE)], [True, True]),
        ([address(), address(kind=DELADDR), address()], [True, True, True]),
        ([address(flags=TENTATIVE), address(flags=0), address(flags=0)], [False, True, False]),
        ([address(flags=TENTATIVE | OPTIMISTIC)], [True]),
        ([address(flags=0), address(flags=DEPRECATED)], [True, True]),
        ([address(), address(index=3)], [True, True]),
        ([address(kind=DELADDR), address(index=LO)], [False, False]),
        ([address(b"\x20" * 16), address(b"\x20" * 16, lifetime=1)], [True, False]),
    ],
    ids=[
        "refreshed", "another", "taken away", "tentative", "optimistic", "deprecated",
        "another link", "unknown, loopback", "of a router",
    ],
)  # fmt: skip
def test_addresses(messages: list[bytes], expected: list[bool]) -> None:
    """Another address is news, and a lifetime that a router refreshes is not."""
    assert heard(*messages) == expected


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([route(), route(expires=9)], [True, False]),
        ([route(), route(HERE)], [True, True]),
        ([route(), route(kind=DELROUTE), route()], [True, True, True]),
        ([route(table=LOCAL), route(sort=2), route(flags=0x200), route(out=LO)], [False] * 4),
    ],
    ids=["refreshed", "another", "taken away", "of this machine itself"],
)
def test_routes(messages: list[bytes], expected: list[bool]) -> None:
    """Another way out is news; a route to this machine itself comes with its address."""
    assert heard(*messages) == expected


def test_what_is_there_is_no_news() -> None:
    """It is asked for, one question after the other, and the answers are remembered."""
    news = News()
    assert news.question() is not None
    assert news.take(link(is_=MULTI)) == (False, False)
    assert news.take(message(DONE, b"\0" * 4, MULTI)) == (False, True)
    assert news.question() is not None
    both = address(is_=MULTI) + message(DONE, b"\0" * 4, MULTI)
    assert news.take(both) == (False, True)
    assert news.question() is None
    assert news.take(link() + address(lifetime=1)) == (False, False)
    assert news.take(address() + address(THERE)) == (True, False)


def test_it_does_not_grow_without_bound() -> None:
    """A machine that routes for a continent forgets, and goes on."""
    news = News()
    for number in range(MOST_KNOWN + 2):
        assert news.take(route(struct.pack("=I", number)))[0]
    assert len(news._routes) == 2


@given(st.binary(max_size=200), st.sampled_from([link(), address(), route()]), st.integers(0, 90))
@settings(max_examples=100, deadline=None)
def test_nonsense(junk: bytes, message: bytes, cut: int) -> None:
    """Whatever comes, it is read to its end and nothing is raised."""
    news = News()
    for datagram in (junk, message[:cut] + junk, message + junk):
        assert news.take(datagram) in [(a, b) for a in (False, True) for b in (False, True)]


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's own answers")
def test_the_kernel_answers() -> None:
    """To both questions, and what it says is read."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as wire:
        wire.settimeout(10)
        wire.bind((0, 0))
        news = News()
        while (question := news.question()) is not None:
            wire.send(question)
            while not news.take(wire.recv(65_536))[1]:
                pass
    known = {socket.inet_ntoa(ip[1:]) for _, ip in news._addresses if ip[0] == FOUR}
    assert known == {
        each.address
        for addresses in psutil.net_if_addrs().values()
        for each in addresses
        if each.family == FOUR and not each.address.startswith("127.")
    }
