"""Tests of :mod:`palyra.node.roots`."""

from __future__ import annotations

import pytest
from cryptography.x509 import load_pem_x509_certificate

from palyra.errors import PinNotChecked, VerificationFailed
from palyra.node.roots import MAX_BUNDLE, MAX_ROOTS, Roots
from tests.node.fakes import NOW_MS, new_authority

OLD, NEW = new_authority(), new_authority()
OLD_PEM, NEW_PEM = OLD.ca_pem.decode(), NEW.ca_pem.decode()
LEAF_PEM = OLD.issue_operator(OLD.ca_key.public_key(), "ana", NOW_MS).pem.decode()


def test_a_bundle_in_its_order() -> None:
    """Each root can stand alone, and has the hash that everything is bound to."""
    roots = Roots.read(NEW_PEM + OLD_PEM)
    assert [each.hash.hex() for each in roots.each] == [NEW.ca_hash, OLD.ca_hash]
    assert roots.first.hash.hex() == NEW.ca_hash
    assert [Roots.read(each.pem).first for each in roots.each] == list(roots.each)


@pytest.mark.parametrize(
    "bundle",
    [
        "",
        "no certificate",
        LEAF_PEM,
        OLD_PEM + LEAF_PEM,
        OLD_PEM * (MAX_ROOTS + 1),
        OLD_PEM + "x" * MAX_BUNDLE,
    ],
    ids=["empty", "text", "leaf", "root-and-leaf", "many", "long"],
)
def test_what_is_no_bundle(bundle: str) -> None:
    """Only roots, and not many: nothing else may be trusted."""
    with pytest.raises(VerificationFailed):
        Roots.read(bundle)


def test_whose_leaf_it_is() -> None:
    """Any root of the bundle may have signed it, and no other."""
    leaf = OLD.issue_operator(NEW.ca_key.public_key(), "ana", NOW_MS)
    loaded = load_pem_x509_certificate(leaf.pem)
    assert Roots.read(NEW_PEM + OLD_PEM).issued(loaded)
    assert not Roots.read(NEW_PEM).issued(loaded)


def test_trust_moves_in_steps() -> None:
    """From the old to both, from both to the new; never at once from one to another."""
    old, both, new = (Roots.read(pem) for pem in (OLD_PEM, OLD_PEM + NEW_PEM, NEW_PEM))
    old.check_successor(both)
    both.check_successor(new)
    with pytest.raises(VerificationFailed, match="no CA that this device trusts"):
        old.check_successor(new)


def test_a_pinned_root() -> None:
    """The one with that hash, whichever it is; another hash is nobody's."""
    both = Roots.read(OLD_PEM + NEW_PEM)
    for pem, authority in ((OLD_PEM, OLD), (NEW_PEM, NEW)):
        assert both.pinned(bytes.fromhex(authority.ca_hash)) == Roots.read(pem).first
    with pytest.raises(PinNotChecked):
        Roots.read(OLD_PEM).pinned(bytes.fromhex(NEW.ca_hash))
