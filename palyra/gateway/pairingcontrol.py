"""What operators ask about pairing: codes, requests and decisions."""

from __future__ import annotations

from collections.abc import Callable

import segno
from twisted.internet.defer import Deferred

from palyra.config.addresses import HostPort
from palyra.console import models
from palyra.core.devices import DeviceState
from palyra.core.identifiers import RequestId, as_prefix, has_prefix, is_ulid, short_id
from palyra.core.interfaces import IStore, RequestQuery
from palyra.core.operators import Caller
from palyra.core.pairing import CodeMethod, PairingRequest, RequestState
from palyra.core.pairing_uri import PairingUri
from palyra.core.rates import SourceLedger
from palyra.errors import AmbiguousTarget, Malformed, NotFound
from palyra.gateway.approvals import Approvals, Verdict, usual_grants
from palyra.gateway.codes import Codes, CodeWish, NewCode
from palyra.gateway.inventory import Inventory
from palyra.gateway.queries import state_named, ulid_cursor
from palyra.gateway.trustcontrol import risk_named
from palyra.gateway.views import CONTRACT, capability_item, code_item


def qr_matrix(text: str) -> list[str]:
    """The QR code of a text, without its border: a row of 0 and 1 for each of its lines."""
    made = segno.make(text, error="l", micro=False)
    return ["".join("1" if cell else "0" for cell in row) for row in made.matrix]


class PairingControl:
    """Provides :class:`palyra.console.control.IPairingControl`."""

    def __init__(
        self,
        *,
        store: IStore,
        inventory: Inventory,
        codes: Codes,
        ledger: SourceLedger,
        elapsed_ms: Callable[[], int],
        approvals: Approvals,
        now_ms: Callable[[], int],
        ca_hash: Callable[[], str],
        pairing_address: Callable[[], HostPort],
        changed: Callable[[], object],
    ) -> None:
        self._store = store
        self._inventory = inventory
        self._codes = codes
        self._ledger = ledger
        self._elapsed_ms = elapsed_ms
        self._changed = changed
        self._approvals = approvals
        self._now_ms = now_ms
        self._ca_hash = ca_hash
        self._pairing_address = pairing_address

    def pairing_requests(
        self, state: str | None, client_kind: str | None, limit: int, cursor: str | None
    ) -> Deferred[models.PairingList]:
        return Deferred.fromCoroutine(self._requests(state, client_kind, limit, cursor))

    async def _requests(
        self, state: str | None, client_kind: str | None, limit: int, cursor: str | None
    ) -> models.PairingList:
        states = None if state is None else frozenset({state_named(RequestState, state)})
        before = RequestId(ulid_cursor(cursor)) if cursor is not None else None
        found = await self._store.requests(RequestQuery(states, limit + 1, before))
        shown = [
            await self.pairing_item(request)
            for request in found[:limit]
            if client_kind is None or request.client_kind.value == client_kind
        ]
        codes = [*await self._codes.active(), *self._codes.burnt()]
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
                for source, count in self._ledger.failing(self._elapsed_ms())
            ],
            pins_paused_until_unix_ms=self._paused_until_ms(),
        )

    def pairing_history(
        self, target: str, limit: int, cursor: str | None
    ) -> Deferred[models.PairingHistory]:
        return Deferred.fromCoroutine(self._history(target, limit, cursor))

    async def _history(self, target: str, limit: int, cursor: str | None) -> models.PairingHistory:
        device = self._inventory.resolve(target)
        before = RequestId(ulid_cursor(cursor)) if cursor is not None else None
        query = RequestQuery(limit=limit + 1, before=before, device_id=device.device_id)
        found = await self._store.requests(query)
        more = len(found) > limit
        shown = [await self.pairing_item(request) for request in found[:limit]]
        following = found[limit - 1].request_id if more else None
        page = models.Page(limit, len(shown), more, following)
        return models.PairingHistory(CONTRACT, page, shown)

    def _paused_until_ms(self) -> int | None:
        """Until when (Unix ms) nobody may pair by PIN."""
        until_ms, elapsed_ms = self._ledger.pin_paused_until_ms, self._elapsed_ms()
        if until_ms is None or until_ms <= elapsed_ms:
            return None
        return self._now_ms() + until_ms - elapsed_ms

    def pairing_request(self, target: str) -> Deferred[models.PairingAnswer]:
        return Deferred.fromCoroutine(self._request(target))

    async def _request(self, target: str) -> models.PairingAnswer:
        request = await self._store.request(await self._request_id(target))
        if request is None:
            raise NotFound("pairing request", target[:64])
        return models.PairingAnswer(CONTRACT, await self.pairing_item(request))

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

    def mint(self, body: models.MintCode, by: Caller) -> Deferred[models.MintedCode]:
        return Deferred.fromCoroutine(self._mint(body, by))

    async def _mint(self, body: models.MintCode, by: Caller) -> models.MintedCode:
        if body.method not in (CodeMethod.PIN.value, CodeMethod.QR.value):
            raise Malformed("method", "must be pin or qr")
        wish = CodeWish(
            method=CodeMethod(body.method),
            issued_by=body.issued_by or by.name,
            ttl_ms=body.ttl_ms,
            labels=body.labels,
            source=body.source,
        )
        minted = await self._codes.mint(wish)
        self._changed()
        address = self._pairing_address()
        uri = self._pairing_line(minted, address) if minted.pin is None else ""
        return models.MintedCode(
            contract=CONTRACT,
            code=code_item(minted.code),
            uri=uri,
            pin=str(minted.pin) if minted.pin is not None else "",
            address=str(address),
            loopback_only=address.is_loopback,
            qr_matrix=qr_matrix(uri) if uri and body.qr_matrix else [],
        )

    def _pairing_line(self, minted: NewCode, address: HostPort) -> str:
        ca_hash = bytes.fromhex(self._ca_hash())
        return str(PairingUri(address.host, address.port, ca_hash, minted.token))

    def withdraw_code(self, target: str, by: Caller) -> Deferred[models.WithdrawnCode]:
        return Deferred.fromCoroutine(self._withdraw_code(target))

    async def _withdraw_code(self, target: str) -> models.WithdrawnCode:
        prefix = as_prefix(target)
        found = [
            code
            for code in await self._codes.active()
            if code.code_id == target.upper()
            or (prefix is not None and has_prefix(code.code_id, prefix))
        ]
        if not found:
            raise NotFound("pairing code", target[:64])
        if len(found) > 1:
            ids = sorted(short_id(each.code_id, 10) for each in found)
            raise AmbiguousTarget("pairing code", target[:64], tuple(ids))
        await self._codes.withdraw(found[0])
        self._changed()
        return models.WithdrawnCode(CONTRACT, code_item(found[0]))

    def decide(
        self, target: str, approved: bool, body: models.Decision, by: Caller
    ) -> Deferred[models.PairingAnswer]:
        return Deferred.fromCoroutine(self._decide(target, approved, body, by))

    async def _decide(
        self, target: str, approved: bool, body: models.Decision, by: Caller
    ) -> models.PairingAnswer:
        if body.decision_scope != "once":
            raise Malformed("decision_scope", "a pairing is approved once")
        request_id = await self._request_id(target)
        verdict = Verdict(
            by=by.name,
            reason=body.reason,
            grants=None if body.grants is None else tuple(body.grants),
            grant_risk=risk_named(body.grant_risk),
            accept_new_identity=body.accept_new_identity,
        )
        act = self._approvals.approve if approved else self._approvals.reject
        decided = await act(request_id, verdict)
        return models.PairingAnswer(CONTRACT, await self.pairing_item(decided))

    async def pairing_item(self, request: PairingRequest) -> models.PairingItem:
        """A pairing request with what an operator must see before deciding."""
        granted = request.grants
        if request.state is RequestState.PENDING:  # what a yes without a choice would grant
            granted = usual_grants(request, self._inventory.device(request.device_id))
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
            seen_before=await self._seen_before(request),
            decided_by=request.decided_by,
            reason=request.reason,
            approval_id=request.approval_id,
        )

    async def _seen_before(self, request: PairingRequest) -> models.SeenBefore:
        """What is known of the device id, or else of the identity key, that asks."""
        known = self._inventory.device(request.device_id)
        if known is not None and known.state is DeviceState.PAIRED:
            same = known.identity_fingerprint == request.identity_fingerprint
            return models.SeenBefore(
                "same_key" if same else "another_key",
                known.name,
                known.paired_at_ms,
                known.identity_fingerprint,
                certificate_ended_unix_ms=await self._ended_ms(request),
            )
        of_key = self._inventory.revocation_of_key(request.identity_fingerprint)
        revocation = of_key or self._inventory.revocation(request.device_id)
        if revocation is not None and revocation.allowed_at_ms is None:
            return models.SeenBefore(
                "revoked",
                known.name if known is not None else revocation.device_name,
                revocation.at_ms,
                revocation.identity_fingerprint,
                revocation.by,
                revocation.reason,
                removed_at_unix_ms=revocation.removed_at_ms,
            )
        return models.SeenBefore("never")

    async def _ended_ms(self, request: PairingRequest) -> int | None:
        """Of a rejoin: when the device's last certificate before it ran out."""
        if request.method is not CodeMethod.REJOIN:
            return None
        held = await self._store.certificates_of(request.device_id)
        before = [each.not_after_ms for each in held if each.issued_at_ms < request.created_at_ms]
        return max(before, default=None)
