"""``[gateway]``: who the gateway is, and how it stops."""

from __future__ import annotations

from typing import Annotated

import msgspec


class GatewaySection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``names`` go into the console's certificate and the pairing line; the first one leads."""

    names: tuple[Annotated[str, msgspec.Meta(min_length=1, max_length=253)], ...] = ()
    trust_domain: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,253}$")] = "palyra"
    shutdown_grace_s: Annotated[float, msgspec.Meta(ge=0, le=600)] = 10.0
    registrations_per_s: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 300
    """How many nodes may register in a second; the others are told when to come again."""
    device_certificate_s: Annotated[int, msgspec.Meta(ge=60, le=90 * 86_400)] = 86_400
    """How long a device's certificate lives; it is renewed with a third of that left."""
    store_key_file: str = ""
    """File of the 32-byte key that seals the gateway's secrets; empty: one is made in identity/.
    A systemd credential named ``palyra.store-key`` goes before it."""
