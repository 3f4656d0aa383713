"""Descriptors in SQL (:class:`palyra.core.descriptorlog.IDescriptorLog`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from sqlalchemy import Connection, delete, insert, select, update

from palyra.store.rows import digests_of
from palyra.store.tables import descriptors, devices

_CHUNK = 500


def keep(connection: Connection, kept: Mapping[str, bytes], now_ms: int) -> None:
    """Keep descriptors; one that is kept already was seen again."""
    known = _seen(connection, sorted(kept), now_ms)
    new = [
        {"digest": digest, "json": data, "seen_at_ms": now_ms}
        for digest, data in kept.items()
        if digest not in known
    ]
    if new:
        connection.execute(insert(descriptors), new)


def every(connection: Connection) -> dict[str, bytes]:
    """Every descriptor, by digest."""
    found = connection.execute(select(descriptors.c.digest, descriptors.c.json))
    return {digest: bytes(data) for digest, data in found}


def forgettable(connection: Connection, before_ms: int) -> tuple[list[str], list[str]]:
    """Digests that were seen before ``before_ms``: those that no device announces, and those that
    one does.

    What devices announce is only read where something is old enough.
    """
    old = descriptors.c.seen_at_ms < before_ms
    found = set(connection.scalars(select(descriptors.c.digest).where(old)))
    if not found:
        return [], []
    used: set[str] = set()
    for row in connection.execute(select(devices.c.capabilities)):
        used |= found & digests_of(row.capabilities)
    return sorted(found - used), sorted(used)


def forget(
    connection: Connection, unused: Sequence[str], used: Sequence[str], before_ms: int, now_ms: int
) -> tuple[str, ...]:
    """Delete descriptors that were not seen since; those in use have been seen now."""
    _seen(connection, used, now_ms)
    gone: list[str] = []
    for some in _chunks(unused):
        those = descriptors.c.digest.in_(some) & (descriptors.c.seen_at_ms < before_ms)
        gone += connection.scalars(select(descriptors.c.digest).where(those))
        connection.execute(delete(descriptors).where(those))
    return tuple(sorted(gone))


def _seen(connection: Connection, digests: Sequence[str], now_ms: int) -> set[str]:
    """Note that descriptors were seen; which of them are kept."""
    known: set[str] = set()
    for some in _chunks(digests):
        those = descriptors.c.digest.in_(some)
        known |= set(connection.scalars(select(descriptors.c.digest).where(those)))
        connection.execute(update(descriptors).where(those).values(seen_at_ms=now_ms))
    return known


def _chunks(digests: Sequence[str]) -> Iterator[Sequence[str]]:
    return (digests[start : start + _CHUNK] for start in range(0, len(digests), _CHUNK))
