"""What a device says of itself: its name, what it runs on, what it offers."""

from __future__ import annotations

import platform
import sys
from typing import Protocol

from palyra import __version__
from palyra.core.announcement import Announcement
from palyra.core.devices import AnnouncedCapability, clean_name


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


def platform_name() -> str:
    """``linux x86_64``, ``macos arm64``, ``windows amd64``."""
    system = {"darwin": "macos", "win32": "windows"}.get(sys.platform, sys.platform)
    return f"{system} {platform.machine().lower()}"


def default_name(configured: str) -> str:
    """The configured name, else the host's."""
    return clean_name(configured or platform.node())
