"""The border between the error tree and gRPC: each category has one status, each error its code.

The status details are the sentence; the stable code and the hint travel as trailing metadata, and
so does the reason for which a certificate is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

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
    PairingLimited,
    PairingPaused,
    PalyraError,
    RejoinRefused,
    RemoteRefusal,
)

CODE_KEY = "palyra-code"
HINT_KEY = "palyra-hint"
RETRY_KEY = "palyra-retry-after-ms"
REASON_KEY = "palyra-reason"
USUAL_WAIT_S = 600.0
"""How long pairing is closed where the gateway does not say it: the window that it counts in."""
_REASON = re.compile(r"[a-z][a-z0-9_]{0,39}\Z", re.ASCII)

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
OUT_OF_DATE = "its certificate is not valid by this clock"
"""The cause where TLS refuses a gateway on its certificate's dates."""
STRANGE = "its certificate is not signed by the CA this device knows"
"""The cause where TLS refuses a gateway because of its CA."""
_REFUSED = "the TLS handshake was refused"
_CLOSED_OFF = "the connection was closed"
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
    if isinstance(error, CertificateRefused):
        metadata.append((REASON_KEY, _ascii(error.reason)))
    return _STATUS[error.category], error.sentence, tuple(metadata)


def error_of(error: grpc.aio.AioRpcError, address: str) -> PalyraError:
    """What a device makes of a failed call: one of our own errors, with the gateway's words."""
    trailing = {key: str(value) for key, value in error.trailing_metadata() or ()}
    code = trailing.get(CODE_KEY, "")
    details = error.details() or ""
    if not code:
        if error.code() in _AWAY:
            return GatewayUnreachable(address, _cause(error.code(), details))
        refusal = RemoteRefusal(error.code().name.lower(), details)
        refusal.transient = error.code() in _TRANSIENT
        return refusal
    retry_after_s = _retry_after_s(trailing)
    known = _known(code, trailing, retry_after_s)
    if known is not None:
        return known
    refusal = RemoteRefusal(code, details, trailing.get(HINT_KEY, ""))
    refusal.final = code == DeviceRevoked.code
    refusal.transient = error.code() in _TRANSIENT
    refusal.retry_after_s = retry_after_s
    return refusal


_BARE = (PairingFailed, NotRegistered, CertificateUnknown, CertificateSuperseded, RejoinRefused)
_CLOSED = (PairingLimited, PairingPaused)


def _known(
    code: str, trailing: Mapping[str, str], retry_after_s: float | None
) -> PalyraError | None:
    """The error that decides what a device does next, where the refusal is one of those."""
    for bare in _BARE:
        if code == bare.code:
            return bare()
    for closed in _CLOSED:
        if code == closed.code:
            return closed(USUAL_WAIT_S if retry_after_s is None else retry_after_s)
    if code == CertificateRefused.code:
        reason = trailing.get(REASON_KEY, "")
        return CertificateRefused(reason if _REASON.match(reason) else "unspecified")
    return None


def _retry_after_s(trailing: Mapping[str, str]) -> float | None:
    retry_after_ms = trailing.get(RETRY_KEY, "")
    if retry_after_ms.isascii() and retry_after_ms.isdigit():
        return int(retry_after_ms[:12]) / 1000
    return None


def is_cut(error: PalyraError) -> bool:
    """Whether it may be that the gateway did not take the certificate in the TLS handshake.

    TLS 1.3 lets a device believe that the handshake is over before the gateway has seen its
    certificate: gRPC mostly says that the connection was closed.
    """
    return isinstance(error, GatewayUnreachable) and error.cause in (_REFUSED, _CLOSED_OFF)


def _cause(code: grpc.StatusCode, details: str) -> str:
    lowered = details.lower()
    if code is grpc.StatusCode.CANCELLED:
        return "it ended the call"
    if code is grpc.StatusCode.DEADLINE_EXCEEDED or "timed out" in lowered:
        return "no answer"  # somebody is busy: nothing that a certificate could be the cause of
    for known in ("connection refused", "no route to host", "network is unreachable"):
        if known in lowered:
            return known
    if "certificate is not yet valid" in lowered or "certificate has expired" in lowered:
        return OUT_OF_DATE
    if "certificate_verify_failed" in lowered or "certificate verify failed" in lowered:
        return STRANGE
    if "dns resolution failed" in lowered or "name or service not known" in lowered:
        return "the name is not known"
    if "handshake" in lowered or "ssl" in lowered or "certificate" in lowered:
        return _REFUSED
    return _CLOSED_OFF


def _ascii(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode()
