"""Waiting for an operator's decision and picking the certificate up (PROTOCOL: PIN PAIRING, 6).

A pairing ends so, by whatever code it began, and so does a rejoin that needs a new approval.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Protocol

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet.task import deferLater

from palyra.core.devices import ClientKind
from palyra.core.handshake import DeviceHandshake
from palyra.core.identifiers import Fingerprint
from palyra.core.pairing import RequestState
from palyra.errors import (
    PairingExpired,
    PairingRejected,
    PalyraError,
    RemoteRefusal,
)
from palyra.node.files import POLL_INTERVAL_MS
from palyra.node.identity import DeviceIdentity, PairingFile
from palyra.transport.grpcclient import GatewayChannel
from palyra.wire.pairing import StatusAnswer, StatusQuestion

MAX_POLL_MS = 10_000


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

    def __init__(
        self,
        *,
        reactor: Any,
        identity: DeviceIdentity,
        client_kind: ClientKind,
        name: str,
        witness: PickUpWitness,
        now_ms: Callable[[], int],
    ) -> None:
        """``name`` is what this device calls itself."""
        self._reactor = reactor
        self._identity = identity
        self._name = name
        self._witness = witness
        self._now_ms = now_ms
        self._handshake = DeviceHandshake(identity.key, identity.device_id, client_kind)
        self._counter = 0
        self._unanswered = False

    async def wait(self, channel: GatewayChannel, waiting: PairingFile) -> StatusAnswer:
        """The answer that has a certificate, which is yet to be checked; asks until it is there.

        Nothing on the disk is touched.  Whatever :class:`PalyraError` comes is final.

        :raises PairingRejected, PairingExpired: an operator said no, or nobody decided.
        :raises PalyraError: the gateway refuses to say; there is nothing to wait for.
        """
        device_id, fingerprint = self._identity.device_id, self._identity.fingerprint
        self._witness.identity_shown(self._name, device_id, fingerprint)
        self._witness.waiting(waiting.request_id)
        while True:
            answer = await self.ask(channel, waiting)
            if answer is not None and answer.certificate_pem:
                return answer
            if answer is not None and answer.status != RequestState.PENDING.value:
                raise _refusal(answer)
            await self.pause(answer)

    async def ask(self, channel: GatewayChannel, waiting: PairingFile) -> StatusAnswer | None:
        """One question; None where the gateway could not answer now.

        :raises PalyraError: the gateway refuses to say.
        """
        # Time rises by itself, over restarts too; a clock that is set back must not matter here.
        counter = self._counter = max(self._counter + 1, self._now_ms())
        proof = self._handshake.status_proof(waiting.session_id, _ca_hash(waiting), counter)
        question = StatusQuestion(waiting.session_id, self._identity.device_id, counter, proof)
        try:
            answer = await channel.status(question)
        except PalyraError as error:
            if not error.retryable and not (isinstance(error, RemoteRefusal) and error.transient):
                raise
            if not self._unanswered:
                self._witness.retrying(error.sentence)
            self._unanswered = True
            # A new connection next time: gRPC's own pause grows to two minutes.
            await channel.close()
            return None
        self._unanswered = False
        return answer

    async def pause(self, answer: StatusAnswer | None) -> None:
        """As long as the gateway wants between two questions, within bounds."""
        pause_ms = answer.retry_after_ms if answer is not None else MAX_POLL_MS // 5
        pause_ms = min(max(pause_ms, POLL_INTERVAL_MS), MAX_POLL_MS)
        await deferLater(self._reactor, pause_ms / 1000)


def _ca_hash(waiting: PairingFile) -> bytes:
    """SHA-256 of the CA certificate under which the pairing session was opened: the first one."""
    ca = x509.load_pem_x509_certificate(waiting.ca_pem.encode())
    return hashlib.sha256(ca.public_bytes(Encoding.DER)).digest()


def _refusal(answer: StatusAnswer) -> PalyraError:
    if answer.status == RequestState.REJECTED.value:
        return PairingRejected(answer.reason)
    return PairingExpired()
