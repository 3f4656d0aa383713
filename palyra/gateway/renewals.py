"""Renewals: a device's next certificate, and orders to fetch one now (PROTOCOL: RENEWAL)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import attrs
from twisted.logger import Logger

from palyra.config.enrolment import EnrolmentSection
from palyra.core.devices import (
    CertificateRecord,
    ClientKind,
    Device,
    Renewal,
    RotationOrder,
    clean_text,
)
from palyra.core.frames import Renew
from palyra.core.identifiers import DeviceId, Fingerprint
from palyra.core.interfaces import IDeviceDirectory
from palyra.core.transcript import renewal_payload, verify_under_any
from palyra.core.windows import Windows
from palyra.errors import LimitReached, VersionOneRefused
from palyra.gateway.inventory import Inventory
from palyra.gateway.issuing import Issuer, made_key
from palyra.gateway.sessions import Sessions
from palyra.transport.interfaces import Peer
from palyra.wire.pairing import RenewalAsked, Renewed

MAX_AN_HOUR = 30
_HOUR_MS = 3_600_000
SPREAD_MS_EACH = 20
"""A thousand devices that are told to renew do so within twenty seconds, not all at once."""
MAX_SPREAD_MS = 600_000


class Renewals:
    """Issues certificates to devices that still have one, and watches the orders to renew."""

    _log = Logger()

    def __init__(
        self,
        *,
        now_ms: Callable[[], int],
        directory: IDeviceDirectory,
        inventory: Inventory,
        issuer: Issuer,
        sessions: Sessions,
        limits: EnrolmentSection,
        changed: Callable[[], object],
    ) -> None:
        self._now_ms = now_ms
        self._directory = directory
        self._inventory = inventory
        self._issuer = issuer
        self._sessions = sessions
        self._limits = limits
        self._changed = changed
        self._lately = Windows(MAX_AN_HOUR, _HOUR_MS)
        sessions.renew_after_s = self.renew_after_s

    # -- what a device asks -------------------------------------------------------------------

    async def renew(self, peer: Peer, asked: RenewalAsked) -> Renewed:
        """The next certificate of the device that ``peer`` speaks for; committed, then answered.

        :raises VerificationFailed: the CSR, or the signature over it, does not hold.
        :raises VersionOneRefused: there is no CSR, and keys are not made here.
        :raises LimitReached: it asks too often.
        :raises PalyraError: the device or the certificate of this connection is refused.
        """
        device = self._inventory.paired(peer.device_id)
        self._guard(device)
        csr_der, made_pem = asked.csr_der, b""
        if csr_der:
            self._check_signature(device, peer.fingerprint, asked)
        elif self._may_have_key_made(peer.fingerprint):
            self._log.warn("making the next private key of {name} here", name=device.name)
            made_pem, csr_der = made_key(device.device_id)
        else:
            raise VersionOneRefused()
        offered = after_order(device, self._issuer.issue(device.device_id, csr_der))
        offered = attrs.evolve(offered, made_key=bool(made_pem))
        renewal = Renewal(offered, device.identity_fingerprint, over=peer.fingerprint)
        kept = await self._directory.renew(renewal)
        known = self._inventory.certificate(kept.fingerprint)
        if known is None:  # else it is an answer that is given once more
            self._inventory.renewed(peer.fingerprint, kept)
        self._changed()
        return Renewed(
            certificate_pem=kept.pem,
            ca_pem=self._issuer.ca_bundle_pem,
            certificate_expires_at_ms=kept.not_after_ms,
            renew_after_s=self._issuer.renew_after_s(kept),
            private_key_pem=made_pem.decode(),
        )

    def _may_have_key_made(self, over: Fingerprint) -> bool:
        """A device that makes its own keys must prove its identity key at each renewal."""
        certificate = self._inventory.certificate(over)
        allowed = self._limits.allow_v1_codes and self._limits.allow_gateway_made_keys
        return allowed and certificate is not None and certificate.made_key

    def _check_signature(self, device: Device, over: Fingerprint, asked: RenewalAsked) -> None:
        """The recorded identity key asks, over this connection's certificate, for this CSR."""
        verify_under_any(
            self._issuer.trust.ca_hashes,
            lambda ca_hash: renewal_payload(device.device_id, ca_hash, over, asked.csr_der),
            device.identity_public,
            asked.signature,
            "renewal signature",
        )

    def _guard(self, device: Device) -> None:
        now_ms = self._now_ms()
        wait_ms = self._lately.wait_ms(device.device_id, now_ms)
        if wait_ms:
            raise LimitReached("renewals of one device in an hour", MAX_AN_HOUR, wait_ms / 1000)
        self._lately.add(device.device_id, now_ms)

    # -- what an operator orders ----------------------------------------------------------------

    async def order(self, devices: Iterable[Device], by: str, reason: str) -> list[Device]:
        """Order a new certificate from those of these that are nodes; fires when that is on record.

        Whoever is online is told at once; the others when they register.  The order stands until
        the device has registered over a certificate that was issued after it.  Other clients have
        no session: nobody can be told anything there.
        """
        nodes = (device for device in devices if device.client_kind is ClientKind.NODE)
        ids = frozenset(device.device_id for device in nodes)
        order = RotationOrder(ids, clean_text(by, 64), self._now_ms())
        ordered = await self._directory.order_rotation(order)
        within_ms = min(MAX_SPREAD_MS, SPREAD_MS_EACH * len(ordered))
        for device in ordered:
            self._inventory.put(device)
            session = self._sessions.owner(device.device_id)
            if session is not None:
                session.renew(Renew(clean_text(reason, 240), within_ms))
        self._changed()
        return ordered

    def renew_after_s(self, device_id: DeviceId, fingerprint: Fingerprint) -> int | None:
        """In how many seconds a device should renew the certificate it has just registered with."""
        device = self._inventory.device(device_id)
        certificate = self._inventory.certificate(fingerprint)
        if device is None or certificate is None:
            return None
        if is_ordered(device, certificate):
            return 0
        return self._issuer.renew_after_s(certificate)


def after_order(device: Device, issued: CertificateRecord) -> CertificateRecord:
    """A certificate that was issued just now, also where the clock was set back since an order."""
    asked_ms = device.rotate_asked_at_ms or 0
    return attrs.evolve(issued, issued_at_ms=max(issued.issued_at_ms, asked_ms))


def is_ordered(device: Device, certificate: CertificateRecord) -> bool:
    """Whether an order to renew is still open for a device that uses this certificate."""
    asked_ms = device.rotate_asked_at_ms
    return asked_ms is not None and certificate.issued_at_ms < asked_ms
