"""``[tracing]``: where spans are sent, by a gateway and by a node host alike."""

from __future__ import annotations

from typing import Annotated

import msgspec

_ENDPOINT = msgspec.Meta(
    pattern=r"\A(?:https?://[^\s@#?]{1,2000})?\Z",
    description="must be the URL of an OTLP/HTTP collector, as http://127.0.0.1:4318/v1/traces",
)


class TracingSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``endpoint`` takes OTLP over HTTP; empty: nothing is traced, and nothing is loaded for it.

    ``ratio`` of the traces that begin here are sent; one that was begun elsewhere goes on as it
    was begun.  ``ca_file`` (PEM) is trusted instead of the system's CAs where it is given.
    """

    endpoint: Annotated[str, _ENDPOINT] = ""
    ratio: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0
    ca_file: str = ""
