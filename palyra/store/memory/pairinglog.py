"""Codes, pairing requests and approvals in memory."""

from __future__ import annotations

import attrs

from palyra.core.approval import Approval
from palyra.core.devices import Approved, Device
from palyra.core.identifiers import RequestId
from palyra.core.interfaces import RequestQuery
from palyra.core.pairing import CodeState, PairingCode, PairingRequest, RequestState
from palyra.errors import AlreadyKept, PairingFailed
from palyra.store import audited, facts, revocation, rules
from palyra.store.memory.records import Records, add, fired, newest


class PairingLog(Records):
    """Provides :class:`palyra.core.interfaces.IPairingLog`."""

    @fired
    def add_code(self, code: PairingCode) -> None:
        add(self._codes, code.code_id, rules.own_code(code))
        self._audit(audited.minted(code))

    @fired
    def save_code(self, code: PairingCode) -> None:
        kept = self._codes.get(code.code_id)
        if kept is not None and kept.state is CodeState.ACTIVE:
            kept.state, kept.reserved, kept.failed = code.state, code.reserved, code.failed
            if code.state is not CodeState.ACTIVE:
                kept.sealed_pin = b""

    @fired
    def withdraw_code(self, code_id: str, now_ms: int) -> bool:
        kept = self._codes.get(code_id)
        if kept is None or kept.state is not CodeState.ACTIVE:
            return False
        kept.state, kept.sealed_pin = CodeState.WITHDRAWN, b""
        self._audit(audited.withdrawn(code_id, now_ms))
        return True

    @fired
    def code_by_digest(self, digest: str) -> PairingCode | None:
        found = (code for code in self._codes.values() if digest and code.digest == digest)
        return next(map(rules.own_code, found), None)

    @fired
    def active_codes(self, now_ms: int) -> list[PairingCode]:
        return self._active(now_ms)

    @fired
    def open_request(self, request: PairingRequest, approval: Approval) -> None:
        code = self._codes.get(request.code_id)
        if request.code_id and (code is None or code.state is not CodeState.ACTIVE):
            raise PairingFailed()
        sessions = {kept.session_digest for kept in self._requests.values()}
        if request.session_digest in sessions or approval.approval_id in self._approvals:
            raise AlreadyKept()
        add(self._requests, request.request_id, rules.own_request(request))
        self._approvals[approval.approval_id] = attrs.evolve(approval)
        if code is not None:
            code.state, code.sealed_pin = CodeState.USED, b""

    @fired
    def forget_key(self, request_id: RequestId) -> None:
        if request_id in self._requests:
            self._requests[request_id].sealed_key = b""

    @fired
    def request(self, request_id: RequestId) -> PairingRequest | None:
        kept = self._requests.get(request_id)
        return None if kept is None else rules.own_request(kept)

    @fired
    def request_by_session(self, session_digest: str) -> PairingRequest | None:
        every = self._requests.values()
        found = (each for each in every if each.session_digest == session_digest)
        return next(map(rules.own_request, found), None)

    @fired
    def requests(self, query: RequestQuery) -> list[PairingRequest]:
        found = [
            each
            for each in self._list_requests()
            if (query.states is None or each.state in query.states)
            and (query.before is None or each.request_id < query.before)
            and (each.sealed_key or not query.with_key)
            and query.device_id in (None, each.device_id)
        ]
        return found[: query.limit]

    @fired
    def close_request(self, request: PairingRequest) -> None:
        kept = self._requests.get(request.request_id)
        self._decide(rules.require_state(kept, request.request_id, RequestState.PENDING), request)
        self._audit(audited.closed(request))
        self._requests[request.request_id].sealed_key = b""

    @fired
    def forget_requests(self, before_ms: int, limit: int) -> int:
        every = sorted(self._requests.items())
        gone = [each for _, each in every if rules.ended_before(each, before_ms)][:limit]
        for each in gone:
            del self._requests[each.request_id], self._approvals[each.approval_id]
        needed = {each.code_id for each in self._requests.values()}
        codes = sorted(
            code_id
            for code_id, code in self._codes.items()
            if code.expires_at_ms < before_ms and code_id not in needed
        )[:limit]
        for code_id in codes:
            del self._codes[code_id]
        return len(gone) + len(codes)

    @fired
    def approve_request(self, request: PairingRequest, device: Device) -> Approved:
        kept_request = self._requests.get(request.request_id)
        kept_request = rules.require_state(kept_request, request.request_id, RequestState.PENDING)
        kept = self._devices.get(device.device_id)
        if kept is not None:
            revocation.refuse_revoked_device(kept)
        key, every = device.identity_fingerprint, self._list_revocations()
        of_key = [each for each in every if each.identity_fingerprint == key]
        of_id = [each for each in every if each.device_id == device.device_id]
        revocation.refuse_revoked_key(device, of_key)
        for each in revocation.allowed([*of_key, *of_id], device):
            self._keep_revocation(each)
        replaced = None
        if kept is not None and kept.identity_fingerprint != key:
            code, sentence = rules.identity_changed(kept)
            now_ms = device.paired_at_ms
            replaced = self._revoke_key(kept, request.decided_by, code, now_ms)
            self._note(facts.identity_replaced(replaced))
            self._audit(audited.identity_replaced(replaced))
            self._end_jobs(kept.device_id, code, sentence, now_ms)
        taken = self._names_of_others(device.device_id)
        now = self._devices[device.device_id] = rules.paired(kept, device, request, taken)
        self._decide(kept_request, request)
        self._note(facts.approved(request, now))
        self._audit(audited.approved(request, now))
        return Approved(rules.own_device(now), replaced)

    def _active(self, now_ms: int) -> list[PairingCode]:
        return [
            rules.own_code(code)
            for _, code in sorted(self._codes.items())
            if code.state is CodeState.ACTIVE and code.expires_at_ms > now_ms
        ]

    def _list_requests(self) -> list[PairingRequest]:
        return [rules.own_request(each) for each in newest(self._requests)]
