"""Pairing: codes, pairing sessions and pairing requests (PROTOCOL: Codes and guesses, URI PAIRING).

A code is what an operator mints, a pairing session is what a device opens with it, a pairing
request is what an operator approves.  Neither a token nor a session id is kept in clear: both are
found by their SHA-256.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Protocol

import attrs
from automat import TypeMachineBuilder

from palyra.core.devices import AnnouncedCapability, ClientKind, Risk
from palyra.core.identifiers import DeviceId, Fingerprint, RequestId

TOKEN_BYTES = 16
MIN_CODE_TTL_MS = 30_000
MAX_CODE_TTL_MS = 24 * 3_600_000
SESSION_WINDOW_MS = 300_000
MAX_FAILED_ATTEMPTS = 5


class CodeMethod(enum.Enum):
    """How a code travels to the device; a rejoin has none: its identity key is the proof."""

    QR = "qr"
    PIN = "pin"
    REJOIN = "rejoin"


class CodeState(enum.Enum):
    """A code is used once, burnt by wrong tries, over, or taken back."""

    ACTIVE = "active"
    USED = "used"
    BURNT = "burnt"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"


@attrs.define
class PairingCode:
    """A single-use code.  ``digest`` is SHA-256 (hex) of a QR token; a PIN has a nameplate."""

    code_id: str
    method: CodeMethod
    digest: str
    issued_by: str
    issued_at_ms: int
    expires_at_ms: int
    labels: Mapping[str, str] = attrs.Factory(dict)
    source: str = ""
    """The network (CIDR) that may use it; empty for any."""
    nameplate: int | None = None
    sealed_pin: bytes = attrs.field(default=b"", repr=False)
    """The PIN, sealed for this code; empty for a QR code, whose token is kept as its digest."""
    state: CodeState = CodeState.ACTIVE
    reserved: int = 0
    failed: int = 0


class CodeInputs(Protocol):
    """What happens to a code."""

    def attempt_failed(self) -> None:
        """A proof against it did not verify."""

    def burnt(self) -> None:
        """The last failure it could take."""

    def used(self) -> None:
        """A pairing request was opened with it."""

    def time_passed(self) -> None:
        """Its life is over."""

    def withdrawn(self) -> None:
        """An operator took it back."""


_codes = TypeMachineBuilder(CodeInputs, PairingCode)
_active = _codes.state("active")
_used = _codes.state("used")
_burnt = _codes.state("burnt")
_over = _codes.state("expired")
_back = _codes.state("withdrawn")
_CODE_STATES = {
    CodeState.ACTIVE: _active,
    CodeState.USED: _used,
    CodeState.BURNT: _burnt,
    CodeState.EXPIRED: _over,
    CodeState.WITHDRAWN: _back,
}


@_active.upon(CodeInputs.attempt_failed).loop()
@_used.upon(CodeInputs.attempt_failed).loop()
@_burnt.upon(CodeInputs.attempt_failed).loop()
@_over.upon(CodeInputs.attempt_failed).loop()
@_back.upon(CodeInputs.attempt_failed).loop()
def _count(_: CodeInputs, code: PairingCode) -> None:
    code.reserved = max(0, code.reserved - 1)
    code.failed += 1


@_active.upon(CodeInputs.burnt).to(_burnt)
def _burn(_: CodeInputs, code: PairingCode) -> None:
    code.state = CodeState.BURNT


@_active.upon(CodeInputs.used).to(_used)
def _use(_: CodeInputs, code: PairingCode) -> None:
    code.state = CodeState.USED


@_active.upon(CodeInputs.time_passed).to(_over)
def _end(_: CodeInputs, code: PairingCode) -> None:
    code.state = CodeState.EXPIRED


@_active.upon(CodeInputs.withdrawn).to(_back)
def _withdraw(_: CodeInputs, code: PairingCode) -> None:
    code.state = CodeState.WITHDRAWN


_code_machine = _codes.build()


def code_machine(code: PairingCode) -> CodeInputs:
    """The machine of a code, in the state the code is in."""
    return _code_machine(code, _CODE_STATES[code.state])


def reserve_attempt(code: PairingCode, now_ms: int) -> bool:
    """Reserve one try before verifying it, so that parallel tries cannot exceed the bound."""
    if code.state is not CodeState.ACTIVE or now_ms >= code.expires_at_ms:
        return False
    if code.reserved + code.failed >= MAX_FAILED_ATTEMPTS:
        return False
    code.reserved += 1
    return True


def attempt_failed(code: PairingCode) -> None:
    """Count a reserved try that failed; the fifth burns the code.

    The code may have been used or have ended while the try was verified; it is counted then too.
    """
    machine = code_machine(code)
    machine.attempt_failed()
    if code.state is CodeState.ACTIVE and code.failed >= MAX_FAILED_ATTEMPTS:
        machine.burnt()


def release_attempt(code: PairingCode) -> None:
    """Give back a reserved try that was not a guess: the proof held, or nothing was compared."""
    code.reserved = max(0, code.reserved - 1)


# -- pairing requests -----------------------------------------------------------------------------


class RequestState(enum.Enum):
    """A pairing request as operators and devices see it."""

    PENDING = "pending_approval"
    APPROVED = "approved"
    REJECTED = "rejected"
    COMPLETED = "completed"
    EXPIRED = "expired"


@attrs.define
class PairingRequest:
    """A device that proved it has a code, waiting for a person.  Times are Unix milliseconds."""

    request_id: RequestId
    session_digest: str
    device_id: DeviceId
    client_kind: ClientKind
    name: str
    platform: str
    version: str
    source: str
    identity_public: bytes
    csr_der: bytes
    capabilities: tuple[AnnouncedCapability, ...]
    transcript_hash: str
    digest: str
    """SHA-256 (hex) of the transcript with keys, CSR and announcement: what is approved."""
    code_id: str
    """Empty for a rejoin, which uses no code; ``issued_by`` is then empty too."""
    method: CodeMethod
    issued_by: str
    issued_at_ms: int
    labels: Mapping[str, str]
    approval_id: str
    created_at_ms: int
    expires_at_ms: int
    identity_fingerprint: Fingerprint
    state: RequestState = RequestState.PENDING
    decided_by: str = ""
    decided_at_ms: int | None = None
    reason: str = ""
    grants: frozenset[str] = frozenset()
    grant_risk: Risk = Risk.LOW
    """Up to which risk a capability that the device announces later is granted by itself."""
    pake_confirm: bytes = b""
    """cB, so that a device whose answer was lost is told the same one again."""
    sealed_key: bytes = attrs.field(default=b"", repr=False)
    """The sealed private key that was made for a version-1 device, until it is used."""


class RequestInputs(Protocol):
    """What happens to a pairing request."""

    def approved(
        self, by: str, reason: str, grants: frozenset[str], grant_risk: Risk, now_ms: int
    ) -> None:
        """An operator said yes to these capabilities."""

    def rejected(self, by: str, reason: str, now_ms: int) -> None:
        """An operator said no."""

    def time_passed(self) -> None:
        """Nobody decided in time."""

    def picked_up(self) -> None:
        """The device has been issued its certificate."""


_requests = TypeMachineBuilder(RequestInputs, PairingRequest)
_pending = _requests.state("pending_approval")
_approved = _requests.state("approved")
_rejected = _requests.state("rejected")
_completed = _requests.state("completed")
_expired = _requests.state("expired")
_REQUEST_STATES = {
    RequestState.PENDING: _pending,
    RequestState.APPROVED: _approved,
    RequestState.REJECTED: _rejected,
    RequestState.COMPLETED: _completed,
    RequestState.EXPIRED: _expired,
}


@_pending.upon(RequestInputs.approved).to(_approved)
def _approve(
    _: RequestInputs,
    request: PairingRequest,
    by: str,
    reason: str,
    grants: frozenset[str],
    grant_risk: Risk,
    now_ms: int,
) -> None:
    request.state = RequestState.APPROVED
    request.decided_by, request.reason, request.decided_at_ms = by, reason, now_ms
    request.grants, request.grant_risk = grants, grant_risk


@_pending.upon(RequestInputs.rejected).to(_rejected)
def _reject(_: RequestInputs, request: PairingRequest, by: str, reason: str, now_ms: int) -> None:
    request.state = RequestState.REJECTED
    request.decided_by, request.reason, request.decided_at_ms = by, reason, now_ms


@_pending.upon(RequestInputs.time_passed).to(_expired)
def _expire(_: RequestInputs, request: PairingRequest) -> None:
    request.state = RequestState.EXPIRED


@_approved.upon(RequestInputs.picked_up).to(_completed)
@_completed.upon(RequestInputs.picked_up).to(_completed)
def _complete(_: RequestInputs, request: PairingRequest) -> None:
    request.state = RequestState.COMPLETED


_request_machine = _requests.build()


def request_machine(request: PairingRequest) -> RequestInputs:
    """The machine of a pairing request, in the state the request is in."""
    return _request_machine(request, _REQUEST_STATES[request.state])
