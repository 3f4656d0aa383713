"""The border between our errors and gRPC: there and back."""

from __future__ import annotations

from typing import Any

import attrs
import grpc
import pytest

from palyra.errors import (
    Category,
    CertificateRefused,
    CertificateSuperseded,
    CertificateUnknown,
    DeviceOffline,
    DeviceRevoked,
    GatewayNotProven,
    GatewayUnreachable,
    JobStillRunning,
    LimitReached,
    Malformed,
    NotFound,
    NotRegistered,
    PairingFailed,
    PairingLimited,
    PairingPaused,
    PalyraError,
    PayloadTooLarge,
    PolicyDenied,
    RejoinRefused,
    RemoteRefusal,
    VerificationFailed,
)
from palyra.transport.statuses import error_of, status_of

S = grpc.StatusCode
STATUSES: list[tuple[PalyraError, grpc.StatusCode]] = [
    (DeviceRevoked("pi"), S.PERMISSION_DENIED),
    (PolicyDenied("pi", "run", "no"), S.PERMISSION_DENIED),
    (PairingFailed(), S.FAILED_PRECONDITION),
    (VerificationFailed("a MAC"), S.FAILED_PRECONDITION),
    (NotRegistered(), S.FAILED_PRECONDITION),
    (DeviceOffline("pi"), S.FAILED_PRECONDITION),
    (Malformed("device_id", "is wrong"), S.INVALID_ARGUMENT),
    (NotFound("device", "pi"), S.NOT_FOUND),
    (LimitReached("sessions", 3, 2.5), S.RESOURCE_EXHAUSTED),
    (PayloadTooLarge("input", 2, 1), S.RESOURCE_EXHAUSTED),
    (JobStillRunning("ABCD", "queued"), S.DEADLINE_EXCEEDED),
    (PairingLimited(600), S.RESOURCE_EXHAUSTED),
    (PairingPaused(600), S.RESOURCE_EXHAUSTED),
    (RejoinRefused(), S.PERMISSION_DENIED),
]


def failed(
    code: grpc.StatusCode, details: str = "", metadata: tuple[tuple[str, str], ...] = ()
) -> grpc.aio.AioRpcError:
    empty = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(code, empty, grpc.aio.Metadata(*metadata), details=details)


@pytest.mark.parametrize(("error", "status"), STATUSES)
def test_the_published_statuses(error: PalyraError, status: grpc.StatusCode) -> None:
    """Each kind of refusal has its status, its sentence and its stable code."""
    given, details, metadata = status_of(error)
    assert (given, details) == (status, error.sentence)
    assert dict(metadata)["palyra-code"] == error.code


def test_every_category_has_a_status() -> None:
    """No error is lost at the border."""
    for category in Category:

        class Odd(PalyraError):
            pass

        Odd.category = category
        assert status_of(Odd())[0] is not S.OK


def test_metadata_is_ascii() -> None:
    """gRPC carries no more in its metadata; the sentence itself may be anything."""
    status, details, metadata = status_of(DeviceOffline("küche"))
    assert "küche" in details and status is S.FAILED_PRECONDITION
    assert all(value.isascii() for _, value in metadata)
    assert dict(status_of(LimitReached("x", 3, 2.5))[2])["palyra-retry-after-ms"] == "2500"


@pytest.mark.parametrize(
    "error",
    [
        PairingFailed(),
        NotRegistered(),
        CertificateUnknown(),
        CertificateSuperseded(),
        CertificateRefused("wrong_eku"),
        PairingLimited(90.5),
        PairingPaused(90.5),
        RejoinRefused(),
    ],
)
def test_what_a_device_acts_on_comes_back(error: PalyraError) -> None:
    """Errors that decide what a node host does next are themselves again at the other end."""
    status, details, metadata = status_of(error)
    back = error_of(failed(status, details, metadata), "home:7444")
    assert type(back) is type(error) and attrs.astuple(back) == attrs.astuple(error)


def test_what_a_gateway_does_not_say() -> None:
    """A wait or a reason that is missing, or is not one, is replaced by the usual."""
    bare = error_of(failed(S.RESOURCE_EXHAUSTED, "", (("palyra-code", "pairing_limited"),)), "x:1")
    assert isinstance(bare, PairingLimited) and bare.retry_after_s == 600
    for reason in ("", "Any words.", "x" * 41, "a\nb"):
        metadata = (("palyra-code", "certificate_refused"), ("palyra-reason", reason))
        error = error_of(failed(S.PERMISSION_DENIED, "words", metadata), "x:1")
        assert isinstance(error, CertificateRefused) and error.reason == "unspecified"


def test_a_gateway_cannot_say_that_it_is_not_proven() -> None:
    """That is for the device alone to find out."""
    metadata = (("palyra-code", GatewayNotProven.code),)
    error = error_of(failed(S.UNAUTHENTICATED, "words", metadata), "x:1")
    assert isinstance(error, RemoteRefusal)


def test_other_refusals_keep_their_words() -> None:
    """The device shows what the gateway said, with its code and hint."""
    original = VerificationFailed("a MAC")
    status, details, metadata = status_of(original)
    error = error_of(failed(status, details, metadata), "home:7444")
    assert isinstance(error, RemoteRefusal)
    assert error.sentence.rstrip(".") == original.sentence.rstrip(".") and error.hint
    assert not error.final


def test_a_revoked_device_stays_away() -> None:
    """The refusal is final: no reconnect loop."""
    status, details, metadata = status_of(DeviceRevoked("pi"))
    error: Any = error_of(failed(status, details, metadata), "home:7444")
    assert error.final


@pytest.mark.parametrize(
    ("details", "cause"),
    [
        ("failed to connect: Connection refused (111)", "connection refused"),
        ("CERTIFICATE_VERIFY_FAILED: self signed", "signed by the CA"),
        ("DNS resolution failed for x", "name is not known"),
        ("Ssl handshake failed", "handshake"),
        ("Socket closed", "closed"),
    ],
)
def test_no_gateway(details: str, cause: str) -> None:
    """Without a word of ours the network is at fault, and its cause is told in plain words."""
    error = error_of(failed(S.UNAVAILABLE, details), "home:7444")
    assert isinstance(error, GatewayUnreachable)
    assert cause in error.sentence and "home:7444" in error.sentence


def test_a_gateway_that_stops_in_the_middle() -> None:
    """A server that stops cancels its open calls: for a device it is away, and decided nothing."""
    error = error_of(failed(S.CANCELLED, "CANCELLED"), "home:7444")
    assert isinstance(error, GatewayUnreachable) and error.retryable


def test_another_server() -> None:
    """A status of something that is no gateway is shown as it is."""
    error = error_of(failed(S.UNIMPLEMENTED, "no such method"), "home:7444")
    assert isinstance(error, RemoteRefusal) and error.remote_code == "unimplemented"
