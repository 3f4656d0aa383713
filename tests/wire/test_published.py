"""The published messages of version 1: their numbers never change, whatever is added."""

from __future__ import annotations

import hashlib

import pytest

from palyra.core.devices import ClientKind
from palyra.core.frames import NodeEvent
from palyra.core.handshake import Begun
from palyra.core.identifiers import AttemptId, DeviceId
from palyra.core.jobs import Outcome, Report
from palyra.core.pairing import CodeMethod
from palyra.core.transcript import DeviceProof
from palyra.core.transfers import Outgoing
from palyra.wire import pairing as wire
from palyra.wire import session as session_wire
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
    assert own["CompletePairingSessionResponse"] == {
        32: "pake_confirm",
        33: "ca_bundle_pem",
        34: "retry_after_ms",
        35: "request_id",
        36: "renew_after_s",
    }
    assert own["GetPairingRequestStatusResponse"] == {
        **{32: "pake_confirm", 33: "ca_bundle_pem", 34: "retry_after_ms", 35: "request_id"},
        **{36: "device_name", 37: "decided_by", 38: "node_rpc_address", 39: "renew_after_s"},
        40: "quic_address",
    }
    assert own["RotateDeviceCertificateRequest"] == {32: "csr_der", 33: "identity_signature"}
    assert own["RotateDeviceCertificateResponse"] == {32: "ca_bundle_pem", 33: "renew_after_s"}
    assert own["NodeEventResponse"] == {
        32: "dispatches",
        33: "acknowledged",
        34: "cancels",
        35: "drain",
        36: "gateway_unix_ms",
        37: "renew",
        38: "chunks",
        39: "catalog",
    }
    assert own["NodeEventRequest"] == {
        32: "session_epoch",
        33: "reports",
        34: "progress",
        35: "waiting",
        36: "chunks",
        37: "catalog",
        38: "descriptors",
    }


def test_the_numbers_inside_our_own() -> None:
    """The messages that extensions bring have numbers of their own, which do not change either."""
    types = node_pb2.DESCRIPTOR.message_types_by_name
    shown = {
        name: {field.number: field.name for field in types[name].fields}
        for name in ("PakeOffer", "PakeShare", "RejoinOffer", "Enrolment", "StatusProof", "Renew")
    }
    shown["PayloadChunk"] = {each.number: each.name for each in types["PayloadChunk"].fields}
    assert types["AttemptReport"].fields_by_name["output_transfer"].number == 8
    assert types["NodeCapabilityDispatch"].fields_by_name["input_transfer"].number == 36
    assert shown == {
        "PakeOffer": {1: "suite", 2: "nameplate"},
        "PakeShare": {1: "suite", 2: "share"},
        "RejoinOffer": {1: "device_id"},
        "Enrolment": {
            **{1: "csr_der", 2: "identity_signature", 3: "announcement"},
            **{4: "pake_share", 5: "pake_confirm"},
        },
        "StatusProof": {1: "counter", 2: "signature"},
        "Renew": {1: "reason", 2: "within_ms"},
        "PayloadChunk": {1: "transfer_id", 2: "index", 3: "last", 4: "data", 5: "sha256"},
    }


def test_pieces_are_as_documented() -> None:
    """The bytes of the protocol's example are what its payload makes."""
    outgoing = Outgoing(2)
    transfer_id = outgoing.start(b'"ab"')
    chunks, _ = outgoing.take()
    report = Report(AttemptId("A"), Outcome.SUCCEEDED)
    event = NodeEvent("", chunks=tuple(chunks), transferred=((report, transfer_id),))
    message = session_wire.write_event(event, DEVICE)
    written_by_us = [each.SerializeToString() for each in (*message.chunks, *message.reports)]
    assert written_by_us == [
        bytes.fromhex("08 01 22 02 22 61"),
        bytes.fromhex("08 01 10 01 18 01 22 02 62 22 2a 20") + hashlib.sha256(b'"ab"').digest(),
        bytes.fromhex("0a 01 41 10 01 30 01 40 01"),
    ]


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


# -- version 1 as another implementation writes and reads it --------------------------------------

DEVICE = DeviceId("01M80NKQCNX4K7QM2ZT9B3FVHD")
SESSION = "5e" * 16


def written(*fields: tuple[int, int | str | bytes]) -> bytes:
    """A protobuf message, by hand: varints and length-delimited fields below number 16."""
    data = b""
    for number, value in fields:
        if isinstance(value, int):
            data += bytes([number << 3]) + varint(value)
        else:
            raw = value.encode() if isinstance(value, str) else value
            data += bytes([number << 3 | 2]) + varint(len(raw)) + raw
    return data


def varint(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


HEAD = (1, 1)
ID = written((1, DEVICE))
PROOF = DeviceProof(
    SESSION, DEVICE, ClientKind.NODE, "004217", b"i" * 32, b"x" * 32, b"s" * 64, b"m" * 32
)
BEGIN = written(HEAD, (2, "node"), (3, written((1, "004217"))))
COMPLETE = written(
    *(HEAD, (2, SESSION), (3, ID), (4, "node"), (5, "004217"), (6, b"i" * 32), (7, b"x" * 32)),
    *((8, b"s" * 64), (9, b"m" * 32)),
)
STATUS = written(HEAD, (2, SESSION), (3, ID))
ROTATE = written(HEAD, (2, ID))


def test_what_a_version_one_device_sends() -> None:
    """Its messages are read as they always were, and hold nothing that it did not say."""
    begin = node_pb2.BeginPairingSessionRequest.FromString(BEGIN)
    assert wire.read_begin(begin) == wire.Begin(ClientKind.NODE, CodeMethod.PIN, "004217")
    complete = node_pb2.CompletePairingSessionRequest.FromString(COMPLETE)
    assert wire.read_complete(complete) == PROOF
    status = node_pb2.GetPairingRequestStatusRequest.FromString(STATUS)
    assert wire.read_status_question(status) == wire.StatusQuestion(SESSION, DEVICE)
    rotate = node_pb2.RotateDeviceCertificateRequest.FromString(ROTATE)
    assert wire.read_renewal(rotate) == wire.RenewalAsked(DEVICE)


def test_what_is_written_without_extensions() -> None:
    """A message that uses none is, byte for byte, the published one."""
    begin = wire.Begin(ClientKind.NODE, CodeMethod.PIN, "004217")
    assert wire.write_begin(begin).SerializeToString() == BEGIN
    assert wire.write_complete(PROOF).SerializeToString() == COMPLETE
    question = wire.StatusQuestion(SESSION, DEVICE)
    assert wire.write_status_question(question).SerializeToString() == STATUS
    assert wire.write_renewal(wire.RenewalAsked(DEVICE)).SerializeToString() == ROTATE


def test_what_a_version_one_device_reads() -> None:
    """Every published field of an answer is where it was; what is new comes behind it."""
    opened = wire.SessionOpened(Begun(SESSION, b"c" * 32, b"g" * 32), ClientKind.NODE, 300, 6)
    assert (
        wire.write_opened(opened)
        .SerializeToString()
        .startswith(
            written(HEAD, (2, SESSION), (3, "node"), (4, b"g" * 32), (5, b"c" * 32), (6, 300))
        )
    )
    pending = wire.write_completed(wire.Completed("R", "F", "T"))
    assert pending.SerializeToString().startswith(
        written(HEAD, (3, "pending_approval"), (4, "F"), (5, "T"))
    )
    answer = wire.StatusAnswer(
        *("completed", "", "R", "A", "F", "T"),
        certificate_pem="CERT",
        ca_pem="CA",
        certificate_expires_at_ms=300,
        private_key_pem="KEY",
    )
    assert (
        wire.write_status_answer(answer)
        .SerializeToString()
        .startswith(
            written(
                *(HEAD, (2, "completed"), (4, 1), (5, "A"), (6, "F"), (7, "T"), (8, "CERT")),
                *((9, "KEY"), (10, "CA"), (11, 300)),
            )
        )
    )
    renewed = wire.write_renewed(wire.Renewed("CERT", "CA", 300, 9, "KEY"))
    assert renewed.SerializeToString().startswith(
        written(HEAD, (2, 1), (4, "CERT"), (5, "KEY"), (6, 300))
    )
