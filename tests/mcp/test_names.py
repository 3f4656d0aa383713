"""Tests of :mod:`palyra.mcp.names`."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from palyra.mcp.names import ToolNames

TEXTS = st.lists(st.text(max_size=80), max_size=20)


def test_dots_become_underscores_and_collisions_are_numbered() -> None:
    """In alphabetical order, so that every process gives the same names."""
    names = ToolNames(("job_get",)).of(["a_b", "system.health", "a.b", "job.get"])
    assert names == {
        "a.b": "a_b",
        "a_b": "a_b_2",
        "job.get": "job_get_2",
        "system.health": "system_health",
    }


def test_a_name_is_never_given_to_another_capability() -> None:
    """A client that knows an old list calls what it means, or nothing."""
    names = ToolNames(())
    assert names.of(["a.b"]) == {"a.b": "a_b"}
    assert names.of(["a_b"]) == {"a_b": "a_b_2"}
    assert names.of(["a.b", "a_b"]) == {"a.b": "a_b", "a_b": "a_b_2"}


@settings(max_examples=100, deadline=None)
@given(TEXTS, TEXTS)
def test_whatever_they_are_called(first: list[str], second: list[str]) -> None:
    """Every name is one that clients take, and has one owner, in whichever order they come."""
    names = ToolNames(("find_devices",))
    given = {**names.of(first), **names.of(second)}
    assert set(given) == {*first, *second}
    assert all(re.fullmatch("[a-z0-9_]{1,64}", name) for name in given.values())
    assert len(set(given.values()) | {"find_devices"}) == len(given) + 1
