"""``[gateway]``: who the gateway is, and how it stops."""

from __future__ import annotations

from typing import Annotated

import msgspec


class GatewaySection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``names`` go into the console's certificate and the pairing line; the first one leads."""

    names: tuple[Annotated[str, msgspec.Meta(min_length=1, max_length=253)], ...] = ()
    trust_domain: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,253}$")] = "palyra"
    shutdown_grace_s: Annotated[float, msgspec.Meta(ge=0, le=600)] = 10.0
