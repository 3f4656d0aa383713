"""The session's messages: what is written is read, and nothing from outside does any harm."""

from __future__ import annotations

import itertools
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra.core.announcement import MAX_CAPABILITY_NAME, MAX_FAULT, MAX_TIMEOUT_MS
from palyra.core.announcement import MAX_TEXT as MAX_ANNOUNCED
from palyra.core.devices import MAX_CAPABILITIES, AnnouncedCapability
from palyra.core.frames import (
    Chunk,
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
from palyra.core.identifiers import AttemptId, DeviceId
from palyra.core.jobs import Outcome, Report, Standing
from palyra.core.versions import FEATURES
from palyra.errors import Malformed, MalformedIdentifier
from palyra.wire import registration
from palyra.wire import session as wire
from palyra.wire.v1 import node_pb2

SETTINGS = settings(max_examples=100, deadline=None)
DEVICE = DeviceId("01M80NKQCNX4K7QM2ZT9B3FVHD")
EVENT = "01M80NKQCNT6MW3K2ZT9B3FVHD"
PLAIN = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=40)
UINT32 = st.integers(0, 2**32 - 1)
IDS = st.integers(0, 10**9).map(lambda number: AttemptId(f"attempt {number}"))
ULIDS = st.integers(0, 10**9).map(lambda number: AttemptId(f"01M80NKQCN{number:016d}"))
NAMED_ON_EVERY_NODE = ("capability.result", "capability.awaiting_local_mediation", "x", "")

capabilities = st.builds(
    AnnouncedCapability,
    name=PLAIN.filter(str.strip),
    available=st.booleans(),
    digest=PLAIN,
    version=PLAIN,
    risk=st.sampled_from(registration.RISKS),
    needs_mediation=st.booleans(),
    idempotent=st.booleans(),
    timeout_ms=st.integers(0, 24 * 3_600_000),
    fault=PLAIN,
)
hellos = st.builds(
    Hello,
    device_id=st.just(DEVICE),
    platform=PLAIN,
    capabilities=st.lists(capabilities, max_size=4, unique_by=lambda each: each.name).map(tuple),
    version=PLAIN,
    memory_id=PLAIN,
    store_epoch=PLAIN,
    max_in_flight=st.integers(1, 2**32 - 1),
    attempts=st.dictionaries(
        IDS, st.sampled_from([Standing.RUNNING, Standing.FINISHED, Standing.DIED]), max_size=5
    ),
    extended=st.just(True),
    unix_ms=st.integers(0, 2**63),
)
welcomes = st.builds(
    Welcome,
    device_id=st.just(DEVICE),
    store_epoch=PLAIN,
    session_epoch=st.integers(0, 2**63),
    heartbeat_interval_ms=UINT32,
    gateway_unix_ms=st.integers(0, 2**63),
    ca_bundle_pem=PLAIN,
    granted=st.lists(PLAIN, max_size=4).map(tuple),
    device_name=PLAIN,
    version=PLAIN,
    renew_after_s=st.none() | UINT32,
    quic_address=PLAIN,
)
TRANSFERS = st.integers(1, 2**64 - 1)
chunks = st.builds(
    Chunk,
    transfer_id=TRANSFERS,
    index=UINT32,
    data=st.binary(max_size=50),
    sha256=st.none() | st.binary(min_size=32, max_size=32),
)
reports = st.builds(
    Report,
    attempt_id=IDS,
    outcome=st.sampled_from(Outcome),
    output_json=st.binary(max_size=50),
    error_code=PLAIN,
    error=PLAIN,
    stopped=st.booleans(),
    took_ms=UINT32,
)
events = st.builds(
    NodeEvent,
    name=PLAIN.filter(lambda name: not name.startswith("capability.")),
    session_epoch=st.integers(0, 2**63),
    reports=st.lists(reports, max_size=3).map(tuple),
    progress=st.lists(
        st.builds(Progress, IDS, st.none() | st.floats(0, 1, allow_nan=False), PLAIN), max_size=3
    ).map(tuple),
    waiting=st.lists(st.builds(Waiting, IDS, st.booleans(), UINT32), max_size=3).map(tuple),
    chunks=st.lists(chunks, max_size=3).map(tuple),
    transferred=st.lists(
        st.tuples(reports.map(lambda each: attrs.evolve(each, output_json=b"")), TRANSFERS),
        max_size=3,
    ).map(tuple),
)
dispatches = st.builds(
    Dispatch,
    attempt_id=ULIDS,
    job_id=ULIDS | st.just(""),
    number=st.integers(1, 2**32 - 1),
    capability=PLAIN,
    input_json=st.binary(max_size=50),
    max_payload_bytes=st.integers(0, 2**63),
    remaining_ms=st.integers(1, 2**32 - 1),
    requested_by=PLAIN,
)
frames = st.builds(
    GatewayFrame,
    dispatches=st.lists(dispatches, max_size=3),
    acknowledged=st.lists(PLAIN, max_size=3),
    cancels=st.lists(st.tuples(PLAIN, PLAIN), max_size=3),
    answers=st.just(1),
    drain=st.none() | st.builds(Drained, PLAIN, UINT32),
    renew=st.none() | st.builds(Renew, PLAIN, UINT32),
    chunks=st.lists(chunks, max_size=3),
    transferred=st.lists(
        st.tuples(dispatches.map(lambda each: attrs.evolve(each, input_json=b"")), TRANSFERS),
        max_size=3,
    ),
)


@given(hellos)
@SETTINGS
def test_a_hello_survives(hello: Hello) -> None:
    """What a node tells of itself is what the gateway reads."""
    assert registration.read_hello(registration.write_hello(hello)) == hello


@given(welcomes)
@SETTINGS
def test_a_welcome_survives(welcome: Welcome) -> None:
    """What the gateway answers is what the node reads."""
    assert registration.read_welcome(registration.write_welcome(welcome)) == welcome


@given(events)
@SETTINGS
def test_an_event_survives(event: NodeEvent) -> None:
    """Reports, progress and questions come as they were sent."""
    assert wire.read_event(wire.write_event(event, DEVICE)) == event


@given(frames)
@SETTINGS
def test_a_frame_survives(frame: GatewayFrame) -> None:
    """Dispatches, acknowledgements, cancels and a drain come as they were sent."""
    assert wire.read_frame(wire.write_frame(frame, EVENT, 1)) == frame


@given(st.binary(max_size=300))
@SETTINGS
def test_any_message_is_read_or_refused(data: bytes) -> None:
    """Whatever protobuf accepts becomes a value or Malformed."""
    readers: list[tuple[Any, Any]] = [
        (node_pb2.RegisterNodeRequest, registration.read_hello),
        (node_pb2.NodeEventRequest, wire.read_event),
        (node_pb2.NodeEventResponse, wire.read_frame),
        (node_pb2.RegisterNodeResponse, registration.read_welcome),
    ]
    for kind, read in readers:
        message = kind()
        try:
            message.ParseFromString(data)
        except Exception:
            continue
        try:
            read(message)
        except Malformed as error:
            assert error.sentence


@given(st.sampled_from(NAMED_ON_EVERY_NODE), st.binary(max_size=100) | st.text().map(str.encode))
@SETTINGS
def test_any_payload_is_read_or_refused(name: str, payload: bytes) -> None:
    """The JSON of a version-1 event is a report, a question, or Malformed."""
    message = node_pb2.NodeEventRequest(v=1, event_name=name, payload_json=payload)
    try:
        wire.read_event(message)
    except Malformed as error:
        assert error.field == "payload_json"


@pytest.mark.parametrize("name", NAMED_ON_EVERY_NODE[:2])
def test_a_payload_nested_beyond_reason(name: str) -> None:
    """Deep nesting is refused as any other malformed payload."""
    payload = b'{"request_id":"a","success":true,"output_json":' + b"[" * 200_000
    message = node_pb2.NodeEventRequest(v=1, event_name=name, payload_json=payload)
    with pytest.raises(Malformed):
        wire.read_event(message)


def test_version_one_reports() -> None:
    """``capability.result`` with JSON means the same as a typed report."""

    def read(payload: bytes) -> Report:
        message = node_pb2.NodeEventRequest(
            v=1, event_name="capability.result", payload_json=payload
        )
        (report,) = wire.read_event(message).reports
        return report

    done = read(b'{"request_id":"a","success":true,"output_json":{"x":[1]},"error":""}')
    assert (done.attempt_id, done.outcome, done.output_json) == (
        "a",
        Outcome.SUCCEEDED,
        b'{"x":[1]}',
    )
    failed = read(b'{"request_id":"a","success":false,"output_json":null,"error":"no\\u001b"}')
    assert (failed.outcome, failed.error_code, failed.output_json) == (
        Outcome.FAILED,
        "failed",
        b"",
    )
    assert "\x1b" not in failed.error


def test_version_one_questions() -> None:
    """``capability.awaiting_local_mediation`` is a question without a time of its own."""
    payload = b'{"request_id":"a","capability":"echo","state":"awaiting_local_mediation"}'
    message = node_pb2.NodeEventRequest(
        v=1, event_name="capability.awaiting_local_mediation", payload_json=payload
    )
    assert wire.read_event(message).waiting == (Waiting(AttemptId("a"), False, 0),)


def test_a_version_one_hello() -> None:
    """Without NodeHello a node takes one job at a time, remembers nothing, and is no less ours."""
    message = node_pb2.RegisterNodeRequest(v=1, platform="linux")
    message.device_id.ulid = DEVICE
    for name in ("echo", "desktop.open_path", "files.fetch"):
        message.capabilities.add(name=name, available=True)
    hello = registration.read_hello(message)
    assert (hello.extended, hello.max_in_flight, hello.memory_id) == (False, 1, "")
    assert [each.risk for each in hello.capabilities] == ["low", "high", "medium"]


def test_version_one_gets_single_dispatches() -> None:
    """One message a dispatch in the published field, one answer an event, never fewer."""
    sent = [
        Dispatch(AttemptId(f"a{number}"), "job", 1, "echo", b"{}", 9, 1_000, "ana")
        for number in range(3)
    ]
    new_id = map("event {}".format, itertools.count()).__next__
    messages = wire.write_published_frames(GatewayFrame(dispatches=sent, answers=1), new_id)
    assert [message.dispatch.request_id.ulid for message in messages] == ["a0", "a1", "a2"]
    assert len({message.event_id.ulid for message in messages}) == 3
    assert all(message.accepted and message.v == 1 for message in messages)
    assert {field.number for message in messages for field, _ in message.ListFields()} <= {
        1,
        2,
        3,
        13,
    }
    answers = wire.write_published_frames(GatewayFrame(answers=2), new_id)
    assert [message.HasField("dispatch") for message in answers] == [False, False]
    quiet = GatewayFrame(acknowledged=["a"], drain=Drained("bye"))
    assert wire.write_published_frames(quiet, new_id) == []


def test_features() -> None:
    """What is known of the list is kept; too many, too long or unknown words change nothing."""
    hello = Hello(DEVICE, "linux", (), extended=True)
    message = registration.write_hello(hello)
    assert registration.read_hello(message).features == FEATURES
    message.hello.features[:] = ["x" * 65, "telepathy", *FEATURES]
    assert registration.read_hello(message).features == FEATURES
    message.hello.features[:] = ["telepathy"] * 64 + list(FEATURES)
    assert registration.read_hello(message).features == frozenset()


def test_what_a_hello_may_not_say() -> None:
    """Version, id, number of capabilities and attempts, and risk are checked."""
    good = registration.write_hello(
        Hello(DEVICE, "linux", (AnnouncedCapability("echo"),), extended=True)
    )

    def changed(**changes: object) -> node_pb2.RegisterNodeRequest:
        message = node_pb2.RegisterNodeRequest()
        message.CopyFrom(good)
        for name, value in changes.items():
            setattr(message, name, value)
        return message

    with pytest.raises(Malformed):
        registration.read_hello(changed(v=2))
    for ulid in ("", DEVICE.lower(), DEVICE + "A", "8" + DEVICE[1:]):
        message = changed()
        message.device_id.ulid = ulid
        with pytest.raises(MalformedIdentifier):
            registration.read_hello(message)
    message = changed()
    for _ in range(256):
        message.capabilities.add(name="x")
    with pytest.raises(Malformed):
        registration.read_hello(message)
    message = changed()
    message.capabilities[0].traits.risk = "none"
    with pytest.raises(Malformed):
        registration.read_hello(message)
    message = changed()
    message.hello.running_attempts.extend(["a"] * (registration.MAX_ATTEMPTS_LISTED + 1))
    with pytest.raises(Malformed):
        registration.read_hello(message)
    message = changed()
    message.hello.running_attempts.append("a" * 65)
    with pytest.raises(Malformed):
        registration.read_hello(message)


def test_the_longest_hello() -> None:
    """With all that one may say it fits into a frame of QUIC."""
    face = "\N{GRINNING FACE}"
    capabilities = tuple(
        AnnouncedCapability(
            name=f"{number:03}" + face * (MAX_CAPABILITY_NAME - 3),
            available=False,
            digest=face * MAX_ANNOUNCED,
            version=face * MAX_ANNOUNCED,
            risk="medium",
            needs_mediation=True,
            idempotent=True,
            timeout_ms=MAX_TIMEOUT_MS,
            fault=face * MAX_FAULT,
        )
        for number in range(MAX_CAPABILITIES)
    )
    longest = Hello(
        device_id=DEVICE,
        platform=face * 64,
        capabilities=capabilities,
        version=face * 64,
        memory_id=face * 64,
        store_epoch=face * 64,
        max_in_flight=2**32 - 1,
        attempts={
            f"{number:026}": Standing.RUNNING for number in range(registration.MAX_ATTEMPTS_LISTED)
        },
        extended=True,
        unix_ms=2**63,
    )
    message = registration.write_hello(longest)
    assert registration.read_hello(message) == longest
    assert message.ByteSize() < 512 * 1024


def test_what_pieces_may_not_be() -> None:
    """Without an id, too large, or with a digest that does not belong there or is none."""
    good = {"transfer_id": 1, "data": b"x"}
    bad: list[dict[str, Any]] = [
        {"transfer_id": 0},
        {"data": b"x" * (256 * 1024 + 1)},
        {"last": True},
        {"last": True, "sha256": b"x" * 31},
        {"sha256": b"x" * 32},
    ]
    for change in bad:
        event, frame = node_pb2.NodeEventRequest(v=1), node_pb2.NodeEventResponse(v=1)
        event.chunks.add(**good | change)
        frame.chunks.add(**good | change)
        with pytest.raises(Malformed):
            wire.read_event(event)
        with pytest.raises(Malformed):
            wire.read_frame(frame)


def test_a_payload_comes_one_way() -> None:
    """In the message or by a transfer, not both."""
    event, frame = node_pb2.NodeEventRequest(v=1), node_pb2.NodeEventResponse(v=1)
    event.reports.add(request_id="a", outcome=1, output_json=b"1", output_transfer=1)
    frame.dispatches.add(input_json=b"1", input_transfer=1)
    with pytest.raises(Malformed):
        wire.read_event(event)
    with pytest.raises(Malformed):
        wire.read_frame(frame)


def test_ids_of_attempts_are_short() -> None:
    """What a node makes up is sent back to it, so it must not be long."""
    for field in ("reports", "progress", "waiting"):
        message = node_pb2.NodeEventRequest(v=1)
        getattr(message, field).add(request_id="\N{GRINNING FACE}" * 17)
        if field == "reports":
            message.reports[0].outcome = 1  # type: ignore[assignment]
        with pytest.raises(Malformed):
            wire.read_event(message)
    long = b'{"request_id":"%s","success":true}' % (b"a" * 65)
    for name in NAMED_ON_EVERY_NODE[:2]:
        with pytest.raises(Malformed):
            wire.read_event(node_pb2.NodeEventRequest(v=1, event_name=name, payload_json=long))


def test_an_unknown_outcome() -> None:
    """A number this version does not know is refused, not guessed."""
    message = node_pb2.NodeEventRequest(v=1)
    message.reports.add(request_id="a", outcome=99)
    with pytest.raises(Malformed):
        wire.read_event(message)


@pytest.mark.parametrize(("fraction", "read"), [(float("nan"), 0.0), (-1.0, 0.0), (7.0, 1.0)])
def test_fractions_are_bounded(fraction: float, read: float) -> None:
    """Progress is 0 to 1 whatever is sent."""
    message = node_pb2.NodeEventRequest(v=1)
    message.progress.add(request_id="a", fraction=fraction)
    (progress,) = wire.read_event(message).progress
    assert progress.fraction == read


def test_a_dispatch_of_a_version_one_gateway() -> None:
    """A node of ours reads the published field too, and fills what is not said."""
    message = node_pb2.NodeEventResponse(v=1, accepted=True)
    message.dispatch.request_id.ulid = EVENT
    message.dispatch.capability = "echo"
    (dispatch,) = wire.read_frame(message).dispatches
    assert (dispatch.attempt_id, dispatch.number, dispatch.remaining_ms) == (EVENT, 1, 30_000)
    assert dispatch.job_id == ""


@pytest.mark.parametrize("text", ["../../etc", "\x1b[2J" * 5, "a", "x" * 27])
def test_ids_of_a_dispatch_are_ids(text: str) -> None:
    """They go to terminals, to files and to the code of others."""
    for field, ids in (("request_id", (text, EVENT)), ("job_id", (EVENT, text))):
        message = node_pb2.NodeEventResponse(v=1, accepted=True)
        message.dispatch.request_id.ulid, message.dispatch.job_id = ids
        with pytest.raises(MalformedIdentifier, match=field):
            wire.read_frame(message)
