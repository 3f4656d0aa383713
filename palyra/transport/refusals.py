"""A refusal on its way from a gateway to a device: the same few facts, whatever carries them."""

from __future__ import annotations

import re

import attrs

from palyra.errors import (
    Category,
    CertificateRefused,
    CertificateSuperseded,
    CertificateUnknown,
    DeviceRevoked,
    NotRegistered,
    PairingFailed,
    PairingLimited,
    PairingPaused,
    PalyraError,
    RejoinRefused,
    RemoteRefusal,
)

USUAL_WAIT_S = 600.0
"""How long pairing is closed where the gateway does not say it: the window that it counts in."""
TRANSIENT = frozenset(
    {
        Category.TOO_LARGE,
        Category.EXHAUSTED,
        Category.UNAVAILABLE,
        Category.DEADLINE,
        Category.INTERNAL,
    }
)
"""What says nothing about the request: the same one may succeed later."""
_REASON = re.compile(r"[a-z][a-z0-9_]{0,39}\Z", re.ASCII)


@attrs.frozen
class Refusal:
    """``code`` is stable; ``reason`` is why a certificate is refused, and stable too."""

    code: str
    sentence: str = ""
    hint: str = ""
    reason: str = ""
    retry_after_ms: int | None = None
    transient: bool = False


def refusal_of(error: PalyraError) -> Refusal:
    """What the other side is told of an error."""
    retry_after_s = getattr(error, "retry_after_s", None)
    return Refusal(
        code=error.code,
        sentence=error.sentence,
        hint=error.hint,
        reason=error.reason if isinstance(error, CertificateRefused) else "",
        retry_after_ms=None if retry_after_s is None else int(retry_after_s * 1000),
        transient=error.category in TRANSIENT,
    )


_BARE = (PairingFailed, NotRegistered, CertificateUnknown, CertificateSuperseded, RejoinRefused)
_CLOSED = (PairingLimited, PairingPaused)


def error_of(refusal: Refusal) -> PalyraError:
    """What a device makes of it: the error that decides what it does next, else the gateway's
    words."""
    retry_after_s = None if refusal.retry_after_ms is None else refusal.retry_after_ms / 1000
    for bare in _BARE:
        if refusal.code == bare.code:
            return bare()
    for closed in _CLOSED:
        if refusal.code == closed.code:
            return closed(USUAL_WAIT_S if retry_after_s is None else retry_after_s)
    if refusal.code == CertificateRefused.code:
        reason = refusal.reason
        return CertificateRefused(reason if _REASON.match(reason) else "unspecified")
    remote = RemoteRefusal(refusal.code, refusal.sentence, refusal.hint)
    remote.final = refusal.code == DeviceRevoked.code
    remote.transient = refusal.transient
    remote.retry_after_s = retry_after_s
    return remote
