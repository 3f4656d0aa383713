"""What stands on a QUIC stream: frames, requests and the answers that are JSON (CONTRACT: QUIC).

A frame is a 4-byte big-endian length and that many bytes.  Our protobuf messages never begin with
``{`` (0x7b would be a group of field 15), so a frame that does is JSON, also within a session.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from palyra.errors import Malformed, PalyraError, ProtocolMismatch, UnsupportedMethod
from palyra.transport import refusals
from palyra.transport.refusals import Refusal

ALPN = "palyra-quic-v1"
PROTOCOL_VERSION = 1
MAX_FRAME = 512 * 1024
MAX_REQUEST = 4 * 1024
"""The largest request frame; whatever follows may be MAX_FRAME."""
MAX_PHRASE = 800
"""Bytes of a reason phrase: with it a packet still fits into the smallest datagram."""
_LENGTH = 4

HEALTH = "node.health"
EVENTS = "node.stream_events"
SESSION = "node.session"
ROTATE = "node.rotate"
REVOKE = "node.revoke"
METHODS = (HEALTH, EVENTS, SESSION, ROTATE, REVOKE)

Failure = Literal["invalid_request", "protocol_mismatch", "unsupported_method", "stream_failure"]


def encode_frame(payload: bytes) -> bytes:
    """The frame of a payload of 1 to MAX_FRAME bytes.

    :raises ValueError: it does not fit; whoever writes keeps below.
    """
    if not 0 < len(payload) <= MAX_FRAME:
        raise ValueError(f"a frame has 1 to {MAX_FRAME} bytes (got {len(payload)})")
    return len(payload).to_bytes(_LENGTH, "big") + payload


def is_json(frame: bytes) -> bool:
    """Whether a frame is JSON, and not one of our protobuf messages."""
    return frame.startswith(b"{")


class FrameReader:
    """Cuts a stream into its frames, however its bytes arrive.

    ``limit`` bounds the frames that are read from then on; what is kept never exceeds one frame
    and what arrived with it.
    """

    def __init__(self, limit: int = MAX_FRAME) -> None:
        self.limit = limit
        self._buffer = bytearray()

    @property
    def pending(self) -> bool:
        """Whether a frame has begun and is not complete."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> None:
        """Take in what arrived."""
        self._buffer += data

    def next(self) -> bytes | None:
        """The next complete frame, None until there is one.

        :raises Malformed: a length of 0, or above the limit; nothing can be read after that.
        """
        if len(self._buffer) < _LENGTH:
            return None
        length = int.from_bytes(self._buffer[:_LENGTH], "big")
        if not 0 < length <= self.limit:
            raise Malformed("frame", f"must have 1 to {self.limit} bytes (announced {length})")
        end = _LENGTH + length
        if len(self._buffer) < end:
            return None
        frame = bytes(self._buffer[_LENGTH:end])
        del self._buffer[:end]
        return frame


# -- requests -------------------------------------------------------------------------------------


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The first frame of a stream."""

    protocol_version: int
    method: Annotated[str, msgspec.Meta(max_length=64)]
    resume_from: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] | None = None


class _Versioned(msgspec.Struct, frozen=True):
    protocol_version: int


def write_request(method: str, resume_from: int | None = None) -> bytes:
    """The frame that asks for ``method``."""
    return encode_frame(msgspec.json.encode(Request(PROTOCOL_VERSION, method, resume_from)))


def read_request(frame: bytes) -> Request:
    """A request frame, checked.

    :raises ProtocolMismatch: of another version, whatever else it has.
    :raises UnsupportedMethod: no such method.
    :raises Malformed: anything else is wrong with it.
    """
    try:
        request = msgspec.json.decode(frame, type=Request)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        _check_version(frame)
        raise Malformed("request", str(error)[:240]) from error
    if request.protocol_version != PROTOCOL_VERSION:
        raise ProtocolMismatch(request.protocol_version)
    if request.method not in METHODS:
        raise UnsupportedMethod(request.method)
    if request.resume_from is not None and request.method != EVENTS:
        raise Malformed("resume_from", f"belongs to {EVENTS} alone")
    return request


def _check_version(frame: bytes) -> None:
    """Another version may have other keys: its number is the better answer."""
    try:
        version = msgspec.json.decode(frame, type=_Versioned).protocol_version
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return
    if version != PROTOCOL_VERSION:
        raise ProtocolMismatch(version)


# -- answers --------------------------------------------------------------------------------------


class Health(msgspec.Struct, frozen=True):
    """The answer to ``node.health``."""

    node_rpc_mtls_required: bool
    protocol_version: int = PROTOCOL_VERSION
    kind: Literal["health"] = "health"
    ok: bool = True


class Event(msgspec.Struct, frozen=True):
    """One event of the device's journal."""

    seq: int
    event: str
    at_unix_ms: int
    details: Mapping[str, Any]
    protocol_version: int = PROTOCOL_VERSION
    kind: Literal["event"] = "event"
    ok: bool = True


class Gap(msgspec.Struct, frozen=True):
    """Events up to ``seq`` are not kept any more: the next one is ``seq`` + 1."""

    seq: int
    protocol_version: int = PROTOCOL_VERSION
    kind: Literal["gap"] = "gap"
    ok: bool = True


class Error(msgspec.Struct, frozen=True, omit_defaults=True):
    """A refusal; it ends its stream.  ``code`` is stable, ``message`` for people."""

    error: Failure
    code: str
    protocol_version: int
    kind: Literal["error"]
    ok: bool
    message: str = ""
    hint: str = ""
    reason: str = ""
    retry_after_ms: Annotated[int, msgspec.Meta(ge=0, lt=10**12)] | None = None
    transient: bool = False


Answer = Health | Event | Gap | Error


def write_answer(answer: Answer) -> bytes:
    """The frame of an answer."""
    return encode_frame(msgspec.json.encode(answer))


def write_error(error: PalyraError) -> bytes:
    """The frame that ends a stream with a refusal."""
    return write_answer(_error(error))


def phrase_of(error: PalyraError) -> str:
    """The same as the reason phrase of a CONNECTION_CLOSE, which must fit into one packet."""
    told = _error(error)
    phrase = msgspec.json.encode(told)
    if len(phrase) > MAX_PHRASE:
        phrase = msgspec.json.encode(msgspec.structs.replace(told, message="", hint=""))
    return phrase.decode()


def error_in(phrase: str) -> PalyraError | None:
    """What a reason phrase says; None where it is none of ours."""
    try:
        answer = read_answer(phrase.encode())
    except Malformed:
        return None
    return refusals.error_of(refusal_in(answer)) if isinstance(answer, Error) else None


def _error(error: PalyraError) -> Error:
    refusal = refusals.refusal_of(error)
    return Error(
        error=_failure(error),
        code=refusal.code,
        protocol_version=PROTOCOL_VERSION,
        kind="error",
        ok=False,
        message=refusal.sentence,
        hint=refusal.hint,
        reason=refusal.reason,
        retry_after_ms=refusal.retry_after_ms,
        transient=refusal.transient,
    )


def read_answer(frame: bytes) -> Answer:
    """A JSON frame of the gateway.

    :raises Malformed: it is none that we know.
    """
    kind = _decoded(frame, _Kind).kind
    known = _ANSWERS.get(kind)
    if known is None:
        raise Malformed("answer.kind", "is not one that this version knows")
    answer: Answer = _decoded(frame, known)
    return answer


def refusal_in(answer: Error) -> Refusal:
    """What an error frame says, for :func:`palyra.transport.refusals.error_of`."""
    return Refusal(
        code=answer.code[:64],
        sentence=answer.message[:1_000],
        hint=answer.hint[:1_000],
        reason=answer.reason[:64],
        retry_after_ms=answer.retry_after_ms,
        transient=answer.transient,
    )


class _Kind(msgspec.Struct, frozen=True):
    kind: str


_ANSWERS: dict[str, Any] = {"health": Health, "event": Event, "gap": Gap, "error": Error}


def _decoded(frame: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(frame, type=kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise Malformed("answer", str(error)[:240]) from error


def _failure(error: PalyraError) -> Failure:
    if isinstance(error, ProtocolMismatch):
        return "protocol_mismatch"
    if isinstance(error, UnsupportedMethod):
        return "unsupported_method"
    return "invalid_request" if isinstance(error, Malformed) else "stream_failure"
