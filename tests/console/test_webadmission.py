"""Tests of :mod:`palyra.console.webadmission`, over the registry that it asks."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from zope.interface.verify import verifyObject

from palyra.console import models
from palyra.console.admission import IAdmission
from palyra.console.routes import ROUTES
from palyra.console.webadmission import source
from palyra.core.operators import Role
from palyra.errors import (
    CsrfRefused,
    OperatorCertificateRefused,
    OriginRefused,
    PalyraError,
    SignInRequired,
    TwoCredentials,
)
from palyra.pki.authority import DAY_MS
from tests.console.browser import WebRequest, page_post
from tests.gateway.house import result_of
from tests.gateway.operating import ANA, Operating
from tests.store.samples import ulid

JSON = "application/json"
LIST = next(route for route in ROUTES if route.name == "list_operators")
INVITE = next(route for route in ROUTES if route.name == "invite_operator")
LOGIN = next(route for route in ROUTES if route.name == "sign_in")
ENROL = next(route for route in ROUTES if route.name == "enrol_operator")


@pytest.fixture
def operating() -> Operating:
    return Operating()


def refused(operating: Operating, request: Any, route: Any = LIST) -> PalyraError:
    with pytest.raises(PalyraError) as raised:
        operating.admission.admit(request, route)
    assert operating.refusals.pop() == (raised.value.code, "192.0.2.7")
    return raised.value


def test_it_provides_the_interface(operating: Operating) -> None:
    """What ConsoleApp asks."""
    assert verifyObject(IAdmission, operating.admission)


def test_a_second_look_is_quiet(operating: Operating) -> None:
    """Whoever was admitted and may not hear the answer any more was not turned away twice."""
    with pytest.raises(SignInRequired):
        operating.admission.admit(WebRequest(), LIST, again=True)
    assert not operating.refusals


def test_who_is_known(operating: Operating) -> None:
    """By a live certificate or an open session, which is not used by that; nothing is counted."""
    knows = operating.admission.knows
    bo = operating.enrolled()
    opened = operating.browser.open("local:1000", operating.now_ms)
    assert knows(WebRequest(certificate=bo.certificate))
    assert knows(page_post().signed_in(opened))
    assert not knows(page_post())
    result_of(operating.control.revoke("bo", models.RevokeOperator(), ANA))
    assert not knows(WebRequest(certificate=bo.certificate))
    assert not knows(WebRequest(certificate=bo.certificate).signed_in(opened))
    operating.passes(1_799_999)
    assert knows(page_post().signed_in(opened))
    operating.passes(1)
    assert not knows(page_post().signed_in(opened))
    assert not operating.refusals


# -- certificates ------------------------------------------------------------------------------


def test_a_certificate_speaks_for_its_operator(operating: Operating) -> None:
    """With the role that the store says, not the certificate."""
    bo = operating.enrolled()
    caller = operating.admission.admit(WebRequest(certificate=bo.certificate), LIST)
    assert (caller.name, caller.role, caller.via) == ("bo", Role.OPERATOR, "192.0.2.7")
    assert caller.until_ms == operating.now_ms + 30 * DAY_MS and not caller.session
    operating.begin()
    again = operating.admission.admit(WebRequest(certificate=bo.certificate), LIST)
    assert again == caller


def test_dates_count_at_every_request(operating: Operating) -> None:
    """A connection that is kept open keeps nobody in."""
    bo = operating.enrolled()
    request = WebRequest(certificate=bo.certificate)
    operating.passes(30 * DAY_MS)
    assert operating.admission.admit(request, LIST)
    operating.passes(1)
    error = refused(operating, request)
    assert isinstance(error, OperatorCertificateRefused) and error.reason == "expired"


def test_a_revoked_operator_is_out_at_once(operating: Operating) -> None:
    """Whatever was cached."""
    bo = operating.enrolled()
    request = WebRequest(certificate=bo.certificate)
    operating.admission.admit(request, LIST)
    result_of(operating.control.revoke("bo", models.RevokeOperator(), ANA))
    error = refused(operating, request)
    assert isinstance(error, OperatorCertificateRefused) and error.reason == "revoked"


def test_certificates_of_others(operating: Operating) -> None:
    """Of a device, of another CA, and of an operator that was never recorded."""
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    ours, foreign = operating.cas.issuing, operating.cas.another()
    for issued, reason in (
        (ours.issue_device(key, ulid("d"), operating.now_ms), "wrong_role"),
        (foreign.issue_operator(key, ulid("o"), operating.now_ms), "foreign_ca"),
        (ours.issue_operator(key, ulid("o"), operating.now_ms), "certificate_unknown"),
        (ours.issue_gateway(key, ulid("g"), [], operating.now_ms), "wrong_role"),
    ):
        certificate = x509.load_der_x509_certificate(issued.der)
        for _ in range(2):
            error = refused(operating, WebRequest(certificate=certificate))
            assert isinstance(error, OperatorCertificateRefused) and error.reason == reason


def test_a_ca_that_is_dropped_takes_its_certificates_with_it(operating: Operating) -> None:
    """And while two are trusted, those of both are taken."""
    bo = operating.enrolled()
    request = WebRequest(certificate=bo.certificate)
    assert operating.admission.admit(request, LIST) and not request.answer
    operating.cas.authorities.insert(0, operating.cas.another())
    assert operating.admission.admit(request, LIST)
    assert request.answer == {"x-palyra-renew": "due"}
    operating.cas.authorities.pop()
    error = refused(operating, request)
    assert isinstance(error, OperatorCertificateRefused) and error.reason == "foreign_ca"


def test_renewal_is_asked_for_in_time(operating: Operating) -> None:
    """From a third of the certificate's life on."""
    request = WebRequest(certificate=operating.enrolled().certificate)
    operating.passes(20 * DAY_MS - 1)
    operating.admission.admit(request, LIST)
    assert not request.answer
    operating.passes(1)
    operating.admission.admit(request, LIST)
    assert request.answer == {"x-palyra-renew": "due"}


def test_an_invalid_certificate_has_no_fallback(operating: Operating) -> None:
    """Neither a cookie nor a route that takes strangers helps."""
    bo = operating.enrolled()
    opened = operating.browser.open("local:1000", operating.now_ms)
    operating.passes(31 * DAY_MS)
    request = WebRequest(certificate=bo.certificate).signed_in(opened)
    assert isinstance(refused(operating, request), OperatorCertificateRefused)
    login = page_post()
    login.transport = request.transport
    assert isinstance(refused(operating, login, LOGIN), OperatorCertificateRefused)


def test_two_credentials_are_one_too_many(operating: Operating) -> None:
    """Whose request it is must not depend on an order."""
    bo = operating.enrolled()
    opened = operating.browser.open("local:1000", operating.now_ms)
    request = WebRequest(certificate=bo.certificate).signed_in(opened)
    assert isinstance(refused(operating, request), TwoCredentials)


def test_a_browser_with_a_certificate_is_not_forged(operating: Operating) -> None:
    """It sends the certificate along for any site's page."""
    bo = operating.enrolled()
    for request in (
        WebRequest("POST", certificate=bo.certificate, origin="https://evil", content_type=JSON),
        WebRequest(certificate=bo.certificate, sec_fetch_site="cross-site"),
    ):
        assert isinstance(refused(operating, request, INVITE), OriginRefused)
    program = WebRequest("POST", certificate=bo.certificate, content_type=JSON)
    assert operating.admission.admit(program, INVITE).name == "bo"


# -- browser sessions --------------------------------------------------------------------------


def test_a_session_is_its_operator(operating: Operating) -> None:
    """With the role of now; local accounts are admins."""
    operating.enrolled()
    operator = operating.registry.resolve("bo")
    opened = operating.browser.open(operator.operator_id, operating.now_ms)
    caller = operating.admission.admit(WebRequest().signed_in(opened), LIST)
    assert (caller.name, caller.session) == ("bo", opened.session.name)
    result_of(operating.control.change_role("bo", models.ChangeRole("viewer"), ANA))
    assert operating.admission.admit(WebRequest().signed_in(opened), LIST).role is Role.VIEWER
    root = operating.browser.open("local:1000", operating.now_ms)
    local = operating.admission.admit(WebRequest().signed_in(root), LIST)
    assert (local.name, local.role) == ("ana", Role.ADMIN)


def test_a_session_needs_its_token_on_reads_too(operating: Operating) -> None:
    """Another program's page on another port of localhost gets the cookie sent."""
    opened = operating.browser.open("local:1000", operating.now_ms)
    request = WebRequest(cookie=f"palyra_console_session={opened.secret}")
    assert isinstance(refused(operating, request), CsrfRefused)


def test_nobody_is_signed_in(operating: Operating) -> None:
    """Without a cookie, with an unknown one, and with one that is over."""
    opened = operating.browser.open("local:1000", operating.now_ms)
    assert isinstance(refused(operating, WebRequest()), SignInRequired)
    unknown = WebRequest(cookie="palyra_console_session=" + "A" * 43)
    assert isinstance(refused(operating, unknown), SignInRequired)
    operating.passes(31 * 60_000)
    assert isinstance(refused(operating, WebRequest().signed_in(opened)), SignInRequired)


def test_a_session_of_somebody_who_is_gone(operating: Operating) -> None:
    """It is none, even where it was not ended."""
    operating.enrolled()
    operator = operating.registry.resolve("bo")
    result_of(operating.control.revoke("bo", models.RevokeOperator(), ANA))
    opened = operating.browser.open(operator.operator_id, operating.now_ms)
    assert isinstance(refused(operating, WebRequest().signed_in(opened)), SignInRequired)


def test_writes_of_a_session_name_their_origin(operating: Operating) -> None:
    """The page's own."""
    opened = operating.browser.open("local:1000", operating.now_ms)
    assert operating.admission.admit(page_post().signed_in(opened), INVITE)
    silent = WebRequest("POST", content_type=JSON).signed_in(opened)
    assert isinstance(refused(operating, silent, INVITE), OriginRefused)


# -- strangers ---------------------------------------------------------------------------------


def test_strangers_may_sign_in_from_the_page(operating: Operating) -> None:
    """An old cookie is not in their way; another site's page is refused."""
    request = page_post(cookie="palyra_console_session=old")
    caller = operating.admission.admit(request, LOGIN)
    assert (caller.role, caller.via) == (None, "192.0.2.7")
    other = WebRequest("POST", origin="https://evil", content_type=JSON)
    assert isinstance(refused(operating, other, LOGIN), OriginRefused)
    silent = WebRequest("POST", content_type=JSON)
    assert isinstance(refused(operating, silent, LOGIN), OriginRefused)
    assert operating.admission.admit(silent, ENROL).role is None


def test_where_a_request_comes_from() -> None:
    """An IPv4 address has one spelling."""
    assert source(WebRequest(source="::ffff:192.0.2.7")) == "192.0.2.7"
    assert source(WebRequest(source="fe80::1%eth0")) == "fe80::1"
    assert source(WebRequest(source="")) == "unknown"
