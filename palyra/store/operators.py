"""Operators, their certificates and invitations in SQL
(:class:`palyra.core.operatorlog.IOperatorLog`).

Every function works in the transaction of the connection it is given.
"""

from __future__ import annotations

from typing import Any

import attrs
from sqlalchemy import ColumnElement, Connection, RowMapping, delete, insert, select, update

from palyra.core.operators import (
    Enrolled,
    Invitation,
    InvitationState,
    Operator,
    OperatorCertificate,
    OperatorEnrolment,
    OperatorState,
    Role,
)
from palyra.errors import NotFound
from palyra.store import audit
from palyra.store import operatorrules as rules
from palyra.store.tables import operator_certificates, operator_invitations, operators

Row = dict[str, Any]


def list_operators(connection: Connection) -> list[Operator]:
    """Every operator, in the order of their ids."""
    found = connection.execute(select(operators).order_by(operators.c.operator_id))
    return [_operator_of(row) for row in found.mappings()]


def list_certificates(connection: Connection, now_ms: int) -> list[OperatorCertificate]:
    """Every certificate that has not run out."""
    return _certificates(connection, operator_certificates.c.not_after_ms >= now_ms)


def list_invitations(connection: Connection, now_ms: int) -> list[Invitation]:
    """The invitations that somebody may still accept, oldest first."""
    table = operator_invitations.c
    usable = (table.state == InvitationState.OPEN.value) & (table.expires_at_ms > now_ms)
    statement = select(operator_invitations).where(usable).order_by(table.created_at_ms, table.name)
    return [_invitation_of(row) for row in connection.execute(statement).mappings()]


def invitation(connection: Connection, token_digest: str) -> Invitation | None:
    """One invitation."""
    statement = select(operator_invitations).where(
        operator_invitations.c.token_digest == token_digest
    )
    row = connection.execute(statement).mappings().first()
    return None if row is None else _invitation_of(row)


def invite(connection: Connection, wanted: Invitation) -> None:
    """Keep an invitation; an older open one of that name is withdrawn."""
    rules.refuse_taken(wanted.name, _active_names(connection))
    table = operator_invitations.c
    long_over = table.expires_at_ms < wanted.created_at_ms - rules.KEPT_INVITATIONS_MS
    connection.execute(delete(operator_invitations).where(long_over))
    _withdraw(connection, table.name == wanted.name)
    connection.execute(insert(operator_invitations).values(_invitation_row(wanted)))
    audit.append(connection, rules.told_invited(wanted))


def enrol(connection: Connection, wanted: OperatorEnrolment) -> Enrolled:
    """Use an invitation up for a new operator, or find whom its CSR made one before."""
    kept = invitation(connection, wanted.token_digest)
    before = "" if kept is None else kept.operator_id
    again = rules.repeated(
        kept,
        _operator(connection, before),
        _of_operator(connection, before),
        wanted.certificate.csr_digest,
    )
    if again is not None:
        return again
    used, enrolled = rules.accepted(kept, _active_names(connection), wanted)
    this = operator_invitations.c.token_digest == used.token_digest
    connection.execute(update(operator_invitations).where(this).values(_invitation_row(used)))
    connection.execute(insert(operators).values(_operator_row(enrolled.operator)))
    connection.execute(insert(operator_certificates).values(_row(enrolled.certificate)))
    audit.append(connection, rules.told_accepted(enrolled, wanted.via))
    return enrolled


def renew(
    connection: Connection, certificate: OperatorCertificate, now_ms: int
) -> OperatorCertificate:
    """Keep another certificate of an operator, or find the one its CSR got before."""
    operator_id = certificate.operator_id
    operator = rules.present(_operator(connection, operator_id), operator_id)
    held = _of_operator(connection, operator_id)
    for each in held:
        if each.csr_digest == certificate.csr_digest and each.not_after_ms >= now_ms:
            return each
    gone = [each.fingerprint for each in rules.superfluous(held)]
    column = operator_certificates.c.fingerprint
    connection.execute(delete(operator_certificates).where(column.in_(gone)))
    connection.execute(insert(operator_certificates).values(_row(certificate)))
    audit.append(connection, rules.told_renewed(operator, certificate, now_ms))
    return certificate


def change_role(connection: Connection, operator_id: str, role: Role, now_ms: int) -> Operator:
    """Give an operator another role; who is no admin any more has invited nobody."""
    before = rules.present(_operator(connection, operator_id), operator_id)
    now = rules.with_role(before, role)
    if now != before:
        _keep(connection, now)
        if now.role is not Role.ADMIN:
            _withdraw(connection, operator_invitations.c.invited_by == now.name)
        audit.append(connection, rules.told_role(before, now, now_ms))
    return now


def revoke(
    connection: Connection, operator_id: str, by: str, reason: str, now_ms: int
) -> list[Operator]:
    """End an operator, their programs and what they were invited by: nobody comes back by that.
    Certificates are kept, so that the CRL can name them."""
    before = _operator(connection, operator_id)
    if before is None:
        raise NotFound("operator", operator_id)
    found = [before, *_programs(connection, operator_id)]
    return [_end(connection, each, by, reason, now_ms) for each in found]


def _end(connection: Connection, before: Operator, by: str, reason: str, now_ms: int) -> Operator:
    table = operator_invitations.c
    _withdraw(connection, table.owner == before.operator_id)
    if before.state is OperatorState.REVOKED:
        return before
    now = rules.revoked(before, by, reason, now_ms)
    _keep(connection, now)
    _withdraw(connection, table.invited_by == now.name)
    audit.append(connection, rules.told_revoked(now, now_ms))
    return now


def _programs(connection: Connection, owner: str) -> list[Operator]:
    """The active operators that somebody answers for, in the order of their ids."""
    theirs = (operators.c.owner == owner) & (operators.c.state == OperatorState.ACTIVE.value)
    found = connection.execute(select(operators).where(theirs).order_by(operators.c.operator_id))
    return [_operator_of(row) for row in found.mappings()]


def _withdraw(connection: Connection, which: ColumnElement[bool]) -> None:
    """Withdraw those of the invitations that nobody has accepted."""
    still_open = operator_invitations.c.state == InvitationState.OPEN.value
    withdrawn = {"state": InvitationState.WITHDRAWN.value}
    connection.execute(update(operator_invitations).where(which & still_open).values(withdrawn))


def _operator(connection: Connection, operator_id: str) -> Operator | None:
    statement = select(operators).where(operators.c.operator_id == operator_id)
    row = connection.execute(statement).mappings().first()
    return None if row is None else _operator_of(row)


def _active_names(connection: Connection) -> frozenset[str]:
    active = operators.c.state == OperatorState.ACTIVE.value
    return frozenset(connection.scalars(select(operators.c.name).where(active)))


def _keep(connection: Connection, operator: Operator) -> None:
    this = operators.c.operator_id == operator.operator_id
    connection.execute(update(operators).where(this).values(_operator_row(operator)))


def _of_operator(connection: Connection, operator_id: str) -> list[OperatorCertificate]:
    return _certificates(connection, operator_certificates.c.operator_id == operator_id)


def _certificates(connection: Connection, which: ColumnElement[bool]) -> list[OperatorCertificate]:
    order = operator_certificates.c.issued_at_ms, operator_certificates.c.fingerprint
    statement = select(operator_certificates).where(which).order_by(*order)
    return [OperatorCertificate(**row) for row in connection.execute(statement).mappings()]


# -- between values and rows -------------------------------------------------------------------


def _row(certificate: OperatorCertificate) -> Row:
    return attrs.asdict(certificate)


def _operator_row(operator: Operator) -> Row:
    values = attrs.asdict(operator)
    return {**values, "role": operator.role.value, "state": operator.state.value}


def _operator_of(row: RowMapping) -> Operator:
    values: Row = {**row}
    values["role"] = Role(values["role"])
    values["state"] = OperatorState(values["state"])
    return Operator(**values)


def _invitation_row(kept: Invitation) -> Row:
    values = attrs.asdict(kept)
    return {**values, "role": kept.role.value, "state": kept.state.value}


def _invitation_of(row: RowMapping) -> Invitation:
    values: Row = {**row}
    values["role"] = Role(values["role"])
    values["state"] = InvitationState(values["state"])
    return Invitation(**values)
