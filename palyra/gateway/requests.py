"""Pairing requests: opened by a proof that holds, asked about, and picked up once approved."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import attrs
from twisted.logger import Logger

from palyra.config.enrolment import EnrolmentSection
from palyra.core.approval import Approval
from palyra.core.devices import CertificateRecord
from palyra.core.handshake import Verified
from palyra.core.identifiers import Entropy, RequestId, new_ulid, sha256_hex, short_id
from palyra.core.interfaces import IStore, RequestQuery
from palyra.core.pairing import (
    SESSION_WINDOW_MS,
    CodeMethod,
    PairingCode,
    PairingRequest,
    RequestState,
    request_machine,
)
from palyra.core.transcript import status_payload, verify_under_any
from palyra.errors import (
    PairingSessionUnknown,
    SealedEntryUnreadable,
    VerificationFailed,
    VersionOneRefused,
)
from palyra.gateway.approvals import Approvals
from palyra.gateway.inventory import Inventory
from palyra.gateway.issuing import Issuer, made_key
from palyra.pki.sealing import Sealer
from palyra.wire.pairing import Completed, StatusAnswer, StatusQuestion

POLL_MS = 500
PICK_UP_MS = 24 * 3_600_000
MAX_REMEMBERED = 10_000
MAX_SWEPT = 1_000
FORGET_REQUESTS_MS = 7 * 86_400_000
"""How long a request that was rejected or expired is shown."""
_SEALED_IN = "pairing_requests"
_PURPOSE = "made-key"

K = TypeVar("K")
T = TypeVar("T")


@attrs.frozen
class Opening:
    """A proof that holds, and the session it came in.  ``session_id`` is secret."""

    verified: Verified
    session_id: str = attrs.field(repr=False)
    address: str
    code: PairingCode | None = None
    pake_confirm: bytes = b""


class PairingRequests:
    """From a verified proof to the certificate."""

    _log = Logger()

    def __init__(
        self,
        *,
        now_ms: Callable[[], int],
        entropy: Entropy,
        store: IStore,
        inventory: Inventory,
        approvals: Approvals,
        issuer: Issuer,
        sealer: Sealer,
        limits: EnrolmentSection,
        node_rpc_address: Callable[[], str],
        changed: Callable[[], object],
        quic_address: Callable[[], str] = lambda: "",
    ) -> None:
        self._now_ms = now_ms
        self._entropy = entropy
        self._store = store
        self._inventory = inventory
        self.opened: Callable[[PairingRequest], object] = lambda _: None
        """Hears of each request when it is on record."""
        self._approvals = approvals
        self._issuer = issuer
        self._sealer = sealer
        self._limits = limits
        self._node_rpc_address = node_rpc_address
        self._quic_address = quic_address
        self._changed = changed
        self._counters: dict[RequestId, int] = {}
        self._handed: dict[str, RequestId] = {}
        """Certificates whose key was made here and handed out, and their requests."""

    # -- opening ----------------------------------------------------------------------------

    async def open(self, opening: Opening) -> Completed:
        """Commit the request, and the end of its code, in one transaction.

        :raises PairingFailed: another session was faster with the code.
        :raises VersionOneRefused: a key would have to be made here.
        """
        request = self._new_request(opening)
        approval = Approval(
            approval_id=request.approval_id,
            kind="pairing",
            subject_id=request.request_id,
            digest=request.digest,
            created_at_ms=request.created_at_ms,
            expires_at_ms=request.expires_at_ms,
        )
        await self._store.open_request(request, approval)
        self._approvals.opened(request)
        self.opened(request)
        self._changed()
        self._log.info(
            "pairing request {request}: {name} ({platform}) from {source}, identity {identity}",
            request=short_id(request.request_id),
            name=request.name,
            platform=request.platform,
            source=request.source,
            identity=request.identity_fingerprint[:16],
        )
        return Completed(
            request_id=request.request_id,
            identity_fingerprint=request.identity_fingerprint,
            transcript_hash=request.transcript_hash,
            retry_after_ms=POLL_MS,
            pake_confirm=request.pake_confirm,
        )

    def _new_request(self, opening: Opening) -> PairingRequest:
        now_ms = self._now_ms()
        code, verified = opening.code, opening.verified
        said = verified.announcement
        request = PairingRequest(
            request_id=RequestId(new_ulid(now_ms, self._entropy)),
            session_digest=_session_digest(opening.session_id),
            device_id=verified.device_id,
            client_kind=verified.client_kind,
            name=self._approvals.name_for(verified.device_id, said.name),
            platform=said.platform,
            version=said.version,
            source=opening.address,
            identity_public=verified.identity_public,
            csr_der=verified.csr_der,
            capabilities=said.capabilities,
            transcript_hash=verified.transcript_hash,
            digest=verified.digest,
            code_id=code.code_id if code is not None else "",
            method=code.method if code is not None else CodeMethod.REJOIN,
            issued_by=code.issued_by if code is not None else "",
            issued_at_ms=code.issued_at_ms if code is not None else now_ms,
            labels=dict(code.labels) if code is not None else {},
            approval_id=new_ulid(now_ms, self._entropy),
            created_at_ms=now_ms,
            expires_at_ms=now_ms + self._limits.approval_ttl_s * 1000,
            identity_fingerprint=verified.identity_fingerprint,
            pake_confirm=opening.pake_confirm,
        )
        if not request.csr_der:
            self._make_key(request)
        return request

    def _make_key(self, request: PairingRequest) -> None:
        """A version-1 device has no key of its own: one is made here, and handed out sealed."""
        if not self._limits.allow_gateway_made_keys:
            raise VersionOneRefused()
        self._log.warn(
            "making the private key of version-1 device {device} here, for it to fetch",
            device=request.device_id,
        )
        pem, request.csr_der = made_key(request.device_id)
        request.sealed_key = self._sealer.seal(
            pem, path=_SEALED_IN, entry=request.request_id, purpose=_PURPOSE
        )

    # -- what became of it --------------------------------------------------------------------

    async def status(self, question: StatusQuestion) -> StatusAnswer:
        """What became of a request; the certificate at pick-up, and again for a day.

        :raises PairingSessionUnknown: no such session, or it is over.
        :raises VerificationFailed: the asker is not the device that paired.
        :raises DeviceRevoked: it was revoked since.
        """
        request = await self._store.request_by_session(_session_digest(question.session_id))
        if request is None or request.device_id != question.device_id or self._is_over(request):
            raise PairingSessionUnknown()
        self._check_asker(request, question)
        if request.state in (RequestState.APPROVED, RequestState.COMPLETED):
            return await self._pick_up(request)
        return attrs.evolve(self._answer(request), retry_after_ms=POLL_MS)

    def _check_asker(self, request: PairingRequest, question: StatusQuestion) -> None:
        if not question.signature:
            # Version 1 has no proof but the session's secret, and only until its key is in use.
            if not request.sealed_key:
                raise PairingSessionUnknown()
            return
        self._check_signature(request, question)
        if question.counter <= self._counters.get(request.request_id, 0):
            raise VerificationFailed("the status proof is a repetition")
        remember(self._counters, request.request_id, question.counter)

    def _check_signature(self, request: PairingRequest, question: StatusQuestion) -> None:
        """The device signs with the CA it paired under."""
        verify_under_any(
            self._issuer.trust.ca_hashes,
            lambda ca_hash: status_payload(
                question.session_id, question.device_id, ca_hash, question.counter
            ),
            request.identity_public,
            question.signature,
            "status proof",
        )

    async def _pick_up(self, request: PairingRequest) -> StatusAnswer:
        """Issue the certificate to the CSR of the transcript, once; again gives the same one.

        :raises DeviceRevoked: the identity key it asked with was revoked since.
        """
        self._inventory.revoked.check_key(request.identity_fingerprint)
        kept = self._picked_up(request)
        if kept is None:
            offered = self._issuer.issue(request.device_id, request.csr_der)
            offered = attrs.evolve(offered, made_key=bool(request.sealed_key))
            request_machine(request).picked_up()
            kept = await self._store.add_certificate(request, offered)
            self._inventory.put_certificate(kept)
            self._changed()
        return attrs.evolve(
            self._answer(request),
            status=RequestState.COMPLETED.value,
            certificate_pem=kept.pem,
            private_key_pem=self._made_key(request, kept.fingerprint),
            ca_pem=self._issuer.ca_bundle_pem,
            certificate_expires_at_ms=kept.not_after_ms,
            renew_after_s=self._issuer.renew_after_s(kept),
            node_rpc_address=self._node_rpc_address(),
            quic_address=self._quic_address(),
        )

    def _picked_up(self, request: PairingRequest) -> CertificateRecord | None:
        """The certificate that a completed request brought, as long as it is of use."""
        if request.state is not RequestState.COMPLETED:
            return None
        return self._inventory.issued_to(request.device_id, sha256_hex(request.csr_der))

    def _made_key(self, request: PairingRequest, fingerprint: str) -> str:
        if not request.sealed_key:
            return ""
        try:
            pem = self._sealer.open(
                request.sealed_key, path=_SEALED_IN, entry=request.request_id, purpose=_PURPOSE
            )
        except SealedEntryUnreadable as error:
            raise PairingSessionUnknown() from error
        remember(self._handed, fingerprint, request.request_id)
        return pem.decode()

    def _answer(self, request: PairingRequest) -> StatusAnswer:
        return StatusAnswer(
            status=request.state.value,
            reason=request.reason,
            request_id=request.request_id,
            approval_id=request.approval_id,
            identity_fingerprint=request.identity_fingerprint,
            transcript_hash=request.transcript_hash,
            device_name=request.name,
            decided_by=request.decided_by,
            pake_confirm=request.pake_confirm,
        )

    # -- keys that were made here ---------------------------------------------------------------

    async def certificate_used(self, fingerprint: str) -> None:
        """A device has registered: a key that was made for it is forgotten."""
        request_id = self._handed.pop(fingerprint, None)
        if request_id is not None:
            await self._store.forget_key(request_id)

    async def sweep(self) -> None:
        """Forget made keys that nobody may fetch any more, and requests that led to nothing."""
        for request in await self._store.requests(RequestQuery(limit=MAX_SWEPT, with_key=True)):
            revoked = self._inventory.revoked.refuses(
                request.device_id, request.identity_fingerprint
            )
            if revoked or self._is_over(request) or self._is_in_use(request):
                await self._store.forget_key(request.request_id)
        before_ms = self._now_ms() - FORGET_REQUESTS_MS
        while await self._store.forget_requests(before_ms, MAX_SWEPT) >= MAX_SWEPT:
            pass

    def _is_in_use(self, request: PairingRequest) -> bool:
        digest = sha256_hex(request.csr_der)
        return self._inventory.is_current(request.device_id, digest)

    def _is_over(self, request: PairingRequest) -> bool:
        """A pairing session ends five minutes after its request is final.

        After a yes the device has a day to pick its certificate up.  For five minutes it may ask
        for it again: it proves each time that it holds the identity key.
        """
        if request.state is RequestState.PENDING:
            return False
        decided_ms = request.decided_at_ms or request.expires_at_ms
        if request.state is RequestState.APPROVED:
            return self._now_ms() > decided_ms + PICK_UP_MS
        if request.state is RequestState.COMPLETED:
            kept = self._picked_up(request)
            if kept is None:
                return True
            decided_ms = kept.issued_at_ms
        return self._now_ms() > decided_ms + SESSION_WINDOW_MS


def remember(kept: dict[K, T], key: K, value: T) -> None:
    """Keep a value by key; the one that changed longest ago is forgotten first."""
    kept.pop(key, None)
    kept[key] = value
    if len(kept) > MAX_REMEMBERED:
        del kept[next(iter(kept))]


def _session_digest(session_id: str) -> str:
    return sha256_hex(session_id.encode())
