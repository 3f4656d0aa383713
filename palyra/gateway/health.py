"""What only the running gateway can say of itself, for ``palyra doctor``."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import attrs

from palyra import __version__
from palyra.console.models import Check, Contract, Health
from palyra.core.identifiers import grouped
from palyra.gateway.inventory import Inventory
from palyra.gateway.sessions import Sessions

LOW_SPACE_BYTES = 256 * 1024 * 1024
DAY_MS = 86_400_000


@attrs.define
class HealthCheck:
    """The gateway's own checks; ``listeners`` are addresses by name, once bound."""

    state_root: Path
    now_ms: Callable[[], int]
    ca_fingerprint: str
    ca_not_after_ms: int
    gateway_not_after_ms: Callable[[], int]
    listeners: Callable[[], dict[str, str]]
    snapshot_error: Callable[[], Exception | None]
    imported: bool
    inventory: Inventory
    sessions: Sessions
    started_at_ms: int = 0

    async def report(self) -> Health:
        """Every check, as it is now."""
        checks = [
            self._listeners(),
            self._authority(),
            self._certificate(),
            self._snapshot(),
            self._space(),
            self._nodes(),
        ]
        if self.imported:
            checks.append(
                Check(
                    "warn",
                    "import",
                    "this start made the store from node-runtime.v1.json",
                    "node-runtime.v1.json",
                    "check that every device you revoked is still revoked: palyra nodes list",
                )
            )
        return Health(
            contract=Contract(),
            version=__version__,
            pid=os.getpid(),
            state_root=str(self.state_root),
            started_at_unix_ms=self.started_at_ms,
            ca_fingerprint=self.ca_fingerprint,
            listeners=self.listeners(),
            checks=checks,
        )

    def _listeners(self) -> Check:
        shown = ", ".join(f"{name} {address}" for name, address in self.listeners().items())
        return Check("ok", "listeners", shown)

    def _authority(self) -> Check:
        days = (self.ca_not_after_ms - self.now_ms()) // DAY_MS
        verdict = "ok" if days > 365 else "warn" if days > 0 else "FAIL"
        finding = f"{grouped(self.ca_fingerprint)}, {days} days left"
        hint = "" if verdict == "ok" else "every device must pair again before it ends"
        return Check(verdict, "CA", finding, "identity/ca.pem", hint)

    def _certificate(self) -> Check:
        days = (self.gateway_not_after_ms() - self.now_ms()) // DAY_MS
        verdict = "ok" if days >= 5 else "warn"
        hint = "" if verdict == "ok" else "restart the gateway; it renews its certificate then"
        return Check(verdict, "certificate", f"{days} days left", "identity/gateway.pem", hint)

    def _snapshot(self) -> Check:
        error = self.snapshot_error()
        if error is None:
            return Check("ok", "snapshot", "written", "node-runtime.v1.json")
        return Check("warn", "snapshot", str(error), "node-runtime.v1.json", "free some space")

    def _space(self) -> Check:
        free = shutil.disk_usage(self.state_root).free
        finding = f"{free / 1024**3:.1f} GiB free"
        if free >= LOW_SPACE_BYTES:
            return Check("ok", "disk", finding, str(self.state_root))
        return Check("FAIL", "disk", finding, str(self.state_root), "free some space")

    def _nodes(self) -> Check:
        known = len(self.inventory.devices())
        return Check("ok", "devices", f"{known} known, {self.sessions.count()} connected")
