"""Tests of :mod:`palyra.node.firstcontact`."""

from __future__ import annotations

import hashlib
import os

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from palyra.config.addresses import HostPort
from palyra.errors import CaMismatch, GatewayUnreachable, Malformed
from palyra.node.firstcontact import given_root, named_root, shown_root
from palyra.pki.authority import Authority

NOW_MS = 1_795_000_000_000
OURS = Authority.create(trust_domain="palyra", now_ms=NOW_MS, entropy=os.urandom)
OTHER = Authority.create(trust_domain="palyra", now_ms=NOW_MS, entropy=os.urandom)
LEAF = OURS.issue_gateway(
    ec.generate_private_key(ec.SECP256R1()).public_key(), "gateway-1", (), NOW_MS
)
ADDRESS = HostPort("gw.example", 7443)


def _digest(der: bytes) -> bytes:
    return hashlib.sha256(der).digest()


def test_the_last_of_the_chain_becomes_the_root() -> None:
    """Where the line names it, where a file gives it too, and where a PIN will prove it."""
    chain = [LEAF.der, OURS.ca_der]
    given = given_root(OURS.ca_pem)
    assert given.hash == _digest(OURS.ca_der)
    assert named_root(chain, given.hash, None) == given
    assert named_root(chain, given.hash, given) == given
    assert shown_root(chain, ADDRESS) == given


def test_another_ca_than_the_named_one() -> None:
    """By the line, or by the file beside it; an empty chain is another one."""
    digest = _digest(OURS.ca_der)
    for chain in ([], [OURS.ca_der, LEAF.der], [OTHER.ca_der]):
        with pytest.raises(CaMismatch):
            named_root(chain, digest, None)
    with pytest.raises(CaMismatch):
        named_root([OURS.ca_der], digest, given_root(OTHER.ca_pem))


@pytest.mark.parametrize("last", [LEAF.der, b"not a certificate", b""])
def test_what_is_no_root(last: bytes) -> None:
    """A hash that fits is not enough: what becomes the only root must be fit to be one."""
    with pytest.raises(CaMismatch):
        named_root([last], _digest(last), None)
    with pytest.raises(GatewayUnreachable) as caught:
        shown_root([LEAF.der, last], ADDRESS)
    assert caught.value.sentence == (
        "Cannot reach gw.example:7443: what answers there is no gateway."
    )


@pytest.mark.parametrize("pem", [b"no certificate", LEAF.pem, b""])
def test_a_file_without_a_ca(pem: bytes) -> None:
    """It is named."""
    with pytest.raises(Malformed, match="gateway-ca-file"):
        given_root(pem)


def test_nothing_shown() -> None:
    """A server without a certificate is no gateway."""
    with pytest.raises(GatewayUnreachable):
        shown_root([], ADDRESS)
