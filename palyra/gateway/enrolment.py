"""Enrolment: how an unknown device becomes a trusted one (PROTOCOL: URI PAIRING).

Open pairing sessions live in memory and are gone with the process: the device starts over with the
same code, which is not used up before the request is committed.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Hashable
from typing import TypeVar

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from palyra.config.enrolment import EnrolmentSection
from palyra.core.approval import Approval
from palyra.core.devices import (
    MAX_LABELS,
    CertificateRecord,
    clean_text,
    valid_label,
)
from palyra.core.handshake import GatewayHandshake, Verified
from palyra.core.identifiers import Entropy, RequestId, new_ulid, sha256_hex, short_id
from palyra.core.interfaces import IStore
from palyra.core.pairing import (
    MAX_CODE_TTL_MS,
    MAX_FAILED_ATTEMPTS,
    MIN_CODE_TTL_MS,
    SESSION_WINDOW_MS,
    TOKEN_BYTES,
    CodeMethod,
    CodeState,
    PairingCode,
    PairingRequest,
    RequestState,
    request_machine,
)
from palyra.core.pairing_uri import spell_token
from palyra.core.rates import RateLimits, SourceLedger, source_of
from palyra.core.transcript import (
    DeviceProof,
    Purpose,
    status_payload,
    verify_identity_signature,
)
from palyra.errors import (
    LimitReached,
    Malformed,
    PairingFailed,
    PairingSessionUnknown,
    PalyraError,
    VerificationFailed,
)
from palyra.gateway.approvals import Approvals
from palyra.gateway.inventory import Inventory
from palyra.gateway.waits import deferred
from palyra.gateway.wheel import TimerWheel
from palyra.pki.authority import Authority
from palyra.pki.csr import check_csr
from palyra.wire.pairing import Begin, Completed, SessionOpened, StatusAnswer, StatusQuestion

ANSWER_NO_SOONER_S = 0.05
POLL_MS = 500
PICK_UP_MS = 24 * 3_600_000
MAX_ACTIVE_CODES = 1_000
MAX_REMEMBERED = 10_000

K = TypeVar("K")


@attrs.define(eq=False)
class _OpenSession:
    """A pairing session between Begin and Complete."""

    handshake: GatewayHandshake
    code: PairingCode
    token: str = attrs.field(repr=False)
    source: str


@attrs.frozen
class NewCode:
    """A code that was just minted, with the token that is shown once."""

    code: PairingCode
    token: bytes = attrs.field(repr=False)


class Enrolment:
    """Codes and pairing sessions, up to the request that waits for an operator, and its pick-up."""

    _log = Logger()

    def __init__(
        self,
        *,
        clock: IReactorTime,
        elapsed_ms: Callable[[], int],
        entropy: Entropy,
        store: IStore,
        inventory: Inventory,
        authority: Authority,
        limits: EnrolmentSection,
        node_rpc_address: Callable[[], str],
        approvals: Approvals,
        changed: Callable[[], object],
    ) -> None:
        self._clock = clock
        self._elapsed_ms = elapsed_ms
        self._entropy = entropy
        self._store = store
        self._inventory = inventory
        self._authority = authority
        self._limits = limits
        self._node_rpc_address = node_rpc_address
        self._approvals = approvals
        self._changed = changed
        self.ledger = SourceLedger(
            RateLimits(
                failures_per_source=limits.failed_proofs_per_source,
                starts=limits.session_starts_per_minute,
                open_sessions=limits.open_sessions,
                open_per_source=limits.open_sessions_per_source,
            )
        )
        self._sessions: dict[str, _OpenSession] = {}
        self._faults: dict[str, int] = {}
        self._counters: dict[RequestId, int] = {}
        self._wheel = TimerWheel(clock, self._now_ms, self._due, tick_ms=500)

    def start(self) -> None:
        """Watch the windows of open pairing sessions."""
        self._wheel.start()

    def stop(self) -> None:
        """Stop watching."""
        self._wheel.stop()

    # -- codes ------------------------------------------------------------------------------

    async def mint(
        self, *, issued_by: str, ttl_ms: int | None, labels: dict[str, str], source: str
    ) -> NewCode:
        """A new QR code.

        :raises Malformed: a label, the life or the network is not acceptable.
        :raises LimitReached: too many codes are active.
        """
        now_ms = self._now_ms()
        life_ms = ttl_ms if ttl_ms is not None else self._limits.code_ttl_s * 1000
        if not MIN_CODE_TTL_MS <= life_ms <= MAX_CODE_TTL_MS:
            raise Malformed("ttl_ms", f"must be {MIN_CODE_TTL_MS} to {MAX_CODE_TTL_MS}")
        _check_labels(labels)
        _check_network(source)
        if len(await self._store.active_codes(now_ms)) >= MAX_ACTIVE_CODES:
            raise LimitReached("active pairing codes", MAX_ACTIVE_CODES, 60.0)
        token = self._entropy(TOKEN_BYTES)
        code = PairingCode(
            code_id=new_ulid(now_ms, self._entropy),
            method=CodeMethod.QR,
            digest=_token_digest(spell_token(token)),
            issued_by=clean_text(issued_by, 64),
            issued_at_ms=now_ms,
            expires_at_ms=now_ms + life_ms,
            labels=dict(labels),
            source=source,
        )
        await self._store.add_code(code)
        self._changed()
        return NewCode(code, token)

    def failed_tries(self) -> list[tuple[str, int]]:
        """Sources with wrong tries in the last ten minutes, and how many."""
        return self.ledger.failing(self._elapsed_ms())

    # -- what an unpaired peer asks (IEnrolmentDesk) ----------------------------------------------

    async def begin(self, message: Begin, address: str) -> SessionOpened:
        """BeginPairingSession.

        :raises PairingFailed: the token is unknown, used, over, or not for this source.
        :raises PairingLimited, LimitReached: the source, or everybody, tried too often.
        """
        arrived_s = self._clock.seconds()
        source = source_of(address)
        try:
            self.ledger.admit(source, self._elapsed_ms())
            code = await self._usable_code(message, address)
            self.ledger.session_started(source, self._elapsed_ms())
        except PairingFailed:
            self.ledger.proof_failed(source, self._elapsed_ms())
            raise
        finally:
            await self._no_sooner(arrived_s)
        handshake = GatewayHandshake.begin(
            message.client_kind, Purpose.PAIR_URI, self._entropy, self._now_ms()
        )
        session = _OpenSession(handshake, code, message.code, source)
        self._sessions[handshake.session_id] = session
        self._wheel.set(handshake.session_id, handshake.expires_at_ms)
        return SessionOpened(
            handshake.begun, message.client_kind, handshake.expires_at_ms, self._now_ms()
        )

    async def complete(self, proof: DeviceProof, address: str) -> Completed:
        """CompletePairingSession: verify everything, then commit the request and the code's end.

        :raises PairingSessionUnknown: the session is over, or was used.
        :raises PairingFailed: the proof is a guess, or another session was faster.
        :raises VerificationFailed, Malformed, DeviceRevoked: refused; the code is not used up.
        """
        arrived_s = self._clock.seconds()
        session = self._sessions.get(proof.session_id)
        try:
            if session is None:
                raise PairingSessionUnknown()
            self._close_session(proof.session_id)
            return await self._verify(session, proof, address)
        except PairingFailed:
            if session is not None:
                self.ledger.proof_failed(session.source, self._elapsed_ms())
            raise
        finally:
            await self._no_sooner(arrived_s)

    async def status(self, question: StatusQuestion) -> StatusAnswer:
        """GetPairingRequestStatus: what became of the request; the certificate at pick-up.

        :raises PairingSessionUnknown: no such session, or it is over.
        :raises VerificationFailed: the asker is not the device that paired.
        """
        request = await self._store.request_by_session(_session_digest(question.session_id))
        if request is None or request.device_id != question.device_id or self._is_over(request):
            raise PairingSessionUnknown()
        self._check_status_proof(request, question)
        if request.state in (RequestState.APPROVED, RequestState.COMPLETED):
            return await self._pick_up(request)
        answer = self._answer(request)
        return attrs.evolve(answer, retry_after_ms=POLL_MS)

    async def _usable_code(self, message: Begin, address: str) -> PairingCode:
        code = None
        if message.method is CodeMethod.QR:
            code = await self._store.code_by_digest(_token_digest(message.code))
        if code is None or code.method is not CodeMethod.QR or code.state is not CodeState.ACTIVE:
            raise PairingFailed()
        faulty = self._faults.get(code.code_id, 0) >= MAX_FAILED_ATTEMPTS
        if faulty or self._now_ms() >= code.expires_at_ms or not _in_network(address, code.source):
            raise PairingFailed()
        return code

    async def _verify(self, session: _OpenSession, proof: DeviceProof, address: str) -> Completed:
        try:
            verified = session.handshake.verify(
                proof,
                ca_hashes=[bytes.fromhex(self._authority.ca_hash)],
                proof_expected=session.token,
                now_ms=self._now_ms(),
            )
            check_csr(verified.csr_der, verified.device_id)
            self._inventory.revoked.check_device(verified.device_id)
            self._inventory.revoked.check_key(verified.identity_fingerprint)
        except (PairingFailed, PairingSessionUnknown):
            raise
        except PalyraError:
            faults = self._faults.get(session.code.code_id, 0)
            _remember(self._faults, session.code.code_id, faults + 1)
            raise
        request = self._new_request(session, verified, address)
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
            request.request_id, request.identity_fingerprint, request.transcript_hash, POLL_MS
        )

    def _new_request(
        self, session: _OpenSession, verified: Verified, address: str
    ) -> PairingRequest:
        now_ms = self._now_ms()
        code, said = session.code, verified.announcement
        return PairingRequest(
            request_id=RequestId(new_ulid(now_ms, self._entropy)),
            session_digest=_session_digest(session.handshake.session_id),
            device_id=verified.device_id,
            client_kind=verified.client_kind,
            name=self._approvals.name_for(verified.device_id, said.name),
            platform=said.platform,
            version=said.version,
            source=address,
            identity_public=verified.identity_public,
            csr_der=verified.csr_der,
            capabilities=said.capabilities,
            transcript_hash=verified.transcript_hash,
            digest=verified.digest,
            code_id=code.code_id,
            method=code.method,
            issued_by=code.issued_by,
            issued_at_ms=code.issued_at_ms,
            labels=dict(code.labels),
            approval_id=new_ulid(now_ms, self._entropy),
            created_at_ms=now_ms,
            expires_at_ms=now_ms + self._limits.approval_ttl_s * 1000,
            identity_fingerprint=verified.identity_fingerprint,
        )

    def _check_status_proof(self, request: PairingRequest, question: StatusQuestion) -> None:
        ca_hash = bytes.fromhex(self._authority.ca_hash)
        payload = status_payload(question.session_id, question.device_id, ca_hash, question.counter)
        verify_identity_signature(
            request.identity_public, question.signature, payload, "status proof"
        )
        if question.counter <= self._counters.get(request.request_id, 0):
            raise VerificationFailed("the status proof is a repetition")
        _remember(self._counters, request.request_id, question.counter)

    async def _pick_up(self, request: PairingRequest) -> StatusAnswer:
        """Issue the certificate to the CSR of the transcript, once; again gives the same one."""
        key = check_csr(request.csr_der, request.device_id)
        now_ms = self._now_ms()
        issued = self._authority.issue_device(key, request.device_id, now_ms)
        offered = CertificateRecord(
            fingerprint=issued.fingerprint,
            device_id=request.device_id,
            serial=issued.serial,
            pem=issued.pem.decode(),
            csr_digest=sha256_hex(request.csr_der),
            not_before_ms=issued.not_before_ms,
            not_after_ms=issued.not_after_ms,
            issued_at_ms=now_ms,
        )
        request_machine(request).picked_up()
        kept = await self._store.add_certificate(request, offered)
        self._inventory.put_certificate(kept)
        self._changed()
        life_ms = kept.not_after_ms - now_ms
        return attrs.evolve(
            self._answer(request),
            status=RequestState.COMPLETED.value,
            certificate_pem=kept.pem,
            ca_pem=self._authority.ca_pem.decode(),
            certificate_expires_at_ms=kept.not_after_ms,
            renew_after_s=max(0, life_ms * 2 // 3 // 1000),
            node_rpc_address=self._node_rpc_address(),
        )

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
        )

    def _is_over(self, request: PairingRequest) -> bool:
        """A pairing session ends five minutes after a no.

        After a yes the device has a day to pick its certificate up, and to ask for it again: it
        proves each time that it holds the identity key, and gets the same certificate.
        """
        now_ms = self._now_ms()
        if request.state is RequestState.PENDING:
            return False
        if request.state is RequestState.APPROVED:
            return now_ms > (request.decided_at_ms or 0) + PICK_UP_MS
        ended_ms = request.decided_at_ms or request.expires_at_ms
        if request.state is RequestState.COMPLETED:
            return now_ms > ended_ms + PICK_UP_MS
        return now_ms > ended_ms + SESSION_WINDOW_MS

    # -- time -------------------------------------------------------------------------------

    def _due(self, key: Hashable, now_ms: int) -> None:
        self._close_session(str(key))

    def _close_session(self, session_id: str) -> None:
        session = self._sessions.pop(session_id, None)
        if session is not None:
            self._wheel.discard(session_id)
            self.ledger.session_ended(session.source)

    async def _no_sooner(self, arrived_s: float) -> None:
        """Every answer takes at least so long, so that none tells by its speed what it found."""
        left_s = ANSWER_NO_SOONER_S - (self._clock.seconds() - arrived_s)
        if left_s > 0:  # and no later, when the clock was set back
            await deferred(deferLater(self._clock, min(left_s, ANSWER_NO_SOONER_S)))

    def _now_ms(self) -> int:
        return int(self._clock.seconds() * 1000)


def _remember(kept: dict[K, int], key: K, value: int) -> None:
    """Keep a number by key; the one that changed longest ago is forgotten first."""
    kept.pop(key, None)
    kept[key] = value
    if len(kept) > MAX_REMEMBERED:
        del kept[next(iter(kept))]


def _check_labels(labels: dict[str, str]) -> None:
    if len(labels) > MAX_LABELS:
        raise Malformed("labels", f"must be at most {MAX_LABELS}")
    for key, value in labels.items():
        if not valid_label(key, value):
            raise Malformed("labels", f"{clean_text(key, 64)} is not a label (a-z0-9._/-=value)")


def _check_network(source: str) -> None:
    if source:
        try:
            ipaddress.ip_network(source)
        except ValueError as error:
            raise Malformed("source", f"must be a network in CIDR form ({error})") from error


def _in_network(address: str, network: str) -> bool:
    if not network:
        return True
    peer = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(peer, ipaddress.IPv6Address) and peer.ipv4_mapped is not None:
        peer = peer.ipv4_mapped  # as a listener on [::] shows an IPv4 device
    return peer in ipaddress.ip_network(network)


def _token_digest(token: str) -> str:
    return sha256_hex(token.encode())


def _session_digest(session_id: str) -> str:
    return sha256_hex(session_id.encode())
