"""Enrolment: pairing sessions, from Begin to the one Complete each of them takes.

Open sessions live in memory and are gone with the process: the device starts over with the same
code, which is not used up before the request is committed.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from palyra.core.handshake import GatewayHandshake
from palyra.core.pairing import SESSION_WINDOW_MS, CodeMethod
from palyra.core.rates import source_of
from palyra.core.transcript import DeviceProof
from palyra.core.windows import Windows
from palyra.errors import PairingFailed, PairingLimited, PairingSessionUnknown
from palyra.gateway.pinwork import PinWork
from palyra.gateway.proofs import ByClearPin, ByPin, ByToken, IProof, Office, Stranger
from palyra.gateway.rejoin import ByIdentity, Rejoins
from palyra.gateway.waits import deferred
from palyra.gateway.wheel import TimerWheel
from palyra.wire.pairing import Begin, Completed, SessionOpened, StatusAnswer, StatusQuestion

ANSWER_NO_SOONER_S = 0.05
MAX_QUESTIONS = 1_200
"""Status questions of one source in a minute: ten devices behind one address that wait."""


@attrs.define(eq=False)
class _OpenSession:
    """A pairing session between Begin and Complete."""

    handshake: GatewayHandshake
    proof: IProof
    peer: Stranger


class Enrolment:
    """What an unpaired device, or one whose certificate ran out, may ask."""

    def __init__(
        self,
        *,
        clock: IReactorTime,
        elapsed_ms: Callable[[], int],
        office: Office,
        pins: PinWork,
        rejoins: Rejoins,
    ) -> None:
        self._clock = clock
        self._elapsed_ms = elapsed_ms
        self._office = office
        self._pins = pins
        self._rejoins = rejoins
        self._ledger = office.ledger
        self._sessions: dict[str, _OpenSession] = {}
        self._asked = Windows(MAX_QUESTIONS, 60_000)
        self._wheel = TimerWheel(clock, elapsed_ms, self._due, tick_ms=500)

    def start(self) -> None:
        """Watch the windows of open pairing sessions."""
        self._wheel.start()

    def stop(self) -> None:
        """Stop watching."""
        self._wheel.stop()

    async def begin(self, message: Begin, address: str) -> SessionOpened:
        """BeginPairingSession.

        :raises PairingFailed: the token is unknown, used, over, or not for this source.
        :raises PairingLimited, PairingPaused, LimitReached: the source, or everybody, tried too
            often.
        :raises VersionOneRefused: the operator allows no such device.
        """
        arrived_s = self._clock.seconds()
        peer = Stranger(address, source_of(address))
        try:
            return await self._begin(message, peer)
        except PairingFailed as failed:
            self._ledger.proof_failed(peer.source, self._elapsed_ms(), pin=failed.pin)
            raise
        finally:
            await self._no_sooner(arrived_s)

    async def _begin(self, message: Begin, peer: Stranger) -> SessionOpened:
        # A rejoin cannot be guessed: devices behind one address must not keep each other out.
        guess = message.method is not CodeMethod.REJOIN
        self._ledger.session_started(peer.source, self._elapsed_ms(), guess=guess)
        try:
            proof = await self._opened(message, peer)
        except BaseException:
            self._ledger.session_refused(peer.source)
            raise
        handshake = GatewayHandshake.begin(
            message.client_kind, proof.purpose, self._office.entropy, self._now_ms()
        )
        self._sessions[handshake.session_id] = _OpenSession(handshake, proof, peer)
        self._wheel.set(handshake.session_id, self._elapsed_ms() + SESSION_WINDOW_MS)
        return SessionOpened(
            handshake.begun,
            message.client_kind,
            handshake.expires_at_ms,
            self._now_ms(),
            proof.share,
        )

    async def _opened(self, message: Begin, peer: Stranger) -> IProof:
        if message.method is CodeMethod.QR:
            return await ByToken.open(self._office, message, peer)
        if message.nameplate is not None:
            return await ByPin.open(self._office, self._pins, message, peer)
        if message.device_id is not None:
            return ByIdentity(self._office, self._rejoins, message.device_id)
        return await ByClearPin.open(self._office, message, peer)

    async def complete(self, message: DeviceProof, address: str) -> Completed:
        """CompletePairingSession: verify everything, then commit what follows from it.

        :raises PairingSessionUnknown: the session is over, or was used.
        :raises PairingFailed, RejoinRefused: the proof is a guess, or another session was faster.
        :raises VerificationFailed, Malformed, DeviceRevoked: refused; the code is not used up.
        """
        arrived_s = self._clock.seconds()
        session = self._sessions.get(message.session_id)
        try:
            if session is None:
                raise PairingSessionUnknown()
            self._close_session(message.session_id)
            return await session.proof.check(session.handshake, message, session.peer)
        except PairingFailed as failed:
            if session is not None:
                source, now_ms = session.peer.source, self._elapsed_ms()
                self._ledger.proof_failed(source, now_ms, pin=failed.pin)
            raise
        finally:
            await self._no_sooner(arrived_s)

    async def status(self, question: StatusQuestion, address: str) -> StatusAnswer:
        """GetPairingRequestStatus: see :meth:`PairingRequests.status`.

        :raises PairingLimited: the source asks too often.
        """
        source, now_ms = source_of(address), self._elapsed_ms()
        wait_ms = self._asked.wait_ms(source, now_ms)
        if wait_ms:
            raise PairingLimited(wait_ms / 1000)
        self._asked.add(source, now_ms)
        return await self._office.requests.status(question)

    # -- time -------------------------------------------------------------------------------

    def _due(self, key: Hashable, now_ms: int) -> None:
        self._close_session(str(key))

    def _close_session(self, session_id: str) -> None:
        session = self._sessions.pop(session_id, None)
        if session is not None:
            self._wheel.discard(session_id)
            self._ledger.session_ended(session.peer.source)

    async def _no_sooner(self, arrived_s: float) -> None:
        """Every answer takes at least so long, so that none tells by its speed what it found."""
        left_s = ANSWER_NO_SOONER_S - (self._clock.seconds() - arrived_s)
        if left_s > 0:  # and no later, when the clock was set back
            await deferred(deferLater(self._clock, min(left_s, ANSWER_NO_SOONER_S)))

    def _now_ms(self) -> int:
        return self._office.now_ms()
