"""``echo``: what was sent comes back.  The first thing to try on a new device."""

from __future__ import annotations

from typing import Any

import msgspec

from palyra.capability import Capability, CapabilityContext, Risk, hookimpl


class Echo(msgspec.Struct):
    """The input as it was understood, and who answered."""

    echo: Any
    device_id: str


async def echo(value: Any, context: CapabilityContext) -> Echo:
    """Send any JSON value back."""
    return Echo(echo=value, device_id=context.device.device_id)


@hookimpl
def palyra_capabilities() -> list[Capability]:
    """The capability ``echo``."""
    return [
        Capability(
            name="echo",
            description="Sends its input back, with the device's id.",
            handler=echo,
            output_type=Echo,
            risk=Risk.LOW,
            idempotent=True,
            timeout_s=10.0,
            max_concurrency=16,
        )
    ]
