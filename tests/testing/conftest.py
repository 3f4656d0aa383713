"""The fixture of the kit, as authors have it."""

from palyra.testing.capability import capability_host

__all__ = ["capability_host"]
