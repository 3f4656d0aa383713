"""The border between the error tree and gRPC: each category has one status, each error its code.

The status details are the sentence; the stable code and the hint travel as trailing metadata, and
so does the reason for which a certificate is refused.
"""

from __future__ import annotations

from collections.abc import Mapping

import grpc

from palyra.errors import (
    Category,
    Cut,
    GatewayUnreachable,
    PalyraError,
    RemoteRefusal,
    Unreached,
)
from palyra.transport import refusals
from palyra.transport.refusals import Refusal

CODE_KEY = "palyra-code"
HINT_KEY = "palyra-hint"
RETRY_KEY = "palyra-retry-after-ms"
REASON_KEY = "palyra-reason"

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
ENDED = "it ended the call"
"""The cause where a gateway stops."""
_SYSTEM = {
    "connection refused": Unreached.REFUSED,
    "no route to host": Unreached.NO_ROUTE,
    "network is unreachable": Unreached.NO_NETWORK,
}
"""What the system says, in the words of gRPC."""
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
    refusal = refusals.refusal_of(error)
    metadata = [(CODE_KEY, refusal.code), (HINT_KEY, _ascii(refusal.hint))]
    if refusal.retry_after_ms is not None:
        metadata.append((RETRY_KEY, str(refusal.retry_after_ms)))
    if refusal.reason:
        metadata.append((REASON_KEY, _ascii(refusal.reason)))
    return _STATUS[error.category], error.sentence, tuple(metadata)


def error_of(error: grpc.aio.AioRpcError, address: str) -> PalyraError:
    """What a device makes of a failed call: one of our own errors, with the gateway's words."""
    trailing = {key: str(value) for key, value in error.trailing_metadata() or ()}
    code = trailing.get(CODE_KEY, "")
    details = error.details() or ""
    if code:
        return refusals.error_of(
            Refusal(
                code=code,
                sentence=details,
                hint=trailing.get(HINT_KEY, ""),
                reason=trailing.get(REASON_KEY, ""),
                retry_after_ms=_retry_after_ms(trailing),
                transient=error.code() in _TRANSIENT,
            )
        )
    if error.code() in _AWAY:
        return GatewayUnreachable(address, _cause(error.code(), details))
    refusal = RemoteRefusal(error.code().name.lower(), details)
    refusal.transient = error.code() in _TRANSIENT
    return refusal


def _retry_after_ms(trailing: Mapping[str, str]) -> int | None:
    retry_after_ms = trailing.get(RETRY_KEY, "")
    if retry_after_ms.isascii() and retry_after_ms.isdigit():
        return int(retry_after_ms[:12])
    return None


def is_cut(error: PalyraError) -> bool:
    """Whether it may be that the gateway did not take the certificate in the TLS handshake.

    TLS 1.3 lets a device believe that the handshake is over before the gateway has seen its
    certificate: gRPC mostly says that the connection was closed.
    """
    return isinstance(error, GatewayUnreachable) and error.cut


def _cause(code: grpc.StatusCode, details: str) -> str:
    lowered = details.lower()
    if code is grpc.StatusCode.CANCELLED:
        return ENDED
    if code is grpc.StatusCode.DEADLINE_EXCEEDED or "timed out" in lowered:
        # Somebody is busy: nothing that a certificate could be the cause of.
        return Unreached.NO_ANSWER
    for words, known in _SYSTEM.items():
        if words in lowered:
            return known
    if "certificate is not yet valid" in lowered or "certificate has expired" in lowered:
        return OUT_OF_DATE
    if "certificate_verify_failed" in lowered or "certificate verify failed" in lowered:
        return STRANGE
    if "dns resolution failed" in lowered or "name or service not known" in lowered:
        return Unreached.NO_NAME
    if "handshake" in lowered or "ssl" in lowered or "certificate" in lowered:
        return Cut.HANDSHAKE_REFUSED
    return Cut.CLOSED_OFF


def _ascii(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode()
