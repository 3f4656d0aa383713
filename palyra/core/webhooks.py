"""Webhooks: what is told to the outside, how it is signed, and when it is tried again.

Signatures follow the Standard Webhooks specification 1.0 (https://www.standardwebhooks.com):
``webhook-signature: v1,BASE64(HMAC-SHA256(secret, id.timestamp.body))``.  Delivery is at least
once: a receiver recognises a repetition by ``webhook-id``.
"""

from __future__ import annotations

import base64
import binascii
import enum
import hashlib
import hmac
import ipaddress
import random
from collections.abc import Mapping

import attrs

from palyra.errors import Malformed

SECRET_PREFIX = "whsec_"
MIN_SECRET, MAX_SECRET = 24, 64
"""Bytes of a secret, as the specification has them."""
GIVE_UP_MS = 24 * 3_600_000
FIRST_PAUSE_MS = 5_000
MAX_PAUSE_MS = 3_600_000
MAX_QUEUED = 10_000
"""Messages that may be under way at once; a newer one is dropped, and that is on record."""


class WebhookEvent(enum.Enum):
    """What is told; ids and states only, never an input, an output, a code or a link."""

    APPROVAL_NEEDED = "approval.needed"
    PAIRING_NEEDED = "pairing.needed"
    DEVICE_OFFLINE = "device.offline"
    CERTIFICATE_EXPIRING = "certificate.expiring"
    JOB_FAILED = "job.failed"
    AUDIT_HEAD = "audit.head"


@attrs.frozen
class Message:
    """One message on its way to one target.  Times are Unix milliseconds.

    ``webhook_id`` is the same in every try; ``body`` is the JSON that is signed.
    """

    webhook_id: str
    target: str
    event: str
    body: bytes
    created_at_ms: int
    tries: int = 0
    next_try_at_ms: int = 0


def read_secret(text: str) -> bytes:
    """The secret in a file: ``whsec_`` and base64 of 24 to 64 bytes.

    :raises Malformed: it is none; the text is not repeated.
    """
    encoded = text.strip().removeprefix(SECRET_PREFIX)
    try:
        secret = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Malformed("secret_file", "must hold whsec_ and base64") from error
    if not MIN_SECRET <= len(secret) <= MAX_SECRET:
        raise Malformed("secret_file", f"must hold {MIN_SECRET} to {MAX_SECRET} bytes in base64")
    return secret


def signed_headers(message: Message, secret: bytes, now_ms: int) -> Mapping[str, str]:
    """The headers that say which message it is, when it was sent, and by whom."""
    timestamp = str(now_ms // 1000)
    signed = b".".join((message.webhook_id.encode(), timestamp.encode(), message.body))
    digest = hmac.new(secret, signed, hashlib.sha256).digest()
    return {
        "webhook-id": message.webhook_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


def tried(message: Message, now_ms: int, jitter: random.Random) -> Message | None:
    """The message after a try that came to nothing; None where it is given up.

    Pauses double from five seconds to an hour, each drawn from its upper half.
    """
    if now_ms - message.created_at_ms >= GIVE_UP_MS:
        return None
    pause_ms = min(FIRST_PAUSE_MS << min(message.tries, 20), MAX_PAUSE_MS)
    pause_ms = jitter.randint(pause_ms // 2, pause_ms)
    return attrs.evolve(message, tries=message.tries + 1, next_try_at_ms=now_ms + pause_ms)


def public(address: str) -> bool:
    """Whether an IP address is one of the public internet: not this machine, its networks, a
    metadata service, nor one of these wrapped in IPv6 (mapped, 6to4, NAT64, Teredo)."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour
        if inner is None and found in _NAT64:
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if inner is None and found.teredo is not None:
            inner = found.teredo[1]
        if inner is not None:
            return inner.is_global and not inner.is_multicast
    return found.is_global and not found.is_multicast


_NAT64 = ipaddress.ip_network("64:ff9b::/96")
