"""HOST:PORT as people write it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra.config.addresses import HostPort, listed
from palyra.errors import Malformed


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:7443", "127.0.0.1", 7443),
        ("home.example.org:0", "home.example.org", 0),
        ("[::1]:65535", "::1", 65535),
        ("localhost:007", "localhost", 7),
    ],
)
def test_reading(text: str, host: str, port: int) -> None:
    """Names, IPv4, and IPv6 in brackets."""
    assert HostPort.parse(text) == HostPort(host, port)


@pytest.mark.parametrize(("text", "shown"), [("pi", "pi:7443"), ("[::1]", "[::1]:7443")])
def test_a_default_port(text: str, shown: str) -> None:
    """Where one is given, the port may be left out."""
    assert str(HostPort.parse(text, default_port=7443)) == shown
    with pytest.raises(Malformed):
        HostPort.parse(text)


@pytest.mark.parametrize(
    "text", ["", ":", ":1", "pi:", "pi:x", "pi:-1", "pi:65536", "[]:1", "pi:١", "pi:1:", "pi: 1"]
)
def test_what_is_none(text: str) -> None:
    """The field is named, with what was written."""
    with pytest.raises(Malformed) as caught:
        HostPort.parse(text, "node-rpc")
    assert caught.value.field == "node-rpc"


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.5", False),
        ("home.example.org", False),
    ],
)
def test_loopback(host: str, loopback: bool) -> None:
    """Whether another machine could reach it decides what a gateway needs to be configured."""
    assert HostPort(host, 1).is_loopback is loopback


@given(st.one_of(st.ip_addresses().map(str), st.just("pi.local")), st.integers(0, 65_535))
@settings(max_examples=60, deadline=None)
def test_what_is_written_is_read(host: str, port: int) -> None:
    """Every address survives being shown."""
    address = HostPort(host, port)
    assert HostPort.parse(str(address)) == address
    assert address.with_port(7).port == 7


@given(st.text(max_size=60))
@settings(max_examples=100, deadline=None)
def test_any_text_is_read_or_refused(text: str) -> None:
    """No text does anything else."""
    try:
        HostPort.parse(text)
    except Malformed as error:
        assert len(error.problem) < 400


def test_a_list() -> None:
    """In its order, at most eight, each once whatever its spelling, and none with port 0."""
    assert listed((), "urls") == ()
    assert listed(["b:1", "[::1]:2", "a:1"], "urls") == (
        HostPort("b", 1),
        HostPort("::1", 2),
        HostPort("a", 1),
    )
    for texts in (["a:1", "b:1", "A:1"], ["a:0"], ["a"], [f"a:{port}" for port in range(1, 10)]):
        with pytest.raises(Malformed) as refused:
            listed(texts, "urls")
        assert refused.value.field == "urls"
