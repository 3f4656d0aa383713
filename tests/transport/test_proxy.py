"""Tests of :mod:`palyra.transport.proxy`: the environment is read as gRPC reads it."""

from __future__ import annotations

import base64
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palyra.config.addresses import HostPort
from palyra.errors import GatewayUnreachable, ProxyUnusable, Unreached
from palyra.transport.proxy import MAX_NAMED, Proxy, direct_in, proxy_from, proxy_in

GATEWAY = HostPort("gw.corp.example", 7444)
P = "http://proxy:3128"


@pytest.mark.parametrize(
    ("environ", "address"),
    [
        ({}, None),
        ({"http_proxy": P}, "proxy:3128"),
        ({"https_proxy": "http://b:1", "http_proxy": P}, "b:1"),
        ({"grpc_proxy": "http://a:1", "https_proxy": "http://b:1", "http_proxy": P}, "a:1"),
        ({"grpc_proxy": "", "https_proxy": P}, None),
        ({"HTTPS_PROXY": P, "all_proxy": P}, None),
        ({"https_proxy": "proxy:3128"}, "proxy:3128"),
        ({"https_proxy": "http://proxy"}, "proxy:80"),
        ({"https_proxy": "http://[fd00::1]:8080/"}, "[fd00::1]:8080"),
    ],
)
def test_which_variable_counts(environ: Mapping[str, str], address: str | None) -> None:
    """The first one that is set, in gRPC's order; empty it says that there is none."""
    found = proxy_from(environ, GATEWAY)
    assert (None if found is None else str(found)) == address


@pytest.mark.parametrize(
    ("no_proxy", "host", "direct"),
    [
        ("gw.corp.example", "gw.corp.example", True),
        ("corp.example", "gw.corp.example", True),
        (".corp.example", "gw.corp.example", True),
        ("CORP.EXAMPLE", "gw.Corp.Example", True),
        ("orp.example", "gw.corp.example", True),  # the end of a name is all that is compared
        ("a.example, corp.example ,b.example", "gw.corp.example", True),
        ("*", "gw.corp.example", False),
        ("", "gw.corp.example", False),
        ("example.corp", "gw.corp.example", False),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.0.0.0/255.0.0.0", "10.1.2.3", False),
        ("10.9.9.9/8", "10.1.2.3", True),
        ("fd00::/16", "fd00::7", True),
        ("10.0.0.0/8", "fd00::7", False),
        ("10.0.0.0/99", "10.1.2.3", False),
        ("10.0.0.0/8", "ten.example", False),
    ],
)
def test_what_is_reached_without_it(no_proxy: str, host: str, direct: bool) -> None:
    """By the end of a name, or the network of an address."""
    environ = {"https_proxy": P, "no_proxy": no_proxy}
    assert (proxy_from(environ, HostPort(host, 7444)) is None) is direct


def test_its_own_list_goes_first() -> None:
    """``no_grpc_proxy``, also where it is empty."""
    environ = {"https_proxy": P, "no_grpc_proxy": "", "no_proxy": "corp.example"}
    assert proxy_from(environ, GATEWAY) is not None
    assert (proxy_in(environ), direct_in(environ)) == (P, "")
    assert (proxy_in({}), direct_in({})) == (None, None)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.9.9.9"])
def test_the_loopback_never(host: str) -> None:
    """Whatever the environment says: no proxy could lead there."""
    assert proxy_from({"grpc_proxy": P}, HostPort(host, 7444)) is None


def test_a_name_and_a_password() -> None:
    """Without their escapes (RFC 7617), and in nothing that is shown."""
    found = proxy_from({"https_proxy": "http://ana%40corp:pa%3Ass@proxy:3128"}, GATEWAY)
    assert found is not None
    kind, _, told = found.authorization.partition(" ")
    assert (kind, base64.b64decode(told)) == ("Basic", b"ana@corp:pa:ss")
    assert told not in repr(found) and told not in str(found) and str(found) == "proxy:3128"


@pytest.mark.parametrize(
    "named",
    [
        "https://ana:hunter2@proxy:3128",
        "socks5://ana:hunter2@proxy",
        "http://ana:hunter2@",
        "http://ana:hunter2@proxy:port",
        "http://ana:hunter2@proxy:99999",
        "http://ana:hunter2@proxy:0",
        "http://ana:hunter2@pro xy:1",
        "http://ana:hunter2@proxy\r\nX: y",
        "http://ana:hunter2@pröxy:1",
        "http://[ana:hunter2@proxy",
        "http://hunter2/" + "x" * MAX_NAMED,
    ],
)
def test_what_cannot_be_used(named: str) -> None:
    """Is refused with the variable's name, and never with what is in it."""
    with pytest.raises(ProxyUnusable) as refused:
        proxy_from({"https_proxy": named}, GATEWAY)
    error = refused.value
    assert error.sentence == (
        "The proxy in https_proxy does not lead to the gateway: it must be http://HOST:PORT."
    )
    assert error.retryable and error.unreached and error.__cause__ is None
    assert "hunter2" not in repr(error)


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_environment(named: str, direct: str) -> None:
    """Leads to a proxy, to none, or to a refusal; what would end a head is in none of them."""
    try:
        found = proxy_from({"http_proxy": named, "no_proxy": direct}, GATEWAY)
    except ProxyUnusable:
        return
    if found is not None:
        assert f"{found}{found.authorization}".isprintable()


def test_whose_fault_it_is() -> None:
    """What gRPC says of the one address that it connects to is said of the proxy; what may be the
    gateway's stays so."""
    proxy = Proxy(HostPort("proxy", 3128), "Basic x")
    silent = GatewayUnreachable("gw:7444", Unreached.NO_ANSWER)
    assert proxy.blamed(silent, "Deadline Exceeded") is silent
    refused = GatewayUnreachable("gw:7444", Unreached.REFUSED)
    assert proxy.blamed(refused, "").sentence == (
        "The proxy proxy:3128 does not lead to the gateway: connection refused."
    )
    cut = GatewayUnreachable("gw:7444", "the connection was closed")
    said = "x: HTTP proxy returned response code 407"
    assert "(407)" in proxy.blamed(cut, said).sentence
    assert proxy.blamed(cut, "Socket closed") is cut
