"""``[metrics]``: a listener for Prometheus alone."""

from __future__ import annotations

from typing import Annotated

import msgspec

_LISTEN = msgspec.Meta(
    pattern=r"\A(?:none|\S+:[0-9]{1,5})\Z", description="must be HOST:PORT on loopback, or none"
)


class MetricsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``listen`` is HOST:PORT on loopback, where ``/metrics`` is answered to whoever asks, over
    plain HTTP.  The console answers it too, to operators."""

    listen: Annotated[str, _LISTEN] = "none"
