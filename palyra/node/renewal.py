"""Renewal: the next certificate, in good time and while the session goes on (PROTOCOL: RENEWAL).

What is waited for here is elapsed time, counted from the gateway's word of when; a device's clock
may be wrong.  A failure costs nothing: the current certificate lives to its own end.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import attrs
from cryptography.x509 import load_pem_x509_certificate
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from palyra.core.frames import Renew, Welcome
from palyra.core.transcript import renewal_payload
from palyra.errors import CertificateRefused, GatewayUnreachable, PalyraError
from palyra.node.identity import Credential, DeviceIdentity, IdentityStore
from palyra.node.roots import Roots
from palyra.pki.certificates import unix_ms
from palyra.transport.statuses import is_cut
from palyra.wire.pairing import RenewalAsked, Renewed

SPREAD = 0.1
"""Of the third of a certificate's life that is left, so that a fleet does not renew at once."""
SPREAD_AT_ONCE_S = 60.0
"""Over this time a fleet is spread that is to renew now."""
FLOOR_S = 60.0
"""Between two renewals, whatever a gateway says at each registration."""
CUTS = 3
"""So often in a row a next certificate may be cut off while the current one is taken."""
FIRST_RETRY_S = 30.0
MAX_RETRY_S = 600.0


class RenewalChannel(Protocol):
    """The connection that the current certificate made."""

    def renew(self, asked: RenewalAsked) -> Deferred[Renewed]:
        """RotateDeviceCertificate."""


class RenewalWitness(Protocol):
    """Who watches the certificate."""

    def renewal_failed(self, error: PalyraError | None, left_s: float) -> None:
        """It could not be renewed and runs out in so many seconds; told in its last sixth.

        ``error`` is None where a fault of this device is in its log.
        """


HandOver = Callable[[], Awaitable[Callable[[], object]]]
"""Registers over the next certificate, or fails with PalyraError and nothing has changed; calling
what it gives moves the session there."""


@attrs.frozen
class Life:
    """From when to when a certificate is valid, in Unix ms."""

    begins_ms: int
    ends_ms: int

    @classmethod
    def of(cls, credential: Credential) -> Life:
        """The life of that certificate."""
        certificate = load_pem_x509_certificate(credential.certificate_pem.encode())
        return cls(
            unix_ms(certificate.not_valid_before_utc), unix_ms(certificate.not_valid_after_utc)
        )

    @property
    def whole_s(self) -> float:
        """How long it is."""
        return (self.ends_ms - self.begins_ms) / 1000

    def left_s(self, now_ms: float) -> float:
        """What is left of it."""
        return (self.ends_ms - now_ms) / 1000


@attrs.frozen
class _Held:
    """The session whose certificate is to be renewed, and when it began by either clock."""

    channel: RenewalChannel
    credential: Credential
    life: Life
    hand_over: HandOver
    begins: Callable[[], object]
    began_s: float
    gateway_began_ms: int


class Renewal:
    """Renews the certificate of the newest session, once for each certificate.

    It owns one timer and one exchange; :meth:`stop` ends both.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        reactor: Any,
        elapsed_s: Callable[[], float],
        jitter: Callable[[float, float], float],
        identity: DeviceIdentity,
        store: IdentityStore,
        witness: RenewalWitness,
    ) -> None:
        self._reactor = reactor
        self._elapsed_s = elapsed_s
        self._jitter = jitter
        self._identity = identity
        self._store = store
        self._witness = witness
        self._held: _Held | None = None
        self._failures = 0
        self._cuts = 0
        self._renewed_s: float | None = None
        self._timer: IDelayedCall | None = None
        self._due_s = 0.0
        self._working: Deferred[None] | None = None

    def begin(
        self,
        channel: RenewalChannel,
        credential: Credential,
        welcome: Welcome,
        hand_over: HandOver,
        begins: Callable[[], object],
    ) -> None:
        """A node registered on ``channel``, over ``credential``; ``welcome`` says when to renew.

        ``begins`` is called as soon as a renewal is under way.
        """
        began_ms = welcome.gateway_unix_ms or int(self._reactor.seconds() * 1000)
        life = Life.of(credential)
        began_s = self._elapsed_s()
        self._held = _Held(channel, credential, life, hand_over, begins, began_s, began_ms)
        if self._store.client().next is not None:
            # It was tried before this one, and the gateway did not take it now.
            self._failures += 1
            self._schedule(self._backoff_s())
            return
        self._failures = 0
        self._schedule(self._first_s(life, began_ms, welcome.renew_after_s))

    def _first_s(self, life: Life, began_ms: int, after_s: int | None) -> float:
        """In how many seconds to renew, as the gateway says or by the life that is left."""
        left_s = max(0.0, life.left_s(began_ms))
        if after_s is None:
            after_s = max(0, int(left_s - life.whole_s / 3))
        if after_s:
            spread_s = SPREAD * max(0.0, left_s - after_s)
            delay_s = max(0.0, after_s + self._jitter(-spread_s, spread_s))
        elif self._store.client().pending is not None:
            delay_s = 0.0  # it was begun already, and cut off: nothing that a whole fleet does
        else:
            delay_s = self._jitter(0.0, min(SPREAD_AT_ONCE_S, left_s / 2))
        if self._renewed_s is None:
            return delay_s
        return max(delay_s, self._renewed_s + min(FLOOR_S, left_s / 2) - self._elapsed_s())

    def directed(self, renew: Renew) -> None:
        """The gateway orders a renewal, at a moment of this device's own within that time."""
        delay_s = self._jitter(0.0, max(0.0, renew.within_ms / 1000))
        if self._held is None or self._working is not None:
            return
        if self._timer is None or self._elapsed_s() + delay_s < self._due_s:
            why = renew.reason or "an operator's order"
            self._log.info("the gateway asks for a new certificate: {why}", why=why)
            self._schedule(delay_s)

    def woke(self) -> None:
        """The machine may have slept: the timer stood still, and the certificate grew older."""
        if self._timer is not None:
            self._schedule(max(0.0, self._due_s - self._elapsed_s()))

    @property
    def busy(self) -> bool:
        """Whether a renewal is under way."""
        return self._working is not None

    @property
    def due_in_s(self) -> float | None:
        """In how many seconds the certificate is renewed; None without a session."""
        if self._timer is not None:
            return max(0.0, self._due_s - self._elapsed_s())
        return 0.0 if self.busy else None

    def stop(self) -> None:
        """The session is over; what was begun is begun again with the next one."""
        self._held = None
        self._unschedule()
        working, self._working = self._working, None
        if working is not None:
            working.cancel()

    # -- when ---------------------------------------------------------------------------------

    def _schedule(self, delay_s: float) -> None:
        self._unschedule()
        self._due_s = self._elapsed_s() + delay_s
        self._timer = self._reactor.callLater(delay_s, self._due)

    def _unschedule(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _backoff_s(self) -> float:
        ceiling_s = min(MAX_RETRY_S, FIRST_RETRY_S * 2 ** min(self._failures, 16))
        return self._jitter(max(FIRST_RETRY_S, ceiling_s / 2), ceiling_s)

    # -- what ---------------------------------------------------------------------------------

    def _due(self) -> None:
        self._timer = None
        if self._held is not None:
            self._held.begins()
            working = Deferred.fromCoroutine(self._work(self._held))
            working.addErrback(lambda failure: self._log.failure("a renewal ended", failure))
            if not working.called:
                self._working = working

    async def _work(self, held: _Held) -> None:
        error: PalyraError | None = None
        try:
            move = await self._renewed(held)
        except CancelledError:
            pass  # by stop(), which is seen below, or by somebody who ended the call
        except PalyraError as refusal:
            error = refusal
        except Exception:
            self._log.failure("the certificate could not be renewed")
        else:
            self._renewed_s = self._elapsed_s()
            self._working = None  # moving on begins the renewal of the new certificate
            move()
            return
        if self._held is held:
            self._working = None
            self._failed(held, error)

    async def _renewed(self, held: _Held) -> Callable[[], object]:
        """Ask where nothing was issued yet, and register over what was."""
        if self._store.client().next is None:
            await self._ask(held)
        try:
            move = await held.hand_over()
        except CertificateRefused:
            self._drop_next()
            raise
        except GatewayUnreachable as error:
            # It may be that the gateway does not take it: a handshake is refused without a word.
            self._cuts = self._cuts + 1 if is_cut(error) else 0
            if self._cuts >= CUTS:
                self._drop_next()
            raise
        self._cuts = 0
        return move

    def _drop_next(self) -> None:
        self._cuts = 0
        self._store.drop_next()

    async def _ask(self, held: _Held) -> None:
        device_id = self._identity.device_id
        csr_der = self._store.new_csr(device_id)
        payload = renewal_payload(
            device_id,
            Roots.read(self._store.client().ca_bundle_pem).first.hash,
            held.credential.fingerprint,
            csr_der,
        )
        signature = self._identity.key.sign(payload)
        renewed = await held.channel.renew(RenewalAsked(device_id, csr_der, signature))
        self._store.accept_next(device_id, renewed.certificate_pem, renewed.ca_pem)

    def _failed(self, held: _Held, error: PalyraError | None) -> None:
        self._failures += 1
        asked_s = min(MAX_RETRY_S, getattr(error, "retry_after_s", None) or 0.0)
        retry_s = max(asked_s, self._backoff_s())
        if error is not None:
            self._log.warn(
                "the certificate is not renewed, next try in {s:.0f} s: {e}",
                s=retry_s,
                e=error.sentence,
            )
        self._schedule(retry_s)
        passed_ms = (self._elapsed_s() - held.began_s) * 1000
        left_s = held.life.left_s(held.gateway_began_ms + passed_ms)
        if left_s <= held.life.whole_s / 6:
            self._witness.renewal_failed(error, left_s)
