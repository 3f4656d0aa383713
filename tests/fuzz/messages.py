"""The readers of protobuf messages, of both ends, each with a message that its writer wrote."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from google.protobuf.message import DecodeError, Message

from palyra.core.devices import AnnouncedCapability, ClientKind
from palyra.core.frames import (
    Dispatch,
    Drained,
    GatewayFrame,
    Hello,
    NodeEvent,
    Progress,
    Renew,
    Waiting,
    Wanted,
    Welcome,
)
from palyra.core.handshake import Begun
from palyra.core.identifiers import AttemptId, DeviceId
from palyra.core.jobs import MediationAnswer, Outcome, Report, Standing
from palyra.core.pairing import CodeMethod
from palyra.core.transcript import DeviceProof, Enrolment
from palyra.errors import LimitReached
from palyra.wire import calls, pairing, registration, session
from palyra.wire.calls import Submission
from palyra.wire.v1 import node_pb2

_DEVICE = DeviceId("01M80NKQCNX4K7QM2ZT9B3FVHD")
_ATTEMPT = AttemptId("01M80NKQCNT6MW3K2ZT9B3FVHD")
_SESSION = "5e" * 16


@attrs.frozen
class MessageReader:
    """``read`` takes the bytes of a message; those that are no message say nothing."""

    name: str
    read: Callable[[bytes], object]
    seeds: tuple[bytes, ...]


def _reader(translate: Callable[[Any], object], *examples: Message) -> MessageReader:
    kind = type(examples[0])

    def read(data: bytes) -> object:
        message = kind()
        try:
            message.ParseFromString(data)
        except DecodeError:
            return None
        return translate(message)

    name = translate.__name__.removeprefix("read_").replace("_", "-")
    return MessageReader(name, read, tuple(each.SerializeToString() for each in examples))


def read_submissions(message: Any) -> list[Wanted]:
    """Every call of one SubmitJobs message."""
    return [calls.read_submitted(each) for each in calls.read_many(message)]


def _pairing_readers() -> list[MessageReader]:
    proof = DeviceProof(
        *(_SESSION, _DEVICE, ClientKind.NODE, "004217"),
        *(b"i" * 32, b"x" * 32, b"s" * 64, b"m" * 32),
    )
    enrolled = Enrolment(b"csr", b"S" * 64, b"{}", b"A" * 33, b"c" * 32)
    share = pairing.SessionOpened(
        Begun(_SESSION, b"c" * 32, b"g" * 32), ClientKind.NODE, 300, 6, b"B" * 33
    )
    begins = [
        pairing.Begin(ClientKind.NODE, CodeMethod.QR, "A" * 22),
        pairing.Begin(ClientKind.NODE, CodeMethod.PIN, nameplate=3),
        pairing.Begin(ClientKind.NODE, CodeMethod.REJOIN, device_id=_DEVICE),
    ]
    answer = pairing.StatusAnswer(
        *("completed", "", "R", "A", "F", "T"), 500, "CERT", "CA", 300, 9, "pi", "ana", "home:7444"
    )
    return [
        _reader(pairing.read_begin, *map(pairing.write_begin, begins)),
        _reader(pairing.read_opened, pairing.write_opened(share)),
        _reader(
            pairing.read_complete,
            pairing.write_complete(proof),
            pairing.write_complete(attrs.evolve(proof, enrolment=enrolled)),
        ),
        _reader(
            pairing.read_completed, pairing.write_completed(pairing.Completed("R", "F", "T", 500))
        ),
        _reader(
            pairing.read_status_question,
            pairing.write_status_question(pairing.StatusQuestion(_SESSION, _DEVICE, 5, b"s" * 64)),
        ),
        _reader(pairing.read_status_answer, pairing.write_status_answer(answer)),
        _reader(
            pairing.read_renewal,
            pairing.write_renewal(pairing.RenewalAsked(_DEVICE, b"csr", b"s" * 64)),
        ),
        _reader(pairing.read_left, node_pb2.RevokeDevicePairingResponse(v=1, revoked=True)),
        _reader(pairing.read_renewed, pairing.write_renewed(pairing.Renewed("CERT", "CA", 300, 9))),
    ]


def _session_readers() -> list[MessageReader]:
    hello = Hello(
        _DEVICE, "linux", (AnnouncedCapability("echo"),), attempts={_ATTEMPT: Standing.RUNNING}
    )
    welcome = Welcome(_DEVICE, "s", 3, 15_000, 9, "CA", ("echo",), "pi", "0.1", 57_600)
    event = NodeEvent(
        "node.heartbeat",
        3,
        (Report(_ATTEMPT, Outcome.FAILED, b"[1]", "failed", "no"),),
        (Progress(_ATTEMPT, 0.5, "half"),),
        (Waiting(_ATTEMPT, True, 9, MediationAnswer("ana", "once")),),
        catalog=hello.capabilities,
        descriptors=(b"{}",),
    )
    published = session.write_event(NodeEvent("capability.result"), _DEVICE)
    published.payload_json = b'{"request_id":"r","success":true,"output_json":[1],"error":""}'
    dispatch = Dispatch(_ATTEMPT, _ATTEMPT, 1, "echo", b"{}", 9, 1_000, "ana")
    frame = GatewayFrame(
        [dispatch], ["a"], [("a", "stop")], 1, Drained("bye", 5), Renew("asked", 9)
    )
    return [
        _reader(registration.read_hello, registration.write_hello(hello)),
        _reader(registration.read_welcome, registration.write_welcome(welcome)),
        _reader(session.read_event, session.write_event(event, _DEVICE), published),
        _reader(session.read_frame, session.write_frame(frame, _ATTEMPT, 9)),
    ]


def _call_readers() -> list[MessageReader]:
    wanted = Wanted(_DEVICE, "echo", b"{}", 9, 1_000, 60_000, "key")
    submissions = [Submission(1, wanted), Submission(2, wanted)]
    refusal = calls.write_refusal(4, LimitReached("jobs", 9, 2.5))
    executed = calls.write_refusal(0, LimitReached("jobs", 9)).result
    executed.state = "failed"
    followed = node_pb2.FollowJobResponse(v=1, job_id="j", state="dispatched", text="half")
    cancelled = node_pb2.CancelJobResponse(v=1, state="cancelled")
    return [
        _reader(calls.read_call, calls.write_call(wanted)),
        _reader(calls.read_executed, executed),
        _reader(read_submissions, calls.write_submissions(submissions)),
        _reader(calls.read_answers, refusal),
        _reader(calls.read_job_id, calls.write_follow(_ATTEMPT)),
        _reader(calls.read_update, followed),
        _reader(calls.read_cancelled, cancelled),
    ]


MESSAGES = (*_pairing_readers(), *_session_readers(), *_call_readers())
"""Every reader of a message."""
