"""What the owner's configuration makes of what is installed."""

from __future__ import annotations

from palyra.capability.catalogue import Catalogue
from palyra.capability.discovery import Wishes
from palyra.config.node import NodeSection


def wishes_of(section: NodeSection) -> Wishes:
    """What the device's owner wants of its plugins."""
    named = section.capability.items()
    off = (name for name, each in named if not each.enabled)
    return Wishes(
        in_process=section.in_process,
        disabled=(*section.disabled, *off),
        settings={name: each.settings for name, each in named if each.settings},
    )


def not_installed(section: NodeSection, catalogue: Catalogue) -> list[str]:
    """The names that are configured, and that nothing here has: misspelt, most likely."""
    known = {*catalogue.offers, *(each.name for each in catalogue.faults)}
    return sorted(name for name in section.capability if name not in known)
