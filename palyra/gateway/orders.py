"""Orders: what a caller asks of a device, checked before anything is written."""

from __future__ import annotations

import difflib

import attrs
import msgspec

from palyra.config.jobs import MAX_PAYLOAD_BYTES, JobsSection
from palyra.core.devices import AnnouncedCapability, Device
from palyra.core.identifiers import DeviceId, JobId
from palyra.core.jobs import Call
from palyra.errors import (
    CapabilityDisabled,
    CapabilityNotGranted,
    CapabilityUnknown,
    InputInvalid,
    Malformed,
    PayloadTooLarge,
)

MIN_TIMEOUT_MS = 1_000
MAX_TIMEOUT_MS = 24 * 3_600_000
CALLER_MARGIN_MS = 15_000
"""How much longer than the run time a caller waits, for a queue and for a device to come back."""


@attrs.frozen
class Order:
    """One call to one device; None takes the configured default."""

    device_id: DeviceId
    capability: str
    input_json: bytes
    requested_by: str
    max_payload_bytes: int | None = None
    timeout_ms: int | None = None


def as_call(order: Order, device: Device, job_id: JobId, now_ms: int, limits: JobsSection) -> Call:
    """The call an order makes on a device that may be used.

    :raises PalyraError: the input, a limit, or the capability does not allow it.
    """
    capability = permitted(device, order.capability)
    max_payload_bytes = _payload_limit(order, limits)
    if len(order.input_json) > max_payload_bytes:
        raise PayloadTooLarge("input", len(order.input_json), max_payload_bytes)
    check_json(order.input_json, order.capability)
    return Call(
        job_id=job_id,
        device_id=device.device_id,
        device_name=device.name,
        capability=order.capability,
        input_json=order.input_json,
        requested_by=order.requested_by,
        submitted_at_ms=now_ms,
        run_timeout_ms=_run_timeout(order, capability, limits),
        max_payload_bytes=max_payload_bytes,
        idempotent=capability.idempotent,
        needs_mediation=capability.needs_mediation,
    )


def permitted(device: Device, name: str) -> AnnouncedCapability:
    """The capability of that name, if the device has it, can run it, and was granted it.

    :raises CapabilityUnknown, CapabilityNotGranted, CapabilityDisabled: one of these is not so.
    """
    capability = device.capability(name)
    if capability is None:
        known = [item.name for item in device.capabilities]
        raise CapabilityUnknown(
            device.name, name[:64], tuple(difflib.get_close_matches(name[:64], known))
        )
    if name not in device.grants:
        raise CapabilityNotGranted(device.name, name)
    if not capability.available:
        raise CapabilityDisabled(device.name, name)
    return capability


def check_json(data: bytes, capability: str) -> None:
    """Any one JSON value in UTF-8.

    :raises InputInvalid: it is not, or it is nested beyond what a parser can follow.
    """
    fault = json_fault(data)
    if fault:
        raise InputInvalid("input", fault, capability)


def json_fault(data: bytes) -> str:
    """What is wrong with bytes that should be one JSON value; empty where nothing is."""
    try:
        msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return f"is not JSON ({error})"
    except RecursionError:
        return "is nested too deeply"
    return ""


def _payload_limit(order: Order, limits: JobsSection) -> int:
    wanted = order.max_payload_bytes
    if wanted is None:
        return limits.max_payload_bytes
    if not 1 <= wanted <= MAX_PAYLOAD_BYTES:
        raise Malformed("max_payload_bytes", f"must be 1 to {MAX_PAYLOAD_BYTES} (got {wanted})")
    return wanted


def _run_timeout(order: Order, capability: AnnouncedCapability, limits: JobsSection) -> int:
    wanted = order.timeout_ms
    if wanted is None:
        return capability.timeout_ms or int(limits.timeout_s * 1000)
    if not MIN_TIMEOUT_MS <= wanted <= MAX_TIMEOUT_MS:
        raise Malformed(
            "timeout_ms", f"must be {MIN_TIMEOUT_MS} to {MAX_TIMEOUT_MS} (got {wanted})"
        )
    return wanted
