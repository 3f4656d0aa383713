"""Translation of the calls of paired clients between protobuf and values: execute, submit, follow,
cancel.

Reading never trusts, on either end: what does not fit raises :class:`palyra.errors.Malformed`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from palyra.core.devices import clean_text
from palyra.core.frames import JobUpdate, Wanted
from palyra.core.identifiers import DeviceId, JobId, parse_ulid
from palyra.core.interfaces import MAX_KEY
from palyra.core.jobs import FINAL, Job, JobState
from palyra.errors import Malformed, PalyraError
from palyra.wire.checks import VERSION, check_version
from palyra.wire.session import MAX_ERROR_TEXT
from palyra.wire.v1 import node_pb2

MAX_CODE_TEXT = 64
"""Characters of an idempotency key."""
MAX_IN_MESSAGE = 512
"""Requests or answers in one message of SubmitJobs."""
_SUCCEEDED = JobState.SUCCEEDED
_STATES = {state.value: state for state in JobState}
_NAMES = {state: state.value for state in JobState}  # Enum.value is a slow property


@attrs.frozen
class Submission:
    """One request of SubmitJobs.  ``tag`` is the caller's, above 0."""

    tag: int
    wanted: Wanted
    report_accepted: bool = False


@attrs.frozen
class Executed:
    """A job as its caller is told of it."""

    job_id: str
    state: JobState
    output_json: bytes = b""
    error_code: str = ""
    error: str = ""

    @property
    def success(self) -> bool:
        """Whether ``output_json`` is what was asked for."""
        return self.state is _SUCCEEDED


@attrs.frozen
class Refused:
    """Why a call was not accepted.  ``job_id`` names the record, where the refusal left one."""

    code: str
    sentence: str
    hint: str = ""
    retry_after_ms: int = 0
    job_id: str = ""


@attrs.frozen
class Answer:
    """One answer of SubmitJobs: a job, accepted or (``final``) ended, or a refusal."""

    tag: int
    final: bool
    executed: Executed | None = None
    refused: Refused | None = None


@attrs.frozen
class Followed:
    """One word of FollowJob.  ``final``: it is the last."""

    job_id: str
    state: JobState
    waiting_for: str = ""
    fraction: float | None = None
    text: str = ""
    final: bool = False


# -- one call -------------------------------------------------------------------------------------


def read_call(message: node_pb2.ExecuteCapabilityRequest) -> Wanted:
    """ExecuteCapabilityRequest, checked."""
    if message.v != VERSION:
        check_version(message.v)
    key = message.idempotency_key
    if key and (len(key) > MAX_KEY or not key.isprintable()):
        raise Malformed("idempotency_key", f"must be at most {MAX_KEY} printable characters")
    return Wanted(
        DeviceId(parse_ulid(message.device_id.ulid, "device_id")),
        message.capability,
        message.input_json,
        message.max_payload_bytes or None,
        message.timeout_ms or None,
        message.ttl_ms or None,
        key,
    )


def write_call(wanted: Wanted) -> node_pb2.ExecuteCapabilityRequest:
    """The caller's side of :func:`read_call`."""
    message = node_pb2.ExecuteCapabilityRequest(
        v=VERSION,
        capability=wanted.capability,
        input_json=wanted.input_json,
        max_payload_bytes=wanted.max_payload_bytes or 0,
        timeout_ms=wanted.timeout_ms or 0,
        ttl_ms=wanted.ttl_ms or 0,
        idempotency_key=wanted.idempotency_key,
    )
    message.device_id.ulid = wanted.device_id
    return message


def write_executed(job: Job) -> node_pb2.ExecuteCapabilityResponse:
    """A job as ExecuteCapability answers it."""
    message = node_pb2.ExecuteCapabilityResponse()
    _fill(message, job)
    return message


def read_executed(message: node_pb2.ExecuteCapabilityResponse) -> Executed:
    """The caller's side of :func:`write_executed`; a version-1 gateway names no state."""
    check_version(message.v)
    return Executed(
        job_id=clean_text(message.job_id, MAX_CODE_TEXT),
        state=_state(message.state or ("succeeded" if message.success else "failed")),
        output_json=message.output_json,
        error_code=clean_text(message.error_code, MAX_CODE_TEXT),
        error=clean_text(message.error, MAX_ERROR_TEXT),
    )


def _fill(message: node_pb2.ExecuteCapabilityResponse, job: Job) -> None:
    message.v = VERSION
    message.job_id = job.call.job_id
    message.state = _NAMES[job.state]
    if job.state is _SUCCEEDED:
        message.success = True
    if job.output_json:
        message.output_json = job.output_json
    if job.error_code or job.error:
        message.error_code = job.error_code
        message.error = job.error


def _state(text: str) -> JobState:
    state = _STATES.get(text)
    if state is None:
        raise Malformed("state", f"unknown: {clean_text(text, MAX_CODE_TEXT)!r}")
    return state


# -- many calls -----------------------------------------------------------------------------------


def read_many(message: node_pb2.SubmitJobRequest) -> Sequence[node_pb2.SubmitJobRequest]:
    """The requests of one message, each with its tag: without one nothing could be answered."""
    more = message.more
    if not more:
        requests: Sequence[node_pb2.SubmitJobRequest] = (message,)
    elif len(more) >= MAX_IN_MESSAGE or any(each.more for each in more):
        raise Malformed("more", f"must be at most {MAX_IN_MESSAGE - 1}, none with more of its own")
    else:
        requests = (message, *more)
    for each in requests:
        if not each.tag:
            raise Malformed("tag", "must be above 0")
    return requests


def read_submitted(message: node_pb2.SubmitJobRequest) -> Wanted:
    """The call of one request, checked."""
    if message.v != VERSION:
        check_version(message.v)
    return read_call(message.call)


def write_submissions(submissions: Iterable[Submission]) -> node_pb2.SubmitJobRequest:
    """One message of one or several requests, for answers that come as many at once."""
    first, *more = map(_write_submission, submissions)
    first.takes_more = True
    first.more.extend(more)
    return first


def _write_submission(submission: Submission) -> node_pb2.SubmitJobRequest:
    return node_pb2.SubmitJobRequest(
        v=VERSION,
        tag=submission.tag,
        call=write_call(submission.wanted),
        report_accepted=submission.report_accepted,
    )


def write_answer(tag: int, job: Job, final: bool) -> node_pb2.SubmitJobResponse:
    """What became of a request: its job is on record or, when ``final``, has ended."""
    message = node_pb2.SubmitJobResponse(v=VERSION, tag=tag, final=final)
    _fill(message.result, job)
    return message


def write_refusal(tag: int, error: PalyraError) -> node_pb2.SubmitJobResponse:
    """A refused request or, with tag 0, why the stream ends.

    The sentence travels as the result's error, with the id of the job where there is a record.
    """
    message = node_pb2.SubmitJobResponse(
        v=VERSION, tag=tag, final=True, refusal_code=error.code, refusal_hint=error.hint
    )
    retry_after_s = getattr(error, "retry_after_s", None)
    if retry_after_s is not None:
        message.retry_after_ms = min(2**32 - 1, max(0, int(retry_after_s * 1000)))
    message.result.v = VERSION
    message.result.error = error.sentence
    message.result.error_code = error.code
    message.result.job_id = getattr(error, "job_id", "")
    return message


def read_answers(message: node_pb2.SubmitJobResponse) -> list[Answer]:
    """The caller's side of :func:`write_answer` and :func:`write_refusal`."""
    return [_read_answer(each) for each in (message, *message.more)]


def _read_answer(message: node_pb2.SubmitJobResponse) -> Answer:
    check_version(message.v)
    if not message.refusal_code:
        return Answer(message.tag, message.final, read_executed(message.result))
    refused = Refused(
        code=clean_text(message.refusal_code, MAX_CODE_TEXT),
        sentence=clean_text(message.result.error, MAX_ERROR_TEXT),
        hint=clean_text(message.refusal_hint, MAX_ERROR_TEXT),
        retry_after_ms=message.retry_after_ms,
        job_id=clean_text(message.result.job_id, MAX_CODE_TEXT),
    )
    return Answer(message.tag, message.final, refused=refused)


# -- one job --------------------------------------------------------------------------------------


def write_follow(job_id: str) -> node_pb2.FollowJobRequest:
    """FollowJobRequest."""
    return node_pb2.FollowJobRequest(v=VERSION, job_id=job_id)


def write_cancel(job_id: str) -> node_pb2.CancelJobRequest:
    """CancelJobRequest."""
    return node_pb2.CancelJobRequest(v=VERSION, job_id=job_id)


def read_job_id(message: node_pb2.FollowJobRequest | node_pb2.CancelJobRequest) -> JobId:
    """The job that FollowJob or CancelJob is about."""
    check_version(message.v)
    return JobId(parse_ulid(message.job_id, "job_id"))


def write_update(update: JobUpdate) -> node_pb2.FollowJobResponse:
    """FollowJobResponse."""
    job, progress = update.job, update.progress
    message = node_pb2.FollowJobResponse(
        v=VERSION,
        job_id=job.call.job_id,
        state=_NAMES[job.state],
        waiting_for=job.waiting_for,
        final=job.final,
    )
    if progress is not None:
        message.text = progress.text
        if progress.fraction is not None:
            message.fraction = progress.fraction
    return message


def read_update(message: node_pb2.FollowJobResponse) -> Followed:
    """The caller's side of :func:`write_update`."""
    check_version(message.v)
    state = _state(message.state)
    if message.final is not (state in FINAL):
        raise Malformed("final", f"does not go with the state {state.value}")
    fraction = message.fraction if message.HasField("fraction") else None
    return Followed(
        job_id=clean_text(message.job_id, MAX_CODE_TEXT),
        state=state,
        waiting_for=clean_text(message.waiting_for, MAX_CODE_TEXT),
        fraction=fraction if fraction is None else min(1.0, max(0.0, fraction)),
        text=clean_text(message.text, MAX_ERROR_TEXT),
        final=message.final,
    )


def write_cancelled(job: Job) -> node_pb2.CancelJobResponse:
    """CancelJobResponse: the job's state after it was asked to end."""
    return node_pb2.CancelJobResponse(v=VERSION, state=_NAMES[job.state])


def read_cancelled(message: node_pb2.CancelJobResponse) -> JobState:
    """The caller's side of :func:`write_cancelled`."""
    check_version(message.v)
    return _state(message.state)
