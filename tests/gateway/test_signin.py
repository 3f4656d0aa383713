"""Tests of :mod:`palyra.gateway.signin`."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from twisted.internet.defer import fail
from zope.interface.verify import verifyObject

from palyra.console import models
from palyra.console.control import ISignIn
from palyra.console.sessions import MAX_OF_OPERATOR
from palyra.core.operators import Caller
from palyra.errors import (
    BrowserRefused,
    ConsoleNotServed,
    DiskFull,
    LoginLinkExpired,
    SignInLimited,
)
from palyra.gateway.signin import MAX_LINKS_OF_OPERATOR
from palyra.pki.authority import DAY_MS
from tests.console.browser import WebRequest, page_post
from tests.gateway.house import result_of
from tests.gateway.operating import ANA, STRANGER, Operating


@pytest.fixture
def operating() -> Operating:
    return Operating()


def token_of(operating: Operating, by: Caller = ANA) -> models.SignInToken:
    link = result_of(operating.sign_in.link(by)).link
    return models.SignInToken(link.partition("#")[2])


def signed_in(operating: Operating, by: Caller = ANA) -> tuple[models.SignedIn, str]:
    """The answer, and the cookie that came with it."""
    request: Any = page_post()
    body = token_of(operating, by)
    answer = result_of(operating.sign_in.sign_in(body, request, STRANGER))
    ((_, secret, _),) = request.cookies
    return answer, secret.decode()


def test_it_provides_the_interface(operating: Operating) -> None:
    """What the routes ask."""
    assert verifyObject(ISignIn, operating.sign_in)


def test_a_link_has_its_token_in_the_fragment(operating: Operating) -> None:
    """Browsers do not send it; the certificate is named, also where only who comes from afar will
    be shown it."""
    made = result_of(operating.sign_in.link(ANA))
    origin, _, token = made.link.partition("/login#")
    assert (origin, len(token)) == ("https://atlas:7142", 22)
    assert made.certificate_fingerprint == "9f3c"
    assert made.expires_at_unix_ms == operating.now_ms + 120_000
    assert token not in repr(made)
    operating.origin = "http://localhost:7142"
    assert result_of(operating.sign_in.link(ANA)).certificate_fingerprint == "9f3c"


def test_a_link_needs_a_page(operating: Operating) -> None:
    """And is not made for a page, whose session would never end."""
    with pytest.raises(BrowserRefused):
        result_of(operating.sign_in.link(attrs.evolve(ANA, session="s")))
    operating.origin = ""
    with pytest.raises(ConsoleNotServed):
        result_of(operating.sign_in.link(ANA))


def test_a_link_says_as_whom(operating: Operating) -> None:
    """As often as it is asked: only signing in uses it up."""
    body = token_of(operating)
    for _ in range(2):
        found = result_of(operating.sign_in.preview(body, STRANGER))
        assert (found.name, found.role, found.gateway) == ("ana", "admin", "atlas")


def test_signing_in(operating: Operating) -> None:
    """The cookie and the token make requests of the operator; the audit log says so."""
    answer, secret = signed_in(operating)
    assert answer.caller == models.CallerItem(
        "local:1000", "ana", "admin", ["read", "submit", "decide", "administer"], "atlas"
    )
    assert answer.idle_s == 1_800
    assert answer.expires_at_unix_ms == operating.now_ms + 12 * 3_600_000
    session = operating.browser.find(secret, operating.now_ms)
    assert session is not None and session.operator_id == "local:1000"
    assert operating.told() == ["ana session.signed_in ana"]


def test_a_link_works_once(operating: Operating) -> None:
    """Also where it is used twice at the same time."""
    body = token_of(operating)
    result_of(operating.sign_in.sign_in(body, page_post(), STRANGER))
    with pytest.raises(LoginLinkExpired):
        result_of(operating.sign_in.sign_in(body, page_post(), STRANGER))
    with pytest.raises(LoginLinkExpired):
        result_of(operating.sign_in.preview(body, STRANGER))


def test_a_link_lives_two_minutes(operating: Operating) -> None:
    """Not one millisecond longer."""
    body = token_of(operating)
    operating.passes(119_999)
    result_of(operating.sign_in.preview(body, STRANGER))
    operating.passes(1)
    with pytest.raises(LoginLinkExpired):
        result_of(operating.sign_in.sign_in(body, page_post(), STRANGER))


def test_links_are_bounded(operating: Operating) -> None:
    """An operator's own oldest goes; nobody's else."""
    root = attrs.evolve(ANA, operator_id="local:0", name="root")
    theirs = token_of(operating, root)
    first, *others = (token_of(operating) for _ in range(MAX_LINKS_OF_OPERATOR + 1))
    with pytest.raises(LoginLinkExpired):
        result_of(operating.sign_in.preview(first, STRANGER))
    for body in (*others, theirs):
        result_of(operating.sign_in.preview(body, STRANGER))


def test_guesses_are_counted(operating: Operating) -> None:
    """Ten a minute from a source, which then has to wait; a good link is good all the same."""
    body = token_of(operating)
    for text in ("", "x", "A" * 22, "é", *("B" * 22,) * 6):
        with pytest.raises(LoginLinkExpired):
            result_of(operating.sign_in.preview(models.SignInToken(text), STRANGER))
    with pytest.raises(SignInLimited):
        result_of(operating.sign_in.preview(models.SignInToken("C" * 22), STRANGER))
    assert len(operating.refusals) == 11
    assert operating.refusals[0] == ("login_link_expired", "192.0.2.7")
    assert operating.refusals[-1] == ("sign_in_limited", "192.0.2.7")
    odd = attrs.evolve(STRANGER, via="unknown")
    with pytest.raises(LoginLinkExpired):
        result_of(operating.sign_in.preview(models.SignInToken("x"), odd))
    assert result_of(operating.sign_in.sign_in(body, page_post(), STRANGER))
    assert len(operating.refusals) == 12


def test_what_is_not_on_record_did_not_happen(operating: Operating) -> None:
    """Without its row in the audit log there is no session and no cookie."""
    operating.sign_in._record = lambda entries: fail(DiskFull("/"))
    request = page_post()
    with pytest.raises(DiskFull):
        result_of(operating.sign_in.sign_in(token_of(operating), request, STRANGER))
    assert not request.cookies and len(operating.browser) == 0


def test_who_asks(operating: Operating) -> None:
    """Name and rights, as the gateway knows them."""
    operating.enrolled("bo", "approver")
    bo = operating.registry.by_id(operating.registry.resolve("bo").operator_id, "via")
    assert bo is not None
    answer = result_of(operating.sign_in.self(bo)).caller
    assert (answer.name, answer.role, answer.rights) == ("bo", "approver", ["read", "decide"])


def test_signing_out(operating: Operating) -> None:
    """The session is over, its cookie is taken away, its streams end; again: nothing."""
    _, secret = signed_in(operating)
    session = operating.browser.find(secret, operating.now_ms)
    assert session is not None
    by = attrs.evolve(ANA, session=session.name)
    request: Any = WebRequest("POST")
    result_of(operating.sign_in.sign_out(request, by))
    assert operating.browser.find(secret, operating.now_ms) is None
    assert request.cookies[0][2]["max_age"] == b"0"
    assert operating.hung_up(by)
    result_of(operating.sign_in.sign_out(request, ANA))
    assert not operating.ended
    assert operating.told()[-1] == "ana session.signed_out ana"


def test_streams_end_with_what_let_them_in(operating: Operating) -> None:
    """With a session that was idle for too long, and with a certificate that ran out."""
    _, secret = signed_in(operating)
    session = operating.browser.find(secret, operating.now_ms)
    assert session is not None
    page = attrs.evolve(ANA, session=session.name)
    bo = operating.registry.by_certificate(operating.enrolled().certificate, "via")
    operating.sign_in.tick()
    assert not any(of(each) for of in operating.ended for each in (page, bo, ANA))
    operating.passes(1_800_000)
    operating.sign_in.tick()
    assert not operating.ended[-1](bo)
    assert operating.hung_up(page)
    operating.passes(30 * DAY_MS)
    operating.sign_in.tick()
    assert not operating.ended[-1](ANA)
    assert operating.hung_up(bo)


def test_connections_end_with_what_let_them_in(operating: Operating) -> None:
    """With an operator who was revoked, a session that ended, a certificate that ran out; a
    stranger's may stay."""
    bo = operating.registry.by_certificate(operating.enrolled().certificate, "via")
    _, secret = signed_in(operating)
    session = operating.browser.find(secret, operating.now_ms)
    assert session is not None
    page = attrs.evolve(ANA, session=session.name)
    operating.sign_in.tick()
    assert not any(operating.dropped[-1](each) for each in (bo, page, ANA, STRANGER))
    result_of(operating.control.revoke("bo", models.RevokeOperator(), ANA))
    operating.browser.end(session.name)
    operating.sign_in.tick()
    assert [operating.dropped[-1](each) for each in (bo, page, ANA, STRANGER)] == [
        True,
        True,
        False,
        False,
    ]


def test_streams_end_with_a_session_that_nobody_saw_end(operating: Operating) -> None:
    """A late request forgets a session before the clock does, and so does one session too many."""
    late, pushed_out = (operating.browser.open("local:1000", operating.now_ms) for _ in range(2))
    for _ in range(MAX_OF_OPERATOR):
        operating.browser.open("local:1000", operating.now_ms)
    operating.passes(1_800_000)
    assert operating.browser.find(late.secret, operating.now_ms) is None
    operating.sign_in.tick()
    (ended,) = operating.ended
    for each in (late, pushed_out):
        assert ended(attrs.evolve(ANA, session=each.session.name))
