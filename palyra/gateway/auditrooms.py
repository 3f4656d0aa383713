"""The rooms of the audit chain, composed: what is asked of it, its anchors, and refusals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from twisted.internet.interfaces import IReactorTime

from palyra.config.audit import AuditSection
from palyra.core.auditlog import IAuditLog
from palyra.gateway.anchoring import Anchoring, Refusals, head_key
from palyra.gateway.auditing import AuditControl
from palyra.gateway.onethread import InThread
from palyra.observe.anchors import sinks
from palyra.pki.sealing import Sealer


class AuditRooms:
    """What the gateway has around its audit chain."""

    def __init__(
        self,
        *,
        log: IAuditLog,
        sealer: Sealer,
        section: AuditSection,
        state_root: Path,
        clock: IReactorTime,
        now_ms: Callable[[], int],
        in_thread: InThread,
    ) -> None:
        key = head_key(sealer)
        self.control = AuditControl(log=log, key=key)
        self.refusals = Refusals(log=log, now_ms=now_ms)
        self.anchoring = Anchoring(
            log=log,
            key=key,
            section=section,
            sinks=sinks(section, state_root),
            in_thread=in_thread,
            clock=clock,
        )

    async def tick(self) -> None:
        """Write what was refused, then anchor."""
        await self.refusals.tell()
        await self.anchoring.anchor()

    async def sweep(self) -> None:
        """Let the oldest rows go."""
        await self.anchoring.rotate()
