"""Tests of :mod:`palyra.gateway.operatorcontrol`."""

from __future__ import annotations

import attrs
import msgspec
import pytest
from zope.interface.verify import verifyObject

from palyra.console import models
from palyra.console.control import IOperatorControl
from palyra.core.audit import Acting, acts_for
from palyra.core.operator_uri import OperatorUri
from palyra.core.operators import Caller, Role
from palyra.errors import (
    BrowserRefused,
    ConsoleNotServed,
    InvitationInvalid,
    Malformed,
    NotFound,
    OperatorNameTaken,
    RestoreUnconfirmed,
    SignInLimited,
    VerificationFailed,
)
from palyra.pki.authority import DAY_MS
from tests.gateway.house import result_of
from tests.gateway.operating import ANA, STRANGER, Operating, Person


@pytest.fixture
def operating() -> Operating:
    return Operating()


def caller_of(operating: Operating, person: Person) -> Caller:
    return operating.registry.by_certificate(person.certificate, "192.0.2.7")


def test_it_provides_the_interface(operating: Operating) -> None:
    """What the routes ask."""
    assert verifyObject(IOperatorControl, operating.control)


# -- invitations -------------------------------------------------------------------------------


def test_an_invitation_leads_here(operating: Operating) -> None:
    """Its URI names the console and the CA that its chain ends with; its token is said once."""
    answer = result_of(operating.control.invite(models.InviteOperator("bo", "approver"), ANA))
    line = OperatorUri.parse(answer.uri)
    assert line.origin == "https://atlas:7142"
    assert line.ca.hex() == operating.cas.issuing.ca_hash
    assert answer.invitation == models.InvitationItem(
        "bo", "approver", "", "ana", operating.now_ms, operating.now_ms + DAY_MS
    )
    listed = msgspec.json.encode(result_of(operating.control.operators(50, None)))
    assert answer.uri.encode() not in listed
    assert answer.uri not in repr(answer)


@pytest.mark.parametrize("name", ["", "Bo", "-bo", "local:0", "b o", "x" * 41])
def test_names_of_operators(operating: Operating, name: str) -> None:
    """Short, lower case, without anything that could be mistaken."""
    with pytest.raises(Malformed, match="name"):
        result_of(operating.control.invite(models.InviteOperator(name), ANA))


@pytest.mark.parametrize("name", ["root", "ana"])
def test_names_of_local_accounts(operating: Operating, name: str) -> None:
    """They are shown as who did something: nobody else may be called that."""
    with pytest.raises(OperatorNameTaken):
        result_of(operating.control.invite(models.InviteOperator(name), ANA))


def test_a_name_is_free_after_a_revocation(operating: Operating) -> None:
    """And taken before."""
    operating.enrolled()
    with pytest.raises(OperatorNameTaken):
        operating.invited()
    result_of(operating.control.revoke("bo", models.RevokeOperator(), ANA))
    operating.enrolled()


def test_roles_are_four(operating: Operating) -> None:
    """Another word is refused, here and where one changes."""
    with pytest.raises(Malformed, match="role"):
        operating.invited(role="owner")
    operating.enrolled()
    with pytest.raises(Malformed, match="role"):
        result_of(operating.control.change_role("bo", models.ChangeRole("root"), ANA))


def test_a_console_on_the_socket_alone_invites_nobody(operating: Operating) -> None:
    """There would be no way to accept."""
    operating.address = None
    with pytest.raises(ConsoleNotServed):
        operating.invited()


# -- accepting ---------------------------------------------------------------------------------


def test_accepting_makes_an_operator(operating: Operating) -> None:
    """The answer has certificate and CAs; the audit log has who became what."""
    person = Person()
    with acts_for(Acting("local:1000", "ana", "console.sock")):
        uri = operating.invited()
    answer = result_of(operating.control.enrol(person.accepts(uri), STRANGER))
    person.has(answer)
    assert answer.operator.name == "bo" and answer.operator.certificates == 1
    assert answer.ca_bundle_pem == operating.cas.ca_bundle_pem.decode()
    assert answer.expires_at_unix_ms == operating.now_ms + 30 * DAY_MS
    assert caller_of(operating, person).role is Role.OPERATOR
    assert operating.told() == ["ana operator.invited bo", "bo operator.accepted bo"]


def test_a_lost_answer_is_given_again(operating: Operating) -> None:
    """To the same CSR only; another finds the invitation used."""
    person = Person()
    uri = operating.invited()
    first = result_of(operating.control.enrol(person.accepts(uri), STRANGER))
    assert result_of(operating.control.enrol(person.accepts(uri), STRANGER)) == first
    with pytest.raises(InvitationInvalid):
        result_of(operating.control.enrol(Person().accepts(uri), STRANGER))
    assert len(operating.registry.operators()) == 1


def test_an_invitation_expires(operating: Operating) -> None:
    """After a day."""
    uri = operating.invited()
    operating.passes(DAY_MS)
    with pytest.raises(InvitationInvalid):
        result_of(operating.control.enrol(Person().accepts(uri), STRANGER))


def test_whoever_signs_has_seen_this_gateway(operating: Operating) -> None:
    """A signature for another CA, of another key or over another CSR does not hold."""
    uri = operating.invited()
    line = OperatorUri.parse(uri)
    elsewhere = OperatorUri.of("atlas", 7142, bytes(32), line.token)
    mine, other = Person(), Person()
    good = mine.accepts(uri)
    for body in (
        mine.accepts(str(elsewhere)),
        msgspec.structs.replace(good, signature=other.accepts(uri).signature),
        msgspec.structs.replace(good, csr=other.csr),
        msgspec.structs.replace(good, signature="!"),
        msgspec.structs.replace(good, signature="A" * 4096),
    ):
        with pytest.raises(VerificationFailed):
            result_of(operating.control.enrol(body, STRANGER))
    result_of(operating.control.enrol(good, STRANGER))


def test_every_ca_in_a_rotation_counts(operating: Operating) -> None:
    """The invitation was made under the one, and accepted under the other."""
    uri = operating.invited()
    operating.cas.authorities.insert(0, operating.cas.another())
    result_of(operating.control.enrol(Person().accepts(uri), STRANGER))


@pytest.mark.parametrize("csr", ["", "x", "-----BEGIN CERTIFICATE REQUEST-----\n", "A" * 10_000])
def test_what_is_no_csr(operating: Operating, csr: str) -> None:
    """It is refused, also of an operator."""
    uri, person = operating.invited(), Person()
    body = msgspec.structs.replace(person.accepts(uri), csr=csr)
    with pytest.raises(VerificationFailed):
        result_of(operating.control.enrol(body, STRANGER))
    bo = operating.enrolled("cy")
    with pytest.raises(VerificationFailed):
        renewal = models.RenewOperator(csr)
        result_of(operating.control.renew(renewal, caller_of(operating, bo)))


def test_guesses_are_counted(operating: Operating) -> None:
    """Ten a minute from one source; console.sock is never refused, nor is a good token."""
    person = Person()
    wrong = msgspec.structs.replace(person.accepts(operating.invited()), token="A" * 22)
    for _ in range(10):
        with pytest.raises(InvitationInvalid):
            result_of(operating.control.enrol(wrong, STRANGER))
    good = person.accepts(operating.invited())
    with pytest.raises(SignInLimited) as raised:
        result_of(operating.control.enrol(wrong, STRANGER))
    assert 0 < raised.value.retry_after_s <= 60
    result_of(operating.control.enrol(good, STRANGER))
    local = attrs.evolve(STRANGER, via="console.sock")
    for _ in range(12):
        with pytest.raises(InvitationInvalid):
            result_of(operating.control.enrol(wrong, local))
    operating.passes(60_000)
    with pytest.raises(InvitationInvalid):
        result_of(operating.control.enrol(wrong, STRANGER))


def test_a_restored_state_lets_no_operator_in(operating: Operating) -> None:
    """Somebody who was revoked since the backup may be active in it: it is confirmed first."""
    bo, uri = operating.enrolled(), operating.invited("cy")
    operating.store.unconfirmed_since_ms = 1
    with pytest.raises(RestoreUnconfirmed):
        caller_of(operating, bo)
    with pytest.raises(RestoreUnconfirmed):
        result_of(operating.control.enrol(Person().accepts(uri), STRANGER))
    assert operating.registry.by_id("local:1000", "console.sock")
    result_of(operating.store.confirm())
    assert caller_of(operating, bo)


# -- renewal -----------------------------------------------------------------------------------


def test_a_renewed_certificate_beside_the_old(operating: Operating) -> None:
    """Both are taken until the next renewal; a repeated CSR gets the same one."""
    old, new, third = operating.enrolled(), Person(), Person()
    operating.passes(21 * DAY_MS)
    bo = caller_of(operating, old)
    answer = result_of(operating.control.renew(models.RenewOperator(new.csr), bo))
    assert result_of(operating.control.renew(models.RenewOperator(new.csr), bo)) == answer
    new.has(answer)
    assert answer.operator.certificates == 2
    assert caller_of(operating, new).operator_id == caller_of(operating, old).operator_id
    operating.passes(1_000)
    third.has(result_of(operating.control.renew(models.RenewOperator(third.csr), bo)))
    with pytest.raises(Exception, match="certificate unknown"):
        caller_of(operating, old)
    assert caller_of(operating, new) and caller_of(operating, third)
    operating.begin()
    assert caller_of(operating, new) and caller_of(operating, third)
    assert operating.told().count("gateway operator.renewed bo") == 2


def test_who_may_not_renew(operating: Operating) -> None:
    """A page, which could make its session last for a month; and who has no certificate."""
    bo = caller_of(operating, operating.enrolled())
    body = models.RenewOperator(Person().csr)
    with pytest.raises(BrowserRefused):
        result_of(operating.control.renew(body, attrs.evolve(bo, session="s")))
    with pytest.raises(NotFound):
        result_of(operating.control.renew(body, ANA))


# -- changes -----------------------------------------------------------------------------------


def test_a_role_changes_at_once(operating: Operating) -> None:
    """Their streams end, and nobody else's; the same role again ends nothing."""
    bo = caller_of(operating, operating.enrolled())
    answer = result_of(operating.control.change_role("bo", models.ChangeRole("admin"), ANA))
    assert answer.operator.role == "admin"
    assert operating.hung_up(bo)
    result_of(operating.control.change_role("bo", models.ChangeRole("admin"), ANA))
    assert not operating.ended
    result_of(operating.control.change_role("bo", models.ChangeRole("viewer"), ANA))
    assert not operating.hung_up(ANA)


def test_a_revocation_ends_everything(operating: Operating) -> None:
    """Certificates, sessions, links and streams; whoever must know is told."""
    bo = caller_of(operating, operating.enrolled())
    link = result_of(operating.sign_in.link(bo)).link
    operating.browser.open(bo.operator_id, operating.now_ms)
    left: list[str] = []
    operating.control.left.append(left.append)
    body = models.RevokeOperator("left us")
    answer = result_of(operating.control.revoke("bo", body, ANA)).operator
    assert (answer.state, answer.revoked_by, answer.revoke_reason) == ("revoked", "ana", "left us")
    assert (answer.certificates, answer.sessions) == (0, 0)
    assert operating.hung_up(bo)
    assert left == [bo.operator_id]
    assert operating.published == 1
    token = models.SignInToken(link.partition("#")[2])
    with pytest.raises(Exception, match="sign-in link"):
        result_of(operating.sign_in.preview(token, STRANGER))


def test_programs_leave_with_their_owner(operating: Operating) -> None:
    """They are named in the answer, and what they have open ends too."""
    bo, robot = (
        caller_of(operating, operating.enrolled(name, owner=owner))
        for name, owner in (("bo", ""), ("robot", "bo"))
    )
    operating.browser.open(robot.operator_id, operating.now_ms)
    left: list[str] = []
    operating.control.left.append(left.append)
    answer = result_of(operating.control.revoke("bo", models.RevokeOperator("left"), ANA))
    assert [each.name for each in answer.programs] == ["robot"]
    assert (answer.programs[0].state, answer.programs[0].sessions) == ("revoked", 0)
    assert left == [bo.operator_id, robot.operator_id]
    assert operating.registry.by_id(robot.operator_id, "via") is None
    assert operating.hung_up(robot)
    assert operating.told()[-2:] == [
        "gateway operator.revoked bo",
        "gateway operator.revoked robot",
    ]


def test_revoked_certificates_are_in_the_revocation_list(operating: Operating) -> None:
    """Until they run out, by the CA that issued them."""
    operating.enrolled()
    assert operating.registry.revoked_entries(operating.now_ms) == []
    result_of(operating.control.revoke("bo", models.RevokeOperator(), ANA))
    for _ in range(2):
        ((issuer, entry),) = operating.registry.revoked_entries(operating.now_ms)
        assert issuer == operating.cas.issuing.ca_hash
        assert (entry.at_ms, entry.superseded) == (operating.now_ms, False)
        operating.begin()
    assert operating.registry.revoked_entries(operating.now_ms + 31 * DAY_MS) == []


# -- lists -------------------------------------------------------------------------------------


def test_the_list(operating: Operating) -> None:
    """The active by name, then the revoked; open invitations on the first page."""
    for name in ("cy", "bo", "al"):
        operating.enrolled(name)
    result_of(operating.control.revoke("al", models.RevokeOperator(), ANA))
    operating.invited("di", owner="bo")
    first = result_of(operating.control.operators(2, None))
    assert [each.name for each in first.operators] == ["bo", "cy"]
    assert [(each.name, each.owner) for each in first.invitations] == [("di", "bo")]
    assert first.page.has_more
    second = result_of(operating.control.operators(2, first.page.next_cursor))
    assert [(each.name, each.state) for each in second.operators] == [("al", "revoked")]
    assert not second.invitations and not second.page.has_more
    with pytest.raises(Malformed, match="cursor"):
        result_of(operating.control.operators(2, "x"))
