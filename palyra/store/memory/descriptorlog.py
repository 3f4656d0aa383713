"""Descriptors in memory."""

from __future__ import annotations

from collections.abc import Mapping

from palyra.store.memory.records import Records, fired


class DescriptorLog(Records):
    """Provides :class:`palyra.core.descriptorlog.IDescriptorLog`."""

    @fired
    def keep_descriptors(self, descriptors: Mapping[str, bytes], now_ms: int) -> None:
        for digest, data in descriptors.items():
            kept, _ = self._descriptors.get(digest, (data, now_ms))
            self._descriptors[digest] = kept, now_ms

    @fired
    def descriptors(self) -> dict[str, bytes]:
        return {digest: data for digest, (data, _) in sorted(self._descriptors.items())}

    @fired
    def forget_descriptors(self, before_ms: int) -> tuple[str, ...]:
        used = {item.digest for each in self._devices.values() for item in each.capabilities}
        old = [each for each, (_, at_ms) in self._descriptors.items() if at_ms < before_ms]
        for digest in used.intersection(old):
            self._descriptors[digest] = self._descriptors[digest][0], self._now_ms()
        gone = tuple(sorted(set(old) - used))
        for digest in gone:
            del self._descriptors[digest]
        return gone
