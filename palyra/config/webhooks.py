"""``[[webhook]]``: who is told what happens here."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

_ID = msgspec.Meta(pattern=r"\A[a-z0-9][a-z0-9-]{0,39}\Z", description="must be like on-call")
_URL = msgspec.Meta(
    pattern=r"\Ahttps://[^\s@#]{1,2000}\Z",
    description="must begin with https:// and hold no user, blank or fragment",
)

Told = Literal[
    "approval.needed",
    "pairing.needed",
    "device.offline",
    "certificate.expiring",
    "job.failed",
    "audit.head",
]


class WebhookSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One target.  ``secret_file`` holds ``whsec_`` and base64 of 24 to 64 bytes.

    ``ca_file`` (PEM) is trusted instead of the system's CAs where it is given.  Loopback, private
    and link-local addresses are refused unless ``allow_private``.
    """

    id: Annotated[str, _ID]
    url: Annotated[str, _URL]
    secret_file: Annotated[str, msgspec.Meta(min_length=1)]
    events: Annotated[tuple[Told, ...], msgspec.Meta(min_length=1)]
    ca_file: str = ""
    allow_private: bool = False
