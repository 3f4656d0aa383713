"""Tests of :mod:`palyra.gateway.tap`: where QUIC and the console are."""

from __future__ import annotations

import pytest

from palyra.config.addresses import HostPort
from palyra.errors import Malformed, OptionInvalid
from palyra.gateway.tap import _console, _quic

NODE_RPC = "127.0.0.1:7444"


@pytest.mark.parametrize(
    ("option", "configured", "address"),
    [
        (None, "node_rpc", NODE_RPC),
        (None, "none", None),
        ("none", "node_rpc", None),
        ("node_rpc", "none", NODE_RPC),
        ("[::1]:9", "node_rpc", "[::1]:9"),
    ],
)
def test_where_quic_is_served(option: str | None, configured: str, address: str | None) -> None:
    """The option is stronger than the file; both know two words."""
    expected = None if address is None else HostPort.parse(address)
    assert _quic(option, configured, NODE_RPC) == expected


def test_another_word_is_refused() -> None:
    """With the ones that are taken."""
    with pytest.raises(OptionInvalid, match="node_rpc or none"):
        _quic("off", "node_rpc", NODE_RPC)


def test_another_word_in_node_rpc() -> None:
    """That is not the option's fault."""
    with pytest.raises(Malformed):
        _quic(None, "node_rpc", "nowhere")


def test_where_the_console_is() -> None:
    """The option is stronger than the file; ``none`` switches it off; the faulty one is named."""
    configured = "palyra:7142:interface=127.0.0.1"
    assert _console("none", configured) is None
    assert _console(None, "none") is None
    found = _console("palyra:0", "none")
    assert found is not None and found.address == HostPort("127.0.0.1", 0)
    for option, field in ((None, "console.endpoint"), ("tcp:80", "--console")):
        with pytest.raises(Malformed) as caught:
            _console(option, "palyra:x:y")
        assert caught.value.field == field
