"""Orders: what a caller asks of a device, checked before anything is written."""

from __future__ import annotations

import difflib

import attrs
import msgspec

from palyra.config.jobs import MAX_PAYLOAD_BYTES, JobsSection
from palyra.core.calldigest import ExactInput, exact_input
from palyra.core.devices import AnnouncedCapability, Device
from palyra.core.identifiers import DeviceId, JobId
from palyra.core.jobs import Call
from palyra.core.operators import Caller
from palyra.errors import (
    CapabilityChanged,
    CapabilityDisabled,
    CapabilityNotGranted,
    CapabilityUnknown,
    Malformed,
    PayloadTooLarge,
)

MIN_TIMEOUT_MS = 1_000
MAX_TIMEOUT_MS = 24 * 3_600_000
MAX_CAPABILITY = 128
MEDIATION_MS = 120_000
CALLER_MARGIN_MS = 15_000
"""How much longer than the run time a caller waits, for a queue and for a device to come back."""


_CLIENT = "device:"


def client(device_id: DeviceId) -> str:
    """How a job names the paired client that asked for it; operators stand by their names."""
    return _CLIENT + device_id


def is_client(requested_by: str) -> bool:
    """Whether a paired client asked, and not an operator."""
    return requested_by.startswith(_CLIENT)


def client_id(requested_by: str) -> DeviceId:
    """The device that :func:`client` named."""
    return DeviceId(requested_by.removeprefix(_CLIENT))


def patience_ms(call: Call) -> int:
    """How long whoever asked waits for the end: as long as the job may take, and a little more."""
    queued_ms = 0
    if call.queue_expires_at_ms is not None:
        queued_ms = call.queue_expires_at_ms - call.submitted_at_ms
    mediation_ms = MEDIATION_MS if call.needs_mediation else 0
    return queued_ms + mediation_ms + call.run_timeout_ms + CALLER_MARGIN_MS


@attrs.frozen(kw_only=True)
class Ask:
    """What is to be run, wherever; None takes the configured default.

    ``caller`` is the operator who asks, None where a paired client does.

    ``ttl_ms`` is how long the job may wait for a device that is away; None: not at all.
    """

    capability: str
    input_json: bytes
    requested_by: str
    max_payload_bytes: int | None = None
    timeout_ms: int | None = None
    ttl_ms: int | None = None
    caller: Caller | None = None


@attrs.frozen(kw_only=True)
class Order(Ask):
    """One call to one device."""

    device_id: DeviceId


@attrs.frozen(kw_only=True)
class FanoutOrder(Ask):
    """One call to many devices.  ``expression`` is how they were chosen, empty if one by one."""

    devices: tuple[Device, ...]
    expression: str = ""
    batch: int | None = None
    max_failures: int | None = None


def check(ask: Ask, limits: JobsSection) -> ExactInput:
    """Refuse what no device could be asked; the input in the spelling that is judged, kept and
    sent.

    :raises PayloadTooLarge, InputInvalid, Malformed: the input, or a limit, is not allowed.
    """
    if len(ask.capability) > MAX_CAPABILITY:
        raise Malformed("capability", f"must be at most {MAX_CAPABILITY} characters")
    max_payload_bytes = _payload_limit(ask, limits)
    if len(ask.input_json) > max_payload_bytes:
        raise PayloadTooLarge("input", len(ask.input_json), max_payload_bytes)
    exact = exact_input(ask.input_json, ask.capability)
    if len(exact.json) > max_payload_bytes:
        raise PayloadTooLarge("input", len(exact.json), max_payload_bytes)
    _check_range("timeout_ms", ask.timeout_ms, MIN_TIMEOUT_MS, MAX_TIMEOUT_MS)
    _check_range("ttl_ms", ask.ttl_ms, 1, int(limits.max_ttl_s * 1000))
    return exact


def call_of(
    ask: Ask,
    input_json: bytes,
    device: Device,
    job_id: JobId,
    now_ms: int,
    limits: JobsSection,
    capability: AnnouncedCapability | None = None,
) -> Call:
    """The call that a checked ask makes on a device; ``input_json`` is what :func:`check` made of
    its input.

    ``capability`` is what the device announces, None where it may not be used there.
    """
    default_ms = capability.timeout_ms if capability is not None else 0
    return Call(
        job_id=job_id,
        device_id=device.device_id,
        device_name=device.name,
        capability=ask.capability,
        input_json=input_json,
        requested_by=ask.requested_by,
        submitted_at_ms=now_ms,
        run_timeout_ms=ask.timeout_ms or default_ms or int(limits.timeout_s * 1000),
        max_payload_bytes=ask.max_payload_bytes or limits.max_payload_bytes,
        idempotent=capability is not None and capability.idempotent,
        needs_mediation=capability is not None and capability.needs_mediation,
        queue_expires_at_ms=None if ask.ttl_ms is None else now_ms + ask.ttl_ms,
        operator_id="" if ask.caller is None else ask.caller.operator_id,
    )


def permitted(device: Device, name: str) -> AnnouncedCapability:
    """The capability of that name, if the device has it, can run it, and was granted it.

    :raises CapabilityUnknown, CapabilityNotGranted, CapabilityDisabled: one of these is not so.
    :raises CapabilityChanged: it was granted for something else.
    """
    capability = device.capability(name)
    if capability is None:
        known = [item.name for item in device.capabilities]
        raise CapabilityUnknown(
            device.name, name[:64], tuple(difflib.get_close_matches(name[:64], known))
        )
    if name not in device.grants:
        was_granted = name in device.contracts
        raise (CapabilityChanged if was_granted else CapabilityNotGranted)(device.name, name)
    if not capability.available:
        raise CapabilityDisabled(device.name, name, capability.fault)
    return capability


def json_fault(data: bytes) -> str:
    """What is wrong with bytes that should be one JSON value; empty where nothing is."""
    try:
        msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return f"is not JSON ({error})"
    except RecursionError:
        return "is nested too deeply"
    return ""


def _payload_limit(ask: Ask, limits: JobsSection) -> int:
    _check_range("max_payload_bytes", ask.max_payload_bytes, 1, MAX_PAYLOAD_BYTES)
    return ask.max_payload_bytes or limits.max_payload_bytes


def _check_range(field: str, value: int | None, low: int, high: int) -> None:
    if value is not None and not low <= value <= high:
        raise Malformed(field, f"must be {low} to {high} (got {value})")
