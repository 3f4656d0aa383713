"""A node on quiche: our messages, written and read as they stand."""

from __future__ import annotations

import hashlib

from palyra.core.frames import STARTED, NodeEvent
from palyra.wire import registration
from palyra.wire import session as session_wire
from palyra.wire.service import messages
from tests.interop.quiche import QuicheStream
from tests.interop.visitor import Visitor

PIECE = 256 * 1024


class NodeOverQuiche:
    """A node's session on a stream: it registers, starts, and does what it is told."""

    def __init__(self, visitor: Visitor, stream: QuicheStream) -> None:
        self._device = visitor.device
        self._stream = stream
        stream.ask("node.session")
        stream.send(visitor.device.hello().SerializeToString())
        self.welcome = registration.read_welcome(
            messages.RegisterNodeResponse.FromString(stream.frame())
        )
        self.say(self.event(STARTED))

    def event(self, name: str) -> messages.NodeEventRequest:
        """An event of this session."""
        event = NodeEvent(name, self.welcome.session_epoch)
        return session_wire.write_event(event, self._device.device_id)

    def say(self, message: messages.NodeEventRequest) -> None:
        """Send one message."""
        self._stream.send(message.SerializeToString())

    def hears(self) -> messages.NodeEventResponse:
        """The next message."""
        message = messages.NodeEventResponse.FromString(self._stream.frame())
        assert message.accepted, message
        return message

    def dispatched(self) -> tuple[messages.NodeCapabilityDispatch, bytes]:
        """The next dispatch and its input, in one piece or in many."""
        pieces: dict[int, list[messages.PayloadChunk]] = {}
        while True:
            message = self.hears()
            for chunk in message.chunks:
                pieces.setdefault(chunk.transfer_id, []).append(chunk)
            for dispatch in message.dispatches:
                transfer = dispatch.input_transfer
                return dispatch, whole(pieces[transfer]) if transfer else dispatch.input_json

    def report(self, attempt_id: str, output: bytes) -> None:
        """Report success, with an output in pieces where it is large."""
        event = self.event("")
        report = event.reports.add(
            request_id=attempt_id, outcome=messages.ATTEMPT_OUTCOME_SUCCEEDED, stopped=True
        )
        if len(output) <= PIECE:
            report.output_json = output
        else:
            report.output_transfer = 1
            self._send_pieces(report.output_transfer, output)
        self.say(event)

    def _send_pieces(self, transfer_id: int, payload: bytes) -> None:
        starts = range(0, len(payload), PIECE)
        for index, start in enumerate(starts):
            last = index == len(starts) - 1
            event = self.event("")
            event.chunks.add(
                transfer_id=transfer_id,
                index=index,
                last=last,
                data=payload[start : start + PIECE],
                sha256=hashlib.sha256(payload).digest() if last else b"",
            )
            self.say(event)

    def acknowledged(self) -> str:
        """The next attempt whose report is on record."""
        while True:
            for attempt_id in self.hears().acknowledged:
                return attempt_id


def whole(chunks: list[messages.PayloadChunk]) -> bytes:
    """The payload of a transfer, checked."""
    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    assert [chunk.last for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    payload = b"".join(chunk.data for chunk in chunks)
    assert hashlib.sha256(payload).digest() == chunks[-1].sha256
    return payload
