"""A device that speaks the wire itself, so that it can also say what no node host would."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any

import attrs
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from palyra.core.announcement import Announcement, encode_announcement
from palyra.core.devices import AnnouncedCapability, ClientKind
from palyra.core.frames import HEARTBEAT, Hello, NodeEvent
from palyra.core.handshake import DeviceHandshake
from palyra.core.identifiers import DeviceId, new_ulid
from palyra.core.pairing import CodeMethod
from palyra.core.pairing_uri import PairingUri
from palyra.core.transcript import DeviceProof, Purpose
from palyra.pki.csr import make_csr
from palyra.transport import grpcclient
from palyra.transport.chain import TLS_NAME
from palyra.wire import pairing as pairing_wire
from palyra.wire import registration
from palyra.wire import session as session_wire
from palyra.wire.service import NodeServiceStub, messages
from tests.integration.house import Gateway

# With the environment that the transport sets before the first import.
grpc = grpcclient.grpc  # type: ignore[attr-defined]
CALL_S = 10.0
OPTIONS = (
    ("grpc.ssl_target_name_override", TLS_NAME),
    ("grpc.default_authority", TLS_NAME),
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)
ECHO = AnnouncedCapability(name="echo", available=True, idempotent=True, timeout_ms=10_000)

Key = ec.EllipticCurvePrivateKey


def key_pem(key: Key) -> bytes:
    """A private key as gRPC takes it."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@attrs.frozen
class Refusal:
    """How a call ended: the gRPC status and the stable code of the error."""

    status: str
    code: str
    details: str


def refusal(call: Callable[..., object], *arguments: object) -> Refusal:
    """Make a call that must be refused."""
    try:
        answer = call(*arguments)
    except grpc.RpcError as error:
        return refusal_of(error)
    raise AssertionError(f"it was not refused but answered {answer!r}")


def refusal_of(error: Any) -> Refusal:
    """A gRPC error as a value."""
    trailing = {key: value for key, value in error.trailing_metadata() or ()}
    code = str(trailing.get("palyra-code", ""))
    return Refusal(error.code().name, code, error.details() or "")


class Device:
    """A device: an identity key, a TLS key, and what it was issued."""

    def __init__(
        self, gateway: Gateway, name: str = "device", device_id: str | None = None
    ) -> None:
        self.gateway = gateway
        self.name = name
        self.device_id = DeviceId(device_id or new_ulid(int(time.time() * 1000), os.urandom))
        self.identity = Ed25519PrivateKey.generate()
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.csr = make_csr(self.key, self.device_id)
        self.certificate_pem = b""
        self.ca_pem = (gateway.root / "identity" / "ca.pem").read_bytes()
        self._counter = int(time.time() * 1000)

    # -- pairing ------------------------------------------------------------------------------

    @property
    def ca_hash(self) -> bytes:
        """SHA-256 of the CA certificate."""
        der = x509.load_pem_x509_certificate(self.ca_pem).public_bytes(Encoding.DER)
        return hashlib.sha256(der).digest()

    def begin(self, token: str) -> pairing_wire.SessionOpened:
        """BeginPairingSession with a token."""
        message = pairing_wire.Begin(ClientKind.NODE, CodeMethod.QR, token)
        with self.enrolment() as stub:
            answer = stub.BeginPairingSession(pairing_wire.write_begin(message), timeout=CALL_S)
        return pairing_wire.read_opened(answer)

    def proof(self, opened: pairing_wire.SessionOpened, token: str) -> DeviceProof:
        """What an honest device answers."""
        handshake = DeviceHandshake(self.identity, self.device_id)
        said = Announcement(self.name, "linux x86_64", "1.0", (ECHO,))
        return handshake.complete(
            opened.begun,
            proof=token,
            ca_hash=self.ca_hash,
            csr_der=self.csr,
            announcement=encode_announcement(said),
            purpose=Purpose.PAIR_URI,
            entropy=os.urandom,
        )

    def complete(self, proof: DeviceProof) -> pairing_wire.Completed:
        """CompletePairingSession."""
        return pairing_wire.read_completed(self.send(pairing_wire.write_complete(proof)))

    def send(self, message: messages.CompletePairingSessionRequest) -> Any:
        """CompletePairingSession with a message as it stands."""
        with self.enrolment() as stub:
            return stub.CompletePairingSession(message, timeout=CALL_S)

    def status(self, session_id: str, counter: int | None = None) -> pairing_wire.StatusAnswer:
        """GetPairingRequestStatus."""
        self._counter += 1
        counter = self._counter if counter is None else counter
        handshake = DeviceHandshake(self.identity, self.device_id)
        signature = handshake.status_proof(session_id, self.ca_hash, counter)
        question = pairing_wire.StatusQuestion(session_id, self.device_id, counter, signature)
        message = pairing_wire.write_status_question(question)
        with self.enrolment() as stub:
            answer = stub.GetPairingRequestStatus(message, timeout=CALL_S)
        return pairing_wire.read_status_answer(answer)

    def enrol(self) -> Device:
        """Pair for real, with the operator's consent."""
        token = PairingUri.parse(self.gateway.line()).proof
        opened = self.begin(token)
        request_id = self.complete(self.proof(opened, token)).request_id
        self.gateway.approve(request_id, accept_new_identity=True)
        self.certificate_pem = self.status(opened.begun.session_id).certificate_pem.encode()
        return self

    # -- the two listeners ----------------------------------------------------------------------

    def enrolment(self) -> Stub:
        """The enrolment listener."""
        credentials = grpc.ssl_channel_credentials(self.ca_pem)
        return Stub(grpc.secure_channel(self.gateway.enrolment, credentials, OPTIONS))

    def node_rpc(self, pem: bytes | None = None, key: Key | None = None) -> Stub:
        """The node listener, with this device's certificate or with another one."""
        chain = self.certificate_pem if pem is None else pem
        credentials = grpc.ssl_channel_credentials(
            self.ca_pem, key_pem(key or self.key) if chain else None, chain or None
        )
        return Stub(grpc.secure_channel(self.gateway.node_rpc, credentials, OPTIONS))

    # -- the node -----------------------------------------------------------------------------

    def hello(self, device_id: str | None = None) -> messages.RegisterNodeRequest:
        """What RegisterNode is told."""
        hello = Hello(
            device_id=DeviceId(device_id or self.device_id),
            platform="linux x86_64",
            capabilities=(ECHO,),
            version="1.0",
            memory_id="0" * 32,
            extended=True,
        )
        return registration.write_hello(hello)

    def event(self, epoch: int) -> messages.NodeEventRequest:
        """A heartbeat."""
        return session_wire.write_event(NodeEvent(HEARTBEAT, epoch), self.device_id)

    def register(self, pem: bytes | None = None, key: Key | None = None) -> Any:
        """RegisterNode."""
        with self.node_rpc(pem, key) as stub:
            return stub.RegisterNode(self.hello(), timeout=CALL_S)

    @contextlib.contextmanager
    def session(self) -> Iterator[Any]:
        """Register and open a stream that stays open; the call."""
        with self.node_rpc() as stub:
            answer = stub.RegisterNode(self.hello(), timeout=CALL_S)
            outbox = Outbox(self.event(registration.read_welcome(answer).session_epoch))
            try:
                yield stub.StreamNodeEvents(outbox, timeout=60)
            finally:
                outbox.close()


class Stub:
    """A channel and its calls; closed at the end of the block."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel

    def __enter__(self) -> Any:
        return NodeServiceStub(self._channel)

    def __exit__(self, *_: object) -> None:
        self._channel.close()


class Outbox:
    """The requests of an open stream: what is put here is sent, until it is closed."""

    def __init__(self, *first: messages.NodeEventRequest) -> None:
        self._queue: SimpleQueue[messages.NodeEventRequest | None] = SimpleQueue()
        for message in first:
            self.put(message)

    def put(self, message: messages.NodeEventRequest) -> None:
        """Send one more."""
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
