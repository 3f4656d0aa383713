"""The border between the error tree and gRPC: each category has one status, each error its code.

The status details are the sentence; the stable code and the hint travel as trailing metadata.
"""

from __future__ import annotations

import grpc

from palyra.errors import (
    Category,
    CertificateRefused,
    CertificateSuperseded,
    CertificateUnknown,
    DeviceRevoked,
    GatewayUnreachable,
    NotRegistered,
    PairingFailed,
    PalyraError,
    RemoteRefusal,
)

CODE_KEY = "palyra-code"
HINT_KEY = "palyra-hint"
RETRY_KEY = "palyra-retry-after-ms"

_STATUS = {
    Category.INVALID: grpc.StatusCode.INVALID_ARGUMENT,
    Category.UNAUTHENTICATED: grpc.StatusCode.UNAUTHENTICATED,
    Category.FORBIDDEN: grpc.StatusCode.PERMISSION_DENIED,
    Category.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Category.CONFLICT: grpc.StatusCode.FAILED_PRECONDITION,
    Category.PRECONDITION: grpc.StatusCode.FAILED_PRECONDITION,
    Category.TOO_LARGE: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Category.EXHAUSTED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Category.UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    Category.DEADLINE: grpc.StatusCode.DEADLINE_EXCEEDED,
    Category.INTERNAL: grpc.StatusCode.INTERNAL,
}

_AWAY = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,  # a server that stops ends its open calls so
    }
)
"""What a call ends with when there is no gateway, or no longer."""
_TRANSIENT = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
    }
)
"""What says nothing about the request: the same one may succeed later."""


def status_of(error: PalyraError) -> tuple[grpc.StatusCode, str, tuple[tuple[str, str], ...]]:
    """Status, details and trailing metadata of a refusal."""
    metadata = [(CODE_KEY, error.code), (HINT_KEY, _ascii(error.hint))]
    retry_after_s = getattr(error, "retry_after_s", None)
    if retry_after_s is not None:
        metadata.append((RETRY_KEY, str(int(retry_after_s * 1000))))
    return _STATUS[error.category], error.sentence, tuple(metadata)


def error_of(error: grpc.aio.AioRpcError, address: str) -> PalyraError:
    """What a device makes of a failed call: one of our own errors, with the gateway's words."""
    trailing = {key: value for key, value in error.trailing_metadata() or ()}
    code = str(trailing.get(CODE_KEY, ""))
    details = error.details() or ""
    if not code:
        if error.code() in _AWAY:
            return GatewayUnreachable(address, _cause(details))
        refusal = RemoteRefusal(error.code().name.lower(), details)
        refusal.transient = error.code() in _TRANSIENT
        return refusal
    if code == PairingFailed.code:
        return PairingFailed()
    if code == NotRegistered.code:
        return NotRegistered()
    if code == CertificateUnknown.code:
        return CertificateUnknown()
    if code == CertificateSuperseded.code:
        return CertificateSuperseded()
    if code == CertificateRefused.code:
        return CertificateRefused(details)
    refusal = RemoteRefusal(code, details, str(trailing.get(HINT_KEY, "")))
    refusal.final = code == DeviceRevoked.code
    refusal.transient = error.code() in _TRANSIENT
    retry_after_ms = str(trailing.get(RETRY_KEY, ""))
    if retry_after_ms.isascii() and retry_after_ms.isdigit():
        refusal.retry_after_s = int(retry_after_ms[:12]) / 1000
    return refusal


def _cause(details: str) -> str:
    lowered = details.lower()
    for known in ("connection refused", "no route to host", "network is unreachable"):
        if known in lowered:
            return known
    if "certificate_verify_failed" in lowered or "certificate verify failed" in lowered:
        return "its certificate is not signed by the CA this device knows"
    if "dns resolution failed" in lowered or "name or service not known" in lowered:
        return "the name is not known"
    if "handshake" in lowered or "ssl" in lowered or "certificate" in lowered:
        return "the TLS handshake was refused"
    return "the connection was closed"


def _ascii(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode()
