"""Versions and features: what is far apart, and what an unknown word means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palyra import __version__
from palyra.core.versions import FEATURES, Skew, features_of, skew


@pytest.mark.parametrize(
    ("node", "gateway", "found"),
    [
        ("0.1.0", "0.1.0", Skew.NONE),
        ("0.1", "0.1.0", Skew.NONE),
        ("0.1.0rc1", "0.1.0", Skew.NONE),
        ("0.1.0", "0.1.1", Skew.OLDER),
        ("0.1.9", "0.2.0", Skew.OLDER),
        ("0.3.0", "0.2.9", Skew.NEWER),
        ("0.1.0", "0.3.0", Skew.TOO_OLD),
        ("0.9.0", "1.0.0", Skew.TOO_OLD),
        ("1.1.0", "0.1.0", Skew.TOO_NEW),
        ("", "0.1.0", Skew.NONE),
        ("dev", "0.1.0", Skew.NONE),
        ("0.1.0.4", "0.1.0", Skew.NONE),
        ("9999999.1.0", "0.1.0", Skew.NONE),
    ],
)
def test_skew(node: str, gateway: str, found: Skew) -> None:
    """One minor version apart is near; what is no version is not judged."""
    assert skew(node, gateway) is found


@given(st.text(max_size=80), st.text(max_size=80))
def test_no_text_is_too_strange(node: str, gateway: str) -> None:
    """A version is a stranger's text: it is compared, or left."""
    assert skew(node, gateway) in Skew
    assert skew(node, node) is Skew.NONE


def test_this_version_can_be_compared() -> None:
    """Else nobody would ever be told that a node is out of date."""
    assert skew("0.0.0", __version__) is not Skew.NONE


def test_features_of_versions_to_come() -> None:
    """They are left alone; what is missing is not assumed."""
    assert features_of([*FEATURES, "telepathy"]) == FEATURES
    assert features_of([]) == frozenset()
