"""What gathers for a node until its carrier can write: one message at a time, none too large.

Small things go first, large inputs travel in pieces between them, and a message of any session,
encoded, stays below the 512 KiB that a QUIC frame may have.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import attrs

from palyra.core.frames import CatalogAnswer, Dispatch, Drained, GatewayFrame, Renew
from palyra.core.transfers import Outgoing

MAX_INPUT_BYTES = 192 * 1024
"""Of the inputs in one message; a single one may be as large as what goes in one piece."""
DISPATCH_BYTES = 1_024
"""What a dispatch takes at most besides its input."""
MAX_ACKNOWLEDGED = 512
MAX_WAITING_ACKNOWLEDGEMENTS = 8_192
MAX_CANCELS = 32


@attrs.frozen
class _Pushed:
    """A dispatch, and when its remaining time was measured."""

    dispatch: Dispatch
    pushed_s: float

    def at(self, now_s: float) -> Dispatch:
        """The dispatch with what is left of its time."""
        waited_ms = int((now_s - self.pushed_s) * 1000)
        if waited_ms <= 0:
            return self.dispatch
        remaining_ms = max(1, self.dispatch.remaining_ms - waited_ms)
        return attrs.evolve(self.dispatch, remaining_ms=remaining_ms)


class Outbox:
    """Everything that was said to a node and is not written yet.

    An input of more than ``pieces_over`` bytes travels in pieces; None: the node takes none.
    """

    def __init__(self, now_s: Callable[[], float], pieces_over: int | None) -> None:
        self._now_s = now_s
        self._pieces_over = pieces_over
        self._outgoing = Outgoing((pieces_over or 0) // 4)
        self._dispatches: deque[_Pushed] = deque()
        self._transferring: dict[int, _Pushed] = {}
        self._unsent: set[str] = set()
        self._acknowledged: list[str] = []
        self._cancels: list[tuple[str, str]] = []
        self._answers = 0
        self._drain: Drained | None = None
        self._renew: Renew | None = None
        self._catalog: CatalogAnswer | None = None

    @property
    def waiting(self) -> bool:
        """Whether there is something to take."""
        return bool(
            self._dispatches
            or self._answers
            or self._acknowledged
            or self._outgoing.busy
            or self._cancels
            or self._drain
            or self._renew
            or self._catalog
        )

    @property
    def has_acknowledgements(self) -> bool:
        """Whether some of it waits for company, but not for long."""
        return bool(self._acknowledged)

    # -- what is said -------------------------------------------------------------------------

    def push(self, dispatch: Dispatch) -> None:
        """An attempt; its remaining time goes on here."""
        self._unsent.add(dispatch.attempt_id)
        pushed_s = self._now_s()
        if self._pieces_over is None or len(dispatch.input_json) <= self._pieces_over:
            self._dispatches.append(_Pushed(dispatch, pushed_s))
        else:
            transfer_id = self._outgoing.start(dispatch.input_json)
            bare = attrs.evolve(dispatch, input_json=b"")
            self._transferring[transfer_id] = _Pushed(bare, pushed_s)

    def cancel(self, attempt_id: str, reason: str) -> None:
        """The end of an attempt; it never overtakes the attempt, nor comes in its message."""
        self._cancels.append((attempt_id, reason))

    def acknowledge(self, attempt_id: str) -> None:
        """A report that is committed.  Of a node that does not read them some are left out: it
        reports again."""
        if len(self._acknowledged) < MAX_WAITING_ACKNOWLEDGEMENTS:
            self._acknowledged.append(attempt_id)

    def answer(self) -> None:
        """The answer to one event."""
        self._answers += 1

    def drain(self, drained: Drained) -> None:
        """Only the last one is sent."""
        self._drain = drained

    def renew(self, order: Renew) -> None:
        """Only the last one is sent."""
        self._renew = order

    def answer_catalog(self, answer: CatalogAnswer) -> None:
        """Only the last one is sent: it is true of the last catalog, and so of all before."""
        self._catalog = answer

    # -- what is written ------------------------------------------------------------------------

    def take(self) -> GatewayFrame:
        """The next message."""
        frame = GatewayFrame(
            answers=self._answers, drain=self._drain, renew=self._renew, catalog=self._catalog
        )
        self._answers, self._drain, self._renew, self._catalog = 0, None, None, None
        frame.acknowledged = self._acknowledged[:MAX_ACKNOWLEDGED]
        del self._acknowledged[:MAX_ACKNOWLEDGED]
        if self._cancels:  # first, so that none comes in the message of its dispatch
            self._take_cancels(frame)
        if self._dispatches:
            self._take_dispatches(frame)
        if self._outgoing.busy:
            self._take_pieces(frame)
        return frame

    def _take_cancels(self, frame: GatewayFrame) -> None:
        left = []
        for cancel in self._cancels:
            if cancel[0] in self._unsent or len(frame.cancels) >= MAX_CANCELS:
                left.append(cancel)
            else:
                frame.cancels.append(cancel)
        self._cancels = left

    def _take_dispatches(self, frame: GatewayFrame) -> None:
        now_s = self._now_s()
        size = 0
        while self._dispatches:
            size += len(self._dispatches[0].dispatch.input_json) + DISPATCH_BYTES
            if frame.dispatches and size > MAX_INPUT_BYTES:
                return
            dispatch = self._dispatches.popleft().at(now_s)
            self._unsent.discard(dispatch.attempt_id)
            frame.dispatches.append(dispatch)

    def _take_pieces(self, frame: GatewayFrame) -> None:
        frame.chunks, ended = self._outgoing.take()
        for transfer_id in ended:
            dispatch = self._transferring.pop(transfer_id).at(self._now_s())
            self._unsent.discard(dispatch.attempt_id)
            frame.transferred.append((dispatch, transfer_id))
