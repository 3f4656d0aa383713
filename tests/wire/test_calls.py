"""The calls of paired clients: what is written is read, and nothing from outside does any harm."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from google.protobuf.message import DecodeError, Message
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra.core.devices import clean_text
from palyra.core.frames import JobUpdate, Progress, Wanted
from palyra.core.identifiers import AttemptId, DeviceId, JobId
from palyra.core.jobs import FINAL, Job, JobState
from palyra.errors import (
    DeviceOffline,
    Draining,
    LimitReached,
    Malformed,
    MalformedIdentifier,
    PalyraError,
)
from palyra.wire import calls as wire
from palyra.wire.v1 import node_pb2
from tests.core.jobs import a_call

SETTINGS = settings(max_examples=100, deadline=None)
DEVICE = DeviceId("01M80NKQCNX4K7QM2ZT9B3FVHD")
JOB = JobId("01M80NKQCNT6MW3K2ZT9B3FVHD")
PLAIN = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), max_size=40)

wants = st.builds(
    Wanted,
    device_id=st.just(DEVICE),
    capability=PLAIN,
    input_json=st.binary(max_size=50),
    max_payload_bytes=st.none() | st.integers(1, 2**64 - 1),
    timeout_ms=st.none() | st.integers(1, 2**32 - 1),
    ttl_ms=st.none() | st.integers(1, 2**64 - 1),
    idempotency_key=PLAIN,
)
submissions = st.builds(
    wire.Submission, tag=st.integers(1, 2**64 - 1), wanted=wants, report_accepted=st.booleans()
)
jobs = st.builds(
    Job,
    call=st.just(attrs.evolve(a_call(), job_id=JOB)),
    state=st.sampled_from(JobState),
    waiting_for=PLAIN,
    output_json=st.none() | st.binary(max_size=50),
    error_code=PLAIN,
    error=PLAIN,
)
progresses = st.builds(
    Progress,
    attempt_id=st.just(AttemptId("a")),
    fraction=st.none() | st.floats(0, 1),
    text=PLAIN,
)


def executed(job: Job) -> wire.Executed:
    return wire.Executed(JOB, job.state, job.output_json or b"", job.error_code, job.error)


@SETTINGS
@given(wants)
def test_a_call(wanted: Wanted) -> None:
    """Every field of a call arrives; nothing said is None."""
    assert wire.read_call(wire.write_call(wanted)) == wanted


@SETTINGS
@given(st.lists(submissions, min_size=1, max_size=5))
def test_many_requests_in_one_message(given: list[wire.Submission]) -> None:
    """Each of them arrives with its tag, in order."""
    message = wire.write_submissions(given)
    read = [
        wire.Submission(each.tag, wire.read_submitted(each), each.report_accepted)
        for each in wire.read_many(message)
    ]
    assert read == given and message.takes_more


@SETTINGS
@given(jobs, st.booleans())
def test_what_a_caller_is_told_of_a_job(job: Job, final: bool) -> None:
    """ExecuteCapability and SubmitJobs say the same of it."""
    assert wire.read_executed(wire.write_executed(job)) == executed(job)
    first, second = wire.write_answer(7, job, final), wire.write_answer(8, job, True)
    first.more.append(second)
    assert wire.read_answers(first) == [
        wire.Answer(7, final, executed(job)),
        wire.Answer(8, True, executed(job)),
    ]
    assert executed(job).success is (job.state is JobState.SUCCEEDED)


@SETTINGS
@given(jobs, st.none() | progresses)
def test_a_word_on_a_job(job: Job, progress: Progress | None) -> None:
    """State and progress arrive, and with a final state that nothing follows."""
    read = wire.read_update(wire.write_update(JobUpdate(job, progress)))
    fraction, text = (progress.fraction, progress.text) if progress else (None, "")
    final = job.state in FINAL
    assert read == wire.Followed(JOB, job.state, job.waiting_for, fraction, text, final)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (LimitReached("jobs", 3, 2.5), {"retry_after_ms": 2_500}),
        (LimitReached("jobs", 3, 1e12), {"retry_after_ms": 2**32 - 1}),
        (DeviceOffline("pi", "", JOB), {"job_id": JOB}),
        (Draining(), {}),
    ],
)
def test_a_refusal(error: PalyraError, expected: dict[str, Any]) -> None:
    """Code, sentence, hint, the time to wait and the record arrive."""
    read = wire.read_answers(wire.write_refusal(3, error))
    refused = wire.Refused(error.code, error.sentence, error.hint, **expected)
    assert read == [wire.Answer(3, True, refused=refused)]


@pytest.mark.parametrize("state", JobState)
def test_follow_and_cancel(state: JobState) -> None:
    """They name a job; a cancel is answered with its state."""
    assert wire.read_job_id(wire.write_follow(JOB)) == JOB
    assert wire.read_job_id(wire.write_cancel(JOB)) == JOB
    job = Job(a_call(), state)
    assert wire.read_cancelled(wire.write_cancelled(job)) is state


def test_a_version_one_gateway_names_no_state() -> None:
    """Success says what became of the job."""
    for success, state in ((True, JobState.SUCCEEDED), (False, JobState.FAILED)):
        message = node_pb2.ExecuteCapabilityResponse(v=1, success=success)
        assert wire.read_executed(message).state is state


def a_request(**changes: Any) -> node_pb2.SubmitJobRequest:
    message = wire.write_submissions([wire.Submission(1, Wanted(DEVICE, "echo", b"1"))])
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def test_requests_that_cannot_be_answered() -> None:
    """No tag, too many, or one within another: the message as a whole is refused."""
    many = a_request()
    many.more.extend([a_request()] * wire.MAX_IN_MESSAGE)
    nested = a_request()
    nested.more.append(wire.write_submissions([wire.Submission(1, Wanted(DEVICE, "x", b""))] * 2))
    untagged = a_request()
    untagged.more.append(a_request(tag=0))
    for message in (many, nested, untagged, a_request(tag=0)):
        with pytest.raises(Malformed):
            wire.read_many(message)
    del many.more[-1]
    assert len(wire.read_many(many)) == wire.MAX_IN_MESSAGE


def test_requests_that_are_wrong() -> None:
    """Version, device and key are checked."""
    for message in (a_request(v=2), node_pb2.SubmitJobRequest(v=1, tag=1)):
        with pytest.raises(Malformed):
            wire.read_submitted(message)
    for key in ("k" * 257, "a\x00b"):
        bad = wire.write_call(Wanted(DEVICE, "echo", b"", idempotency_key=key))
        with pytest.raises(Malformed, match="idempotency_key"):
            wire.read_call(bad)
    with pytest.raises(MalformedIdentifier):
        wire.read_call(wire.write_call(Wanted(DeviceId("x"), "echo", b"")))
    with pytest.raises(MalformedIdentifier):
        wire.read_job_id(wire.write_cancel("nonsense"))


def test_answers_that_are_wrong() -> None:
    """A state nobody knows, and an end that is none."""
    with pytest.raises(Malformed, match="state"):
        wire.read_cancelled(node_pb2.CancelJobResponse(v=1, state="lost\x1b"))
    for state, final in (("queued", True), ("failed", False)):
        with pytest.raises(Malformed, match="final"):
            wire.read_update(node_pb2.FollowJobResponse(v=1, state=state, final=final))


READERS: list[tuple[Callable[[Any], Any], type[Message]]] = [
    (wire.read_call, node_pb2.ExecuteCapabilityRequest),
    (wire.read_executed, node_pb2.ExecuteCapabilityResponse),
    (wire.read_many, node_pb2.SubmitJobRequest),
    (wire.read_submitted, node_pb2.SubmitJobRequest),
    (wire.read_answers, node_pb2.SubmitJobResponse),
    (wire.read_job_id, node_pb2.FollowJobRequest),
    (wire.read_update, node_pb2.FollowJobResponse),
    (wire.read_cancelled, node_pb2.CancelJobResponse),
]


@SETTINGS
@given(data=st.binary(max_size=200), versioned=st.booleans())
def test_hostile_bytes(data: bytes, versioned: bool) -> None:
    """Whatever parses as a message is read, or refused as malformed."""
    for read, kind in READERS:
        message: Any = kind()
        try:
            message.ParseFromString(data)
        except DecodeError:
            continue
        if versioned:
            message.v = 1
        with contextlib.suppress(Malformed):
            read(message)


@SETTINGS
@given(
    st.builds(
        node_pb2.FollowJobResponse,
        v=st.just(1),
        state=st.sampled_from([state.value for state in JobState]) | PLAIN,
        job_id=st.text(st.characters(codec="utf-8"), max_size=80),
        fraction=st.floats(),
        final=st.booleans(),
    )
)
def test_a_gateway_that_says_anything(message: node_pb2.FollowJobResponse) -> None:
    """Numbers are brought into range, texts are cut and made safe to show."""
    try:
        read = wire.read_update(message)
    except Malformed:
        return
    assert read.fraction is not None and 0 <= read.fraction <= 1
    assert len(read.job_id) <= 64 and clean_text(read.job_id, None) == read.job_id
