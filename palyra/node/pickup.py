"""Waiting for an operator's decision and picking the certificate up (PROTOCOL: PIN PAIRING, 6).

A pairing ends so, by whatever code it began, and so does a rejoin that needs a new approval.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Protocol

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet.task import deferLater
from twisted.logger import Logger

from palyra.core.devices import ClientKind
from palyra.core.handshake import DeviceHandshake
from palyra.core.identifiers import Fingerprint
from palyra.core.pairing import RequestState
from palyra.errors import (
    GatewayUnreachable,
    PairingExpired,
    PairingRejected,
    PairingSessionUnknown,
    PalyraError,
    RemoteRefusal,
)
from palyra.node.files import POLL_INTERVAL_MS
from palyra.node.identity import DeviceIdentity, PairingFile
from palyra.transport.grpcclient import GatewayChannel
from palyra.transport.statuses import STRANGE
from palyra.wire.pairing import StatusAnswer, StatusQuestion

MAX_POLL_MS = 10_000
STRANGERS = 15
"""So often in a row a gateway shows a certificate of another CA before it is believed to stay."""
MAX_UNKNOWN = 5
"""How often a gateway may not know (yet) what it was told in a Complete whose answer got lost."""
AHEAD_MS = 3_600_000
"""A write of the counter reserves as many numbers: a disk is not written at each question."""


class PickUpWitness(Protocol):
    """Who watches a device wait for an operator."""

    def identity_shown(self, name: str, device_id: str, fingerprint: Fingerprint) -> None:
        """What the operator will compare."""

    def waiting(self, request_id: str) -> None:
        """An operator must decide now."""

    def retrying(self, cause: str) -> None:
        """The gateway does not answer any more; it is asked until it does."""


class PickUp:
    """Asks a gateway what became of a pairing request, with a proof that this device may know."""

    _log = Logger()

    def __init__(
        self,
        *,
        reactor: Any,
        identity: DeviceIdentity,
        client_kind: ClientKind,
        name: str,
        witness: PickUpWitness,
        now_ms: Callable[[], int],
        keep: Callable[[PairingFile], object],
        patience: int | None = None,
    ) -> None:
        """``name`` is what this device calls itself; ``keep`` writes what is waited for.

        ``patience``: that often in a row a gateway may be out of reach; None: as long as it takes.
        """
        self._reactor = reactor
        self._identity = identity
        self._name = name
        self._witness = witness
        self._now_ms = now_ms
        self._handshake = DeviceHandshake(identity.key, identity.device_id, client_kind)
        self._keep = keep
        self._patience = patience
        self._counter = 0
        self._session = ""
        self._reserved = 0
        self._shown = ""
        self._unanswered = False
        self._away = self._strange = 0

    async def wait(self, channel: GatewayChannel, waiting: PairingFile) -> StatusAnswer:
        """The answer that has a certificate, which is yet to be checked; asks until it is there.

        Only the counter of ``waiting`` changes on the disk.

        :raises PairingRejected, PairingExpired: an operator said no, or nobody decided.
        :raises GatewayUnreachable: patience is over, or the CA is another one for good.
        :raises PalyraError: the gateway refuses to say; there is nothing to wait for.
        """
        self._show(waiting)
        self._go_on(waiting)
        while True:
            self._reserve(waiting)
            answer = await self.ask(channel, waiting)
            if answer is not None and answer.certificate_pem:
                return answer
            if answer is not None and answer.status != RequestState.PENDING.value:
                raise _refusal(answer)
            await self.pause(answer)

    async def recover(self, channel: GatewayChannel, unproven: PairingFile) -> StatusAnswer:
        """What became of a Complete whose answer got lost; asks until the gateway can say.

        :raises PalyraError: it does not know, or refuses to say.
        """
        unknown = 0
        while True:
            await self.pause(None)
            try:
                answer = await self.ask(channel, unproven)
            except RemoteRefusal as refusal:
                # It knows what it has committed; it may be about to.
                unknown += 1
                if not is_unknown(refusal) or unknown == MAX_UNKNOWN:
                    raise
                continue
            if answer is not None:
                return answer

    async def ask(self, channel: GatewayChannel, waiting: PairingFile) -> StatusAnswer | None:
        """One question; None where the gateway could not answer now.

        :raises PalyraError: the gateway refuses to say, or was asked often enough.
        """
        counter = self._counter = self._next_counter()
        proof = self._handshake.status_proof(waiting.session_id, _ca_hash(waiting), counter)
        question = StatusQuestion(waiting.session_id, self._identity.device_id, counter, proof)
        try:
            answer = await channel.status(question)
        except PalyraError as error:
            if not error.retryable and not (isinstance(error, RemoteRefusal) and error.transient):
                raise
            # A new connection next time: gRPC's own pause grows to two minutes.
            await channel.close()
            if self._missed(error):
                raise
            return None
        self._unanswered = False
        self._away = self._strange = 0
        return answer

    def _go_on(self, waiting: PairingFile) -> None:
        """Begin above every number that was used, also by lives between which nothing could be
        written: all of those began with the same file, each at a time of its own."""
        begun = waiting.counter
        if begun and waiting.session_id != self._session:
            begun += self._now_ms()
        self._counter = max(self._counter, begun)

    def _next_counter(self) -> int:
        # Time rises by itself; a clock that is set back must not matter.
        return max(self._counter + 1, self._now_ms())

    def _reserve(self, waiting: PairingFile) -> None:
        """Write a number down that none of the next questions reaches, for after a restart."""
        following = self._next_counter()
        if waiting.session_id == self._session and following < self._reserved:
            return
        self._session, self._reserved = waiting.session_id, following + AHEAD_MS
        try:
            self._keep(msgspec.structs.replace(waiting, counter=self._reserved))
        except (PalyraError, OSError) as error:
            self._log.warn("what is waited for could not be written: {e}", e=error)

    def _show(self, waiting: PairingFile) -> None:
        if self._shown == waiting.request_id:
            return
        self._shown = waiting.request_id
        device_id, fingerprint = self._identity.device_id, self._identity.fingerprint
        self._witness.identity_shown(waiting.name or self._name, device_id, fingerprint)
        self._witness.waiting(waiting.request_id)

    def _missed(self, error: PalyraError) -> bool:
        """A question was not answered; whether this was the last one of so many in a row."""
        if not self._unanswered:
            self._witness.retrying(error.sentence)
        self._unanswered = True
        away = isinstance(error, GatewayUnreachable)
        strange = isinstance(error, GatewayUnreachable) and error.cause == STRANGE
        self._away = self._away + 1 if away else 0
        self._strange = self._strange + 1 if strange else 0
        over = self._away == self._patience or self._strange == STRANGERS
        if over:
            self._away = self._strange = 0
        return over

    async def pause(self, answer: StatusAnswer | None) -> None:
        """As long as the gateway wants between two questions, within bounds."""
        pause_ms = answer.retry_after_ms if answer is not None else MAX_POLL_MS // 5
        pause_ms = min(max(pause_ms, POLL_INTERVAL_MS), MAX_POLL_MS)
        await deferLater(self._reactor, pause_ms / 1000)


def is_unknown(error: PalyraError) -> bool:
    """Whether a gateway says that it does not know a pairing session, or no longer."""
    return isinstance(error, RemoteRefusal) and error.remote_code == PairingSessionUnknown.code


def _ca_hash(waiting: PairingFile) -> bytes:
    """SHA-256 of the CA certificate under which the pairing session was opened: the first one."""
    ca = x509.load_pem_x509_certificate(waiting.ca_pem.encode())
    return hashlib.sha256(ca.public_bytes(Encoding.DER)).digest()


def _refusal(answer: StatusAnswer) -> PalyraError:
    if answer.status == RequestState.REJECTED.value:
        return PairingRejected(answer.reason)
    return PairingExpired()
