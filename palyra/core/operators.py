"""Operators: who may administer the gateway, and what each role allows (ACCESS: Console access)."""

from __future__ import annotations

import enum
import re

import attrs

from palyra.core.identifiers import Fingerprint

MAX_OPERATOR_NAME = 40
MAX_LIVE_CERTIFICATES = 2
"""The one in use, and the one that is about to take its place."""
INVITATION_MS = 86_400_000
TOKEN_BYTES = 16
LOCAL = "local:"
"""What the id of an account of the gateway's own machine begins with; its uid follows."""
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}\Z")


class Right(enum.Enum):
    """What a route asks of a role."""

    READ = "read"
    SUBMIT = "submit"
    """Submit jobs, and cancel one's own."""
    DECIDE = "decide"
    """Decide pairing requests and calls that wait for approval."""
    ADMINISTER = "administer"


class Role(enum.Enum):
    """What an operator may do; kept in the store, never in a certificate."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    APPROVER = "approver"
    ADMIN = "admin"

    def may(self, right: Right) -> bool:
        """Whether the role includes the right."""
        return right in _RIGHTS[self]


_RIGHTS = {
    Role.VIEWER: frozenset({Right.READ}),
    Role.OPERATOR: frozenset({Right.READ, Right.SUBMIT}),
    Role.APPROVER: frozenset({Right.READ, Right.DECIDE}),
    Role.ADMIN: frozenset(Right),
}


@attrs.frozen
class Caller:
    """Who asks something of the console.

    ``operator_id`` is a ULID, or ``local:<uid>`` of an account of this machine.  ``via`` is where
    the request came from: ``console.sock`` or an address.  ``session`` names the browser session
    it belongs to (never its secret), ``owner`` the person who answers for a service.  ``role`` is
    None of a stranger, whom only the routes of signing in answer.  ``until_ms`` (Unix) is when the
    credential ends by itself, None where it does not.
    """

    operator_id: str
    name: str
    role: Role | None
    via: str
    session: str = ""
    owner: str = ""
    until_ms: int | None = None

    def may(self, right: Right) -> bool:
        """Whether the caller's role includes the right."""
        return self.role is not None and self.role.may(right)

    @property
    def person(self) -> str:
        """Whose will this is: four eyes are those of two different persons."""
        return self.owner or self.operator_id


class OperatorState(enum.Enum):
    """Whether an operator may still sign in."""

    ACTIVE = "active"
    REVOKED = "revoked"


@attrs.frozen
class Operator:
    """A person or a program that may administer the gateway.  Times are Unix milliseconds.

    ``owner`` is the id of the operator who answers for it where it is a program (a service).
    """

    operator_id: str
    name: str
    role: Role
    created_at_ms: int
    created_by: str
    owner: str = ""
    state: OperatorState = OperatorState.ACTIVE
    revoked_at_ms: int | None = None
    revoked_by: str = ""
    revoke_reason: str = ""


@attrs.frozen
class OperatorCertificate:
    """A client certificate of an operator; ``csr_digest`` is SHA-256 (hex) of the CSR's DER.

    It is live from ``not_before_ms`` to ``not_after_ms`` while its operator is active and while it
    is one of the operator's newest MAX_LIVE_CERTIFICATES.
    """

    fingerprint: Fingerprint
    operator_id: str
    serial: str
    pem: str
    csr_digest: str
    not_before_ms: int
    not_after_ms: int
    issued_at_ms: int
    issuer: Fingerprint
    """SHA-256 of the CA certificate that signed it."""


class InvitationState(enum.Enum):
    """What became of an invitation."""

    OPEN = "open"
    ACCEPTED = "accepted"
    WITHDRAWN = "withdrawn"


@attrs.frozen
class Invitation:
    """An invitation to become an operator; ``token_digest`` is SHA-256 (hex) of its token.

    Once accepted, ``csr_digest`` and ``operator_id`` say by whom: the same CSR gets the same
    answer.
    """

    token_digest: str
    name: str
    role: Role
    invited_by: str
    created_at_ms: int
    expires_at_ms: int
    owner: str = ""
    state: InvitationState = InvitationState.OPEN
    operator_id: str = ""
    csr_digest: str = ""

    def usable(self, now_ms: int) -> bool:
        """Whether somebody may still accept it."""
        return self.state is InvitationState.OPEN and now_ms < self.expires_at_ms


@attrs.frozen
class OperatorEnrolment:
    """What accepting an invitation asks the store to keep, in one transaction.

    The operator is new; name, role, owner and who made it are those of the invitation.
    """

    token_digest: str
    operator_id: str
    certificate: OperatorCertificate
    now_ms: int
    via: str = ""
    """Where it was accepted from, for the audit log."""


@attrs.frozen
class Enrolled:
    """An operator, and the certificate that answers their CSR."""

    operator: Operator
    certificate: OperatorCertificate


def local_id(uid: int) -> str:
    """The operator id of an account of this machine."""
    return f"{LOCAL}{uid}"


def valid_operator_name(name: str) -> bool:
    """Whether an operator may be called that: 1-40 of a-z, 0-9, dot, dash, underscore."""
    return _NAME.match(name) is not None
