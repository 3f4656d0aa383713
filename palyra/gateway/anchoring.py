"""Anchors of the audit chain, the end of its oldest rows, and refusals, summed up.

Every so often, if the chain has grown, its head is signed and given to the outside: what was
anchored cannot be rewritten unseen by whoever owns the database.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from palyra.config.audit import AuditSection
from palyra.core.audit import AuditEntry
from palyra.core.audithead import KEY_PURPOSE, Head, HeadKind
from palyra.core.auditlog import IAuditLog
from palyra.core.rates import source_of
from palyra.errors import Malformed
from palyra.gateway.onethread import InThread
from palyra.observe.anchors import Sink
from palyra.pki.sealing import Sealer

ANCHORS_KEPT = 20_000
"""Anchors that the store itself keeps, the newest: two weeks of minutes."""
AT_ONCE = 1_000
"""Rows deleted in one transaction."""
PAUSE_S = 0.05
MAX_REFUSALS = 256
"""Sources and reasons told apart within one minute; what is more is one row."""
_DAY_S = 86_400


def head_key(sealer: Sealer) -> Ed25519PrivateKey:
    """The key that signs heads: the same for as long as the store key is."""
    return Ed25519PrivateKey.from_private_bytes(sealer.derived(KEY_PURPOSE))


class Anchoring:
    """Signs heads, gives them away, and lets the oldest rows go."""

    _log = Logger()

    def __init__(
        self,
        *,
        log: IAuditLog,
        key: Ed25519PrivateKey,
        section: AuditSection,
        sinks: Sequence[Sink],
        in_thread: InThread,
        clock: IReactorTime,
        anchored: Callable[[Head], object] = lambda head: None,
    ) -> None:
        """``anchored`` is told of every anchor that was kept."""
        self._store = log
        self._key = key
        self._section = section
        self._sinks = sinks
        self._in_thread = in_thread
        self._clock = clock
        self.anchored = anchored
        self._last: tuple[str, int] | None = None
        self._stopped = False

    async def anchor(self) -> None:
        """Sign the head and give it away, if it moved since the last time.

        A sink that fails is logged and asked again with the next head; the others get theirs.
        """
        head = await self._store.audit_head()
        if head.seq == 0 or self._last == (head.chain_id, head.seq):
            return
        at_ms = self._now_ms()
        signed = Head(head.chain_id, head.seq, head.hash, at_ms).signed(self._key)
        await self._store.keep_head(signed, ANCHORS_KEPT)
        for sink in self._sinks:
            try:
                await self._in_thread(sink, signed)
            except Exception as error:
                self._log.error(
                    "the audit chain's head is not anchored by {sink}: {error}",
                    sink=type(sink).__name__,
                    error=error,
                )
        self.anchored(signed)
        self._last = (head.chain_id, head.seq)

    async def rotate(self) -> int:
        """Delete rows that are too old or too many, behind a signed head; how many."""
        section, total = self._section, 0
        before_ms = self._now_ms() - int(section.keep_days * _DAY_S * 1000)
        last = await self._store.forgettable_audit(before_ms, section.keep_rows)
        if last is None:
            return 0
        segment = Head(last.chain_id, last.seq, last.hash, self._now_ms(), HeadKind.SEGMENT).signed(
            self._key
        )
        while not self._stopped:
            gone = await self._store.cut_audit(segment, AT_ONCE)
            total += gone
            if gone < AT_ONCE:
                break
            await deferLater(self._clock, PAUSE_S)
        return total

    def stop(self) -> None:
        """Delete no more."""
        self._stopped = True

    def _now_ms(self) -> int:
        return int(self._clock.seconds() * 1000)


class Refusals:
    """Who was turned away at the console: one row a minute, source and reason, with a count."""

    def __init__(self, *, log: IAuditLog, now_ms: Callable[[], int]) -> None:
        self._store = log
        self._now_ms = now_ms
        self._counts: dict[tuple[str, str], int] = {}

    def refused(self, reason: str, via: str) -> None:
        """Somebody was turned away for ``reason`` (an error's code); ``via`` is ``console.sock`` or
        an address."""
        key = (reason, _source(via))
        if key not in self._counts and len(self._counts) >= MAX_REFUSALS:
            key = ("refused", "other sources")
        self._counts[key] = self._counts.get(key, 0) + 1

    async def tell(self) -> None:
        """Write what has gathered; what cannot be written is kept for the next time."""
        counts, self._counts = self._counts, {}
        if not counts:
            return
        at_ms = self._now_ms()
        entries = [
            AuditEntry(
                at_ms,
                "console.refused",
                result=f"denied, {count} time" + ("" if count == 1 else "s"),
                reason=reason,
                who="unknown",
                via=source,
            )
            for (reason, source), count in sorted(counts.items())
        ]
        try:
            await self._store.record(entries)
        except Exception:
            for key, count in counts.items():
                self._counts[key] = self._counts.get(key, 0) + count
            raise


def _source(via: str) -> str:
    """What an address counts as; anything else, as ``console.sock``, is itself."""
    try:
        return source_of(via)
    except Malformed:
        return via[:64]
