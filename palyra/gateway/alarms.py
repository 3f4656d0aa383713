"""Alarms: which happenings are worth a webhook."""

from __future__ import annotations

from collections.abc import Callable

from palyra.core.audithead import Head
from palyra.core.callapprovals import CallApproval
from palyra.core.devices import DeviceState, PresenceState
from palyra.core.frames import JobUpdate
from palyra.core.identifiers import DeviceId, Fingerprint
from palyra.core.jobs import JobState
from palyra.core.pairing import PairingRequest
from palyra.core.webhooks import WebhookEvent
from palyra.gateway.intake import START_GRACE_MS
from palyra.gateway.inventory import Inventory
from palyra.gateway.presence import PresenceBoard
from palyra.gateway.webhooks import Item, Webhooks

FAILED = frozenset(
    {JobState.FAILED, JobState.TIMED_OUT, JobState.OUTCOME_UNKNOWN, JobState.EXPIRED}
)
"""Ends that nobody decided on; who rejects or cancels a job knows it."""
EXPIRING_PART = 6
"""A certificate of which less than this part of its life is left should have been renewed."""


class Alarms:
    """Hears of jobs, devices, certificates and what waits for a person, and tells of some."""

    def __init__(
        self,
        *,
        webhooks: Webhooks,
        inventory: Inventory,
        board: PresenceBoard,
        now_ms: Callable[[], int],
    ) -> None:
        self._webhooks = webhooks
        self._inventory = inventory
        self._board = board
        self._now_ms = now_ms
        self._started_ms = now_ms()
        self._here: set[DeviceId] = set()
        self._told: dict[DeviceId, Fingerprint] = {}

    def changed(self, update: JobUpdate) -> None:
        """A job's new state is on record (:class:`palyra.gateway.settlement.Watcher`)."""
        job = update.job
        if job.state in FAILED and self._webhooks.wants(WebhookEvent.JOB_FAILED):
            item: Item = {
                "job_id": job.call.job_id,
                "device_id": job.call.device_id,
                "capability": job.call.capability,
                "state": job.state.value,
                "error_code": job.error_code,
            }
            self._webhooks.tell(WebhookEvent.JOB_FAILED, item)

    def presence(self, device_id: DeviceId) -> None:
        """A device may have come or gone.  Just after a start all of them are on their way back."""
        if self._board.state(device_id) is not PresenceState.OFFLINE:
            self._here.add(device_id)
            return
        if device_id not in self._here:
            return
        self._here.discard(device_id)
        device = self._inventory.device(device_id)
        early = self._now_ms() - self._started_ms < START_GRACE_MS
        if not early and device is not None and device.state is DeviceState.PAIRED:
            item: Item = {"device_id": device_id, "name": device.name}
            self._webhooks.tell(WebhookEvent.DEVICE_OFFLINE, item)

    def pairing_opened(self, request: PairingRequest) -> None:
        """A device asks to be paired."""
        item: Item = {
            "request_id": request.request_id,
            "device_id": request.device_id,
            "name": request.name,
            "expires_at_unix_ms": request.expires_at_ms,
        }
        self._webhooks.tell(WebhookEvent.PAIRING_NEEDED, item)

    def approval_opened(self, approval: CallApproval) -> None:
        """A call waits for an operator's yes."""
        item: Item = {
            "approval_id": approval.approval_id,
            "capability": approval.capability,
            "expires_at_unix_ms": approval.expires_at_ms,
        }
        self._webhooks.tell(WebhookEvent.APPROVAL_NEEDED, item)

    def anchored(self, head: Head) -> None:
        """The head of the audit chain was signed."""
        item: Item = {
            "chain_id": head.chain_id,
            "seq": head.seq,
            "hash": head.hash.hex(),
            "at_unix_ms": head.at_ms,
            "signature": head.signature.hex(),
        }
        self._webhooks.tell(WebhookEvent.AUDIT_HEAD, item)

    def look_at_certificates(self) -> None:
        """Tell of each certificate once that is about to end and was not renewed."""
        if not self._webhooks.wants(WebhookEvent.CERTIFICATE_EXPIRING):
            return
        now_ms = self._now_ms()
        for device in self._inventory.devices():
            newest = self._inventory.newest_certificate(device.device_id)
            if newest is None or device.state is not DeviceState.PAIRED:
                self._told.pop(device.device_id, None)
                continue
            left_ms = newest.not_after_ms - now_ms
            due = left_ms * EXPIRING_PART < newest.not_after_ms - newest.not_before_ms
            if due and self._told.get(device.device_id) != newest.fingerprint:
                self._told[device.device_id] = newest.fingerprint
                item: Item = {
                    "device_id": device.device_id,
                    "name": device.name,
                    "not_after_unix_ms": newest.not_after_ms,
                }
                self._webhooks.tell(WebhookEvent.CERTIFICATE_EXPIRING, item)
