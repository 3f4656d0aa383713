"""Tests of :mod:`palyra.mcp.arguments`."""

from __future__ import annotations

from typing import Any

import pytest

from palyra.errors import Malformed
from palyra.mcp.arguments import Call, FindDevices, JobGet, read


def test_what_is_said() -> None:
    """With usual values for what is not."""
    call = read({"target": "pi", "input": [1], "timeout_s": 0.5}, Call)
    assert (call.target, call.input, call.timeout_ms) == ("pi", [1], 500)
    assert read({"target": "pi"}, Call).timeout_ms is None
    assert read(None, FindDevices) == FindDevices("", 25)


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({}, Call),
        ({"target": ""}, Call),
        ({"target": ["pi", "nas"]}, Call),
        ({"target": "x" * 129}, Call),
        ({"target": "pi", "timeout_s": 0}, Call),
        ({"target": "pi", "timeout_s": float("nan")}, Call),
        ({"target": "pi", "where": "all"}, Call),
        ({"limit": 101}, FindDevices),
        ({"job_id": "short"[:5]}, JobGet),
        ({"job_id": "123456", "wait_s": 61}, JobGet),
        ({"job_id": "123456", "offset": -1}, JobGet),
    ],
)
def test_what_is_refused(given: dict[str, Any], kind: Any) -> None:
    """Everything else, with a sentence."""
    with pytest.raises(Malformed, match="arguments: "):
        read(given, kind)
