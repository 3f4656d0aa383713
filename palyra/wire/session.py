"""Translation of a session's messages between protobuf and core values.

Reading never trusts: lengths and enums are checked here, and what does not fit raises
:class:`palyra.errors.Malformed`.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from palyra.core.descriptors import MAX_BYTES as MAX_DESCRIPTOR
from palyra.core.devices import clean_text
from palyra.core.frames import (
    AWAITING,
    RESULT,
    CatalogAnswer,
    Chunk,
    Dispatch,
    Drained,
    GatewayFrame,
    NodeEvent,
    Progress,
    Renew,
    Waiting,
)
from palyra.core.identifiers import AttemptId, parse_ulid
from palyra.core.jobs import CHOICES, MAX_REASON, MediationAnswer, Outcome, Report
from palyra.core.tracing import checked_traceparent
from palyra.core.transfers import MAX_PIECE_BYTES
from palyra.errors import Malformed
from palyra.wire.checks import VERSION, check_version, checked_attempt_id
from palyra.wire.registration import capabilities_of, write_capability
from palyra.wire.v1 import node_pb2

MAX_ERROR_TEXT = 1_024
MAX_CALLER = 120
MAX_CODE = 64
SHA256_BYTES = 32
MAX_IN_MESSAGE = 512
"""Reports, progress, waiting entries or chunks in one message; a node with more sends several."""

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


# -- what a node says -----------------------------------------------------------------------------


def read_event(message: node_pb2.NodeEventRequest) -> NodeEvent:
    """NodeEventRequest, checked; version-1 payloads become the same reports as typed ones."""
    check_version(message.v)
    for field in ("reports", "progress", "waiting", "chunks", "descriptors"):
        if len(getattr(message, field)) > MAX_IN_MESSAGE:
            raise Malformed(field, f"must be at most {MAX_IN_MESSAGE} in one message")
    reports = [_read_report(report) for report in message.reports if not report.output_transfer]
    waiting = [
        Waiting(
            checked_attempt_id(item.request_id, "waiting.request_id"),
            item.answered,
            item.remaining_ms,
            _read_mediation(item),
        )
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
                checked_attempt_id(item.request_id, "progress.request_id"),
                min(1.0, max(0.0, item.fraction)) if item.HasField("fraction") else None,
                clean_text(item.text, MAX_ERROR_TEXT),
            )
            for item in message.progress
        ),
        waiting=tuple(waiting),
        chunks=tuple(map(_read_chunk, message.chunks)),
        transferred=tuple(
            (_read_report(report), report.output_transfer)
            for report in message.reports
            if report.output_transfer
        ),
        catalog=(
            capabilities_of(message.catalog.capabilities) if message.HasField("catalog") else None
        ),
        descriptors=tuple(map(_read_descriptor, message.descriptors)),
    )


def write_event(event: NodeEvent, device_id: str) -> node_pb2.NodeEventRequest:
    """The node's side of :func:`read_event`."""
    message = node_pb2.NodeEventRequest(
        v=VERSION, event_name=event.name, session_epoch=event.session_epoch
    )
    message.device_id.ulid = device_id
    message.chunks.extend(map(_write_chunk, event.chunks))
    for report in event.reports:
        message.reports.append(_write_report(report))
    for report, transfer_id in event.transferred:
        message.reports.append(_write_report(report, transfer_id))
    for progress in event.progress:
        message.progress.append(
            node_pb2.AttemptProgress(
                request_id=progress.attempt_id,
                fraction=progress.fraction,
                text=progress.text[:MAX_ERROR_TEXT],
            )
        )
    for item in event.waiting:
        message.waiting.append(
            node_pb2.AttemptWaiting(
                request_id=item.attempt_id,
                answered=item.answered,
                remaining_ms=item.remaining_ms,
                mediation=_write_mediation(item.mediation),
            )
        )
    if event.catalog is not None:
        message.catalog.SetInParent()
        message.catalog.capabilities.extend(map(write_capability, event.catalog))
    for descriptor in event.descriptors:
        message.descriptors.add(json=descriptor)
    return message


def _read_descriptor(message: node_pb2.CapabilityDescriptor) -> bytes:
    if len(message.json) > MAX_DESCRIPTOR:
        raise Malformed("descriptors", f"must be at most {MAX_DESCRIPTOR} bytes each")
    return message.json


def _read_mediation(
    message: node_pb2.AttemptWaiting | node_pb2.AttemptReport,
) -> MediationAnswer | None:
    if not message.HasField("mediation"):
        return None
    said = message.mediation
    if said.choice not in CHOICES:
        raise Malformed("mediation.choice", f"must be one of {', '.join(sorted(CHOICES))}")
    return MediationAnswer(clean_text(said.decided_by, MAX_CALLER), said.choice)


def _write_mediation(answer: MediationAnswer | None) -> node_pb2.MediationAnswer | None:
    if answer is None:
        return None
    return node_pb2.MediationAnswer(decided_by=answer.decided_by[:MAX_CALLER], choice=answer.choice)


def _read_chunk(message: node_pb2.PayloadChunk) -> Chunk:
    if message.transfer_id == 0:
        raise Malformed("chunks.transfer_id", "must be above 0")
    if len(message.data) > MAX_PIECE_BYTES:
        raise Malformed("chunks.data", f"must be at most {MAX_PIECE_BYTES} bytes")
    if len(message.sha256) != (SHA256_BYTES if message.last else 0):
        raise Malformed("chunks.sha256", f"has {SHA256_BYTES} bytes on the last piece, else none")
    return Chunk(
        transfer_id=message.transfer_id,
        index=message.index,
        data=message.data,
        sha256=message.sha256 if message.last else None,
    )


def _write_chunk(chunk: Chunk) -> node_pb2.PayloadChunk:
    return node_pb2.PayloadChunk(
        transfer_id=chunk.transfer_id,
        index=chunk.index,
        last=chunk.last,
        data=chunk.data,
        sha256=chunk.sha256 or b"",
    )


def _write_report(report: Report, transfer_id: int = 0) -> node_pb2.AttemptReport:
    return node_pb2.AttemptReport(
        request_id=report.attempt_id,
        outcome=_OUTCOME_NUMBERS[report.outcome],  # type: ignore[arg-type]
        output_json=report.output_json,
        error_code=report.error_code[:MAX_CODE],
        error=report.error[:MAX_ERROR_TEXT],
        stopped=report.stopped,
        took_ms=report.took_ms,
        output_transfer=transfer_id,
        mediation=_write_mediation(report.mediation),
    )


def _read_report(report: node_pb2.AttemptReport) -> Report:
    outcome = _OUTCOMES.get(report.outcome)
    if outcome is None:
        raise Malformed("reports.outcome", f"unknown number {report.outcome}")
    if report.output_transfer and report.output_json:
        raise Malformed("reports.output_json", "must be empty where a transfer brings the output")
    return Report(
        attempt_id=checked_attempt_id(report.request_id, "reports.request_id"),
        outcome=outcome,
        output_json=report.output_json,
        error_code=clean_text(report.error_code, MAX_CODE),
        error=clean_text(report.error, MAX_ERROR_TEXT),
        stopped=report.stopped,
        took_ms=report.took_ms,
        mediation=_read_mediation(report),
    )


def _read_published_result(payload: bytes) -> Report:
    try:
        result = msgspec.json.decode(payload, type=_PublishedResult)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise Malformed("payload_json", str(error)) from error
    return Report(
        attempt_id=checked_attempt_id(result.request_id, "payload_json"),
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
    attempt_id = checked_attempt_id(waiting.request_id, "payload_json")
    return Waiting(attempt_id, answered=False, remaining_ms=0)


# -- what the gateway says ------------------------------------------------------------------------


def write_frame(frame: GatewayFrame, event_id: str, now_ms: int) -> node_pb2.NodeEventResponse:
    """One message for a node that understands the extensions."""
    message = node_pb2.NodeEventResponse(v=VERSION, accepted=True, gateway_unix_ms=now_ms)
    message.event_id.ulid = event_id
    for chunk in frame.chunks:
        message.chunks.append(_write_chunk(chunk))
    for dispatch in frame.dispatches:
        message.dispatches.append(_write_dispatch(dispatch))
    for dispatch, transfer_id in frame.transferred:
        message.dispatches.append(_write_dispatch(dispatch, transfer_id))
    if frame.acknowledged:
        message.acknowledged.extend(frame.acknowledged)
    for attempt_id, reason in frame.cancels:
        message.cancels.append(
            node_pb2.AttemptCancel(request_id=attempt_id, reason=reason[:MAX_REASON])
        )
    if frame.drain is not None:
        message.drain.reason = frame.drain.reason[:MAX_REASON]
        message.drain.retry_after_ms = frame.drain.retry_after_ms
    if frame.renew is not None:
        message.renew.reason = frame.renew.reason[:MAX_REASON]
        message.renew.within_ms = frame.renew.within_ms
    if frame.catalog is not None:
        message.catalog.SetInParent()
        message.catalog.granted.extend(frame.catalog.granted)
        message.catalog.unknown_digests.extend(frame.catalog.unknown_digests)
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
    dispatches = [_read_dispatch(item) for item in message.dispatches if not item.input_transfer]
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
        chunks=list(map(_read_chunk, message.chunks)),
        transferred=[
            (_read_dispatch(item), item.input_transfer)
            for item in message.dispatches
            if item.input_transfer
        ],
        catalog=_read_catalog(message),
    )


def _read_catalog(message: node_pb2.NodeEventResponse) -> CatalogAnswer | None:
    if not message.HasField("catalog"):
        return None
    said = message.catalog
    return CatalogAnswer(tuple(said.granted), tuple(said.unknown_digests))


def _write_dispatch(dispatch: Dispatch, transfer_id: int = 0) -> node_pb2.NodeCapabilityDispatch:
    message = node_pb2.NodeCapabilityDispatch(
        capability=dispatch.capability,
        input_json=dispatch.input_json,
        max_payload_bytes=dispatch.max_payload_bytes,
        remaining_ms=dispatch.remaining_ms,
        job_id=dispatch.job_id,
        attempt=dispatch.number,
        requested_by=dispatch.requested_by[:MAX_CALLER],
        input_transfer=transfer_id,
        traceparent=dispatch.traceparent,
    )
    message.request_id.ulid = dispatch.attempt_id
    return message


def _read_dispatch(message: node_pb2.NodeCapabilityDispatch) -> Dispatch:
    if message.input_transfer and message.input_json:
        raise Malformed("dispatches.input_json", "must be empty where a transfer brings the input")
    return Dispatch(
        attempt_id=AttemptId(parse_ulid(message.request_id.ulid, "dispatches.request_id")),
        job_id=parse_ulid(message.job_id, "dispatches.job_id") if message.job_id else "",
        number=message.attempt or 1,
        capability=message.capability,
        input_json=message.input_json,
        max_payload_bytes=message.max_payload_bytes,
        remaining_ms=message.remaining_ms or 30_000,
        requested_by=clean_text(message.requested_by, MAX_CALLER),
        traceparent=checked_traceparent(message.traceparent),
    )
