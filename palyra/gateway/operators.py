"""Who the operators are: in memory, so that each request is answered at once, and at once by what
has changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from palyra.core.identifiers import Fingerprint, is_ulid, sha256_hex
from palyra.core.operators import (
    LOCAL,
    MAX_LIVE_CERTIFICATES,
    Caller,
    Enrolled,
    Operator,
    OperatorCertificate,
    OperatorState,
    Role,
)
from palyra.errors import (
    CertificateRefused,
    Malformed,
    NotFound,
    OperatorCertificateRefused,
    OperatorRevoked,
    RestoreUnconfirmed,
)
from palyra.gateway.health import moment_text
from palyra.pki.certificates import Role as CertificateRole
from palyra.pki.certificates import peer_certificate
from palyra.pki.crl import RevokedEntry
from palyra.pki.trust import ChainVerifier, check_dates

LEFT_AT_RENEWAL = 3
"""A certificate is renewed with a third of its life left."""


class OperatorRegistry:
    """Operators and the certificates that speak for them.

    ``roots`` are the CAs that are trusted now, ``issuing`` the fingerprint of the one that signs.
    ``local_names`` are the accounts of this machine that are admins, by their operator ids: their
    names are nobody else's.
    """

    def __init__(
        self,
        *,
        roots: Callable[[], Sequence[x509.Certificate]],
        issuing: Callable[[], Fingerprint],
        trust_domain: str,
        local_names: Mapping[str, str],
        now_ms: Callable[[], int],
        unconfirmed_since_ms: Callable[[], int | None] = lambda: None,
    ) -> None:
        """``unconfirmed_since_ms``: of when the record is, while nobody has confirmed that who was
        revoked since then is revoked here too; None: it is confirmed."""
        self._roots = roots
        self._issuing = issuing
        self._trust_domain = trust_domain
        self.local_names = dict(local_names)
        self._now_ms = now_ms
        self._unconfirmed_since_ms = unconfirmed_since_ms
        self._operators: dict[str, Operator] = {}
        self._certificates: dict[Fingerprint, OperatorCertificate] = {}
        self._verified: dict[Fingerprint, tuple[x509.Certificate, ...]] = {}

    def load(
        self, operators: Iterable[Operator], certificates: Iterable[OperatorCertificate]
    ) -> None:
        """Take over what is on record."""
        self._operators = {each.operator_id: each for each in operators}
        self._certificates = {each.fingerprint: each for each in certificates}
        self._verified.clear()

    # -- who asks -----------------------------------------------------------------------------

    def by_certificate(self, certificate: x509.Certificate, via: str) -> Caller:
        """The operator a certificate speaks for now.

        :raises OperatorCertificateRefused: nobody, or not any more; asked at every request.
        :raises RestoreUnconfirmed: as :meth:`check_confirmed`.
        """
        der = certificate.public_bytes(Encoding.DER)
        fingerprint = sha256_hex(der)
        self._check_chain(certificate, fingerprint)
        kept = self._certificates.get(fingerprint)
        if kept is None:
            raise OperatorCertificateRefused("certificate_unknown")
        try:
            check_dates(kept.not_before_ms, kept.not_after_ms, self._now_ms())
        except CertificateRefused as error:
            raise OperatorCertificateRefused(error.reason) from error
        operator = self._operators[kept.operator_id]
        if operator.state is not OperatorState.ACTIVE:
            raise OperatorCertificateRefused("revoked")
        self.check_confirmed()
        return _caller(operator, via, until_ms=kept.not_after_ms)

    def check_confirmed(self) -> None:
        """:raises RestoreUnconfirmed: somebody who was revoked may be active in this record."""
        since_ms = self._unconfirmed_since_ms()
        if since_ms is not None:
            raise RestoreUnconfirmed(moment_text(since_ms))

    def by_id(self, operator_id: str, via: str, session: str = "") -> Caller | None:
        """An operator as a caller; None: they are not active.  Local accounts are admins."""
        if operator_id.startswith(LOCAL):
            name = self.local_names.get(operator_id, operator_id)
            return Caller(operator_id, name, Role.ADMIN, via, session)
        operator = self._operators.get(operator_id)
        if operator is None or operator.state is not OperatorState.ACTIVE:
            return None
        return _caller(operator, via, session)

    def renewal_due(self, certificate: x509.Certificate) -> bool:
        """Whether the holder should ask for another certificate: a third of its life is left, or
        another CA signs by now."""
        kept = self._certificates.get(sha256_hex(certificate.public_bytes(Encoding.DER)))
        if kept is None:
            return False
        life_ms = kept.not_after_ms - kept.issued_at_ms
        late = self._now_ms() >= kept.not_after_ms - life_ms // LEFT_AT_RENEWAL
        return late or kept.issuer != self._issuing()

    def _check_chain(self, certificate: x509.Certificate, fingerprint: Fingerprint) -> None:
        """Chain, trust domain, role and EKU cannot change for the same bytes and roots."""
        roots = tuple(self._roots())
        if self._verified.get(fingerprint) == roots:
            return
        try:
            peer = peer_certificate(certificate)
            verifier = ChainVerifier(roots, self._trust_domain)
            verifier.verify(peer, self._now_ms(), CertificateRole.OPERATOR)
        except CertificateRefused as error:
            raise OperatorCertificateRefused(error.reason) from error
        if fingerprint in self._certificates:  # a stranger's is not remembered
            self._verified[fingerprint] = roots

    # -- who there is -------------------------------------------------------------------------

    def operators(self) -> list[Operator]:
        """Every operator: the active ones first, by name."""
        return sorted(
            self._operators.values(),
            key=lambda each: (each.state is not OperatorState.ACTIVE, each.name, each.operator_id),
        )

    def get(self, operator_id: str) -> Operator | None:
        """One operator by id, active or not."""
        return self._operators.get(operator_id)

    def resolve(self, target: str) -> Operator:
        """An operator by full id, or the active one by name.

        :raises NotFound: there is none; :class:`OperatorRevoked`: the last of that name was.
        """
        if is_ulid(target.upper()) and target.upper() in self._operators:
            return self._operators[target.upper()]
        named = [each for each in self.operators() if each.name == target]
        if not named:
            raise NotFound("operator", target[:64])
        if named[0].state is not OperatorState.ACTIVE:
            raise OperatorRevoked(named[0].name)
        return named[0]

    def person(self, target: str) -> str:
        """The operator id of the person who is to answer for a program.

        :raises Malformed: there is none of that name, or it is a program itself.
        """
        for operator_id, name in self.local_names.items():
            if target in (operator_id, name):
                return operator_id
        try:
            operator = self.resolve(target)
        except (NotFound, OperatorRevoked) as error:
            raise Malformed("owner", f"must be an active operator ({error.sentence})") from error
        if operator.owner:
            raise Malformed("owner", f"{operator.name} is a program itself")
        if operator.state is not OperatorState.ACTIVE:
            raise Malformed("owner", f"{operator.name} was revoked")
        return operator.operator_id

    def name_of(self, operator_id: str) -> str:
        """What an operator is called; the id itself where nobody knows it."""
        operator = self._operators.get(operator_id)
        return operator.name if operator else self.local_names.get(operator_id, operator_id)

    def live(self, operator_id: str) -> list[OperatorCertificate]:
        """The certificates that speak for an active operator now."""
        operator, now_ms = self._operators.get(operator_id), self._now_ms()
        if operator is None or operator.state is not OperatorState.ACTIVE:
            return []
        return [each for each in self._of(operator_id) if each.not_after_ms >= now_ms]

    def revoked_entries(self, now_ms: int) -> list[tuple[Fingerprint | None, RevokedEntry]]:
        """What the revocation lists say of certificates of operators, with who issued each."""
        found: list[tuple[Fingerprint | None, RevokedEntry]] = []
        for each in self._certificates.values():
            at_ms = self._operators[each.operator_id].revoked_at_ms
            if at_ms is not None and each.not_after_ms > now_ms:
                found.append((each.issuer, RevokedEntry(each.serial, at_ms, superseded=False)))
        return found

    # -- what has changed ---------------------------------------------------------------------

    def put(self, operator: Operator) -> None:
        """An operator is as this from now on."""
        self._operators[operator.operator_id] = operator

    def enrolled(self, enrolled: Enrolled) -> None:
        """Somebody became an operator."""
        self.put(enrolled.operator)
        self.certified(enrolled.certificate)

    def certified(self, certificate: OperatorCertificate) -> None:
        """An operator has this certificate too; of all only the newest two are kept."""
        self._certificates[certificate.fingerprint] = certificate
        theirs = self._of(certificate.operator_id)
        for each in theirs[:-MAX_LIVE_CERTIFICATES]:
            del self._certificates[each.fingerprint]
            self._verified.pop(each.fingerprint, None)

    def _of(self, operator_id: str) -> list[OperatorCertificate]:
        """The certificates of an operator, newest last."""
        theirs = [each for each in self._certificates.values() if each.operator_id == operator_id]
        return sorted(theirs, key=lambda each: (each.issued_at_ms, each.not_after_ms))


def _caller(operator: Operator, via: str, session: str = "", until_ms: int | None = None) -> Caller:
    return Caller(
        operator.operator_id,
        operator.name,
        operator.role,
        via,
        session,
        operator.owner,
        until_ms,
    )
