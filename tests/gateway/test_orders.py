"""Orders: what is refused before anything is written."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra.config.jobs import MAX_PAYLOAD_BYTES, JobsSection
from palyra.core.devices import AnnouncedCapability, Device
from palyra.core.identifiers import JobId
from palyra.core.jobs import Call
from palyra.errors import (
    CapabilityChanged,
    CapabilityDisabled,
    CapabilityNotGranted,
    CapabilityUnknown,
    InputInvalid,
    Malformed,
    PayloadTooLarge,
)
from palyra.gateway.orders import Ask, Order, call_of, check, permitted
from tests.store.samples import NOW_MS, a_code, a_device, a_request, ulid

OFFERED = (
    AnnouncedCapability("echo", idempotent=True),
    AnnouncedCapability("slow", timeout_ms=90_000, needs_mediation=True),
    AnnouncedCapability("broken", available=False),
    AnnouncedCapability("secret"),
    AnnouncedCapability("other", contract="B"),
)


def the_device() -> Device:
    made = a_device(a_request("pi", a_code()))
    grants = frozenset({"echo", "slow", "broken"})
    contracts = {"other": "A"}
    return attrs.evolve(made, capabilities=OFFERED, grants=grants, contracts=contracts)


def called(capability: str = "echo", **changes: Any) -> Call:
    device = the_device()
    given: dict[str, Any] = {"input_json": b"{}", "requested_by": "ana", **changes}
    order = Order(device_id=device.device_id, capability=capability, **given)
    offered = permitted(device, capability)
    exact = check(order, JobsSection())
    return call_of(order, exact.json, device, JobId(ulid("job")), NOW_MS, JobsSection(), offered)


def test_defaults() -> None:
    """What the order leaves open comes from the configuration, then from the capability."""
    call = called()
    assert (call.run_timeout_ms, call.max_payload_bytes) == (30_000, 65_536)
    assert (call.idempotent, call.needs_mediation) == (True, False)
    assert (call.submitted_at_ms, call.device_name, call.requested_by) == (NOW_MS, "pi", "ana")
    slow = called("slow")
    assert (slow.run_timeout_ms, slow.idempotent, slow.needs_mediation) == (90_000, False, True)
    assert called("slow", timeout_ms=1_000).run_timeout_ms == 1_000


@pytest.mark.parametrize(
    ("capability", "error"),
    [
        ("ecoh", CapabilityUnknown),
        ("", CapabilityUnknown),
        ("x" * 10_000, CapabilityUnknown),
        ("secret", CapabilityNotGranted),
        ("broken", CapabilityDisabled),
        ("other", CapabilityChanged),
    ],
)
def test_what_the_device_cannot_or_may_not(capability: str, error: type[Exception]) -> None:
    """Unknown, not granted, not available and not what was granted are told apart."""
    with pytest.raises(error):
        called(capability)


def test_a_misspelt_capability_is_helped() -> None:
    """The nearest names are given, and no more of the wrong one than fits a line."""
    with pytest.raises(CapabilityUnknown) as caught:
        called("ecoh")
    assert caught.value.nearest == ("echo",)
    with pytest.raises(CapabilityUnknown) as caught:
        called("x" * 10_000)
    assert len(caught.value.capability) == 64


@pytest.mark.parametrize("timeout_ms", [-1, 0, 999, 86_400_001])
def test_timeouts_are_bounded(timeout_ms: int) -> None:
    """One second to one day."""
    with pytest.raises(Malformed):
        called(timeout_ms=timeout_ms)
    assert called(timeout_ms=86_400_000).run_timeout_ms == 86_400_000


@pytest.mark.parametrize("ttl_ms", [-1, 0, 7 * 86_400_000 + 1])
def test_times_to_live_are_bounded(ttl_ms: int) -> None:
    """Up to seven days, as configured; without one the call does not wait."""
    with pytest.raises(Malformed):
        called(ttl_ms=ttl_ms)
    assert called(ttl_ms=60_000).queue_expires_at_ms == NOW_MS + 60_000
    assert called().queue_expires_at_ms is None


def test_a_name_that_no_capability_has() -> None:
    """It is not written down ten thousand times."""
    ask = Ask(capability="x" * 200, input_json=b"{}", requested_by="ana")
    with pytest.raises(Malformed):
        check(ask, JobsSection())


@pytest.mark.parametrize("limit", [-1, 0, MAX_PAYLOAD_BYTES + 1])
def test_payload_limits_are_bounded(limit: int) -> None:
    """One byte to three MiB."""
    with pytest.raises(Malformed):
        called(max_payload_bytes=limit)
    assert called(max_payload_bytes=MAX_PAYLOAD_BYTES).max_payload_bytes == MAX_PAYLOAD_BYTES


def test_inputs_are_bounded() -> None:
    """An input is as long as its limit and no longer."""
    assert called(input_json=b'"%s"' % (b"x" * 8), max_payload_bytes=10)
    with pytest.raises(PayloadTooLarge) as caught:
        called(input_json=b'"%s"' % (b"x" * 9), max_payload_bytes=10)
    assert (caught.value.size, caught.value.limit) == (11, 10)


@pytest.mark.parametrize("data", [b"", b"{", b"{} {}", b"nul", b'"\xff"', b"[" * 60_000])
def test_inputs_are_json(data: bytes) -> None:
    """Exactly one JSON value in UTF-8, not nested beyond what a parser follows."""
    with pytest.raises(InputInvalid):
        called(input_json=data)


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_json_or_refused(data: bytes) -> None:
    """No bytes do anything else."""
    try:
        check(Ask(capability="echo", input_json=data, requested_by="ana"), JobsSection())
    except InputInvalid as error:
        assert error.capability == "echo"
