"""echo sends back what came."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from palyra_capabilities.echo import palyra_capabilities

from palyra.capability import CapabilityContext, DeviceFacts, Risk

CONTEXT = CapabilityContext(
    "j", DeviceFacts("DEV", "f", "u", 0, 0, "pi"), deadline_s=time.monotonic() + 60
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def answered(handled: Awaitable[Any]) -> Any:
    """The answer of a handler that never waits; no event loop is needed for it."""
    try:
        next(handled.__await__())
    except StopIteration as stop:
        return stop.value
    raise AssertionError("echo waited for something")


@settings(max_examples=100)
@given(JSON)
def test_any_json_comes_back(value: Any) -> None:
    """Any JSON value comes back as it was, first, with the device's id."""
    (echo,) = palyra_capabilities()
    given_value = echo.decode_input(json.dumps(value).encode())
    out = json.loads(echo.encode_output(answered(echo.handler(given_value, CONTEXT)), 1_000_000))
    assert list(out) == ["echo", "device_id"]
    assert out == {"echo": value, "device_id": "DEV"}


def test_descriptor() -> None:
    """echo is harmless and may be repeated."""
    (echo,) = palyra_capabilities()
    assert (echo.name, echo.risk, echo.idempotent) == ("echo", Risk.LOW, True)
    assert not echo.needs_mediation
