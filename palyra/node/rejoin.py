"""Rejoin: a device whose certificate is of no use any more comes back by its identity key.

It asks the enrolment listener, under a CA that it trusts already (PROTOCOL: REJOIN).  Within the
grace that the operator sets a certificate comes at once; after it an operator approves anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import attrs
import msgspec
from twisted.logger import Logger

from palyra.config.addresses import HostPort
from palyra.core.announcement import Announcement, encode_announcement
from palyra.core.devices import ClientKind
from palyra.core.handshake import DeviceHandshake
from palyra.core.identifiers import Entropy
from palyra.core.pairing import CodeMethod
from palyra.core.transcript import DeviceProof, Purpose
from palyra.errors import (
    GatewayUnreachable,
    PairingRejected,
    PalyraError,
    RejoinRefused,
    RemoteRefusal,
    VerificationFailed,
)
from palyra.node.gatewaytime import GatewayTime
from palyra.node.identity import DeviceIdentity, IdentityStore, PairingFile
from palyra.node.pickup import PickUp, PickUpWitness, is_unknown
from palyra.node.roots import Root, Roots
from palyra.transport.grpcclient import GatewayChannel
from palyra.wire.pairing import Begin, SessionOpened

SCHEMA_VERSION = 1
PATIENCE = 5
"""So often in a row a gateway may not answer before the certificates are tried once more."""


def is_final(error: BaseException | None) -> bool:
    """Whether trying again cannot help until a person acts."""
    if isinstance(error, RemoteRefusal):
        return error.final
    return isinstance(error, (RejoinRefused, PairingRejected))


class RejoinWitness(PickUpWitness, Protocol):
    """Who watches a device come back."""

    def rejoined(self, ends_ms: int) -> None:
        """It has a certificate again, until then (Unix ms)."""


OpenEnrolment = Callable[[HostPort, bytes], GatewayChannel]
"""A connection to the enrolment listener, verified under that one root (PEM)."""


@attrs.frozen
class _Opened:
    """A rejoin that was begun, where, and under which root."""

    address: HostPort
    root: Root
    channel: GatewayChannel
    session: SessionOpened


class Rejoin:
    """The way back of one device."""

    _log = Logger()

    def __init__(
        self,
        *,
        reactor: Any,
        addresses: Sequence[HostPort],
        channel: OpenEnrolment,
        identity: DeviceIdentity,
        store: IdentityStore,
        announcement: Callable[[], Announcement],
        witness: RejoinWitness,
        entropy: Entropy,
    ) -> None:
        """``addresses`` are the enrolment listeners', in the order of trying: the next one only
        where nobody is heard at the one before."""
        self._reactor = reactor
        self._addresses = tuple(addresses)
        self._channel = channel
        self._identity = identity
        self._store = store
        self._announcement = announcement
        self._witness = witness
        self._entropy = entropy
        self._pickup: PickUp | None = None

    async def run(self, time: GatewayTime, *, expired: bool) -> None:
        """Come back; returns when there is a certificate to connect with.

        ``expired``: the only reason is this device's clock.  Where the gateway's says otherwise,
        nothing is asked for and the certificates stay.

        :raises RejoinRefused, RemoteRefusal, PairingRejected: see :func:`is_final`.
        :raises PalyraError: it did not work now.
        """
        waiting = self._store.waiting()
        if waiting is not None and self._is_ours(waiting) and await self._resumed(waiting):
            return
        opened = await self._open()
        try:
            time.heard(opened.session.gateway_unix_ms)
            if expired and self._store.client().usable(time.now_ms()):
                return
            await self._complete(opened)
        finally:
            await opened.channel.close()

    async def _resumed(self, waiting: PairingFile) -> bool:
        """Whether the session that was begun earlier led to a certificate.

        False where the gateway does not know it (any more).  It is asked where it was begun and
        under the root of then; where that does not lead to an answer at the other addresses, and
        under every other root that is trusted: the listeners may have another CA meanwhile.
        """
        trusted = Roots.read(self._store.client().ca_bundle_pem).each
        first, begun = Roots.read(waiting.ca_pem).first, HostPort.parse(waiting.gateway)
        roots = (first, *(each for each in trusted if each != first))
        addresses = (begun, *(each for each in self._addresses if each != begun))
        away: list[GatewayUnreachable] = []
        for address, root in _each(addresses, roots, away):
            channel = self._channel(address, root.pem.encode())
            try:
                await self._pick_up(channel, msgspec.structs.replace(waiting, ca_pem=root.pem))
                return True
            except GatewayUnreachable as error:
                away.append(error)
            except RemoteRefusal as refusal:
                if not is_unknown(refusal):
                    raise
                return False
            finally:
                await channel.close()
        raise away[0]

    def _is_ours(self, waiting: PairingFile) -> bool:
        """Whether that approval is one of this gateway: it may be of a pairing with another."""
        try:
            trusted = Roots.read(self._store.client().ca_bundle_pem)
            return (
                waiting.gateway in map(str, self._addresses)
                and Roots.read(waiting.ca_pem).first in trusted.each
            )
        except VerificationFailed:
            return False

    async def _open(self) -> _Opened:
        """Begin, under each root alone: what is signed names the one that the gateway showed."""
        begin = Begin(ClientKind.NODE, CodeMethod.REJOIN, device_id=self._identity.device_id)
        roots = Roots.read(self._store.client().ca_bundle_pem).each
        away: list[GatewayUnreachable] = []
        for address, root in _each(self._addresses, roots, away):
            channel = self._channel(address, root.pem.encode())
            try:
                return _Opened(address, root, channel, await channel.begin(begin))
            except GatewayUnreachable as error:
                away.append(error)
                await channel.close()
            except Exception:
                await channel.close()
                raise
        raise away[0]

    async def _complete(self, opened: _Opened) -> None:
        root, channel = opened.root, opened.channel
        proof = self._proof(root, opened.session)
        # Before it is told anything: where its answer gets lost it is asked what became of it.
        waiting = PairingFile(
            schema_version=SCHEMA_VERSION,
            session_id=opened.session.begun.session_id,
            request_id="",
            gateway=str(opened.address),
            ca_pem=root.pem,
        )
        self._store.keep_waiting(waiting)
        with self._decided():
            completed = await channel.complete(proof)
            if completed.certificate_pem:
                self._accept(completed.certificate_pem, completed.ca_pem)
                return
            known = msgspec.structs.replace(waiting, request_id=completed.request_id)
            self._store.keep_waiting(known)
            await self._pick_up(channel, known)

    def _proof(self, root: Root, opened: SessionOpened) -> DeviceProof:
        identity = self._identity
        handshake = DeviceHandshake(identity.key, identity.device_id, ClientKind.NODE)
        return handshake.complete(
            opened.begun,
            proof="",
            ca_hash=root.hash,
            csr_der=self._store.new_csr(identity.device_id),
            announcement=encode_announcement(self._announcement()),
            purpose=Purpose.REJOIN,
            entropy=self._entropy,
        )

    async def _pick_up(self, channel: GatewayChannel, waiting: PairingFile) -> None:
        """An operator must approve; asked again after a restart, until it is decided."""
        pickup = self._pickup = self._pickup or self._new_pickup()
        with self._decided():
            if not waiting.request_id:
                found = await pickup.recover(channel, waiting)
                waiting = msgspec.structs.replace(waiting, request_id=found.request_id)
                self._store.keep_waiting(waiting)
            answer = await pickup.wait(channel, waiting)
            self._accept(answer.certificate_pem, answer.ca_pem)

    @contextmanager
    def _decided(self) -> Iterator[None]:
        """Nothing is waited for after this, unless trying again may bring another answer."""
        try:
            yield
        except PalyraError as error:
            if not error.retryable:
                self._store.stop_waiting()
            raise
        else:
            self._store.stop_waiting()

    def _new_pickup(self) -> PickUp:
        return PickUp(
            reactor=self._reactor,
            identity=self._identity,
            client_kind=ClientKind.NODE,
            name=self._announcement().name,
            witness=self._witness,
            now_ms=lambda: int(self._reactor.seconds() * 1000),
            keep=self._store.keep_waiting,
            patience=PATIENCE,
        )

    def _accept(self, certificate_pem: str, ca_bundle_pem: str) -> None:
        trusted_pem = self._store.client().ca_bundle_pem
        kept = self._store.accept(
            self._identity.device_id, certificate_pem, trusted_pem, ca_bundle_pem
        )
        self._witness.rejoined(kept.cert_expires_at_unix_ms)


def _each(
    addresses: Sequence[HostPort], roots: Sequence[Root], away: Sequence[GatewayUnreachable]
) -> Iterator[tuple[HostPort, Root]]:
    """Every root at each address; no other one where the last failure, the end of ``away``, says
    that nobody is there."""
    for address in addresses:
        for root in roots:
            failures = len(away)
            yield address, root
            if len(away) > failures and away[-1].unreached:
                break
