"""The gateway's side of PIN pairing as PROTOCOL has it, over a real listener on the loopback: what
a device meets there, and what somebody in between can do."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from typing import Any

import attrs
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from palyra._reactor import the_reactor
from palyra.config.addresses import HostPort
from palyra.core.handshake import GatewayHandshake
from palyra.core.pairing import RequestState
from palyra.core.pake import Confirmations, GatewayPake, PakeTranscript, confirms
from palyra.core.pin import draw_pin
from palyra.core.transcript import (
    DeviceProof,
    Purpose,
    status_payload,
    verify_identity_signature,
)
from palyra.errors import PairingFailed, PairingSessionUnknown, PalyraError, VerificationFailed
from palyra.pki.authority import Authority
from palyra.pki.csr import check_csr
from palyra.transport.asyncbridge import as_deferred
from palyra.transport.grpcclient import GatewayChannel
from palyra.transport.grpclistener import ENROLMENT_OPTIONS, MAX_PAIRING_MESSAGE, GrpcListener
from palyra.transport.grpcserver import EnrolmentServicer
from palyra.transport.interfaces import IEnrolmentDesk
from palyra.wire.pairing import Begin, Completed, SessionOpened, StatusAnswer, StatusQuestion

GATEWAY_ID = "01M80NKQCNGATEWAYZT9B3FVHD"
REQUEST_ID = "01M80TNY9PZTHXEWCMG453300P"
NODE_RPC = "127.0.0.1:7444"
POLL_MS = 20


@attrs.define
class PinRun:
    """One pairing session at the gateway."""

    handshake: GatewayHandshake
    nameplate: int
    pake: GatewayPake
    proof: DeviceProof | None = None
    confirm: bytes = b""
    counter: int = 0


@implementer(IEnrolmentDesk)
class PinDesk:
    """Pairs by PIN.  Each code is used up by one success; the knobs are for what goes wrong."""

    def __init__(self, authority: Authority, now_ms: Callable[[], int]) -> None:
        self.authority = authority
        self.now_ms = now_ms
        self.codes: dict[int, str] = {}
        self.runs: dict[str, PinRun] = {}
        self.begun: list[Begin] = []
        self.guesses: list[bool] = []
        self.state = RequestState.PENDING
        self.complete_error: PalyraError | None = None
        self.spoilt: Callable[[Completed], Completed] = lambda answer: answer
        self.spoilt_share: Callable[[bytes], bytes] = lambda share: share
        self.spoilt_status: Callable[[StatusAnswer], StatusAnswer] = lambda answer: answer
        self.lost: Callable[[], object] | None = None
        """Called in place of an answer to Complete that is lost."""
        self.forgotten = 0
        """How often a status question is answered as if the session were not known."""

    def begin(self, message: Begin, address: str) -> Deferred[SessionOpened]:
        self.begun.append(message)
        assert message.nameplate is not None
        pin = self.codes.get(message.nameplate) or draw_pin(os.urandom)
        handshake = GatewayHandshake.begin(
            message.client_kind, Purpose.PAIR_PIN, os.urandom, self.now_ms()
        )
        run = PinRun(handshake, message.nameplate, GatewayPake(pin, os.urandom))
        self.runs[handshake.session_id] = run
        opened = SessionOpened(
            handshake.begun, message.client_kind, handshake.expires_at_ms, self.now_ms()
        )
        return succeed(attrs.evolve(opened, share=self.spoilt_share(run.pake.share)))

    def complete(self, message: DeviceProof, address: str) -> Deferred[Completed]:
        if self.complete_error is not None:
            raise self.complete_error
        run = self.runs[message.session_id]
        assert run.proof is None, "a session takes one Complete"
        run.confirm = self._confirmed(run, message)
        run.handshake.verify(
            message,
            ca_hashes=[bytes.fromhex(self.authority.ca_hash)],
            proof_expected="",
            now_ms=self.now_ms(),
        )
        run.proof = message
        if self.lost is not None:
            self.lost()
            return Deferred()
        completed = Completed(REQUEST_ID, "", "", POLL_MS, pake_confirm=run.confirm)
        return succeed(self.spoilt(completed))

    def _confirmed(self, run: PinRun, message: DeviceProof) -> bytes:
        """cB, where the device's confirmation is right; else a guess is counted."""
        assert message.enrolment is not None
        key = run.pake.finish(message.enrolment.pake_share)
        transcript = PakeTranscript(
            run.handshake.begun,
            run.nameplate,
            bytes.fromhex(self.authority.ca_hash),
            run.pake.share,
            message.enrolment.pake_share,
            message,
        )
        both = Confirmations.of(key, transcript)
        self.guesses.append(confirms(message.enrolment.pake_confirm, both.device))
        if not self.guesses[-1]:
            run.handshake.fail()
            raise PairingFailed()
        del self.codes[run.nameplate]
        return both.gateway

    def status(self, message: StatusQuestion, address: str) -> Deferred[StatusAnswer]:
        run = self.runs.get(message.session_id)
        if run is None or run.proof is None or self.forgotten:
            self.forgotten = max(0, self.forgotten - 1)
            raise PairingSessionUnknown()
        ca_hash = bytes.fromhex(self.authority.ca_hash)
        payload = status_payload(message.session_id, message.device_id, ca_hash, message.counter)
        verify_identity_signature(run.proof.identity_public, message.signature, payload)
        if message.counter <= run.counter:
            raise VerificationFailed("the status proof is a repetition")
        run.counter = message.counter
        answer = StatusAnswer(
            self.state.value, "", REQUEST_ID, "", "", "", POLL_MS, pake_confirm=run.confirm
        )
        if self.state is RequestState.APPROVED:
            answer = attrs.evolve(
                answer,
                certificate_pem=self._certificate(run.proof),
                ca_pem=self.authority.ca_pem.decode(),
                device_name="pi",
                decided_by="ana",
                node_rpc_address=NODE_RPC,
            )
        return succeed(self.spoilt_status(answer))

    def _certificate(self, proof: DeviceProof) -> str:
        assert proof.enrolment is not None
        key = check_csr(proof.enrolment.csr_der, proof.device_id)
        return self.authority.issue_device(key, proof.device_id, self.now_ms()).pem.decode()


@implementer(IEnrolmentDesk)
class RelayDesk:
    """Somebody in between, who ends the device's TLS and speaks to the gateway in its place."""

    def __init__(self, gateway: PinGateway) -> None:
        self.behind = GatewayChannel(gateway.address, gateway.authority.ca_pem)
        self.seen: list[Any] = []

    def begin(self, message: Begin, address: str) -> Deferred[SessionOpened]:
        self.seen.append(message)
        return self.behind.begin(message)

    def complete(self, message: DeviceProof, address: str) -> Deferred[Completed]:
        self.seen.append(message)
        return self.behind.complete(message)

    def status(self, message: StatusQuestion, address: str) -> Deferred[StatusAnswer]:
        self.seen.append(message)
        return self.behind.status(message)


class PinGateway:
    """A gateway, or what poses as one, that listens with a CA of its own."""

    def __init__(self, desk: Any = None) -> None:
        self.reactor = the_reactor()
        self.authority = Authority.create(
            trust_domain="palyra", now_ms=self.now_ms(), entropy=os.urandom
        )
        self.desk = PinDesk(self.authority, self.now_ms)
        self._asked = desk or self.desk
        self.address = HostPort("127.0.0.1", 0)
        self._listener: GrpcListener | None = None
        self._served = self._leaf()

    def now_ms(self) -> int:
        """The time of day."""
        return int(self.reactor.seconds() * 1000)

    @property
    def ca_digest(self) -> bytes:
        """What a device that sees this gateway binds its PIN to."""
        return hashlib.sha256(self.authority.ca_der).digest()

    def _leaf(self) -> tuple[bytes, bytes]:
        key = ec.generate_private_key(ec.SECP256R1())
        issued = self.authority.issue_gateway(key.public_key(), GATEWAY_ID, (), self.now_ms())
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return pem, issued.pem + self.authority.ca_pem

    async def start(self) -> None:
        """Listen; again after ``stop``, on the same port."""
        self._listener = GrpcListener(
            name="enrolment",
            address=self.address,
            servicer=EnrolmentServicer(self._asked),
            certificate=lambda: self._served,
            client_ca_pem=None,
            max_message=MAX_PAIRING_MESSAGE,
            max_connections=64,
            options=ENROLMENT_OPTIONS,
        )
        await as_deferred(self._listener._start())
        self.address = self._listener.address

    async def stop(self) -> None:
        """Go away, with every connection."""
        if self._listener is not None:
            await self._listener.stop(0)
            self._listener = None

    def vanish(self) -> Deferred[None]:
        """Stop, in the middle of something."""
        return Deferred.fromCoroutine(self.stop())

    def restart(self) -> Deferred[None]:
        """Drop every connection and listen again."""

        async def again() -> None:
            await self.stop()
            await self.start()

        return Deferred.fromCoroutine(again())
