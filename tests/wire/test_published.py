"""The published messages of version 1: their numbers never change, whatever is added."""

from __future__ import annotations

import pytest

from palyra.wire.v1 import common_pb2, node_pb2

PUBLISHED: dict[str, dict[int, str]] = {
    "BeginPairingSessionRequest": {1: "v", 2: "client_kind", 3: "method", 4: "replay"},
    "BeginPairingSessionResponse": {
        1: "v",
        2: "session_id",
        3: "client_kind",
        4: "gateway_ephemeral_public",
        5: "challenge",
        6: "expires_at_unix_ms",
    },
    "PairingMethod": {1: "pin_code", 2: "qr_token"},
    "CompletePairingSessionRequest": {
        1: "v",
        2: "session_id",
        3: "device_id",
        4: "client_kind",
        5: "proof",
        6: "device_signing_public",
        7: "device_x25519_public",
        8: "challenge_signature",
        9: "transcript_mac",
    },
    "CompletePairingSessionResponse": {
        1: "v",
        2: "paired",
        3: "reason",
        4: "identity_fingerprint",
        5: "transcript_hash",
        6: "mtls_client_certificate_pem",
        7: "mtls_client_private_key_pem",
        8: "gateway_ca_certificate_pem",
        9: "cert_expires_at_unix_ms",
    },
    "GetPairingRequestStatusRequest": {1: "v", 2: "session_id", 3: "device_id"},
    "GetPairingRequestStatusResponse": {
        1: "v",
        2: "status",
        3: "reason",
        4: "paired",
        5: "approval_id",
        6: "identity_fingerprint",
        7: "transcript_hash",
        8: "mtls_client_certificate_pem",
        9: "mtls_client_private_key_pem",
        10: "gateway_ca_certificate_pem",
        11: "cert_expires_at_unix_ms",
    },
    "RotateDeviceCertificateRequest": {1: "v", 2: "device_id", 3: "replay"},
    "RotateDeviceCertificateResponse": {
        1: "v",
        2: "rotated",
        3: "reason",
        4: "mtls_client_certificate_pem",
        5: "mtls_client_private_key_pem",
        6: "cert_expires_at_unix_ms",
    },
    "RevokeDevicePairingRequest": {1: "v", 2: "device_id", 3: "reason", 4: "replay"},
    "RevokeDevicePairingResponse": {1: "v", 2: "revoked", 3: "reason"},
    "RegisterNodeRequest": {
        1: "v",
        2: "device_id",
        3: "platform",
        4: "capabilities",
        5: "replay",
    },
    "DeviceCapability": {1: "name", 2: "available"},
    "RegisterNodeResponse": {1: "v", 2: "device_id", 3: "accepted", 4: "reason"},
    "NodeEventRequest": {
        1: "v",
        2: "device_id",
        3: "event_name",
        4: "payload_json",
        5: "replay",
    },
    "NodeEventResponse": {1: "v", 2: "event_id", 3: "accepted", 4: "reason", 13: "dispatch"},
    "NodeCapabilityDispatch": {
        1: "request_id",
        2: "capability",
        3: "input_json",
        4: "max_payload_bytes",
    },
    "ExecuteCapabilityRequest": {
        1: "v",
        2: "device_id",
        3: "capability",
        4: "input_json",
        5: "max_payload_bytes",
    },
    "ExecuteCapabilityResponse": {1: "v", 2: "success", 3: "output_json", 4: "error"},
}
METHODS = {
    "BeginPairingSession",
    "CompletePairingSession",
    "GetPairingRequestStatus",
    "RotateDeviceCertificate",
    "RevokeDevicePairing",
    "RegisterNode",
    "StreamNodeEvents",
    "ExecuteCapability",
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_numbers(name: str) -> None:
    """Below 32 there is exactly what was published; everything of our own is from 32 up."""
    fields = node_pb2.DESCRIPTOR.message_types_by_name[name].fields
    below = {field.number: field.name for field in fields if field.number < 32}
    assert below == PUBLISHED[name]


def test_common_messages() -> None:
    """Ids and replay protection as published."""
    types = common_pb2.DESCRIPTOR.message_types_by_name
    shown = {
        name: {field.number: field.name for field in message.fields}
        for name, message in types.items()
    }
    assert shown == {
        "CanonicalId": {1: "ulid"},
        "ReplayProtection": {1: "nonce", 2: "timestamp_unix_ms", 3: "signature"},
    }


def test_our_own_numbers() -> None:
    """The extensions that both ends of an installation agree on."""
    types = node_pb2.DESCRIPTOR.message_types_by_name
    own = {
        name: {field.number: field.name for field in types[name].fields if field.number >= 32}
        for name in PUBLISHED
    }
    assert own["BeginPairingSessionRequest"] == {32: "pake", 33: "rejoin"}
    assert own["BeginPairingSessionResponse"] == {32: "pake", 33: "gateway_unix_ms"}
    assert own["CompletePairingSessionRequest"] == {32: "enrolment"}
    assert own["GetPairingRequestStatusRequest"] == {32: "proof"}
    assert own["RegisterNodeRequest"] == {32: "hello"}
    assert own["NodeEventResponse"] == {
        32: "dispatches",
        33: "acknowledged",
        34: "cancels",
        35: "drain",
        36: "gateway_unix_ms",
    }
    assert own["NodeEventRequest"] == {
        32: "session_epoch",
        33: "reports",
        34: "progress",
        35: "waiting",
    }


def test_the_service() -> None:
    """Package, service and methods have their published names."""
    service = node_pb2.DESCRIPTOR.services_by_name["NodeService"]
    assert service.full_name == "palyra.node.v1.NodeService"
    methods = {method.name for method in service.methods}
    assert methods == METHODS | {"SubmitJobs", "FollowJob", "CancelJob"}
    stream = service.methods_by_name["StreamNodeEvents"]
    assert stream.client_streaming and stream.server_streaming


def test_the_wire_form_of_a_published_message() -> None:
    """Bytes as another implementation writes them."""
    message = node_pb2.NodeEventRequest(v=1, event_name="node.heartbeat")
    message.device_id.ulid = "A"
    assert message.SerializeToString() == b"\x08\x01\x12\x03\x0a\x01A\x1a\x0enode.heartbeat"
