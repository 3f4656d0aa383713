"""What descriptors need of the store: they are asked of a device once, and not at every start."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping

from zope.interface import Interface


class IDescriptorLog(Interface):
    """Descriptors by their digest (:mod:`palyra.core.descriptors`); checked by whoever keeps them,
    and never changed."""

    def keep_descriptors(descriptors: Mapping[str, bytes], now_ms: int) -> Awaitable[None]:
        """Keep descriptors; one that is kept already was seen again."""

    def descriptors() -> Awaitable[dict[str, bytes]]:
        """Every descriptor that is kept."""

    def forget_descriptors(before_ms: int) -> Awaitable[tuple[str, ...]]:
        """Delete those that were seen before ``before_ms`` and that no device announces; their
        digests, in order.  Those that a device announces have been seen now."""
