"""What admins ask about operators, and what invited ones ask: invitations, certificates, roles."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from palyra.config.addresses import HostPort
from palyra.console import models
from palyra.console.control import IOperatorControl
from palyra.core.devices import clean_text
from palyra.core.identifiers import Entropy, Fingerprint, new_ulid, sha256_hex
from palyra.core.operator_uri import OperatorUri, enrolment_payload, read_token
from palyra.core.operatorlog import IOperatorLog
from palyra.core.operators import (
    INVITATION_MS,
    LOCAL,
    TOKEN_BYTES,
    Caller,
    Invitation,
    Operator,
    OperatorCertificate,
    OperatorEnrolment,
    Role,
    valid_operator_name,
)
from palyra.errors import (
    BrowserRefused,
    ConsoleNotServed,
    InvitationInvalid,
    Malformed,
    NotFound,
    OperatorNameTaken,
    VerificationFailed,
)
from palyra.gateway.issuing import Trust
from palyra.gateway.operators import OperatorRegistry
from palyra.gateway.signin import HangUp, SignIn, SignInTries
from palyra.gateway.views import CONTRACT
from palyra.pki.authority import OPERATOR_LIFE_MS
from palyra.pki.csr import MAX_CSR_BYTES, check_csr

CSR_NAME = "operator"
"""The subject of an operator's CSR: the id is made by the gateway, and so is the certificate's."""
MAX_SIGNATURE = 256
MAX_REASON = 240


class Sessions(Protocol):
    """How many browser sessions an operator has."""

    def count(self, operator_id: str) -> int:
        """Of those that are open."""


@implementer(IOperatorControl)
class OperatorControl:
    """Provides IOperatorControl.

    ``ca_hash`` is SHA-256 (hex) of the CA certificate that the console's chain ends with,
    ``address`` is where the console is reached from afar, None where it is not; ``published``
    renews the revocation list.  Each of ``left`` is told the id of an operator who was revoked.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        store: IOperatorLog,
        registry: OperatorRegistry,
        sign_in: SignIn,
        browser: Sessions,
        tries: SignInTries,
        trust: Trust,
        ca_hash: Callable[[], str],
        hang_up: HangUp,
        published: Callable[[], object],
        address: Callable[[], HostPort | None],
        entropy: Entropy,
        now_ms: Callable[[], int],
        life_ms: int = OPERATOR_LIFE_MS,
    ) -> None:
        self._store = store
        self._registry = registry
        self._sign_in = sign_in
        self._browser = browser
        self._tries = tries
        self._trust = trust
        self._ca_hash = ca_hash
        self._hang_up = hang_up
        self._published = published
        self._address = address
        self._entropy = entropy
        self._now_ms = now_ms
        self._life_ms = life_ms
        self.left: list[Callable[[str], object]] = []

    # -- who there is -------------------------------------------------------------------------

    def operators(self, limit: int, cursor: str | None) -> Deferred[models.OperatorList]:
        return Deferred.fromCoroutine(self._operators(limit, cursor))

    async def _operators(self, limit: int, cursor: str | None) -> models.OperatorList:
        every = self._registry.operators()
        start = 0
        if cursor is not None:
            ids = [each.operator_id for each in every]
            if cursor not in ids:
                raise Malformed("cursor", "is not one of this list")
            start = ids.index(cursor) + 1
        shown = every[start : start + limit]
        more = len(every) > start + limit
        invitations = await self._store.invitations() if cursor is None else []
        return models.OperatorList(
            contract=CONTRACT,
            page=models.Page(limit, len(shown), more, shown[-1].operator_id if more else None),
            operators=[self._item(each) for each in shown],
            invitations=[self._invitation_item(each) for each in invitations],
        )

    # -- invitations --------------------------------------------------------------------------

    def invite(self, body: models.InviteOperator, by: Caller) -> Deferred[models.InvitedOperator]:
        return Deferred.fromCoroutine(self._invite(body, by))

    async def _invite(self, body: models.InviteOperator, by: Caller) -> models.InvitedOperator:
        address = self._address()
        if address is None:
            raise ConsoleNotServed()
        token, now_ms = self._entropy(TOKEN_BYTES), self._now_ms()
        invitation = Invitation(
            token_digest=sha256_hex(token),
            name=self._free_name(body.name),
            role=role_named(body.role),
            invited_by=by.name,
            created_at_ms=now_ms,
            expires_at_ms=now_ms + INVITATION_MS,
            owner=self._registry.person(body.owner) if body.owner else "",
        )
        ca_hash = bytes.fromhex(self._ca_hash())
        uri = OperatorUri.of(address.host, address.port, ca_hash, token)
        await self._store.invite(invitation)
        return models.InvitedOperator(CONTRACT, self._invitation_item(invitation), str(uri))

    def _free_name(self, name: str) -> str:
        if not valid_operator_name(name):
            raise Malformed("name", "must be 1 to 40 of a-z, 0-9, dot, dash and underscore")
        if name in self._registry.local_names.values():
            raise OperatorNameTaken(name)
        return name

    def enrol(
        self, body: models.EnrolOperator, by: Caller
    ) -> Deferred[models.OperatorCertificateAnswer]:
        return Deferred.fromCoroutine(self._enrol(body, by))

    async def _enrol(
        self, body: models.EnrolOperator, by: Caller
    ) -> models.OperatorCertificateAnswer:
        self._registry.check_confirmed()
        try:
            enrolment = await self._checked(body, by)
            enrolled = await self._store.enrol_operator(enrolment)
        except (InvitationInvalid, VerificationFailed) as error:
            self._tries.failed(by.via, error.code)
            raise
        self._registry.enrolled(enrolled)
        operator = enrolled.operator
        self._log.info(
            "{name} is an operator: {role}", name=operator.name, role=operator.role.value
        )
        return self._answer(operator, enrolled.certificate)

    async def _checked(self, body: models.EnrolOperator, by: Caller) -> OperatorEnrolment:
        """Nothing is verified or signed for whoever does not know a token."""
        token = read_token(body.token)
        invitation = None if token is None else await self._store.invitation(sha256_hex(token))
        if token is None or invitation is None:
            raise InvitationInvalid()
        csr_der = read_csr(body.csr)
        key = check_csr(csr_der, CSR_NAME)
        self._check_signature(key, body.signature, token, csr_der)
        operator_id, now_ms = new_ulid(self._now_ms(), self._entropy), self._now_ms()
        certificate = self._issue(operator_id, key, csr_der)
        return OperatorEnrolment(invitation.token_digest, operator_id, certificate, now_ms, by.via)

    def _check_signature(
        self, key: ec.EllipticCurvePublicKey, text: str, token: bytes, csr_der: bytes
    ) -> None:
        """Whoever accepts has seen one of this gateway's CAs, and holds the key of the CSR."""
        try:
            signature = base64.b64decode(text, validate=True)
        except (ValueError, binascii.Error):
            signature = b""
        for ca_hash in self._trust.ca_hashes if len(signature) <= MAX_SIGNATURE else ():
            payload = enrolment_payload(ca_hash, token, csr_der)
            try:
                return key.verify(signature, payload, ec.ECDSA(hashes.SHA256()))
            except InvalidSignature:
                continue
        raise VerificationFailed("the signature of the CSR's key does not hold")

    # -- certificates -------------------------------------------------------------------------

    def renew(
        self, body: models.RenewOperator, by: Caller
    ) -> Deferred[models.OperatorCertificateAnswer]:
        return Deferred.fromCoroutine(self._renew(body, by))

    async def _renew(
        self, body: models.RenewOperator, by: Caller
    ) -> models.OperatorCertificateAnswer:
        if by.session:
            raise BrowserRefused("certificate")
        operator = self._registry.get(by.operator_id)
        if operator is None or by.operator_id.startswith(LOCAL):
            raise NotFound("operator", by.name)
        csr_der = read_csr(body.csr)
        key = check_csr(csr_der, CSR_NAME)
        wanted = self._issue(operator.operator_id, key, csr_der)
        kept = await self._store.renew_operator(wanted, self._now_ms())
        self._registry.certified(kept)
        return self._answer(operator, kept)

    def _issue(
        self, operator_id: str, key: ec.EllipticCurvePublicKey, csr_der: bytes
    ) -> OperatorCertificate:
        now_ms, authority = self._now_ms(), self._trust.issuing
        issued = authority.issue_operator(key, operator_id, now_ms, life_ms=self._life_ms)
        return OperatorCertificate(
            fingerprint=issued.fingerprint,
            operator_id=operator_id,
            serial=issued.serial,
            pem=issued.pem.decode(),
            csr_digest=sha256_hex(csr_der),
            not_before_ms=issued.not_before_ms,
            not_after_ms=issued.not_after_ms,
            issued_at_ms=now_ms,
            issuer=Fingerprint(authority.ca_hash),
        )

    # -- changes ------------------------------------------------------------------------------

    def change_role(
        self, target: str, body: models.ChangeRole, by: Caller
    ) -> Deferred[models.OperatorAnswer]:
        return Deferred.fromCoroutine(self._change_role(target, body))

    async def _change_role(self, target: str, body: models.ChangeRole) -> models.OperatorAnswer:
        role = role_named(body.role)
        before = self._registry.resolve(target)
        now = await self._store.change_role(before.operator_id, role, self._now_ms())
        self._registry.put(now)
        if now.role is not before.role:
            self._hang_up(lambda caller: caller.operator_id == now.operator_id)
        return models.OperatorAnswer(CONTRACT, self._item(now))

    def revoke(
        self, target: str, body: models.RevokeOperator, by: Caller
    ) -> Deferred[models.RevokedOperator]:
        return Deferred.fromCoroutine(self._revoke(target, body, by))

    async def _revoke(
        self, target: str, body: models.RevokeOperator, by: Caller
    ) -> models.RevokedOperator:
        """Committed first, then felt everywhere at once."""
        operator_id = self._registry.resolve(target).operator_id
        reason = clean_text(body.reason, MAX_REASON)
        ended = await self._store.revoke_operator(operator_id, by.name, reason, self._now_ms())
        for each in ended:
            self._registry.put(each)
        for each in ended:
            self._left(each, by)
        self._published()
        person, *programs = map(self._item, ended)
        return models.RevokedOperator(CONTRACT, person, programs)

    def _left(self, operator: Operator, by: Caller) -> None:
        operator_id = operator.operator_id
        self._sign_in.end_operator(operator_id)
        self._hang_up(lambda caller: caller.operator_id == operator_id)
        for tell in self.left:
            tell(operator_id)
        self._log.info("operator {name} revoked by {by}", name=operator.name, by=by.name)

    # -- what is shown ------------------------------------------------------------------------

    def _answer(
        self, operator: Operator, certificate: OperatorCertificate
    ) -> models.OperatorCertificateAnswer:
        return models.OperatorCertificateAnswer(
            contract=CONTRACT,
            operator=self._item(operator),
            certificate_pem=certificate.pem,
            ca_bundle_pem=self._trust.ca_bundle_pem.decode(),
            expires_at_unix_ms=certificate.not_after_ms,
        )

    def _item(self, operator: Operator) -> models.OperatorItem:
        live = self._registry.live(operator.operator_id)
        return models.OperatorItem(
            operator_id=operator.operator_id,
            name=operator.name,
            role=operator.role.value,
            state=operator.state.value,
            owner=self._registry.name_of(operator.owner) if operator.owner else "",
            created_at_unix_ms=operator.created_at_ms,
            created_by=operator.created_by,
            certificates=len(live),
            certificate_expires_unix_ms=max((each.not_after_ms for each in live), default=None),
            sessions=self._browser.count(operator.operator_id),
            revoked_at_unix_ms=operator.revoked_at_ms,
            revoked_by=operator.revoked_by,
            revoke_reason=operator.revoke_reason,
        )

    def _invitation_item(self, invitation: Invitation) -> models.InvitationItem:
        return models.InvitationItem(
            name=invitation.name,
            role=invitation.role.value,
            owner=self._registry.name_of(invitation.owner) if invitation.owner else "",
            invited_by=invitation.invited_by,
            created_at_unix_ms=invitation.created_at_ms,
            expires_at_unix_ms=invitation.expires_at_ms,
        )


def role_named(text: str) -> Role:
    """:raises Malformed: it is none of the four."""
    try:
        return Role(text)
    except ValueError as error:
        raise Malformed("role", "must be viewer, operator, approver or admin") from error


def read_csr(pem: str) -> bytes:
    """The DER of a CSR.

    :raises VerificationFailed: it is none.
    """
    if len(pem) > 2 * MAX_CSR_BYTES:
        raise VerificationFailed(f"the CSR is over {MAX_CSR_BYTES // 1024} KiB")
    try:
        return x509.load_pem_x509_csr(pem.encode()).public_bytes(Encoding.DER)
    except Exception as cause:  # cryptography has no common base for what its parsers raise
        raise VerificationFailed("the CSR does not parse") from cause
