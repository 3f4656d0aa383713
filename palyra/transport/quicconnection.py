"""One QUIC connection on a reactor: aioquic's sans-IO connection, its timer and its datagrams.

Everything that aioquic keeps private and that we need stands in :class:`Engine`, here and nowhere
else; setup.cfg pins aioquic's minor version for it.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Any, Protocol

from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import Limit, QuicConnection, QuicConnectionState
from aioquic.quic.packet import QuicErrorCode, QuicFrameType
from aioquic.tls import Epoch
from cryptography import x509
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from palyra.transport.quicframes import ALPN

HANDSHAKE_S = 10.0
IDLE_S = 30.0
KEEP_ALIVE_S = 5.0
MAX_STREAMS = 32
"""Streams that a peer may have open, of each of the two kinds."""
WINDOW = 1024 * 1024
"""What a peer may send before it has been read, of a stream and of a connection, to begin with."""
MAX_OUT_OF_ORDER = 4 * 1024 * 1024
"""Bytes of one connection kept for want of what came before them."""
MAX_HOLES = 1_024
"""Holes in what has arrived of a connection: aioquic walks all of them for each frame."""
MAX_CRYPTO_HOLES = 32
"""The same of a handshake, which is a few packets long."""
UNSENT = 64 * 1024
"""With so much of a stream waiting for the network, nothing more is written to it."""
ROUNDS = 8
"""So often in one turn what waits is written and sent, before everybody else has a turn."""
ACK_DELAY_S = 0.01
"""How long an acknowledgement waits for data to go with; two datagrams are acknowledged at once."""
MAX_REPEATED_CLOSES = 8
RESET_TOKEN = 16
_CRYPTO_ERROR = 0x100

Address = tuple[str, int]


def configuration(*, is_client: bool, **more: Any) -> QuicConfiguration:
    """What every connection of ours has in common (CONTRACT: States and times)."""
    return QuicConfiguration(
        is_client=is_client,
        alpn_protocols=[ALPN],
        idle_timeout=IDLE_S,
        max_data=WINDOW,
        max_stream_data=WINDOW,
        **more,
    )


class Engine(QuicConnection):
    """aioquic's connection, with our limits, and the private names that we need of it.

    ``asks_certificate``: a server then asks for a client certificate and checks that the peer has
    its key.  aioquic does not look at the certificate itself, nor mind when there is none: whoever
    owns the connection judges :attr:`peer_certificate` before it takes anything else.
    """

    def __init__(
        self,
        *,
        configuration: QuicConfiguration,
        asks_certificate: bool = False,
        reset_token: Callable[[bytes], bytes] | None = None,
        **more: Any,
    ) -> None:
        """``reset_token`` gives the stateless reset token of a connection id (RFC 9000, 10.3)."""
        self._asks_certificate = asks_certificate
        self._reset_token = reset_token
        super().__init__(configuration=configuration, **more)
        self._ack_delay = ACK_DELAY_S
        self._local_max_streams_bidi = Limit(
            QuicFrameType.MAX_STREAMS_BIDI, "max_streams_bidi", MAX_STREAMS
        )
        self._local_max_streams_uni = Limit(
            QuicFrameType.MAX_STREAMS_UNI, "max_streams_uni", MAX_STREAMS
        )
        self._sign_connection_ids()

    def _initialize(self, peer_cid: bytes) -> None:
        super()._initialize(peer_cid)
        # In the middle of the first datagram: later is too late.
        self.tls._request_client_certificate = self._asks_certificate

    def _replenish_connection_ids(self) -> None:
        super()._replenish_connection_ids()
        self._sign_connection_ids()

    def _sign_connection_ids(self) -> None:
        if self._reset_token is not None:
            for connection_id in self._host_cids:
                connection_id.stateless_reset_token = self._reset_token(connection_id.cid)

    @property
    def begun(self) -> bool:
        """Whether a first packet could be read; before that this may be anybody's noise."""
        return self._state is not QuicConnectionState.FIRSTFLIGHT

    @property
    def peer_certificate(self) -> x509.Certificate | None:
        """What the peer showed, and proved to have the key of."""
        return self.tls._peer_certificate

    @property
    def peer_chain(self) -> list[x509.Certificate]:
        """What it showed besides."""
        return self.tls._peer_certificate_chain

    @property
    def closed_by_peer(self) -> tuple[int, str] | None:
        """Error code and reason phrase, as soon as the peer has closed.

        aioquic tells it at the end of its draining period only, hundreds of milliseconds later.
        """
        return self.fault if self._state is QuicConnectionState.DRAINING else None

    @property
    def fault(self) -> tuple[int, str] | None:
        """Error code and reason phrase of whatever ends the connection, as soon as it is known."""
        event = self._close_event
        return None if event is None else (event.error_code, event.reason_phrase)

    def is_reset(self, datagram: bytes) -> bool:
        """Whether a datagram says that the peer knows nothing of this connection any more."""
        if len(datagram) < RESET_TOKEN + 5:
            return False
        if any(datagram.startswith(each.cid, 1) for each in self._host_cids):
            return False  # it names this connection: what is random in a reset does not
        end = datagram[-RESET_TOKEN:]
        known = (self._peer_cid, *self._peer_cid_available)
        return any(
            hmac.compare_digest(end, each.stateless_reset_token)
            for each in known
            if each.stateless_reset_token
        )

    def unsent(self, stream_id: int) -> int:
        """Bytes written to a stream and never sent yet."""
        stream = self._streams.get(stream_id)
        if stream is None:
            return 0
        return int(stream.sender._buffer_stop - stream.sender.highest_offset)

    def takes(self, stream_id: int) -> bool:
        """Whether something can be written to a stream: it is not ended, nor given up by the peer,
        which may be known here before its event is taken."""
        if self._stream_is_discarded(stream_id):
            return False
        stream = self._streams.get(stream_id)
        if stream is None:
            return True
        return stream.sender._reset_error_code is None and stream.sender._buffer_fin is None

    def is_open(self, stream_id: int) -> bool:
        """Whether data of that stream may still arrive, or be acknowledged."""
        return stream_id in self._streams

    def has_to_send(self) -> bool:
        """Whether data of a stream waits to be sent."""
        return any(not stream.sender.buffer_is_empty for stream in self._streams.values())

    def owes_acknowledgement(self) -> bool:
        """Whether something of the peer is to be acknowledged."""
        space = self._spaces.get(Epoch.ONE_RTT)
        return space is None or space.ack_at is not None

    def is_quiet(self) -> bool:
        """Whether nothing but an acknowledgement, which has a time of its own, is to be sent."""
        if not self._handshake_confirmed:
            return False
        path = self._network_paths[0]
        special = path.remote_challenges or self._probe_pending or self._ping_pending
        settled = not self.has_to_send() and not self.has_streams_to_give()
        return path.is_validated and not special and settled

    def has_streams_to_give(self) -> bool:
        """Whether streams are over whose places the peer is to be given again; aioquic lets go of
        them when it is asked for datagrams, and tells the peer with the next ones."""
        limits = (self._local_max_streams_bidi, self._local_max_streams_uni)
        owed = any(each.sent - each.used < each.value - each.sent for each in limits)
        return owed or any(stream.is_finished for stream in self._streams.values())

    def acknowledge_now(self, now: float) -> None:
        """Let the next datagram carry what is to be acknowledged."""
        space = self._spaces.get(Epoch.ONE_RTT)
        if space is not None and space.ack_at is not None:
            space.ack_at = min(space.ack_at, now)

    def out_of_order(self) -> int:
        """Bytes that are kept because something before them is missing."""
        return sum(len(stream.receiver._buffer) for stream in self._streams.values())

    def has_too_many_holes(self) -> bool:
        """Whether what arrived is so full of holes that filling them would keep us busy."""
        streams = sum(len(stream.receiver._ranges) for stream in self._streams.values())
        shaking = (len(each.receiver._ranges) for each in self._crypto_streams.values())
        return streams > MAX_HOLES or max(shaking, default=0) > MAX_CRYPTO_HOLES


class LinkOwner(Protocol):
    """Who a connection belongs to; told of it, on the reactor's thread, until it has ended."""

    def shaken(self) -> None:
        """The TLS handshake is complete.  What follows is dropped if this closes the link."""

    def received(self, stream_id: int, data: bytes, ended: bool) -> None:
        """Data of a stream, in order; ``ended``: nothing follows on it."""

    def reset(self, stream_id: int) -> None:
        """The peer gave a stream up: it sends nothing more, or wants nothing more."""

    def pump(self) -> None:
        """Write what waits, as far as ``unsent`` allows: it is sent now."""

    def ended(self, error_code: int, phrase: str) -> None:
        """The connection is over; the last thing that is told."""


class QuicLink:
    """Drives one connection.

    ``soon`` runs something in the next turn of the reactor: all that is written in one turn leaves
    in as few datagrams as it fits into.  ``elapsed_s`` never runs backwards.
    """

    _log = Logger()

    def __init__(
        self,
        engine: Engine,
        *,
        clock: IReactorTime,
        elapsed_s: Callable[[], float],
        soon: Callable[[Callable[[], object]], object],
        send: Callable[[bytes, Address], object],
        owner: LinkOwner,
    ) -> None:
        self.engine = engine
        self.over = False
        """Whether it has ended, or is closing: nothing is taken from the peer any more."""
        self.heard_s = self.sent_s = elapsed_s()
        self._clock = clock
        self._elapsed_s = elapsed_s
        self._soon = soon
        self._send = send
        self._owner = owner
        self._turn_due = False
        self._turning = False
        self._again = False
        self._finished = False
        self._unacknowledged = 0
        self._timer: IDelayedCall | None = None
        self._timer_s = 0.0
        self._told = False
        self._last_words: list[tuple[bytes, Address]] = []
        self._repeated = 0

    # -- what the network says ------------------------------------------------------------------

    def datagram(self, data: bytes, address: Address) -> None:
        """Take in a datagram that is meant for this connection."""
        if self.over:
            self._repeat_last_words()
            return
        self.heard_s = self._elapsed_s()
        try:
            self.engine.receive_datagram(data, address, self.heard_s)
            self._unacknowledged += self.engine.owes_acknowledgement()
            self._take_events()
            closed = self.engine.closed_by_peer
            if closed is not None:
                self._end(*closed)
            elif self.engine.fault is not None and not self.over:
                self.over = True  # the peer broke the rules of QUIC; aioquic closes with that
                self._tell(*self.engine.fault)
            elif self.engine.out_of_order() > MAX_OUT_OF_ORDER or self.engine.has_too_many_holes():
                self.close(QuicErrorCode.INTERNAL_ERROR, "too much out of order")
        except Exception:
            self._break("a datagram")
        if self._turn_due:
            return
        if self._unacknowledged < 2 and not self.over and self.engine.is_quiet():
            self._set_timer()
        else:
            self.touch()

    def _take_events(self) -> None:
        while (event := self.engine.next_event()) is not None:
            if isinstance(event, events.ConnectionTerminated):
                self._end(event.error_code, event.reason_phrase)
            elif self.over:
                continue
            elif isinstance(event, events.StreamDataReceived):
                self._owner.received(event.stream_id, event.data, event.end_stream)
            elif isinstance(event, (events.StreamReset, events.StopSendingReceived)):
                self._owner.reset(event.stream_id)
            elif isinstance(event, events.HandshakeCompleted):
                self._owner.shaken()
            else:
                self.other(event)

    def other(self, event: events.QuicEvent) -> None:
        """Whatever else happened; a listener routes datagrams by it."""

    # -- what the owner says --------------------------------------------------------------------

    def touch(self) -> None:
        """Something is to be sent, or to be pumped: in the next turn, once for all of it."""
        if self._turning:
            self._again = True
        elif not self._turn_due:
            self._turn_due = True
            self._soon(self._turn)

    def open_stream(self) -> int:
        """The next bidirectional stream of this side."""
        return int(self.engine.get_next_available_stream_id())

    def write(self, stream_id: int, data: bytes, *, end: bool = False) -> None:
        """Write to a stream; what nobody can take any more is dropped."""
        if self.engine.takes(stream_id):
            self.engine.send_stream_data(stream_id, data, end_stream=end)
            self.touch()

    def stop_reading(self, stream_id: int) -> None:
        """What the peer still sends on a stream is not wanted."""
        if self.engine.is_open(stream_id):
            self.engine.stop_stream(stream_id, QuicErrorCode.NO_ERROR)
            self.touch()

    def flush(self) -> None:
        """Send now what would be sent in the next turn."""
        self._turn()

    def room(self, stream_id: int) -> bool:
        """Whether the network can take more of a stream."""
        return self.engine.unsent(stream_id) < UNSENT

    def ping(self) -> None:
        """Ask for a sign of life."""
        self.engine.send_ping(0)
        self.touch()

    def refuse(self, alert: int, phrase: str) -> None:
        """Close as a failed TLS handshake does: with CRYPTO_ERROR and an alert (RFC 9001, 4.8)."""
        self.close(_CRYPTO_ERROR + alert, phrase, QuicFrameType.CRYPTO)

    def close(self, error_code: int, phrase: str = "", frame_type: int | None = None) -> None:
        """Close the connection; without a frame type it is the application that does.

        What was written and not sent is dropped.  The owner is told by :meth:`LinkOwner.ended` at
        once.
        """
        if self.over:
            return
        self.over = True
        self.engine.close(error_code=error_code, frame_type=frame_type, reason_phrase=phrase)
        self._tell(error_code, phrase)
        self.touch()

    def abandon(self) -> None:
        """Forget the connection without a word: its network is gone."""
        self.over = self._finished = True
        self._stop_timer()
        self._tell(QuicErrorCode.NO_ERROR, "")
        self.gone()

    # -- its turn -------------------------------------------------------------------------------

    def _turn(self) -> None:
        self._turn_due = False
        if self._finished or self.engine.get_peer_address() is None:
            return
        self._turning, self._again = True, False
        try:
            everything = self._transmit()
            self._take_events()
            self._set_timer()
        except Exception:
            everything = True
            self._break("sending")
        finally:
            self._turning = False
        if self._again or not everything:
            self.touch()  # others first

    def _transmit(self) -> bool:
        """Send what there is to send; whether all of it could be tried."""
        for number in range(ROUNDS):
            self._again = False
            if not self.over:
                self._owner.pump()
            if number and not self._again:
                return True  # nothing was written since the last time
            now = self._elapsed_s()
            if self._unacknowledged > 1 or self.engine.has_to_send():
                self.engine.acknowledge_now(now)
            datagrams = self.engine.datagrams_to_send(now)
            if self.engine.has_streams_to_give():  # it has let go of some just now, perhaps
                datagrams += self.engine.datagrams_to_send(now)
            for data, address in datagrams:
                self._send(data, address)
            if datagrams:
                self._unacknowledged = 0
                self.sent_s = now
            if self.over:
                self._last_words = self._last_words or datagrams
                return True
            if not datagrams and not self._again:
                return True
        return False

    def _repeat_last_words(self) -> None:
        """The peer has not heard that the connection is closed (RFC 9000, 10.2.1)."""
        if self._repeated < MAX_REPEATED_CLOSES:
            self._repeated += 1
            for data, address in self._last_words:
                self._send(data, address)

    def _set_timer(self) -> None:
        at_s = None if self._finished else self.engine.get_timer()
        if at_s is None:
            self._stop_timer()
            return
        timer = self._timer
        if timer is not None and timer.active():
            if self._timer_s <= at_s:
                return  # it looks again when it fires
            timer.cancel()
        self._timer_s = at_s
        self._timer = self._clock.callLater(max(0.0, at_s - self._elapsed_s()), self._due)

    def _due(self) -> None:
        now = self._elapsed_s()
        at_s = self.engine.get_timer()
        if at_s is not None and at_s > now:
            self._set_timer()  # what it was set for has happened meanwhile
            return
        try:
            self.engine.handle_timer(now)
            self._take_events()
        except Exception:
            self._break("a timer")
        self._turn()

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    # -- its end --------------------------------------------------------------------------------

    def _end(self, error_code: int, phrase: str) -> None:
        self.over = self._finished = True
        self._stop_timer()
        self._tell(error_code, phrase)
        self.gone()

    def gone(self) -> None:
        """Nothing is sent or routed any more."""

    def _tell(self, error_code: int, phrase: str) -> None:
        if not self._told:
            self._told = True
            self._owner.ended(error_code, phrase)

    def _break(self, what: str) -> None:
        """A fault of ours or of aioquic ends this one connection, and nothing else."""
        self._log.failure("{what} broke a QUIC connection", what=what)
        if self.over:
            self._end(QuicErrorCode.INTERNAL_ERROR, "")
        else:
            self.close(QuicErrorCode.INTERNAL_ERROR)
