"""What a node host and a worker say to each other: frames over the worker's stdin and stdout.

A frame is a 4-byte big-endian length and that many bytes of JSON, an object whose ``type`` says
which of these it is.  The host writes to the worker's fd 0 and reads from its fd 1; the worker
moves both away before any plugin is imported, so that a plugin's ``print`` is no frame.

    host                                      worker
    hello, once, first
                                              ready, once: the descriptors, or why there are none
    run          (only while it is idle)
                                              started      before the handler is called
                                              progress     any number
                                              result       once; then it is idle again
    cancel       (only while it runs; the result may cross it)
    stop         (only while it is idle)      it exits with status 0

Anything else, in any other order, and the other side is beyond understanding: the host kills, the
worker exits.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias, TypeVar

import msgspec

from palyra.core.descriptors import Descriptor
from palyra.errors import Malformed

VERSION = 1
HEAD_BYTES = 4
ROOM_BYTES = 64 * 1024
"""What a frame may hold besides a payload."""
MAX_PAYLOAD_BYTES = 3 * 1024 * 1024
MAX_FRAME_BYTES = MAX_PAYLOAD_BYTES + ROOM_BYTES
MAX_HELLO_BYTES = 64 * 1024
MAX_READY_BYTES = 17 * 1024 * 1024
"""256 descriptors of 64 KiB each, and what is around them."""
MAX_TEXT = 1024
_Text = Annotated[str, msgspec.Meta(max_length=MAX_TEXT)]
_Limit = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the worker sets on itself before a plugin is imported; bytes and counts."""

    memory_bytes: _Limit
    open_files: _Limit
    file_bytes: _Limit
    processes: _Limit


class Facts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """:class:`palyra.capability.context.DeviceFacts`."""

    device_id: str
    identity_fingerprint: str
    grpc_url: str
    paired_at_unix_ms: int
    poll_interval_ms: int
    name: str


# -- from the host ------------------------------------------------------------------------------


class Hello(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="hello"):
    """Who speaks, and the limits; the worker answers ``ready``."""

    v: int
    limits: Limits


class Run(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="run"):
    """Run one capability.  ``settings`` is the owner's, ``null`` where there is none."""

    run_id: int
    job_id: str
    capability: str
    input: msgspec.Raw
    settings: msgspec.Raw
    remaining_ms: int
    max_output_bytes: int
    device: Facts


class Cancel(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="cancel"):
    """Nobody wants the result of that run any more; its result still comes."""

    run_id: int


class Stop(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="stop"):
    """Exit."""


# -- from the worker ----------------------------------------------------------------------------


class PluginFault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """:class:`palyra.capability.catalogue.Fault`, of the worker's own distribution."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    sentence: _Text


class Ready(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="ready"):
    """Every plugin of the distribution is imported, or named in ``faults``."""

    v: int
    descriptors: Annotated[tuple[Descriptor, ...], msgspec.Meta(max_length=256)]
    faults: Annotated[tuple[PluginFault, ...], msgspec.Meta(max_length=256)] = ()


class Started(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="started"):
    """The handler is about to be called: from here on it may have taken effect."""

    run_id: int


class Progress(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="progress"):
    """How far it is, at most ten times a second; ``text`` is cut to 1 KiB."""

    run_id: int
    fraction: Annotated[float, msgspec.Meta(ge=0, le=1)] | None
    text: _Text


class Result(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="result"):
    """How it ended, as :class:`palyra.capability.outcome.Outcome` says it."""

    run_id: int
    kind: Literal["succeeded", "failed", "timed_out", "cancelled"]
    output: msgspec.Raw = msgspec.Raw(b"null")
    error_code: Annotated[str, msgspec.Meta(max_length=64)] = ""
    error: _Text = ""


_Frame = TypeVar("_Frame")
FromHost: TypeAlias = Hello | Run | Cancel | Stop
FromWorker: TypeAlias = Ready | Started | Progress | Result

_encode = msgspec.json.Encoder().encode
_from_host: msgspec.json.Decoder[FromHost] = msgspec.json.Decoder(FromHost)
_from_worker: msgspec.json.Decoder[FromWorker] = msgspec.json.Decoder(FromWorker)


def encode_frame(frame: FromHost | FromWorker) -> bytes:
    """A frame with its length before it."""
    body = _encode(frame)
    return len(body).to_bytes(HEAD_BYTES, "big") + body


def decode_from_host(body: bytes) -> FromHost:
    """What a worker reads; the body of one frame.

    :raises Malformed: it is none.
    """
    return _decoded(_from_host, body)


def decode_from_worker(body: bytes) -> FromWorker:
    """What a host reads; the body of one frame.

    :raises Malformed: it is none.
    """
    return _decoded(_from_worker, body)


def frame_length(head: bytes, limit: int) -> int:
    """How many bytes the body has.

    :raises Malformed: more than ``limit``.
    """
    length = int.from_bytes(head, "big")
    if length > limit:
        raise Malformed("frame", f"has {length} bytes; the limit is {limit}")
    return length


def _decoded(decoder: msgspec.json.Decoder[_Frame], body: bytes) -> _Frame:
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as cause:
        raise Malformed("frame", str(cause)[:200]) from cause
