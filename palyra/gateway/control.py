"""What operators ask, from the console and the CLI, answered by the rooms behind it."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import TypeVar

import msgspec
from twisted.internet.defer import Deferred
from zope.interface import implementer

from palyra.config.addresses import HostPort
from palyra.console import models
from palyra.console.app import MAX_WAIT_MS
from palyra.console.control import IControl
from palyra.core.devices import Device, DeviceState, PresenceState
from palyra.core.identifiers import (
    JobId,
    RequestId,
    as_prefix,
    has_prefix,
    is_ulid,
    short_id,
)
from palyra.core.interfaces import IStore, JobQuery, RequestQuery
from palyra.core.jobs import JobState
from palyra.core.pairing import PairingRequest, RequestState
from palyra.core.pairing_uri import PairingUri
from palyra.errors import AmbiguousTarget, JobStillRunning, Malformed, NotFound
from palyra.gateway.approvals import Approvals, Verdict
from palyra.gateway.dispatch import Dispatcher
from palyra.gateway.enrolment import Enrolment
from palyra.gateway.health import HealthCheck
from palyra.gateway.inventory import Inventory
from palyra.gateway.orders import CALLER_MARGIN_MS, Order
from palyra.gateway.presence import PresenceBoard
from palyra.gateway.trust import Revoker
from palyra.gateway.views import CONTRACT, capability_item, code_item, invoke_answer, job_item, raw

S = TypeVar("S", bound=enum.Enum)
_ORDER = {PresenceState.ONLINE: 0, PresenceState.STALE: 1, PresenceState.OFFLINE: 2}


@implementer(IControl)
class Control:
    """Provides :class:`palyra.console.control.IControl`."""

    def __init__(
        self,
        *,
        store: IStore,
        inventory: Inventory,
        board: PresenceBoard,
        dispatcher: Dispatcher,
        enrolment: Enrolment,
        approvals: Approvals,
        revoker: Revoker,
        health: HealthCheck,
        ca_hash: str,
        pairing_address: Callable[[], HostPort],
    ) -> None:
        self._store = store
        self._inventory = inventory
        self._board = board
        self._dispatcher = dispatcher
        self._enrolment = enrolment
        self._approvals = approvals
        self._revoker = revoker
        self._health = health
        self._ca_hash = ca_hash
        self._pairing_address = pairing_address

    # -- nodes ------------------------------------------------------------------------------

    def nodes(self, limit: int, cursor: str | None) -> Deferred[models.NodeList]:
        return Deferred.fromCoroutine(self._nodes(limit, cursor))

    async def _nodes(self, limit: int, cursor: str | None) -> models.NodeList:
        """Devices online first, then stale, then offline, each by name; the cursor is an offset."""
        devices = sorted(self._inventory.devices(), key=self._place)
        begin = _offset(cursor)
        shown = devices[begin : begin + limit]
        more = begin + limit < len(devices)
        waiting = await self._store.requests(
            RequestQuery(states=frozenset({RequestState.PENDING}), limit=1_000)
        )
        return models.NodeList(
            contract=CONTRACT,
            page=models.Page(limit, len(shown), more, str(begin + limit) if more else None),
            nodes=[self._node_item(device) for device in shown],
            waiting_for_approval=len(waiting),
        )

    def _place(self, device: Device) -> tuple[int, str]:
        return _ORDER[self._board.state(device.device_id)], device.name

    def node(self, target: str) -> Deferred[models.NodeAnswer]:
        return Deferred.fromCoroutine(self._node(target))

    async def _node(self, target: str) -> models.NodeAnswer:
        return models.NodeAnswer(CONTRACT, self._node_item(self._inventory.resolve(target)))

    def _node_item(self, device: Device) -> models.NodeItem:
        certificate = self._inventory.newest_certificate(device.device_id)
        heard_ms = self._board.last_heard_ms(device.device_id) or device.last_heard_ms
        trusted = device.state is DeviceState.PAIRED
        return models.NodeItem(
            device_id=device.device_id,
            name=device.name,
            client_kind=device.client_kind.value,
            presence=self._board.state(device.device_id).value,
            trust="trusted" if trusted else device.state.value,
            platform=device.platform,
            version=device.version,
            capabilities=[capability_item(item, device.grants) for item in device.capabilities],
            jobs_running=self._dispatcher.running(device.device_id),
            last_heard_unix_ms=heard_ms,
            transport=device.transport,
            address=device.address,
            certificate_expires_unix_ms=certificate.not_after_ms if certificate else None,
            labels=dict(device.labels),
            identity_fingerprint=device.identity_fingerprint,
            approved_by=device.approved_by,
            paired_at_unix_ms=device.paired_at_ms,
        )

    def invoke(self, target: str, body: models.Invoke, by: str) -> Deferred[models.InvokeAnswer]:
        return Deferred.fromCoroutine(self._invoke(target, body, by))

    async def _invoke(self, target: str, body: models.Invoke, by: str) -> models.InvokeAnswer:
        order = Order(
            device_id=self._inventory.resolve(target).device_id,
            capability=body.capability,
            input_json=bytes(body.input_json),
            requested_by=by,
            max_payload_bytes=body.max_payload_bytes,
            timeout_ms=body.timeout_ms,
        )
        job = await self._dispatcher.submit(order)
        if body.wait_ms is not None:
            return invoke_answer(await self._dispatcher.wait(job, min(body.wait_ms, MAX_WAIT_MS)))
        job = await self._dispatcher.wait(job, job.call.run_timeout_ms + CALLER_MARGIN_MS)
        if not job.final:
            raise JobStillRunning(short_id(job.call.job_id), job.state.value)
        return invoke_answer(job)

    def revoke(self, target: str, body: models.Revoke, by: str) -> Deferred[models.RevokeAnswer]:
        return Deferred.fromCoroutine(self._revoke(target, body, by))

    async def _revoke(self, target: str, body: models.Revoke, by: str) -> models.RevokeAnswer:
        device = self._inventory.resolve(target)
        revocation = await self._revoker.revoke(device, by, body.reason)
        return models.RevokeAnswer(
            CONTRACT, device.device_id, device.name, len(revocation.certificates)
        )

    # -- pairing ------------------------------------------------------------------------------

    def pairing_requests(
        self, state: str | None, client_kind: str | None, limit: int, cursor: str | None
    ) -> Deferred[models.PairingList]:
        return Deferred.fromCoroutine(self._requests(state, client_kind, limit, cursor))

    async def _requests(
        self, state: str | None, client_kind: str | None, limit: int, cursor: str | None
    ) -> models.PairingList:
        states = None if state is None else frozenset({_state(RequestState, state)})
        before = RequestId(_cursor(cursor)) if cursor is not None else None
        found = await self._store.requests(RequestQuery(states, limit + 1, before))
        shown = [
            self._pairing_item(request)
            for request in found[:limit]
            if client_kind is None or request.client_kind.value == client_kind
        ]
        codes = await self._store.active_codes(self._health.now_ms())
        more = len(found) > limit
        return models.PairingList(
            contract=CONTRACT,
            page=models.Page(
                limit, len(shown), more, found[limit - 1].request_id if more else None
            ),
            requests=shown,
            codes=[code_item(code) for code in codes],
            failed_tries=[
                models.FailedTries(source, count)
                for source, count in self._enrolment.failed_tries()
            ],
        )

    def pairing_request(self, target: str) -> Deferred[models.PairingAnswer]:
        return Deferred.fromCoroutine(self._request(target))

    async def _request(self, target: str) -> models.PairingAnswer:
        request = await self._store.request(await self._request_id(target))
        if request is None:
            raise NotFound("pairing request", target[:64])
        return models.PairingAnswer(CONTRACT, self._pairing_item(request))

    async def _request_id(self, target: str) -> RequestId:
        """A pairing request by full id, prefix, or the name of the device that waits."""
        if is_ulid(target.upper()):
            return RequestId(target.upper())
        prefix = as_prefix(target)
        recent = await self._store.requests(RequestQuery(limit=1_000))
        found = [
            request
            for request in recent
            if (prefix is not None and has_prefix(request.request_id, prefix))
            or (request.name == target and request.state is RequestState.PENDING)
        ]
        if not found:
            raise NotFound("pairing request", target[:64])
        if len(found) > 1:
            names = sorted(f"{short_id(each.request_id)} {each.name}" for each in found)
            raise AmbiguousTarget("pairing request", target[:64], tuple(names))
        return found[0].request_id

    def mint(self, body: models.MintCode, by: str) -> Deferred[models.MintedCode]:
        return Deferred.fromCoroutine(self._mint(body, by))

    async def _mint(self, body: models.MintCode, by: str) -> models.MintedCode:
        if body.method != "qr":
            raise Malformed("method", "must be qr")
        minted = await self._enrolment.mint(
            issued_by=body.issued_by or by,
            ttl_ms=body.ttl_ms,
            labels=body.labels,
            source=body.source,
        )
        address = self._pairing_address()
        uri = PairingUri(address.host, address.port, bytes.fromhex(self._ca_hash), minted.token)
        return models.MintedCode(
            contract=CONTRACT,
            code=code_item(minted.code),
            uri=str(uri),
            address=str(address),
            loopback_only=address.is_loopback,
        )

    def decide(
        self, target: str, approved: bool, body: models.Decision, by: str
    ) -> Deferred[models.PairingAnswer]:
        return Deferred.fromCoroutine(self._decide(target, approved, body, by))

    async def _decide(
        self, target: str, approved: bool, body: models.Decision, by: str
    ) -> models.PairingAnswer:
        if body.decision_scope != "once":
            raise Malformed("decision_scope", "a pairing is approved once")
        request_id = await self._request_id(target)
        verdict = Verdict(
            by=by,
            reason=body.reason,
            grants=None if body.grants is None else tuple(body.grants),
            accept_new_identity=body.accept_new_identity,
        )
        act = self._approvals.approve if approved else self._approvals.reject
        return models.PairingAnswer(CONTRACT, self._pairing_item(await act(request_id, verdict)))

    def _pairing_item(self, request: PairingRequest) -> models.PairingItem:
        announced = {item.name for item in request.capabilities}
        granted = announced if request.state is RequestState.PENDING else request.grants
        return models.PairingItem(
            request_id=request.request_id,
            state=request.state.value,
            device_id=request.device_id,
            name=request.name,
            client_kind=request.client_kind.value,
            platform=request.platform,
            version=request.version,
            source=request.source,
            identity_fingerprint=request.identity_fingerprint,
            capabilities=[capability_item(item, granted) for item in request.capabilities],
            labels=dict(request.labels),
            method=request.method.value,
            issued_by=request.issued_by,
            issued_at_unix_ms=request.issued_at_ms,
            created_at_unix_ms=request.created_at_ms,
            expires_at_unix_ms=request.expires_at_ms,
            seen_before=self._seen_before(request),
            decided_by=request.decided_by,
            reason=request.reason,
            approval_id=request.approval_id,
        )

    def _seen_before(self, request: PairingRequest) -> models.SeenBefore:
        revocation = self._inventory.revocation(request.device_id)
        known = self._inventory.device(request.device_id)
        if known is not None and known.state is DeviceState.PAIRED:
            same = known.identity_fingerprint == request.identity_fingerprint
            return models.SeenBefore(
                "same_key" if same else "another_key",
                known.name,
                known.paired_at_ms,
                known.identity_fingerprint,
            )
        if revocation is not None:
            return models.SeenBefore(
                "revoked",
                known.name if known is not None else "",
                revocation.at_ms,
                revocation.identity_fingerprint,
                revocation.by,
                revocation.reason,
            )
        return models.SeenBefore("never")

    # -- jobs and health ----------------------------------------------------------------------

    def jobs(
        self, state: str | None, target: str | None, limit: int, cursor: str | None
    ) -> Deferred[models.JobList]:
        return Deferred.fromCoroutine(self._jobs(state, target, limit, cursor))

    async def _jobs(
        self, state: str | None, target: str | None, limit: int, cursor: str | None
    ) -> models.JobList:
        query = JobQuery(
            states=None if state is None else frozenset({_state(JobState, state)}),
            device_id=None if target is None else self._inventory.resolve(target).device_id,
            limit=limit + 1,
            before=JobId(_cursor(cursor)) if cursor is not None else None,
        )
        found = await self._store.jobs(query)
        more = len(found) > limit
        shown = found[:limit]
        return models.JobList(
            contract=CONTRACT,
            page=models.Page(limit, len(shown), more, shown[-1].call.job_id if more else None),
            jobs=[job_item(job) for job in shown],
        )

    def job(self, target: str, wait_ms: int) -> Deferred[models.JobAnswer]:
        return Deferred.fromCoroutine(self._job(target, wait_ms))

    async def _job(self, target: str, wait_ms: int) -> models.JobAnswer:
        job_id = await self._job_id(target)
        job = self._dispatcher.live_job(job_id) or await self._store.job(job_id)
        if job is None:
            raise NotFound("job", target[:64])
        job = await self._dispatcher.wait(job, wait_ms)
        progress = self._dispatcher.progress_of(job_id)
        return models.JobAnswer(
            contract=CONTRACT,
            job=job_item(job),
            input_json=msgspec.Raw(job.call.input_json),
            output_json=raw(job.output_json),
            error=job.error or None,
            progress=progress.fraction if progress is not None else None,
            progress_text=progress.text if progress is not None else "",
        )

    async def _job_id(self, target: str) -> JobId:
        if is_ulid(target.upper()):
            return JobId(target.upper())
        prefix = as_prefix(target)
        found = await self._store.find_jobs(prefix) if prefix is not None else []
        if not found:
            raise NotFound("job", target[:64])
        if len(found) > 1:
            raise AmbiguousTarget("job", target[:64], tuple(short_id(each, 10) for each in found))
        return found[0]

    def health(self) -> Deferred[models.Health]:
        return Deferred.fromCoroutine(self._health.report())


def _state(kind: type[S], text: str) -> S:
    try:
        return kind(text)
    except ValueError as error:
        names = ", ".join(str(each.value) for each in kind)
        raise Malformed("state", f"must be one of {names}") from error


def _cursor(cursor: str) -> str:
    if not is_ulid(cursor):
        raise Malformed("cursor", "is not one that a list gave")
    return cursor


def _offset(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not cursor.isascii() or not cursor.isdigit() or len(cursor) > 9:
        raise Malformed("cursor", "is not one that a list gave")
    return int(cursor)
