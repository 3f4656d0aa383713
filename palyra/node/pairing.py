"""Pairing, the device's side (PROTOCOL: PIN PAIRING, URI PAIRING)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

import msgspec
from cryptography.x509 import load_pem_x509_certificate
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure

from palyra.config.addresses import HostPort, listed
from palyra.core.announcement import Announcement, encode_announcement
from palyra.core.devices import ClientKind
from palyra.core.handshake import DeviceHandshake
from palyra.core.identifiers import Entropy
from palyra.core.pairing import SESSION_WINDOW_MS, CodeMethod
from palyra.core.pairing_uri import PairingUri
from palyra.core.pake import Confirmations, DevicePake, PakeTranscript, confirms, with_pake
from palyra.core.pin import PinCode
from palyra.core.transcript import DeviceProof, Purpose
from palyra.core.transports import Preference
from palyra.errors import (
    GatewayNotProven,
    GatewayUnreachable,
    PairingFailed,
    PalyraError,
    VerificationFailed,
)
from palyra.node.files import POLL_INTERVAL_MS, HostFile, NodeFiles
from palyra.node.firstcontact import given_root, named_root, shown_root
from palyra.node.gatewaytime import GatewayTime
from palyra.node.identity import ClientFile, DeviceIdentity, PairingFile
from palyra.node.pickup import PickUp, PickUpWitness
from palyra.node.proxies import proxies_of, with_proxy
from palyra.node.roots import Root, Roots
from palyra.node.whereabouts import enrolments_of, urls_of
from palyra.transport.chain import check_dates, fetch_chain
from palyra.transport.grpcclient import GatewayChannel
from palyra.wire.pairing import Begin, SessionOpened, StatusAnswer

SCHEMA_VERSION = 1
MAX_PINS = 3


class Witness(PickUpWitness, Protocol):
    """Who watches a pairing: a terminal, or lines for a program."""

    def gateway_verified(self, address: str, ca_hash: str, matches: bool) -> None:
        """The CA under which the gateway is spoken to; ``matches``: the pairing line names it."""

    def pin_confirmed(self) -> None:
        """Both sides know the PIN, and nobody is in between."""

    def approved(self, by: str, name: str) -> None:
        """An operator said yes and the certificate is here."""

    def clock_differs(self, by_ms: int) -> None:
        """This clock is ahead (positive) or behind by more than a minute."""


class Pairing:
    """One pairing of this device, by a pairing line or by at most three PINs."""

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
        node_rpc: Sequence[str] = (),
        transport: Preference | None = None,
        environ: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """``node_rpc`` (where gateways of one CA serve nodes, instead of where this one says that
        it does) and ``transport`` are kept with the pairing, for every session; so is the proxy
        that ``environ`` names, which leads to the gateway."""
        self._reactor = reactor
        self._files = files
        self._identity = identity
        self._announcement = announcement
        self._kind = client_kind
        self._witness = witness
        self._entropy = entropy
        self._now_ms = now_ms
        self._node_rpc = listed(node_rpc, "--grpc-url")
        self._environ = environ
        self._before = _paired_before(files)
        self._proxies = proxies_of(self._before, environ)
        self._transport = transport
        self._handshake = DeviceHandshake(identity.key, identity.device_id, client_kind)
        self._pickup = PickUp(
            reactor=reactor,
            identity=identity,
            client_kind=client_kind,
            name=announcement.name,
            witness=witness,
            now_ms=now_ms,
            keep=files.identity.keep_waiting,
        )
        self._time = GatewayTime(now_ms, witness.clock_differs)
        self._pins = 0

    async def run(self, uri: PairingUri, ca_pem: bytes | None = None) -> HostFile:
        """Pair with a pairing line; returns when an operator has approved.

        ``ca_pem`` is a CA certificate that came another way; it must be the line's.

        :raises CaMismatch: the gateway shows another CA; nothing was sent.
        :raises PairingFailed, PairingRejected, PairingExpired, PalyraError: as they say.
        """
        address = HostPort(uri.host, uri.port)
        given = given_root(ca_pem) if ca_pem is not None else None
        proxy = self._proxies(address)
        chain = await fetch_chain(self._reactor, address, proxy)
        root = named_root(chain, uri.ca, given)
        check_dates(chain[0], self._now_ms())
        self._witness.gateway_verified(str(address), uri.ca.hex(), matches=True)
        channel = GatewayChannel(address, root.pem.encode(), None, proxy)
        try:
            waiting = await self._proven_by_token(channel, uri, root)
            self._files.identity.keep_waiting(waiting)
            return await self._picked_up(channel, waiting)
        finally:
            await channel.close()

    async def run_pin(
        self, address: HostPort, pin: PinCode, ca_pem: bytes | None = None
    ) -> HostFile:
        """Pair with a PIN that was typed for this one run; returns when an operator has approved.

        The PIN is not sent, and is forgotten before anything keyed is.  Nothing of the gateway is
        believed or kept before it has proved that it knows the PIN too, under the CA that this
        device sees.  ``ca_pem`` is that CA where it came another way.

        :raises GatewayNotProven: it did not prove that; somebody else may have answered.
        :raises PairingFailed: wrong, expired or used up, with the number of tries by now.
        :raises PairingRejected, PairingExpired, PalyraError: as they say.
        """
        assert self._pins < MAX_PINS, "who asks for PINs counts them"
        self._pins += 1
        given = given_root(ca_pem) if ca_pem is not None else None
        proxy = self._proxies(address)
        chain = await fetch_chain(self._reactor, address, proxy)
        root = given or shown_root(chain, address)
        if chain:
            check_dates(chain[0], self._now_ms())
        self._witness.gateway_verified(str(address), root.hash.hex(), matches=False)
        channel = GatewayChannel(address, root.pem.encode(), None, proxy)
        try:
            proven = self._proven_by_pin(channel, pin, root)
            del pin
            waiting = await proven
            self._files.identity.keep_waiting(waiting)
            return await self._picked_up(channel, waiting)
        finally:
            await channel.close()

    async def resume(self, waiting: PairingFile) -> HostFile:
        """Go on waiting for an operator after a restart."""
        address = HostPort.parse(waiting.gateway)
        proxy = self._proxies(address)
        channel = GatewayChannel(address, waiting.ca_pem.encode(), None, proxy)
        try:
            return await self._picked_up(channel, waiting)
        finally:
            await channel.close()

    # -- the handshake ------------------------------------------------------------------------

    async def _proven_by_token(
        self, channel: GatewayChannel, uri: PairingUri, root: Root
    ) -> PairingFile:
        opened = await self._begun(channel, Begin(self._kind, CodeMethod.QR, uri.proof))
        proof = self._proof(opened, uri.proof, root.hash, Purpose.PAIR_URI)
        completed = await channel.complete(proof)
        return self._waiting(channel, opened, root, completed.request_id)

    async def _proven_by_pin(
        self, channel: GatewayChannel, pin: PinCode, root: Root
    ) -> PairingFile:
        nameplate = pin.nameplate
        try:
            begin = Begin(self._kind, CodeMethod.PIN, nameplate=nameplate)
            opened = await self._begun(channel, begin)
            share, key = await self._agreed(pin, opened.share)
            del pin
            proof = self._proof(opened, "", root.hash, Purpose.PAIR_PIN)
            transcript = PakeTranscript(
                opened.begun, nameplate, root.hash, opened.share, share, proof
            )
            both = Confirmations.of(key, transcript)
            unproven = self._waiting(channel, opened, root, request_id="")
            proof = with_pake(proof, share, both.device)
            request_id, confirm = await self._completed(channel, proof, unproven)
        except PairingFailed as error:
            raise PairingFailed(pin=True, tries=self._pins) from error
        if not confirms(confirm, both.gateway):
            raise GatewayNotProven()
        self._witness.pin_confirmed()
        return msgspec.structs.replace(unproven, request_id=request_id)

    async def _begun(self, channel: GatewayChannel, begin: Begin) -> SessionOpened:
        opened = await channel.begin(begin)
        self._time.heard(opened.gateway_unix_ms)
        return opened

    def _agreed(self, pin: PinCode, gateway_share: bytes) -> Deferred[tuple[bytes, bytes]]:
        """X and K of the PIN's one run, made off the reactor."""
        pool = self._reactor.getThreadPool()
        return deferToThreadPool(
            self._reactor, pool, _run_pake, pin.pin, gateway_share, self._entropy
        )

    def _proof(
        self, opened: SessionOpened, proof: str, ca_hash: bytes, purpose: Purpose
    ) -> DeviceProof:
        return self._handshake.complete(
            opened.begun,
            proof=proof,
            ca_hash=ca_hash,
            csr_der=self._files.identity.new_csr(self._identity.device_id),
            announcement=encode_announcement(self._announcement),
            purpose=purpose,
            entropy=self._entropy,
        )

    def _waiting(
        self,
        channel: GatewayChannel,
        opened: SessionOpened,
        root: Root,
        request_id: str,
    ) -> PairingFile:
        return PairingFile(
            schema_version=SCHEMA_VERSION,
            session_id=opened.begun.session_id,
            request_id=request_id,
            gateway=str(channel.address),
            ca_pem=root.pem,
            name=self._announcement.name,
        )

    async def _completed(
        self, channel: GatewayChannel, proof: DeviceProof, unproven: PairingFile
    ) -> tuple[str, bytes]:
        """The request's id and cB; where that answer is lost, as status tells them later."""
        try:
            completed = await channel.complete(proof)
            return completed.request_id, completed.pake_confirm
        except GatewayUnreachable as error:
            lost = Failure(error)
        await channel.close()
        asking = Deferred.fromCoroutine(self._pickup.recover(channel, unproven))
        asking.addTimeout(SESSION_WINDOW_MS / 1000, self._reactor, onTimeoutCancel=lambda *_: lost)
        answer = await asking
        return answer.request_id, answer.pake_confirm

    # -- the certificate ----------------------------------------------------------------------

    async def _picked_up(self, channel: GatewayChannel, waiting: PairingFile) -> HostFile:
        """Wait for the operator, and keep what comes of it."""
        try:
            answer = await self._pickup.wait(channel, waiting)
        except PalyraError:
            self._files.identity.stop_waiting()
            raise
        return self._accept(waiting, answer)

    def _accept(self, waiting: PairingFile, answer: StatusAnswer) -> HostFile:
        files, device_id, before = self._files, self._identity.device_id, self._before
        files.identity.accept(device_id, answer.certificate_pem, waiting.ca_pem, answer.ca_pem)
        now_ms = self._now_ms()
        host = HostFile(
            schema_version=SCHEMA_VERSION,
            grpc_url=str(self._node_rpc[0]) if self._node_rpc else answer.node_rpc_address,
            device_id=device_id,
            poll_interval_ms=POLL_INTERVAL_MS,
            identity_store_dir=str(files.identity.path),
            installed_at_unix_ms=now_ms,
            paired_at_unix_ms=now_ms,
            name=answer.device_name,
            approved_by=answer.decided_by,
            enrolment_address=waiting.gateway,
            transport=self._transport.value if self._transport is not None else "",
            quic_address=answer.quic_address,
            gateway_urls=urls_of(self._node_rpc),
            http_proxy=before.http_proxy if before is not None else "",
            no_proxy=before.no_proxy if before is not None else "",
        )
        host = with_proxy(host, self._environ)
        files.keep_host(host)
        files.identity.stop_waiting()
        self._witness.approved(answer.decided_by, answer.device_name)
        return host


def unfinished(files: NodeFiles) -> PairingFile | None:
    """The pairing that a start without a word about pairing goes on with.

    Of a device that is paired only one that a crash cut off between the certificate and the host
    file.  Anything else that waits is a rejoin, which sees to itself, or a pairing that was given
    up: the certificate that there is comes first, and the file of such a pairing is dropped.
    """
    waiting, host = files.identity.waiting(), files.host()
    if waiting is None or host is None:
        return waiting
    if waiting.gateway in map(str, enrolments_of(host)):
        return None
    if _has_brought(waiting, files.identity.client()):
        return waiting
    files.identity.stop_waiting()
    return None


def _has_brought(waiting: PairingFile, client: ClientFile) -> bool:
    """Whether the certificate that is there is the one which that pairing waited for."""
    if client.current is None or client.pending is not None:
        return False
    try:
        certificate = load_pem_x509_certificate(client.current.certificate_pem.encode())
        return Roots.read(waiting.ca_pem).issued(certificate)
    except (ValueError, VerificationFailed):
        return False


def _paired_before(files: NodeFiles) -> HostFile | None:
    """The pairing that this one takes the place of, where it can be read: it need not be."""
    try:
        return files.host()
    except PalyraError:
        return None


def _run_pake(pin: str, gateway_share: bytes, entropy: Entropy) -> tuple[bytes, bytes]:
    pake = DevicePake(pin, entropy)
    return pake.share, pake.finish(gateway_share)
