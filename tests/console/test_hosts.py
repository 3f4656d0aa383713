"""Names the console is reached by, and the word of a proxy."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.web.http_headers import Headers

from palyra.console.hosts import Hosts, forwarded, host_name

HOSTS = Hosts.of(("Home.example.org", "münchen.example", "192.0.2.1", "2001:DB8::1"))


class Asked:
    """As much of a request as is looked at."""

    def __init__(self, **headers: str) -> None:
        pairs = {name.replace("_", "-"): [value] for name, value in headers.items()}
        self.requestHeaders = Headers(pairs)


@pytest.mark.parametrize(
    "host",
    [
        "home.example.org",
        "HOME.EXAMPLE.ORG",
        "xn--mnchen-3ya.example",
        "192.0.2.1",
        "[2001:db8::1]",
        "[2001:db8:0::1]",
        "localhost",
        "127.0.0.1",
        "[::1]",
    ],
)
def test_names(host: str) -> None:
    """Configured names in any spelling, and loopback's, with the port that is asked for."""
    assert HOSTS.knows(f"{host}:7142".encode(), 7142, secure=True)
    assert not HOSTS.knows(f"{host}:7143".encode(), 7142, secure=True)
    assert not HOSTS.knows(host.encode(), 7142, secure=True)
    assert HOSTS.knows(host.encode(), 443, secure=True)
    assert HOSTS.knows(host.encode(), 80, secure=False)
    assert HOSTS.knows(f"{host}:9".encode(), None, secure=False)


@settings(max_examples=100)
@given(st.binary(max_size=40))
def test_any_bytes(host: bytes) -> None:
    """Nothing that is not one of the names passes, and nothing breaks."""
    known = HOSTS.knows(host, None, secure=True)
    name = host.decode("latin-1").lower().rpartition(":")[0] or host.decode("latin-1").lower()
    assert not known or host_name(name.strip("[]")) in HOSTS.names


@pytest.mark.parametrize(
    "host", ["a@localhost", "localhost/", "localhost?x", "localhost:x", "[::1"]
)
def test_what_only_looks_like_one(host: str) -> None:
    """User names, paths and broken ports are no host."""
    assert not HOSTS.knows(host.encode(), None, secure=True)


def test_who_is_a_proxy() -> None:
    """Whoever connects from one of the networks, also as an IPv4-mapped address."""
    hosts = Hosts.of((), [ipaddress.ip_network("10.0.0.0/8")])
    assert hosts.is_proxy(IPv4Address("TCP", "10.1.2.3", 1))
    assert hosts.is_proxy(IPv6Address("TCP", "::ffff:10.1.2.3", 1))
    assert not hosts.is_proxy(IPv4Address("TCP", "192.0.2.1", 1))
    assert not hosts.is_proxy(UNIXAddress(b"/x"))


def test_its_word() -> None:
    """The last address that is no proxy is the client; what is no address ends the search."""
    hosts = Hosts.of((), [ipaddress.ip_network("10.0.0.0/8")])

    def client(text: str) -> Any:
        found = forwarded(Asked(x_forwarded_for=text), hosts).client
        return None if found is None else found.host

    assert client("192.0.2.1, 198.51.100.1, 10.0.0.2") == "198.51.100.1"
    assert client("[2001:db8::7]") == "2001:db8::7"
    assert client("192.0.2.1, unknown") is None
    assert client("10.0.0.1") is None
    nothing = forwarded(Asked(), hosts)
    assert (nothing.client, nothing.secure, nothing.host) == (None, None, None)
    said = forwarded(Asked(x_forwarded_proto="http, https", x_forwarded_host="a, b"), hosts)
    assert (said.secure, said.host) == (True, b"b")
