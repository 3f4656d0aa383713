"""Pairing, the device's side (PROTOCOL: URI PAIRING)."""

from __future__ import annotations

import datetime
import hashlib
import hmac
from collections.abc import Callable
from typing import Any, Protocol

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet.task import deferLater

from palyra.config.addresses import HostPort
from palyra.core.announcement import Announcement, encode_announcement
from palyra.core.devices import ClientKind
from palyra.core.handshake import DeviceHandshake
from palyra.core.identifiers import Entropy, Fingerprint
from palyra.core.pairing import CodeMethod, RequestState
from palyra.core.pairing_uri import PairingUri
from palyra.core.transcript import Purpose
from palyra.errors import (
    CaMismatch,
    CertificateRefused,
    ClockSkew,
    GatewayUnreachable,
    Malformed,
    PairingExpired,
    PairingRejected,
    PalyraError,
    RemoteRefusal,
)
from palyra.node.files import POLL_INTERVAL_MS, HostFile, NodeFiles
from palyra.node.identity import DeviceIdentity, PairingFile
from palyra.pki.certificates import read_root, unix_ms
from palyra.transport.chain import fetch_chain
from palyra.transport.grpcclient import GatewayChannel
from palyra.wire.pairing import Begin, Completed, StatusAnswer, StatusQuestion

SCHEMA_VERSION = 1
SKEW_WARN_MS = 60_000
MAX_POLL_MS = 10_000


class Witness(Protocol):
    """Who watches a pairing: a terminal, or lines for a program."""

    def gateway_verified(self, address: str, ca_hash: str) -> None:
        """The gateway shows the CA that the pairing line names."""

    def identity_shown(self, name: str, device_id: str, fingerprint: Fingerprint) -> None:
        """What the operator will compare."""

    def waiting(self, request_id: str) -> None:
        """An operator must decide now."""

    def approved(self, by: str, name: str) -> None:
        """An operator said yes and the certificate is here."""

    def clock_differs(self, by_ms: int) -> None:
        """This clock is ahead (positive) or behind by more than a minute."""

    def retrying(self, cause: str) -> None:
        """The gateway does not answer any more; it is asked until it does."""


class Pairing:
    """One pairing of this device."""

    def __init__(
        self,
        *,
        reactor: Any,
        files: NodeFiles,
        identity: DeviceIdentity,
        announcement: Announcement,
        client_kind: ClientKind,
        witness: Witness,
        entropy: Entropy,
        now_ms: Callable[[], int],
        node_rpc_override: str | None = None,
    ) -> None:
        self._reactor = reactor
        self._files = files
        self._identity = identity
        self._announcement = announcement
        self._kind = client_kind
        self._witness = witness
        self._entropy = entropy
        self._now_ms = now_ms
        self._node_rpc_override = node_rpc_override
        self._handshake = DeviceHandshake(identity.key, identity.device_id, client_kind)
        self._counter = 0
        self._unanswered = False

    async def run(self, uri: PairingUri, ca_pem: bytes | None = None) -> HostFile:
        """Pair with a pairing line; returns when an operator has approved.

        ``ca_pem`` is a CA certificate that came another way; it must be the line's.

        :raises CaMismatch: the gateway shows another CA; nothing was sent.
        :raises PairingFailed, PairingRejected, PairingExpired, PalyraError: as they say.
        """
        address = HostPort(uri.host, uri.port)
        trusted = _read_ca(ca_pem) if ca_pem is not None else None
        chain = await fetch_chain(self._reactor, address)
        root = self._verified_root(chain, uri.ca, trusted)
        self._check_clock(chain[0])
        self._witness.gateway_verified(str(address), uri.ca.hex())
        channel = GatewayChannel(address, root)
        try:
            session_id, completed = await self._exchange(channel, uri)
            waiting = PairingFile(
                SCHEMA_VERSION, session_id, completed.request_id, str(address), root.decode()
            )
            self._files.identity.keep_waiting(waiting)
            return await self._wait(channel, waiting)
        finally:
            await channel.close()

    async def resume(self, waiting: PairingFile) -> HostFile:
        """Go on waiting for an operator after a restart."""
        channel = GatewayChannel(HostPort.parse(waiting.gateway), waiting.ca_pem.encode())
        try:
            return await self._wait(channel, waiting)
        finally:
            await channel.close()

    def _verified_root(
        self, chain: list[bytes], expected: bytes, trusted: x509.Certificate | None
    ) -> bytes:
        if not chain or not hmac.compare_digest(hashlib.sha256(chain[-1]).digest(), expected):
            raise CaMismatch()
        try:
            root = read_root(chain[-1])
        except CertificateRefused as error:
            raise CaMismatch() from error
        if trusted is not None and trusted != root:
            raise CaMismatch()
        return root.public_bytes(Encoding.PEM)

    def _check_clock(self, leaf_der: bytes) -> None:
        begins = x509.load_der_x509_certificate(leaf_der).not_valid_before_utc
        if self._now_ms() < unix_ms(begins):
            here = datetime.datetime.fromtimestamp(self._now_ms() / 1000).astimezone()
            raise ClockSkew(f"{here:%d %b %H:%M}", f"{begins.astimezone():%d %b %H:%M}")

    async def _exchange(self, channel: GatewayChannel, uri: PairingUri) -> tuple[str, Completed]:
        identity, files = self._identity, self._files.identity
        opened = await channel.begin(Begin(self._kind, CodeMethod.QR, uri.proof))
        ahead_ms = self._now_ms() - opened.gateway_unix_ms
        if abs(ahead_ms) > SKEW_WARN_MS:
            self._witness.clock_differs(ahead_ms)
        proof = self._handshake.complete(
            opened.begun,
            proof=uri.proof,
            ca_hash=uri.ca,
            csr_der=files.new_csr(identity.device_id),
            announcement=encode_announcement(self._announcement),
            purpose=Purpose.PAIR_URI,
            entropy=self._entropy,
        )
        return opened.begun.session_id, await channel.complete(proof)

    async def _wait(self, channel: GatewayChannel, waiting: PairingFile) -> HostFile:
        identity = self._identity
        self._witness.identity_shown(
            self._announcement.name, identity.device_id, identity.fingerprint
        )
        self._witness.waiting(waiting.request_id)
        while True:
            answer = await self._ask(channel, waiting)
            if answer is None:
                # A new connection next time: gRPC's own pause grows to two minutes.
                await channel.close()
            elif answer.certificate_pem:
                return self._accept(waiting, answer)
            elif answer.status != RequestState.PENDING.value:
                self._files.identity.stop_waiting()
                _refused(answer)
            pause_ms = answer.retry_after_ms if answer is not None else MAX_POLL_MS // 5
            pause_ms = min(max(pause_ms, POLL_INTERVAL_MS), MAX_POLL_MS)
            await deferLater(self._reactor, pause_ms / 1000)

    async def _ask(self, channel: GatewayChannel, waiting: PairingFile) -> StatusAnswer | None:
        """One question; None where the gateway could not answer (it is asked again)."""
        ca_der = x509.load_pem_x509_certificate(waiting.ca_pem.encode()).public_bytes(Encoding.DER)
        # Time rises by itself, over restarts too; a clock that is set back must not matter here.
        counter = self._counter = max(self._counter + 1, self._now_ms())
        proof = self._handshake.status_proof(
            waiting.session_id, hashlib.sha256(ca_der).digest(), counter
        )
        question = StatusQuestion(waiting.session_id, self._identity.device_id, counter, proof)
        try:
            answer = await channel.status(question)
        except PalyraError as error:
            unreachable = isinstance(error, GatewayUnreachable)
            if not unreachable and not (isinstance(error, RemoteRefusal) and error.transient):
                self._files.identity.stop_waiting()
                raise
            if not self._unanswered:
                self._witness.retrying(error.sentence)
            self._unanswered = True
            return None
        self._unanswered = False
        return answer

    def _accept(self, waiting: PairingFile, answer: StatusAnswer) -> HostFile:
        files, device_id = self._files, self._identity.device_id
        files.identity.accept(device_id, answer.certificate_pem, waiting.ca_pem)
        now_ms = self._now_ms()
        host = HostFile(
            schema_version=SCHEMA_VERSION,
            grpc_url=self._node_rpc_override or answer.node_rpc_address,
            device_id=device_id,
            poll_interval_ms=POLL_INTERVAL_MS,
            identity_store_dir=str(files.identity.path),
            installed_at_unix_ms=now_ms,
            paired_at_unix_ms=now_ms,
            name=answer.device_name,
            approved_by=answer.decided_by,
            enrolment_address=waiting.gateway,
        )
        files.keep_host(host)
        files.identity.stop_waiting()
        self._witness.approved(answer.decided_by, answer.device_name)
        return host


def _read_ca(pem: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise Malformed("gateway-ca-file", "is not a PEM certificate") from error


def _refused(answer: StatusAnswer) -> None:
    if answer.status == RequestState.REJECTED.value:
        raise PairingRejected(answer.reason)
    raise PairingExpired()
