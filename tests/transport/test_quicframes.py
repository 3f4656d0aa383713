"""Tests of :mod:`palyra.transport.quicframes`."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palyra.errors import (
    CertificateRefused,
    CertificateSuperseded,
    DeviceRevoked,
    LimitReached,
    Malformed,
    PalyraError,
    ProtocolMismatch,
    RemoteRefusal,
    UnsupportedMethod,
)
from palyra.transport import quicframes as frames
from palyra.transport.refusals import error_of
from palyra.wire.service import messages


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=8), st.data())
def test_frames_come_out_as_they_went_in(payloads: list[bytes], data: st.DataObject) -> None:
    """However the network cuts the stream."""
    stream = b"".join(map(frames.encode_frame, payloads))
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=10)))
    reader, found = frames.FrameReader(), []
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        reader.feed(stream[begin:end])
        while (frame := reader.next()) is not None:
            found.append(frame)
    assert found == payloads
    assert not reader.pending


def test_an_incomplete_frame_is_pending() -> None:
    """Its stream must not end there."""
    reader = frames.FrameReader()
    reader.feed(frames.encode_frame(b"abc")[:-1])
    assert reader.next() is None
    assert reader.pending


@pytest.mark.parametrize("length", [0, 11, 0xFFFFFFFF])
def test_a_length_beyond_the_limit(length: int) -> None:
    """It is refused before its bytes are waited for."""
    reader = frames.FrameReader(10)
    reader.feed(length.to_bytes(4, "big"))
    with pytest.raises(Malformed, match="must have 1 to 10 bytes"):
        reader.next()


@pytest.mark.parametrize("payload", [b"", bytes(frames.MAX_FRAME + 1)])
def test_what_does_not_fit_is_not_written(payload: bytes) -> None:
    """Whoever writes keeps below."""
    with pytest.raises(ValueError, match="1 to 524288 bytes"):
        frames.encode_frame(payload)


def test_no_message_of_ours_looks_like_json() -> None:
    """Every one begins with its version."""
    for kind in (messages.RegisterNodeResponse, messages.NodeEventResponse):
        assert not frames.is_json(kind(v=1).SerializeToString())
    assert frames.is_json(b'{"kind":"error"}')


def asked(**fields: object) -> bytes:
    return json.dumps({"protocol_version": 1, "method": "node.health"} | fields).encode()


@pytest.mark.parametrize("method", frames.METHODS)
def test_every_method_is_read_as_it_was_written(method: str) -> None:
    """And the number to resume from with the one that has it."""
    resume_from = 7 if method == frames.EVENTS else None
    written = frames.write_request(method, resume_from)
    assert frames.read_request(written[4:]) == frames.Request(1, method, resume_from)


@pytest.mark.parametrize(
    ("frame", "refused"),
    [
        (asked(more=1), Malformed),
        (asked(method=5), Malformed),
        (asked(resume_from=3), Malformed),
        (asked(method=frames.EVENTS, resume_from=-1), Malformed),
        (asked(method=frames.EVENTS, resume_from=2**63), Malformed),
        (asked(method="node.nothing"), UnsupportedMethod),
        (asked(protocol_version=2), ProtocolMismatch),
        (asked(protocol_version=2, more=1), ProtocolMismatch),
        (b'{"method":"node.health"}', Malformed),
        (b"[" * 3_000, Malformed),
        (b"\xff{", Malformed),
        (b"null", Malformed),
    ],
)
def test_requests_that_are_refused(frame: bytes, refused: type[PalyraError]) -> None:
    """Unknown keys too; another version says that it is one, whatever else it has."""
    with pytest.raises(refused):
        frames.read_request(frame)


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (Malformed("request", "is nothing"), "invalid_request"),
        (ProtocolMismatch(2), "protocol_mismatch"),
        (UnsupportedMethod("x"), "unsupported_method"),
        (CertificateSuperseded(), "stream_failure"),
    ],
)
def test_each_refusal_is_one_of_four_failures(error: PalyraError, failure: str) -> None:
    """With its own code beside it."""
    answer = json.loads(frames.write_error(error)[4:])
    assert answer["error"] == failure
    assert (answer["code"], answer["kind"], answer["ok"]) == (error.code, "error", False)
    assert answer["protocol_version"] == 1


def test_a_refusal_arrives_as_what_decides() -> None:
    """The device makes of a frame, and of a reason phrase, the error that gRPC gives it."""
    refused = CertificateRefused("wrong_role")
    answer = frames.read_answer(frames.write_error(refused)[4:])
    assert isinstance(answer, frames.Error)
    for told in (error_of(frames.refusal_in(answer)), frames.error_in(frames.phrase_of(refused))):
        assert isinstance(told, CertificateRefused)
        assert told.reason == "wrong_role"
    limited = frames.error_in(frames.phrase_of(LimitReached("x", 3, 2.5)))
    assert isinstance(limited, RemoteRefusal)
    assert (limited.transient, limited.retry_after_s, limited.final) == (True, 2.5, False)


def test_a_revocation_is_final_and_keeps_its_words() -> None:
    """A person reads why."""
    revoked = DeviceRevoked("X4K7QM", when="22 Nov", reason="lost")
    told = frames.error_in(frames.phrase_of(revoked))
    assert isinstance(told, RemoteRefusal)
    assert told.final
    assert told.sentence == "This device was revoked on 22 Nov: lost."


def test_a_long_phrase_keeps_its_code() -> None:
    """What fits into one packet."""
    phrase = frames.phrase_of(DeviceRevoked("X", reason="\u00e4" * 500))
    assert len(phrase.encode()) <= frames.MAX_PHRASE
    told = frames.error_in(phrase)
    assert isinstance(told, RemoteRefusal)
    assert told.remote_code == "device_revoked"


@pytest.mark.parametrize("phrase", ["", "Idle timeout", '{"kind":"health"}', "{", '{"kind":[]}'])
def test_phrases_that_are_none_of_ours(phrase: str) -> None:
    """aioquic's own, and noise."""
    assert frames.error_in(phrase) is None


@given(st.binary(max_size=200))
def test_answers_are_read_or_malformed(frame: bytes) -> None:
    """Nothing else comes of what a gateway might send."""
    with contextlib.suppress(Malformed):
        frames.read_answer(frame)
