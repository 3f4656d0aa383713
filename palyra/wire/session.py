"""Translation of a session's messages between protobuf and core values.

Reading never trusts: lengths and enums are checked here, and what does not fit raises
:class:`palyra.errors.Malformed`.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from palyra.core.announcement import checked_capabilities
from palyra.core.devices import MAX_CAPABILITIES, AnnouncedCapability, clean_text
from palyra.core.frames import (
    AWAITING,
    RESULT,
    Dispatch,
    Drained,
    GatewayFrame,
    Hello,
    NodeEvent,
    Progress,
    Renew,
    Waiting,
    Welcome,
)
from palyra.core.identifiers import AttemptId, DeviceId, parse_ulid
from palyra.core.jobs import Outcome, Report, Standing
from palyra.errors import Malformed
from palyra.wire.v1 import common_pb2, node_pb2

VERSION = 1
MAX_ATTEMPTS_LISTED = 4_096
MAX_ERROR_TEXT = 1_024
MAX_IN_MESSAGE = 512
"""Reports, progress or waiting entries in one message; a node with more sends several."""
RISKS = ("low", "medium", "high")
_PUBLISHED_RISKS = {
    "echo": "low",
    "system.health": "low",
    "system.identity": "low",
    "desktop.open_path": "high",
}
"""Of the capabilities that version-1 nodes announce by name alone; any other is medium."""

_OUTCOMES: dict[int, Outcome] = {
    node_pb2.ATTEMPT_OUTCOME_SUCCEEDED: Outcome.SUCCEEDED,
    node_pb2.ATTEMPT_OUTCOME_FAILED: Outcome.FAILED,
    node_pb2.ATTEMPT_OUTCOME_TIMED_OUT: Outcome.TIMED_OUT,
    node_pb2.ATTEMPT_OUTCOME_CANCELLED: Outcome.CANCELLED,
    node_pb2.ATTEMPT_OUTCOME_REJECTED: Outcome.REJECTED,
    node_pb2.ATTEMPT_OUTCOME_DIED: Outcome.DIED,
}
_OUTCOME_NUMBERS = {outcome: number for number, outcome in _OUTCOMES.items()}


class _PublishedResult(msgspec.Struct):
    """The payload of a version-1 ``capability.result`` event."""

    request_id: str
    success: bool
    output_json: msgspec.Raw = msgspec.Raw(b"null")
    error: str = ""


class _PublishedWaiting(msgspec.Struct):
    """The payload of a version-1 ``capability.awaiting_local_mediation`` event."""

    request_id: str


def check_version(version: int) -> None:
    """Every message carries v = 1."""
    if version != VERSION:
        raise Malformed("v", f"must be {VERSION} (got {version})")


# -- registration ---------------------------------------------------------------------------------


def read_hello(message: node_pb2.RegisterNodeRequest) -> Hello:
    """RegisterNodeRequest, checked."""
    check_version(message.v)
    if len(message.capabilities) > MAX_CAPABILITIES:
        raise Malformed(
            "capabilities", f"at most {MAX_CAPABILITIES} (got {len(message.capabilities)})"
        )
    hello = message.hello
    listed = (
        (hello.running_attempts, Standing.RUNNING),
        (hello.finished_attempts, Standing.FINISHED),
        (hello.died_attempts, Standing.DIED),
    )
    if sum(len(ids) for ids, _ in listed) > MAX_ATTEMPTS_LISTED:
        raise Malformed("hello", f"lists more than {MAX_ATTEMPTS_LISTED} attempts")
    return Hello(
        device_id=DeviceId(parse_ulid(message.device_id.ulid, "device_id")),
        platform=clean_text(message.platform, 64),
        capabilities=checked_capabilities(map(_read_capability, message.capabilities)),
        version=clean_text(hello.version, 64),
        memory_id=hello.memory_id[:64],
        store_epoch=hello.store_epoch[:64],
        max_in_flight=max(1, hello.max_in_flight),
        attempts={attempt: standing for ids, standing in listed for attempt in ids},
        extended=message.HasField("hello"),
        unix_ms=hello.unix_ms,
    )


def write_hello(hello: Hello) -> node_pb2.RegisterNodeRequest:
    """The node's side of :func:`read_hello`."""
    by_standing: dict[Standing, list[str]] = {standing: [] for standing in Standing}
    for attempt, standing in hello.attempts.items():
        by_standing[standing].append(attempt)
    return node_pb2.RegisterNodeRequest(
        v=VERSION,
        device_id=common_pb2.CanonicalId(ulid=hello.device_id),
        platform=hello.platform,
        capabilities=[_write_capability(item) for item in hello.capabilities],
        hello=node_pb2.NodeHello(
            memory_id=hello.memory_id,
            running_attempts=by_standing[Standing.RUNNING],
            finished_attempts=by_standing[Standing.FINISHED],
            died_attempts=by_standing[Standing.DIED],
            version=hello.version,
            store_epoch=hello.store_epoch,
            max_in_flight=hello.max_in_flight,
            unix_ms=hello.unix_ms,
        ),
    )


def read_welcome(message: node_pb2.RegisterNodeResponse) -> Welcome:
    """RegisterNodeResponse, as a node of ours reads it."""
    welcome = message.welcome
    return Welcome(
        device_id=DeviceId(message.device_id.ulid),
        store_epoch=welcome.store_epoch,
        session_epoch=welcome.session_epoch,
        heartbeat_interval_ms=welcome.heartbeat_interval_ms,
        gateway_unix_ms=welcome.gateway_unix_ms,
        ca_bundle_pem=welcome.ca_bundle_pem,
        granted=tuple(welcome.granted),
        device_name=welcome.device_name,
        version=welcome.version,
        renew_after_s=welcome.renew_after_s if welcome.HasField("renew_after_s") else None,
    )


def write_welcome(welcome: Welcome) -> node_pb2.RegisterNodeResponse:
    """The gateway's answer to a registration it accepted."""
    return node_pb2.RegisterNodeResponse(
        v=VERSION,
        device_id=common_pb2.CanonicalId(ulid=welcome.device_id),
        accepted=True,
        welcome=node_pb2.NodeWelcome(
            store_epoch=welcome.store_epoch,
            session_epoch=welcome.session_epoch,
            heartbeat_interval_ms=welcome.heartbeat_interval_ms,
            gateway_unix_ms=welcome.gateway_unix_ms,
            ca_bundle_pem=welcome.ca_bundle_pem,
            granted=welcome.granted,
            device_name=welcome.device_name,
            version=welcome.version,
            renew_after_s=welcome.renew_after_s,
        ),
    )


def _read_capability(message: node_pb2.DeviceCapability) -> AnnouncedCapability:
    traits = message.traits
    if message.HasField("traits") and traits.risk not in RISKS:
        raise Malformed(
            f"capabilities.{clean_text(message.name, 64)}.risk", f"must be one of {RISKS}"
        )
    return AnnouncedCapability(
        name=message.name,
        available=message.available,
        digest=message.descriptor_digest,
        version=traits.version,
        risk=traits.risk or _PUBLISHED_RISKS.get(message.name, "medium"),
        needs_mediation=traits.needs_mediation,
        idempotent=traits.idempotent,
        timeout_ms=traits.timeout_ms,
        fault=traits.fault,
    )


def _write_capability(item: AnnouncedCapability) -> node_pb2.DeviceCapability:
    return node_pb2.DeviceCapability(
        name=item.name,
        available=item.available,
        descriptor_digest=item.digest,
        traits=node_pb2.CapabilityTraits(
            version=item.version,
            risk=item.risk,
            needs_mediation=item.needs_mediation,
            idempotent=item.idempotent,
            timeout_ms=item.timeout_ms,
            fault=item.fault,
        ),
    )


# -- what a node says -----------------------------------------------------------------------------


def read_event(message: node_pb2.NodeEventRequest) -> NodeEvent:
    """NodeEventRequest, checked; version-1 payloads become the same reports as typed ones."""
    check_version(message.v)
    for field in ("reports", "progress", "waiting"):
        if len(getattr(message, field)) > MAX_IN_MESSAGE:
            raise Malformed(field, f"must be at most {MAX_IN_MESSAGE} in one message")
    reports = [_read_report(report) for report in message.reports]
    waiting = [
        Waiting(AttemptId(item.request_id), item.answered, item.remaining_ms)
        for item in message.waiting
    ]
    name = message.event_name
    if name == RESULT and message.payload_json:
        reports.append(_read_published_result(message.payload_json))
    elif name == AWAITING and message.payload_json:
        waiting.append(_read_published_waiting(message.payload_json))
    return NodeEvent(
        name=name,
        session_epoch=message.session_epoch,
        reports=tuple(reports),
        progress=tuple(
            Progress(
                AttemptId(item.request_id),
                min(1.0, max(0.0, item.fraction)) if item.HasField("fraction") else None,
                clean_text(item.text, 1_024),
            )
            for item in message.progress
        ),
        waiting=tuple(waiting),
    )


def write_event(event: NodeEvent, device_id: str) -> node_pb2.NodeEventRequest:
    """The node's side of :func:`read_event`."""
    message = node_pb2.NodeEventRequest(
        v=VERSION, event_name=event.name, session_epoch=event.session_epoch
    )
    message.device_id.ulid = device_id
    for report in event.reports:
        message.reports.append(
            node_pb2.AttemptReport(
                request_id=report.attempt_id,
                outcome=_OUTCOME_NUMBERS[report.outcome],  # type: ignore[arg-type]
                output_json=report.output_json,
                error_code=report.error_code,
                error=report.error,
                stopped=report.stopped,
                took_ms=report.took_ms,
            )
        )
    for progress in event.progress:
        message.progress.append(
            node_pb2.AttemptProgress(
                request_id=progress.attempt_id, fraction=progress.fraction, text=progress.text
            )
        )
    for item in event.waiting:
        message.waiting.append(
            node_pb2.AttemptWaiting(
                request_id=item.attempt_id, answered=item.answered, remaining_ms=item.remaining_ms
            )
        )
    return message


def _read_report(report: node_pb2.AttemptReport) -> Report:
    outcome = _OUTCOMES.get(report.outcome)
    if outcome is None:
        raise Malformed("reports.outcome", f"unknown number {report.outcome}")
    return Report(
        attempt_id=AttemptId(report.request_id),
        outcome=outcome,
        output_json=report.output_json,
        error_code=clean_text(report.error_code, 64),
        error=clean_text(report.error, MAX_ERROR_TEXT),
        stopped=report.stopped,
        took_ms=report.took_ms,
    )


def _read_published_result(payload: bytes) -> Report:
    try:
        result = msgspec.json.decode(payload, type=_PublishedResult)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise Malformed("payload_json", str(error)) from error
    return Report(
        attempt_id=AttemptId(result.request_id),
        outcome=Outcome.SUCCEEDED if result.success else Outcome.FAILED,
        output_json=bytes(result.output_json) if result.success else b"",
        error_code="" if result.success else "failed",
        error=clean_text(result.error, MAX_ERROR_TEXT),
    )


def _read_published_waiting(payload: bytes) -> Waiting:
    try:
        waiting = msgspec.json.decode(payload, type=_PublishedWaiting)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise Malformed("payload_json", str(error)) from error
    return Waiting(AttemptId(waiting.request_id), answered=False, remaining_ms=0)


# -- what the gateway says ------------------------------------------------------------------------


def write_frame(frame: GatewayFrame, event_id: str, now_ms: int) -> node_pb2.NodeEventResponse:
    """One message for a node that understands the extensions."""
    message = node_pb2.NodeEventResponse(v=VERSION, accepted=True, gateway_unix_ms=now_ms)
    message.event_id.ulid = event_id
    for dispatch in frame.dispatches:
        message.dispatches.append(_write_dispatch(dispatch))
    if frame.acknowledged:
        message.acknowledged.extend(frame.acknowledged)
    for attempt_id, reason in frame.cancels:
        message.cancels.append(node_pb2.AttemptCancel(request_id=attempt_id, reason=reason))
    if frame.drain is not None:
        message.drain.reason = frame.drain.reason
        message.drain.retry_after_ms = frame.drain.retry_after_ms
    if frame.renew is not None:
        message.renew.reason = frame.renew.reason
        message.renew.within_ms = frame.renew.within_ms
    return message


def write_published_frames(
    frame: GatewayFrame, new_event_id: Callable[[], str]
) -> list[node_pb2.NodeEventResponse]:
    """The same for a version-1 node: one answer an event, one message a dispatch."""
    messages = []
    for index in range(max(frame.answers, len(frame.dispatches))):
        message = node_pb2.NodeEventResponse(v=VERSION, accepted=True)
        message.event_id.ulid = new_event_id()
        if index < len(frame.dispatches):
            dispatch = frame.dispatches[index]
            message.dispatch.request_id.ulid = dispatch.attempt_id
            message.dispatch.capability = dispatch.capability
            message.dispatch.input_json = dispatch.input_json
            message.dispatch.max_payload_bytes = dispatch.max_payload_bytes
        messages.append(message)
    return messages


def read_frame(message: node_pb2.NodeEventResponse) -> GatewayFrame:
    """NodeEventResponse, as a node of ours reads it."""
    dispatches = [_read_dispatch(item) for item in message.dispatches]
    if message.HasField("dispatch"):
        dispatches.append(_read_dispatch(message.dispatch))
    drain = None
    if message.HasField("drain"):
        drain = Drained(message.drain.reason, message.drain.retry_after_ms)
    renew = None
    if message.HasField("renew"):
        renew = Renew(clean_text(message.renew.reason, 240), message.renew.within_ms)
    return GatewayFrame(
        dispatches=dispatches,
        acknowledged=list(message.acknowledged),
        cancels=[(item.request_id, item.reason) for item in message.cancels],
        answers=1,
        drain=drain,
        renew=renew,
    )


def _write_dispatch(dispatch: Dispatch) -> node_pb2.NodeCapabilityDispatch:
    message = node_pb2.NodeCapabilityDispatch(
        capability=dispatch.capability,
        input_json=dispatch.input_json,
        max_payload_bytes=dispatch.max_payload_bytes,
        remaining_ms=dispatch.remaining_ms,
        job_id=dispatch.job_id,
        attempt=dispatch.number,
        requested_by=dispatch.requested_by,
    )
    message.request_id.ulid = dispatch.attempt_id
    return message


def _read_dispatch(message: node_pb2.NodeCapabilityDispatch) -> Dispatch:
    return Dispatch(
        attempt_id=AttemptId(message.request_id.ulid),
        job_id=message.job_id,
        number=message.attempt or 1,
        capability=message.capability,
        input_json=message.input_json,
        max_payload_bytes=message.max_payload_bytes,
        remaining_ms=message.remaining_ms or 30_000,
        requested_by=clean_text(message.requested_by, 120),
    )
