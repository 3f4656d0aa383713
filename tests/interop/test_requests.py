"""QUIC requests of a client that shares no code with aioquic: health and events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509

from palyra.core.identifiers import Fingerprint
from palyra.core.transcript import renewal_payload
from palyra.pki.certificates import certificate_fingerprint
from palyra.pki.csr import make_csr
from palyra.wire import pairing as pairing_wire
from palyra.wire.service import messages
from tests.integration.house import Gateway
from tests.interop.quiche import End, QuicheStream
from tests.interop.visitor import Visitor


def test_health_is_answered_and_the_stream_ended(visitor: Visitor) -> None:
    """``node.health`` over mutual TLS: one frame, and the end."""
    with visitor.stream() as stream:
        stream.ask("node.health")
        stream.finish()
        answer = stream.answer()
        assert (answer["kind"], answer["ok"]) == ("health", True)
        assert answer["node_rpc_mtls_required"] is True
        assert stream.sight() == End()


@pytest.mark.parametrize(
    ("request_frame", "error"),
    [
        (b'{"protocol_version":1,"method":"node.dance"}', "unsupported_method"),
        (b'{"protocol_version":2,"method":"node.health"}', "protocol_mismatch"),
        (b'{"protocol_version":1,"method":"node.health","more":1}', "invalid_request"),
        (b"\xff\xfe", "invalid_request"),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(
    visitor: Visitor, request_frame: bytes, error: str
) -> None:
    """A refused request is one error frame and the end of the stream."""
    with visitor.stream() as stream:
        stream.send(request_frame)
        answer = stream.answer()
        assert (answer["kind"], answer["ok"], answer["error"]) == ("error", False, error)
        assert stream.sight() == End()


def fingerprint_of(pem: bytes) -> Fingerprint:
    """Of a certificate."""
    return certificate_fingerprint(x509.load_pem_x509_certificate(pem))


def next_event(stream: QuicheStream, kind: str) -> dict[str, Any]:
    """The next event of a kind; whatever comes before it is numbered without a hole."""
    answer = stream.answer()
    while answer["event"] != kind:
        seq = answer["seq"]
        answer = stream.answer()
        assert answer["seq"] == seq + 1
    assert answer["kind"] == "event"
    return answer


def test_events_are_replayed_and_then_live(visit: Callable[[str], Visitor]) -> None:
    """``node.stream_events`` tells what was, then what happens, and goes on where it ended."""
    visitor = visit("listener")
    with visitor.stream() as stream:
        stream.ask("node.stream_events", resume_from=0)
        approved = next_event(stream, "device.approved")
        registered = next_event(stream, "device.registered")
        visitor.device.register()
        live = next_event(stream, "device.registered")
        assert 0 < approved["seq"] < registered["seq"] < live["seq"]
    with visitor.stream() as stream:
        stream.ask("node.stream_events", resume_from=approved["seq"])
        assert stream.answer()["seq"] == approved["seq"] + 1
        assert next_event(stream, "device.registered") in (registered, live)


def test_a_certificate_is_renewed(visit: Callable[[str], Visitor]) -> None:
    """``node.rotate``: one message, one answer, and the end; the new certificate is let in."""
    visitor = visit("old")
    device = visitor.device
    csr_der = make_csr(device.key, device.device_id)
    over = fingerprint_of(device.certificate_pem)
    signature = device.identity.sign(
        renewal_payload(device.device_id, device.ca_hash, over, csr_der)
    )
    asked = pairing_wire.RenewalAsked(device.device_id, csr_der, signature)
    with visitor.stream() as stream:
        stream.ask("node.rotate")
        stream.send(pairing_wire.write_renewal(asked).SerializeToString())
        answer = messages.RotateDeviceCertificateResponse.FromString(stream.frame())
        assert stream.sight() == End()
    renewed = pairing_wire.read_renewed(answer)
    assert fingerprint_of(renewed.certificate_pem.encode()) != over
    assert visitor.credentials.chain is not None
    visitor.credentials.chain.write_text(renewed.certificate_pem)
    with visitor.stream() as stream:
        stream.ask("node.health")
        assert stream.answer()["kind"] == "health"


def test_a_device_removes_itself(gateway: Gateway, visit: Callable[[str], Visitor]) -> None:
    """``node.revoke``: it is told so, and not let in again."""
    visitor = visit("leaver")
    request = messages.RevokeDevicePairingRequest(v=1, reason="sold")
    request.device_id.ulid = visitor.device.device_id
    with visitor.stream() as stream:
        stream.ask("node.revoke")
        stream.send(request.SerializeToString())
        assert messages.RevokeDevicePairingResponse.FromString(stream.frame()).revoked
    with visitor.stream() as stream:
        stream.ask("node.health")
        assert stream.closed().refusal == "device_revoked"
    assert visitor.device.device_id not in {node.device_id for node in gateway.nodes()}
