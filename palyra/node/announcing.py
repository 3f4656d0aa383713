"""What a device says of itself: its name, what it runs on, what it offers."""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping
from typing import Protocol

from palyra import __version__
from palyra.core.announcement import Announcement
from palyra.core.devices import AnnouncedCapability, clean_name
from palyra.core.frames import Hello
from palyra.core.identifiers import DeviceId
from palyra.core.jobs import Standing

MAX_IN_FLIGHT = 256
"""Dispatches that a node takes before it has answered one."""


class Announces(Protocol):
    """Whoever knows what this device offers."""

    def announced(self) -> tuple[AnnouncedCapability, ...]:
        """Every capability."""


def announcement(offers: Announces, name: str) -> Announcement:
    """What this device says of itself."""
    return Announcement(
        name=name,
        platform=platform_name(),
        version=__version__,
        capabilities=offers.announced(),
    )


def greeting(
    device_id: DeviceId,
    capabilities: tuple[AnnouncedCapability, ...],
    *,
    memory_id: str,
    attempts: Mapping[str, Standing],
    unix_ms: int,
    store_epoch: str = "",
    max_in_flight: int = 1,
) -> Hello:
    """What it says when it registers: who it is, what it offers, and what it knows of attempts."""
    return Hello(
        device_id=device_id,
        platform=platform_name(),
        capabilities=capabilities,
        version=__version__,
        memory_id=memory_id,
        store_epoch=store_epoch,
        max_in_flight=min(MAX_IN_FLIGHT, max_in_flight),
        attempts=attempts,
        extended=True,
        unix_ms=unix_ms,
    )


def platform_name() -> str:
    """``linux x86_64``, ``macos arm64``, ``windows amd64``."""
    system = {"darwin": "macos", "win32": "windows"}.get(sys.platform, sys.platform)
    return f"{system} {platform.machine().lower()}"


def default_name(configured: str) -> str:
    """The configured name, else the host's."""
    return clean_name(configured or platform.node())
