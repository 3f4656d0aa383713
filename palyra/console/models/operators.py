"""Bodies of ``operators`` and ``auth``: who may administer the gateway, and how they sign in."""

from __future__ import annotations

import msgspec

from palyra.console.models.common import Contract, Page, RoleName


class OperatorItem(msgspec.Struct, frozen=True):
    """One operator; ``state`` is active or revoked, ``certificates`` how many are live.

    ``owner`` is the operator who answers for it where it is a program.
    """

    operator_id: str
    name: str
    role: str
    state: str
    owner: str
    created_at_unix_ms: int
    created_by: str
    certificates: int
    certificate_expires_unix_ms: int | None
    sessions: int
    revoked_at_unix_ms: int | None = None
    revoked_by: str = ""
    revoke_reason: str = ""


class InvitationItem(msgspec.Struct, frozen=True):
    """An invitation that nobody has accepted yet; never its token."""

    name: str
    role: str
    owner: str
    invited_by: str
    created_at_unix_ms: int
    expires_at_unix_ms: int


class OperatorList(msgspec.Struct, frozen=True):
    """GET operators."""

    contract: Contract
    page: Page
    operators: list[OperatorItem]
    invitations: list[InvitationItem]


class OperatorAnswer(msgspec.Struct, frozen=True):
    """What an operator is now."""

    contract: Contract
    operator: OperatorItem


class RevokedOperator(msgspec.Struct, frozen=True):
    """POST operators/{id}/revoke: the operator, and the programs they answered for, which ended
    with them."""

    contract: Contract
    operator: OperatorItem
    programs: list[OperatorItem]


class InviteOperator(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST operators/invite.  ``owner`` names the operator who answers for a program."""

    name: str
    role: RoleName = "viewer"
    owner: str = ""


class InvitedOperator(msgspec.Struct, frozen=True):
    """An invitation, the only time its URI is shown."""

    contract: Contract
    invitation: InvitationItem
    uri: str

    def __repr__(self) -> str:
        return f"<InvitedOperator {self.invitation.name}>"


class EnrolOperator(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST operators/enrol.  ``csr`` is PEM; ``signature`` base64 of the CSR key's signature over
    the transcript of ACCESS, Console access 9."""

    token: str
    csr: str
    signature: str

    def __repr__(self) -> str:
        return "<EnrolOperator>"


class RenewOperator(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST operators/self/renew: a new certificate for the key of this CSR (PEM)."""

    csr: str


class OperatorCertificateAnswer(msgspec.Struct, frozen=True):
    """A certificate for an operator, and the CA bundle that the gateway's own is checked by."""

    contract: Contract
    operator: OperatorItem
    certificate_pem: str
    ca_bundle_pem: str
    expires_at_unix_ms: int


class ChangeRole(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST operators/{id}/role."""

    role: RoleName


class RevokeOperator(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST operators/{id}/revoke."""

    reason: str = ""


class SignInLink(msgspec.Struct, frozen=True):
    """POST auth/link: a link that signs the asking operator in once, within two minutes.

    ``certificate_fingerprint`` is SHA-256 of the certificate that the console shows over TLS,
    also where the link is plain HTTP: from afar the same port is reached over TLS.
    """

    contract: Contract
    link: str
    expires_at_unix_ms: int
    certificate_fingerprint: str

    def __repr__(self) -> str:
        return "<SignInLink>"


class NoBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A POST that says nothing but that it wants it."""


class SignInToken(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST auth/login/preview and auth/login."""

    token: str

    def __repr__(self) -> str:
        return "<SignInToken>"


class SignInPreview(msgspec.Struct, frozen=True):
    """POST auth/login/preview: as whom the link would sign in.  It uses nothing up."""

    contract: Contract
    name: str
    role: str
    gateway: str


class SignedIn(msgspec.Struct, frozen=True):
    """POST auth/login: the session's cookie is set; ``csrf_token`` is said this once."""

    contract: Contract
    caller: CallerItem
    csrf_token: str
    idle_s: int
    expires_at_unix_ms: int

    def __repr__(self) -> str:
        return f"<SignedIn {self.caller.name}>"


class CallerItem(msgspec.Struct, frozen=True):
    """Who asks: as the gateway knows them, and what they may do (read, submit, decide,
    administer)."""

    operator_id: str
    name: str
    role: str
    rights: list[str]
    gateway: str


class CallerAnswer(msgspec.Struct, frozen=True):
    """GET auth/self."""

    contract: Contract
    caller: CallerItem


class SignedOut(msgspec.Struct, frozen=True):
    """POST auth/logout."""

    contract: Contract
