"""Payloads in pieces: both ends of what is too large for one message (PROTOCOL: Sessions).

No I/O and no clock: a session feeds what it sends through an :class:`Outgoing` and what it hears
through an :class:`Incoming`.  Both die with the session, and with them every unfinished transfer.
"""

from __future__ import annotations

import hashlib
from collections import deque

import attrs

from palyra.core.frames import Chunk
from palyra.errors import Malformed

PIECES_OVER = 256 * 1024
"""A payload of more bytes than this travels in pieces of a quarter of it."""
MAX_PIECE_BYTES = 256 * 1024
MAX_PAYLOAD_BYTES = 3 * 1024 * 1024
MAX_TRANSFERS = 4
"""How many transfers a session has open at once in each direction."""
PIECES_IN_MESSAGE = 2
"""Few enough that heartbeats and small payloads are never long in coming."""


@attrs.define(eq=False)
class _Sent:
    """A transfer on its way out."""

    transfer_id: int
    payload: bytes
    index: int = 0
    offset: int = 0
    digest: hashlib._Hash = attrs.Factory(hashlib.sha256)

    def next_piece(self, length: int) -> Chunk:
        data = self.payload[self.offset : self.offset + length]
        self.digest.update(data)
        self.offset += len(data)
        chunk = Chunk(
            transfer_id=self.transfer_id,
            index=self.index,
            data=data,
            sha256=self.digest.digest() if self.offset == len(self.payload) else None,
        )
        self.index += 1
        return chunk


class Outgoing:
    """Payloads that are sent in pieces of ``piece_bytes``, at most four of them at once."""

    def __init__(self, piece_bytes: int = PIECES_OVER // 4) -> None:
        self._piece_bytes = piece_bytes
        self._last_id = 0
        self._open: deque[_Sent] = deque()
        self._waiting: deque[_Sent] = deque()

    @property
    def busy(self) -> bool:
        """Whether there is something to take."""
        return bool(self._open)

    def start(self, payload: bytes) -> int:
        """Begin to send a payload that is not empty; gives the id of its transfer.

        Ids rise from 1.  Beyond four transfers it waits until a place is free.
        """
        if not payload:
            raise ValueError("an empty payload has no pieces")
        self._last_id += 1
        self._waiting.append(_Sent(self._last_id, payload))
        self._fill()
        return self._last_id

    def take(self, pieces: int = PIECES_IN_MESSAGE) -> tuple[list[Chunk], list[int]]:
        """The next pieces, a few of each transfer in turn, and the transfers that end with them.

        What an ended transfer belongs to goes into the same message: its place is given to another
        one from the next message on, when the other side has claimed it.
        """
        chunks: list[Chunk] = []
        ended: list[int] = []
        while self._open and len(chunks) < pieces:
            sent = self._open.popleft()
            chunk = sent.next_piece(self._piece_bytes)
            chunks.append(chunk)
            if chunk.last:
                ended.append(sent.transfer_id)
            else:
                self._open.append(sent)
        self._fill()
        return chunks, ended

    def _fill(self) -> None:
        while self._waiting and len(self._open) < MAX_TRANSFERS:
            self._open.append(self._waiting.popleft())


@attrs.define(eq=False)
class _Received:
    """A transfer on its way in, or complete and not claimed yet."""

    index: int = 0
    data: bytearray = attrs.Factory(bytearray)
    digest: hashlib._Hash = attrs.Factory(hashlib.sha256)
    complete: bool = False


class Incoming:
    """Payloads that arrive in pieces; whatever breaks the rules is Malformed and final.

    It holds at most four payloads of ``max_bytes``, those included that nobody has claimed.
    """

    def __init__(self, max_bytes: int = MAX_PAYLOAD_BYTES) -> None:
        self._max_bytes = max_bytes
        self._newest_id = 0
        self._transfers: dict[int, _Received] = {}

    def add(self, chunk: Chunk) -> None:
        """Take in a piece.

        :raises Malformed: it has no bytes or too many, is out of turn, belongs to a transfer that
            is over or one too many, or the payload is not what its digest says.
        """
        received = self._transfers.get(chunk.transfer_id)
        if received is None:
            received = self._begin(chunk.transfer_id)
        if received.complete or chunk.index != received.index:
            raise _broken(chunk.transfer_id, f"piece {chunk.index} came out of turn")
        if not 0 < len(chunk.data) <= MAX_PIECE_BYTES:
            raise _broken(chunk.transfer_id, f"a piece has 1 to {MAX_PIECE_BYTES} bytes")
        if len(received.data) + len(chunk.data) > self._max_bytes:
            raise _broken(chunk.transfer_id, f"is larger than {self._max_bytes} bytes")
        received.data += chunk.data
        received.digest.update(chunk.data)
        received.index += 1
        if chunk.sha256 is not None:
            received.complete = True
            if received.digest.digest() != chunk.sha256:
                raise _broken(chunk.transfer_id, "its bytes do not have the digest that was sent")

    def claim(self, transfer_id: int) -> bytes:
        """The payload of a complete transfer, once.

        :raises Malformed: there is no such transfer, or pieces of it are missing.
        """
        received = self._transfers.get(transfer_id)
        if received is None or not received.complete:
            raise _broken(transfer_id, "is named before it is complete")
        del self._transfers[transfer_id]
        return bytes(received.data)

    def _begin(self, transfer_id: int) -> _Received:
        # Rising ids need no list of those that are over.
        if transfer_id <= self._newest_id:
            raise _broken(transfer_id, "is over; a new one has a higher id")
        if len(self._transfers) >= MAX_TRANSFERS:
            raise _broken(transfer_id, f"is one too many ({MAX_TRANSFERS} may be open)")
        self._newest_id = transfer_id
        received = self._transfers[transfer_id] = _Received()
        return received


def _broken(transfer_id: int, problem: str) -> Malformed:
    return Malformed(f"chunks.{transfer_id}", problem)
