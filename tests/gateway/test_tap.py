"""Tests of :mod:`palyra.gateway.tap`: where the QUIC listener is."""

from __future__ import annotations

import pytest

from palyra.config.addresses import HostPort
from palyra.errors import Malformed, OptionInvalid
from palyra.gateway.tap import _quic

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
