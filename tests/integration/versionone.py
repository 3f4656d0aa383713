"""A version-1 device: it sends the PIN itself, makes no key, and knows no extension of ours."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from palyra.core.devices import ClientKind
from palyra.core.identifiers import DeviceId, new_ulid
from palyra.core.transcript import v1_signature_payload, v1_transcript_mac
from palyra.wire.service import messages
from tests.integration.device import CALL_S, OPTIONS, Outbox, Stub, grpc
from tests.integration.house import Gateway

KIND = ClientKind.NODE


class VersionOneDevice:
    """What the published messages alone can say, and the CA file that an operator copied to it."""

    def __init__(self, gateway: Gateway, now_ms: int) -> None:
        self._gateway = gateway
        self._ca_pem = (gateway.root / "identity" / "ca.pem").read_bytes()
        self._identity = Ed25519PrivateKey.generate()
        self.device_id = DeviceId(new_ulid(now_ms, os.urandom))
        self._session_id = ""
        self._chain_pem = self._key_pem = b""

    def ask(self, pin: str) -> messages.CompletePairingSessionResponse:
        """Begin and Complete with the PIN in clear."""
        begin = messages.BeginPairingSessionRequest(v=1, client_kind=KIND.value)
        begin.method.pin_code = pin
        with self._enrolment() as stub:
            opened = stub.BeginPairingSession(begin, timeout=CALL_S)
            self._session_id = opened.session_id
            answer: messages.CompletePairingSessionResponse = stub.CompletePairingSession(
                self._proof(opened, pin), timeout=CALL_S
            )
        return answer

    def _proof(
        self, opened: messages.BeginPairingSessionResponse, pin: str
    ) -> messages.CompletePairingSessionRequest:
        agreement = X25519PrivateKey.generate()
        public = X25519PublicKey.from_public_bytes(opened.gateway_ephemeral_public)
        session, challenge, me = opened.session_id, opened.challenge, self.device_id
        signed = v1_signature_payload(
            session, challenge, opened.gateway_ephemeral_public, me, KIND, pin
        )
        message = messages.CompletePairingSessionRequest(
            v=1,
            session_id=session,
            client_kind=KIND.value,
            proof=pin,
            device_signing_public=self._identity.public_key().public_bytes_raw(),
            device_x25519_public=agreement.public_key().public_bytes_raw(),
            challenge_signature=self._identity.sign(signed),
            transcript_mac=v1_transcript_mac(
                agreement.exchange(public), challenge, session, me, KIND
            ),
        )
        message.device_id.ulid = me
        return message

    def status(self) -> messages.GetPairingRequestStatusResponse:
        """GetPairingRequestStatus; what comes with it is kept."""
        question = messages.GetPairingRequestStatusRequest(v=1, session_id=self._session_id)
        question.device_id.ulid = self.device_id
        with self._enrolment() as stub:
            answer: messages.GetPairingRequestStatusResponse = stub.GetPairingRequestStatus(
                question, timeout=CALL_S
            )
        self._chain_pem = answer.mtls_client_certificate_pem.encode()
        self._key_pem = answer.mtls_client_private_key_pem.encode()
        return answer

    def serve(self, count: int) -> Iterator[str]:
        """Register, run so many jobs, each of which ends at once; their capabilities."""
        hello = messages.RegisterNodeRequest(v=1, platform="linux x86_64")
        hello.device_id.ulid = self.device_id
        hello.capabilities.add(name="echo", available=True)
        with self.node_rpc() as stub:
            assert stub.RegisterNode(hello, timeout=CALL_S).accepted
            yield "registered"
            outbox = Outbox(self._event("node.started"))
            stream = stub.StreamNodeEvents(outbox, timeout=3 * CALL_S)
            try:
                for dispatch in _dispatches(stream, count):
                    outbox.put(self._result(dispatch))
                    yield str(dispatch.capability)
                outbox.close()
                list(stream)  # what was said last arrives before the stream ends
            finally:
                outbox.close()
                stream.cancel()

    def _event(self, name: str, payload: object = None) -> messages.NodeEventRequest:
        event = messages.NodeEventRequest(v=1, event_name=name)
        event.device_id.ulid = self.device_id
        event.payload_json = b"" if payload is None else json.dumps(payload).encode()
        return event

    def _result(self, dispatch: Any) -> messages.NodeEventRequest:
        said = {"echo": json.loads(dispatch.input_json), "device_id": self.device_id}
        payload = {"request_id": dispatch.request_id.ulid, "success": True, "output_json": said}
        return self._event("capability.result", payload)

    def _enrolment(self) -> Stub:
        credentials = grpc.ssl_channel_credentials(self._ca_pem)
        return Stub(grpc.secure_channel(self._gateway.enrolment, credentials, OPTIONS))

    def node_rpc(self) -> Stub:
        """The node listener, with the certificate and the key that came with the status."""
        credentials = grpc.ssl_channel_credentials(self._ca_pem, self._key_pem, self._chain_pem)
        return Stub(grpc.secure_channel(self._gateway.node_rpc, credentials, OPTIONS))


def _dispatches(stream: Any, count: int) -> Iterator[Any]:
    """So many dispatches of a stream."""
    for message in stream:
        if message.HasField("dispatch"):
            yield message.dispatch
            count -= 1
        if not count:
            return
