"""Frames: what is written is read again, and nothing else is."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra.capability.frames import (
    HEAD_BYTES,
    MAX_HELLO_BYTES,
    Cancel,
    FromHost,
    FromWorker,
    Hello,
    Limits,
    PluginFault,
    Progress,
    Ready,
    Result,
    Run,
    Started,
    Stop,
    decode_from_host,
    decode_from_worker,
    encode_frame,
    frame_length,
)
from palyra.errors import Malformed

from .test_descriptor import make
from .workers import DEVICE, LIMITS

FROM_HOST: tuple[FromHost, ...] = (
    Hello(1, LIMITS),
    Run(1, "job", "a.b", msgspec.Raw(b'{"a":1}'), msgspec.Raw(b"null"), 5, 9, DEVICE),
    Cancel(1),
    Stop(),
)
FROM_WORKER: tuple[FromWorker, ...] = (
    Ready(1, (make().descriptor("acme", "1"),), (PluginFault("a.c", "It is broken."),)),
    Started(1),
    Progress(1, 0.5, "half"),
    Progress(1, None, ""),
    Result(1, "succeeded", msgspec.Raw(b"[1]")),
    Result(1, "failed", error_code="handler_failed", error="ValueError"),
)


def body(frame: FromHost | FromWorker) -> bytes:
    """What comes after the length."""
    data = encode_frame(frame)
    assert frame_length(data[:HEAD_BYTES], len(data)) == len(data) - HEAD_BYTES
    return data[HEAD_BYTES:]


@pytest.mark.parametrize("frame", FROM_HOST)
def test_frames_of_a_host(frame: FromHost) -> None:
    """A worker reads them, a host does not."""
    assert encode_frame(decode_from_host(body(frame))) == encode_frame(frame)
    with pytest.raises(Malformed):
        decode_from_worker(body(frame))


@pytest.mark.parametrize("frame", FROM_WORKER)
def test_frames_of_a_worker(frame: FromWorker) -> None:
    """A host reads them, a worker does not."""
    assert encode_frame(decode_from_worker(body(frame))) == encode_frame(frame)
    with pytest.raises(Malformed):
        decode_from_host(body(frame))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"{}",
        b'{"type":"stop"',
        b'{"type":"stop","more":1}',
        b'{"type":"started","run_id":"1"}',
        b'{"type":"progress","run_id":1,"fraction":1.5,"text":""}',
        b'{"type":"progress","run_id":1,"fraction":null,"text":"' + b"x" * 1025 + b'"}',
        b'{"type":"result","run_id":1,"kind":"lost"}',
        b'{"type":"result","run_id":1,"kind":"failed","error_code":"' + b"x" * 65 + b'"}',
        b'{"type":"result","run_id":1,"kind":"succeeded","output":[1}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_what_is_no_frame(data: bytes) -> None:
    """It is refused by either side, with a short sentence."""
    for read in (decode_from_host, decode_from_worker):
        if data == b'{"type":"stop","more":1}' and read is decode_from_worker:
            continue
        with pytest.raises(Malformed) as refused:
            read(data)
        assert len(refused.value.sentence) <= 300


@settings(max_examples=100)
@given(st.binary(max_size=200))
def test_noise(data: bytes) -> None:
    """Any bytes are a frame or are refused."""
    for read in (decode_from_host, decode_from_worker):
        try:
            read(data)
        except Malformed:
            continue


@given(st.binary(min_size=HEAD_BYTES, max_size=HEAD_BYTES))
def test_a_length_is_within_its_limit(head: bytes) -> None:
    """Nothing is read of a frame that is too large."""
    length = int.from_bytes(head, "big")
    if length <= MAX_HELLO_BYTES:
        assert frame_length(head, MAX_HELLO_BYTES) == length
    else:
        with pytest.raises(Malformed):
            frame_length(head, MAX_HELLO_BYTES)


@pytest.mark.parametrize("value", [-1, 2**63])
def test_a_limit_is_a_size(value: int) -> None:
    """What the system could take for "no limit" is none."""
    data = msgspec.json.encode(Hello(1, Limits(value, 1, 1, 1)))
    with pytest.raises(Malformed):
        decode_from_host(data)
