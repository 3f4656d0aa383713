"""A device that follows PROTOCOL's exchanges to the letter, until a test makes it deviate.

Written from the text alone: nothing of palyra.core or palyra.node is used here.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any

import attrs
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding
from spake2 import SPAKE2_A

from tests.adversarial import forging
from tests.adversarial.detour import addresses
from tests.adversarial.house import Gateway
from tests.adversarial.wire import CALL_S, Key, Refusal, Stub, channel, lp, messages, refused, ulid

SOURCES = addresses()
V1 = (1).to_bytes(4, "little")
ANNOUNCEMENT = {
    "platform": "linux x86_64",
    "version": "1.0",
    "capabilities": [{"name": "echo", "idempotent": True, "timeout_ms": 10_000}],
}


def sha256(data: bytes) -> bytes:
    """H."""
    return hashlib.sha256(data).digest()


def der_of(pem: str | bytes) -> bytes:
    """The DER of a certificate."""
    data = pem.encode() if isinstance(pem, str) else pem
    return x509.load_pem_x509_certificate(data).public_bytes(Encoding.DER)


@attrs.frozen
class Confirmation:
    """cA that was sent, and cB that must come back."""

    ours: bytes
    theirs: bytes


def bound(message: messages.CompletePairingSessionRequest) -> bytes:
    """R: the device's message as both ends confirm it."""
    enrolment = message.enrolment
    return lp(
        message.client_kind.encode(),
        message.device_id.ulid.encode(),
        message.device_signing_public,
        message.device_x25519_public,
        message.challenge_signature,
        message.transcript_mac,
        enrolment.csr_der,
        enrolment.identity_signature,
        enrolment.announcement,
    )


def confirmation(
    key: bytes, opened: Any, message: Any, *, nameplate: int, ca: bytes, ours: bytes | None = None
) -> Confirmation:
    """Both confirmations of a run with the shared ``key``; ``ours`` where cA was another one."""
    transcript = sha256(
        lp(
            b"palyra-pake-v1",
            opened.session_id.encode(),
            nameplate.to_bytes(4, "little"),
            opened.challenge,
            opened.gateway_ephemeral_public,
            ca,
            opened.pake.share,
            message.enrolment.pake_share,
            bound(message),
        )
    )
    info = b"palyra-pake-v1 confirm"
    keys = HKDF(algorithm=SHA256(), length=64, salt=transcript, info=info).derive(key)
    sent = hmac.digest(keys[:32], transcript, "sha256") if ours is None else ours
    return Confirmation(sent, hmac.digest(keys[32:], lp(transcript, sent), "sha256"))


def parts(code: str) -> tuple[int, str]:
    """Nameplate and PIN of a code as it is shown."""
    nameplate, dash, pin = code.rpartition("-")
    return (int(nameplate), pin) if dash else (1, code)


def wrong(code: str) -> str:
    """A code of the same nameplate with another PIN."""
    nameplate, pin = parts(code)
    return f"{nameplate}-{(int(pin) + 1) % 1_000_000:06d}"


class Device:
    """A device: an identity key, a TLS key, an address of its own, and what it was issued."""

    def __init__(
        self,
        gateway: Gateway,
        name: str = "device",
        *,
        device_id: str | None = None,
        kind: str = "node",
        source: str | None = None,
        way: str | None = None,
    ) -> None:
        self.gateway = gateway
        self.source = source or next(SOURCES)
        self._way = way
        self.device_id = device_id or ulid()
        self.kind = kind
        self.identity = Ed25519PrivateKey.generate()
        self.key = forging.fresh_key()
        self.csr = forging.csr(self.key, self.device_id)
        self.announcement = json.dumps({"name": name, **ANNOUNCEMENT}).encode()
        self.ca_der = gateway.ca_der
        self.certificate_pem = b""
        self.secrets: set[str] = set()
        self._counter = int(time.time() * 1000)

    @property
    def identity_public(self) -> bytes:
        """The identity key as it is sent."""
        return self.identity.public_key().public_bytes_raw()

    @property
    def ca(self) -> bytes:
        """CA of PROTOCOL: what this device hashes of the only root it uses."""
        return sha256(self.ca_der)

    # -- Begin ----------------------------------------------------------------------------------

    def offer_pin(self, nameplate: int = 1) -> messages.BeginPairingSessionRequest:
        """Begin with a nameplate; the PIN stays here."""
        message = messages.BeginPairingSessionRequest(v=1, client_kind=self.kind)
        message.method.pin_code = ""
        message.pake.suite, message.pake.nameplate = 1, nameplate
        return message

    def offer_token(self, token: str) -> messages.BeginPairingSessionRequest:
        """Begin with the token of a pairing line."""
        message = messages.BeginPairingSessionRequest(v=1, client_kind=self.kind)
        message.method.qr_token = token
        return message

    def offer_rejoin(self) -> messages.BeginPairingSessionRequest:
        """Begin with a device id."""
        message = messages.BeginPairingSessionRequest(v=1, client_kind=self.kind)
        message.rejoin.device_id.ulid = self.device_id
        return message

    def begin(self, message: messages.BeginPairingSessionRequest) -> Any:
        """BeginPairingSession."""
        with self.enrolment() as stub:
            opened = stub.BeginPairingSession(message, timeout=CALL_S)
        self.secrets |= {opened.session_id}
        return opened

    # -- Complete -------------------------------------------------------------------------------

    def answer(
        self, opened: Any, purpose: str, *, proof: str = "", enrolment: bool = True
    ) -> messages.CompletePairingSessionRequest:
        """The published fields and, unless this is a version-1 device, CSR and SIG."""
        ephemeral = X25519PrivateKey.generate()
        gateway_public = X25519PublicKey.from_public_bytes(opened.gateway_ephemeral_public)
        session, who = opened.session_id.encode(), f"{self.device_id}{self.kind}"
        signed = b"palyra-pairing-v1" + V1 + session + opened.challenge
        signed += opened.gateway_ephemeral_public + f"{who}{proof}".encode()
        info = b"palyra-mtls-transcript-v1" + session + V1 + who.encode()
        mac = HKDF(algorithm=SHA256(), length=32, salt=opened.challenge, info=info)
        message = messages.CompletePairingSessionRequest(
            v=1,
            session_id=opened.session_id,
            client_kind=self.kind,
            proof=proof,
            device_signing_public=self.identity_public,
            device_x25519_public=ephemeral.public_key().public_bytes_raw(),
            challenge_signature=self.identity.sign(signed),
            transcript_mac=mac.derive(ephemeral.exchange(gateway_public)),
        )
        message.device_id.ulid = self.device_id
        if enrolment:
            message.enrolment.csr_der = self.csr
            message.enrolment.announcement = self.announcement
            message.enrolment.identity_signature = self.sign(opened, purpose)
        return message

    def sign(self, opened: Any, purpose: str) -> bytes:
        """SIG."""
        return self.identity.sign(
            lp(
                b"palyra-identity-v1",
                purpose.encode(),
                opened.session_id.encode(),
                opened.challenge,
                self.ca,
                self.device_id.encode(),
                self.kind.encode(),
                self.identity_public,
                sha256(self.csr),
                sha256(self.announcement),
            )
        )

    def prove(
        self,
        opened: Any,
        code: str,
        *,
        before: Callable[[Any], object] = lambda message: None,
        purpose: str = "pair-pin",
    ) -> tuple[Any, Confirmation]:
        """Complete for a PIN, and both confirmations; ``before`` changes what is confirmed."""
        nameplate, pin = parts(code)
        self.secrets |= {pin}
        spake = SPAKE2_A(pin.encode(), idA=b"palyra-pake-v1 device", idB=b"palyra-pake-v1 gateway")
        message = self.answer(opened, purpose)
        message.enrolment.pake_share = spake.start()
        before(message)
        key = spake.finish(opened.pake.share)
        sent = confirmation(key, opened, message, nameplate=nameplate, ca=self.ca)
        message.enrolment.pake_confirm = sent.ours
        return message, sent

    def complete(self, message: messages.CompletePairingSessionRequest) -> Any:
        """CompletePairingSession."""
        with self.enrolment() as stub:
            return stub.CompletePairingSession(message, timeout=CALL_S)

    # -- the whole way --------------------------------------------------------------------------

    def pair_by_pin(self, code: str) -> Any:
        """Begin and Complete with a PIN; the opened session, once the gateway proved itself."""
        opened = self.begin(self.offer_pin(parts(code)[0]))
        message, sent = self.prove(opened, code)
        answer = self.complete(message)
        assert hmac.compare_digest(answer.pake_confirm, sent.theirs), "the gateway is not proven"
        return opened, answer

    def pair_by_token(self, token: str) -> Any:
        """Begin and Complete with a token; the opened session and the answer."""
        self.secrets |= {token}
        opened = self.begin(self.offer_token(token))
        return opened, self.complete(self.answer(opened, "pair-uri", proof=token))

    def rejoin(self) -> Any:
        """Begin and Complete with the identity key; the opened session and the answer."""
        opened = self.begin(self.offer_rejoin())
        return opened, self.complete(self.answer(opened, "rejoin"))

    def status_message(
        self, session_id: str, counter: int | None = None
    ) -> messages.GetPairingRequestStatusRequest:
        """The status question with its proof."""
        self._counter += 1
        counter = self._counter if counter is None else counter
        message = messages.GetPairingRequestStatusRequest(v=1, session_id=session_id)
        message.device_id.ulid = self.device_id
        message.proof.counter = counter
        message.proof.signature = self.identity.sign(
            lp(
                b"palyra-status-v1",
                session_id.encode(),
                self.device_id.encode(),
                self.ca,
                counter.to_bytes(8, "little"),
            )
        )
        return message

    def status(self, session_id: str) -> Any:
        """GetPairingRequestStatus."""
        with self.enrolment() as stub:
            return stub.GetPairingRequestStatus(self.status_message(session_id), timeout=CALL_S)

    def accept(self, answer: Any) -> Device:
        """Take a certificate as step 6 says: chain to the CA, URI SAN, own key."""
        pem = answer.mtls_client_certificate_pem.encode()
        certificate = x509.load_pem_x509_certificate(pem)
        certificate.verify_directly_issued_by(x509.load_der_x509_certificate(self.ca_der))
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
        assert uris == [f"spiffe://palyra/device/{self.device_id}"]
        assert certificate.public_key() == self.key.public_key()
        assert not answer.mtls_client_private_key_pem
        self.certificate_pem = pem
        return self

    def pick_up(self, opened: Any, answer: Any) -> Device:
        """An operator approves, and the device picks its certificate up."""
        self.gateway.approve(answer.request_id)
        return self.accept(self.status(opened.session_id))

    def enrol(self) -> Device:
        """Pair for real, by a pairing line."""
        return self.pick_up(*self.pair_by_token(self.gateway.token()))

    def refused(self, call: Callable[..., object], *arguments: object, **named: object) -> Refusal:
        """Make a call that must be refused without telling a secret of this device."""
        return refused(self.secrets, call, *arguments, **named)

    # -- the two listeners ----------------------------------------------------------------------

    def enrolment(self) -> Stub:
        """The enrolment listener, reached from this device's address."""
        ca_pem = x509.load_der_x509_certificate(self.ca_der).public_bytes(Encoding.PEM)
        return Stub(channel(self._way or self.gateway.via(self.source), ca_pem))

    def node_rpc(
        self, pem: bytes | None = None, key: Key | None = None, resumption: Any = None
    ) -> Stub:
        """The node listener, with this device's certificate or with another one."""
        chain = self.certificate_pem if pem is None else pem
        own = (key or self.key) if chain else None
        address = self.gateway.node_rpc
        return Stub(channel(address, self.gateway.ca_pem, own, chain, resumption))

    # -- the node -----------------------------------------------------------------------------

    def hello(self, device_id: str | None = None) -> messages.RegisterNodeRequest:
        """What RegisterNode is told."""
        message = messages.RegisterNodeRequest(v=1, platform="linux x86_64")
        message.device_id.ulid = device_id or self.device_id
        message.capabilities.add(name="echo", available=True)
        message.hello.memory_id = "0" * 32
        message.hello.version = "1.0"
        return message

    def event(self, epoch: int = 0) -> messages.NodeEventRequest:
        """A heartbeat."""
        message = messages.NodeEventRequest(v=1, event_name="node.heartbeat", session_epoch=epoch)
        message.device_id.ulid = self.device_id
        return message

    def register(
        self, pem: bytes | None = None, key: Key | None = None, resumption: Any = None
    ) -> Any:
        """RegisterNode."""
        with self.node_rpc(pem, key, resumption) as stub:
            return stub.RegisterNode(self.hello(), timeout=CALL_S)

    @contextlib.contextmanager
    def session(self) -> Iterator[Any]:
        """Register and open a stream that stays open; the call."""
        with self.node_rpc() as stub:
            welcome = stub.RegisterNode(self.hello(), timeout=CALL_S).welcome
            outbox = Outbox(self.event(welcome.session_epoch))
            try:
                yield stub.StreamNodeEvents(outbox, timeout=60)
            finally:
                outbox.close()

    # -- renewal --------------------------------------------------------------------------------

    def renewal(
        self, key: Key | None = None, csr: bytes | None = None, over: bytes | None = None
    ) -> messages.RotateDeviceCertificateRequest:
        """Rotate for a new key, signed over the certificate ``over`` (PEM; else the own one)."""
        wanted = csr or forging.csr(key or forging.fresh_key(), self.device_id)
        connection = sha256(der_of(over or self.certificate_pem))
        message = messages.RotateDeviceCertificateRequest(v=1, csr_der=wanted)
        message.device_id.ulid = self.device_id
        message.identity_signature = self.identity.sign(
            lp(b"palyra-renew-v1", self.device_id.encode(), self.ca, connection, sha256(wanted))
        )
        return message

    def rotate(self, message: messages.RotateDeviceCertificateRequest) -> Any:
        """RotateDeviceCertificate over this device's certificate."""
        with self.node_rpc() as stub:
            return stub.RotateDeviceCertificate(message, timeout=CALL_S)


class Outbox:
    """The requests of an open stream: what is put here is sent, until it is closed."""

    def __init__(self, *first: messages.NodeEventRequest) -> None:
        self._queue: SimpleQueue[messages.NodeEventRequest | None] = SimpleQueue()
        for message in first:
            self._queue.put(message)

    def __iter__(self) -> Iterator[messages.NodeEventRequest]:
        return self

    def __next__(self) -> messages.NodeEventRequest:
        message = self._queue.get()
        if message is None:
            raise StopIteration
        return message

    def close(self) -> None:
        """Nothing more will be said."""
        self._queue.put(None)
