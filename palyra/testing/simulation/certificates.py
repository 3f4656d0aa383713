"""What must always hold of certificates, and of orders to renew them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from palyra.core.devices import CertificateRecord, CertificateState, DeviceState, Renewal
from palyra.core.identifiers import DeviceId, Fingerprint
from palyra.store.memory import MemoryStore
from palyra.testing.simulation.disk import at_once
from palyra.testing.simulation.trace import Violation

NOTICED_S = 0.1
"""So soon after the commit the gateway knows of it: until then an older certificate may pass."""
LIVE = (CertificateState.CURRENT, CertificateState.PENDING)


class CertificateChecks:
    """Watches the durable store, and which certificates carry sessions."""

    def __init__(self, store: MemoryStore, now_s: Callable[[], float]) -> None:
        """``now_s`` is the world's time, which never jumps."""
        self._store = store
        self._now_s = now_s
        self.renewals = 0
        self.rejoins = 0
        self._issued_s: dict[Fingerprint, float] = {}
        self._superseded_s: dict[Fingerprint, float] = {}
        self._ordered_s: dict[DeviceId, float] = {}

    # -- when something happens -----------------------------------------------------------------

    def committed(self, group: list[tuple[str, tuple[Any, ...]]]) -> None:
        """A group of writes is durable."""
        for name, arguments in group:
            if name == "register":
                self._look(arguments[0].device_id)
            elif name == "renew":
                self._count(arguments[0])
                self._look(arguments[0].certificate.device_id)
            elif name == "order_rotation":
                for device_id in arguments[0].device_ids:
                    self._ordered_s[device_id] = self._now_s()

    def attached(self, device_id: DeviceId, fingerprint: Fingerprint) -> None:
        """A session was opened over that certificate."""
        since_s = self._superseded_s.get(fingerprint)
        if since_s is not None and self._now_s() > since_s + NOTICED_S:
            raise Violation(f"a superseded certificate carries a session of {device_id}")

    def _count(self, renewal: Renewal) -> None:
        fingerprint = renewal.certificate.fingerprint
        kept = at_once(self._store.certificate(fingerprint)) is not None
        if kept and fingerprint not in self._issued_s:  # not an answer that is given once more
            self.renewals += renewal.over is not None
            self.rejoins += renewal.over is None

    def _look(self, device_id: DeviceId) -> None:
        held: list[CertificateRecord] = at_once(self._store.certificates_of(device_id))
        states = Counter(each.state for each in held)
        for state in LIVE:
            if states[state] > 1:
                raise Violation(f"{device_id} has {states[state]} {state.value} certificates")
        for each in held:
            self._issued_s.setdefault(each.fingerprint, self._now_s())
            if each.state is CertificateState.SUPERSEDED:
                self._superseded_s.setdefault(each.fingerprint, self._now_s())

    # -- in the end -----------------------------------------------------------------------------

    def at_end(self, *, set_back: bool) -> None:
        """Every order ended with a certificate that was issued after it.

        The gateway compares times of day; where its clock was ``set_back`` it may be wrong.
        """
        for device_id, ordered_s in self._ordered_s.items():
            device = at_once(self._store.device(device_id))
            if set_back or device is None or device.state is not DeviceState.PAIRED:
                continue
            held: list[CertificateRecord] = at_once(self._store.certificates_of(device_id))
            used = [each for each in held if each.state is CertificateState.CURRENT]
            if any(self._issued_s.get(each.fingerprint, 0.0) < ordered_s for each in used):
                raise Violation(f"{device.name} uses an older certificate than was ordered")
