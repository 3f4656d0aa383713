"""What only the running gateway can say of itself, for ``palyra doctor``."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import attrs

from palyra import __version__
from palyra.console.models import Check, Contract, Health
from palyra.core.devices import DeviceState, clean_text
from palyra.core.identifiers import DeviceId, grouped, short_id
from palyra.core.versions import Skew, skew
from palyra.errors import RestoreUnconfirmed
from palyra.gateway.carotation import CaRotator
from palyra.gateway.clones import CloneAlarms
from palyra.gateway.inventory import Inventory
from palyra.gateway.sessions import Sessions
from palyra.pki.certificates import unix_ms

LOW_SPACE_BYTES = 256 * 1024 * 1024
DAY_MS = 86_400_000
CLOCK_OFF_MS = 60_000
MAX_NAMED = 5


@attrs.define
class HealthCheck:
    """The gateway's own checks; ``listeners`` are addresses by name, once bound."""

    state_root: Path
    now_ms: Callable[[], int]
    rotator: CaRotator
    listeners: Callable[[], dict[str, str]]
    snapshot_error: Callable[[], Exception | None]
    unconfirmed_since_ms: Callable[[], int | None]
    inventory: Inventory
    sessions: Sessions
    clones: CloneAlarms
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
            *self._plugins(),
            *self._versions(),
            self._clocks(),
            *self._clones(),
            *self._rotations(),
            *self._restored(),
        ]
        return Health(
            contract=Contract(),
            version=__version__,
            pid=os.getpid(),
            state_root=str(self.state_root),
            started_at_unix_ms=self.started_at_ms,
            ca_fingerprint=self.rotator.identity.issuing.ca_hash,
            listeners=self.listeners(),
            checks=checks,
        )

    def _listeners(self) -> Check:
        shown = ", ".join(f"{name} {address}" for name, address in self.listeners().items())
        return Check("ok", "listeners", shown)

    def _authority(self) -> Check:
        issuing = self.rotator.identity.issuing
        ends_ms = unix_ms(issuing.ca_certificate.not_valid_after_utc)
        days = (ends_ms - self.now_ms()) // DAY_MS
        verdict = "ok" if days > 365 else "warn" if days > 0 else "FAIL"
        finding = f"{grouped(issuing.ca_hash)}, {days} days left"
        hint = "" if verdict == "ok" else "palyra ca rotate"
        return Check(verdict, "CA", finding, "identity/ca.pem", hint)

    def _certificate(self) -> Check:
        ends_ms = self.rotator.identity.gateway_certificate.not_after_ms
        days = (ends_ms - self.now_ms()) // DAY_MS
        verdict = "ok" if days >= 5 else "warn"
        hint = "" if verdict == "ok" else "it renews by itself; see the gateway's log"
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

    def _plugins(self) -> list[Check]:
        """Capabilities that failed on a device; each is named there, the first one here."""
        failed = [
            (device.name, each)
            for device in self.inventory.devices()
            for each in device.capabilities
            if each.fault and device.state is DeviceState.PAIRED
        ]
        if not failed:
            return []
        name, first = failed[0]
        finding = f"{first.name} failed on {name}: {first.fault}"
        if len(failed) > 1:
            finding += f"; and {_counted(len(failed) - 1, 'other')}"
        return [Check("warn", "plugins", finding, "", f"palyra nodes show {name}")]

    def _versions(self) -> list[Check]:
        """Nodes that are not of this gateway's version; those that are too far from it first."""
        apart = [
            (found, device)
            for device in self.inventory.devices()
            if device.state is DeviceState.PAIRED
            and (found := skew(device.version, __version__)) is not Skew.NONE
        ]
        if not apart:
            return []
        far = [device for found, device in apart if found in (Skew.TOO_OLD, Skew.TOO_NEW)]
        worst = far[0] if far else apart[0][1]
        finding = f"{_counted(len(apart), 'node')} not of version {__version__}"
        if far:
            finding += f", {len(far)} by more than one minor version"
        finding += f" ({worst.name} {clean_text(worst.version, 32)})"
        hint = f"on {worst.name}: pip install --upgrade palyra && palyra node restart"
        return [Check("warn" if far else "ok", "versions", finding, "", hint if far else "")]

    def _clocks(self) -> Check:
        """Devices whose clock was more than a minute off when they registered."""
        off = [
            (self._name(device_id), ahead_ms)
            for device_id, ahead_ms in self.sessions.clocks.items()
            if abs(ahead_ms) > CLOCK_OFF_MS
        ]
        if not off:
            return Check("ok", "clocks", "no device differs by more than 60s")
        name, ahead_ms = max(off, key=lambda each: abs(each[1]))
        side = "ahead" if ahead_ms > 0 else "behind"
        worst = f"{name} {abs(ahead_ms) // 60_000}m {side}"
        finding = f"{_counted(len(off), 'device')} by more than 60s ({worst})"
        return Check("warn", "clocks", finding, "", f"on {name}: timedatectl set-ntp true")

    def _clones(self) -> list[Check]:
        lately = self.clones.lately()
        if not lately:
            return []
        newest = lately[0]
        when, name = moment_text(newest.at_ms), self._name(newest.device_id)
        finding = f"a superseded certificate of {name} was used from {newest.address} on {when}"
        hint = f"if {name} was not put back from a backup: palyra nodes revoke {name}"
        return [Check("warn", "clones", finding, "", hint)]

    def _rotations(self) -> list[Check]:
        """Who has not renewed although it was ordered, and who is left of a CA rotation."""
        checks = []
        asked = [
            device.name
            for device in self.inventory.devices()
            if device.rotate_asked_at_ms is not None and device.state is DeviceState.PAIRED
        ]
        if asked:
            finding = f"asked, not done yet by {_counted(len(asked), 'device')}: {_names(asked)}"
            checks.append(Check("warn", "rotation", finding, "", "they do it when they are online"))
        if self.rotator.phase != "steady":
            checks.append(self._ca_rotation())
        return checks

    def _ca_rotation(self) -> Check:
        left = [device.name for device in self.rotator.left()]
        due_ms = self.rotator.next_step_ms() or self.now_ms()
        days = max(0, due_ms - self.now_ms()) // DAY_MS
        if not left:
            within = _counted(days + 1, "day")
            finding = f"{self.rotator.phase}, no device is left; next step within {within}"
            again = "back up again: palyra state backup FILE; older backups do not fit any more"
            hint = again if self.rotator.phase == "switched" else ""
            return Check("ok", "CA rotation", finding, "identity/ca.pem", hint)
        finding = f"{self.rotator.phase}, {_counted(len(left), 'device')} left: {_names(left)}"
        hint = f"switch them on within {_counted(days, 'day')}; then they have to pair again"
        return Check("warn", "CA rotation", finding, "identity/ca.pem", hint)

    def _restored(self) -> list[Check]:
        since_ms = self.unconfirmed_since_ms()
        if since_ms is None:
            return []
        error = RestoreUnconfirmed(moment_text(since_ms))
        finding = error.sentence.rstrip(".")
        return [Check("FAIL", "restored", finding, "", error.hint)]

    def _name(self, device_id: DeviceId) -> str:
        device = self.inventory.device(device_id)
        return device.name if device is not None else short_id(device_id)


def moment_text(unix_milliseconds: int) -> str:
    """A moment as people read it, in local time."""
    return datetime.fromtimestamp(unix_milliseconds / 1000).strftime("%d %b %Y %H:%M")


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _names(names: list[str]) -> str:
    shown = ", ".join(sorted(names)[:MAX_NAMED])
    return shown if len(names) <= MAX_NAMED else f"{shown} and {len(names) - MAX_NAMED} more"
