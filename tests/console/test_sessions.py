"""Tests of :mod:`palyra.console.sessions`."""

from __future__ import annotations

import os

import pytest
from twisted.web.server import Request
from twisted.web.test.requesthelper import DummyChannel

from palyra.console import sessions
from palyra.console.sessions import (
    CSRF_HEADER,
    MAX_OF_OPERATOR,
    BrowserSessions,
    check_csrf,
    check_origin,
    cookie_name,
    cookie_of,
    has_cookie,
    own_origin,
)
from palyra.errors import CsrfRefused, MediaTypeRefused, OriginRefused
from tests.console.browser import WebRequest, page_post

JSON = "application/json"
MIN = 60_000


@pytest.fixture
def browser() -> BrowserSessions:
    return BrowserSessions(os.urandom)


# -- how long they live ------------------------------------------------------------------------


def test_a_session_is_found_by_its_secret(browser: BrowserSessions) -> None:
    """By nothing else; what is kept and shown is neither secret."""
    opened = browser.open("bo", 0)
    assert browser.find(opened.secret, 1) is opened.session
    assert browser.find(opened.session.name, 1) is None
    assert browser.find("", 1) is None
    assert len(opened.secret) == 43 and len(opened.csrf_token) == 22
    for shown in (repr(opened), repr(opened.session)):
        assert opened.secret not in shown and opened.csrf_token not in shown


def test_an_idle_session_ends(browser: BrowserSessions) -> None:
    """After 30 minutes without a request; each request begins them anew."""
    opened = browser.open("bo", 0)
    assert browser.find(opened.secret, 29 * MIN)
    assert browser.find(opened.secret, 58 * MIN)
    assert browser.find(opened.secret, 88 * MIN) is None
    assert browser.find(opened.secret, 58 * MIN) is None


def test_a_session_ends_after_twelve_hours(browser: BrowserSessions) -> None:
    """However much it is used."""
    opened = browser.open("bo", 0)
    for minutes in range(0, 720, 20):
        assert browser.find(opened.secret, minutes * MIN)
    assert browser.find(opened.secret, 720 * MIN) is None


def test_what_is_over_is_told_once(browser: BrowserSessions) -> None:
    """Its streams are ended by that."""
    old, new = browser.open("bo", 0), browser.open("bo", 20 * MIN)
    assert browser.take_expired(31 * MIN) == {old.session.name}
    assert browser.take_expired(31 * MIN) == frozenset()
    assert browser.find(new.secret, 31 * MIN)


def test_sessions_of_an_operator_end_together(browser: BrowserSessions) -> None:
    """And nobody else's."""
    bo, bo_too, cy = (browser.open(who, 0) for who in ("bo", "bo", "cy"))
    assert browser.count("bo") == 2
    browser.end_of("bo")
    assert browser.count("bo") == 0
    assert browser.find(bo.secret, 1) is None and browser.find(bo_too.secret, 1) is None
    assert browser.find(cy.secret, 1)
    browser.end(cy.session.name)
    browser.end(cy.session.name)
    assert len(browser) == 0


def test_their_number_is_bounded(browser: BrowserSessions, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one operator and of all; the one idle longest goes."""
    first = browser.open("bo", 0)
    for at in range(MAX_OF_OPERATOR):
        browser.open("bo", at)
    assert browser.count("bo") == MAX_OF_OPERATOR
    assert browser.find(first.secret, 1) is None
    monkeypatch.setattr(sessions, "MAX_SESSIONS", MAX_OF_OPERATOR)
    browser.open("cy", 5)
    assert len(browser) == MAX_OF_OPERATOR


# -- the cookie --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("secure", "host", "name"),
    [
        (True, "atlas:7142", "palyra_console_session"),
        (True, "[::1]:7142", "palyra_console_session"),
        (False, "localhost:7142", "palyra_console_session_http_7142"),
        (True, "atlas", "palyra_console_session_https_443"),
        (False, "127.0.0.1:7150", "palyra_console_session_http_7150"),
        (True, "atlas:x", "palyra_console_session_https_0"),
    ],
)
def test_its_name_says_where(secure: bool, host: str, name: str) -> None:
    """Cookies know no port: two gateways on one machine do not sign each other out."""
    assert cookie_name(WebRequest(secure=secure, host=host)) == name


def test_it_is_read_among_others() -> None:
    """One that is there twice is as none."""
    request = WebRequest(cookie="a=b; palyra_console_session=secret; c=d")
    assert cookie_of(request) == "secret" and has_cookie(request)
    assert cookie_of(request.says("cookie", "palyra_console_session=other")) is None
    assert has_cookie(request)
    other = WebRequest(cookie="palyra_console_session_http_7142=secret")
    assert cookie_of(other) is None and not has_cookie(other)


@pytest.mark.parametrize("secure", [True, False])
def test_how_it_is_set(secure: bool) -> None:
    """Not for scripts, not for other sites, on every path; over TLS for TLS only."""
    request = WebRequest(secure=secure)
    sessions.set_cookie(request, "secret")
    sessions.clear_cookie(request)
    (_, value, more), (_, none, over) = request.cookies
    assert (value, none) == (b"secret", b"")
    assert more == {"path": b"/", "secure": secure, "httpOnly": True, "sameSite": b"strict"}
    assert over["max_age"] == b"0"


def test_twisted_writes_it() -> None:
    """The header as browsers read it."""
    request = Request(DummyChannel(), False)
    request.requestHeaders.setRawHeaders(b"host", [b"localhost:7142"])
    sessions.set_cookie(request, "secret")
    assert request.cookies == [
        b"palyra_console_session_http_7142=secret; Path=/; HttpOnly; SameSite=strict"
    ]


# -- forged requests ---------------------------------------------------------------------------


def test_a_cookie_needs_its_token(browser: BrowserSessions) -> None:
    """Its own, once, in the header."""
    opened, other = browser.open("bo", 0), browser.open("bo", 0)
    check_csrf(WebRequest().says(CSRF_HEADER, opened.csrf_token), opened.session)
    for request in (
        WebRequest(),
        WebRequest().says(CSRF_HEADER, ""),
        WebRequest().says(CSRF_HEADER, other.csrf_token),
        WebRequest().says(CSRF_HEADER, opened.csrf_token).says(CSRF_HEADER, opened.csrf_token),
        WebRequest().says(CSRF_HEADER, "\xff" * 22),
    ):
        with pytest.raises(CsrfRefused):
            check_csrf(request, opened.session)


@pytest.mark.parametrize("site", ["same-origin", "none"])
def test_reads_of_the_page_itself(site: str) -> None:
    """And of programs, which say nothing of it."""
    check_origin(WebRequest(sec_fetch_site=site))
    check_origin(WebRequest())
    check_origin(WebRequest("HEAD"))


@pytest.mark.parametrize("site", ["cross-site", "same-site", "", "none, none"])
def test_reads_for_other_sites(site: str) -> None:
    """Also those of the same site: another port of localhost is one."""
    with pytest.raises(OriginRefused):
        check_origin(WebRequest(sec_fetch_site=site))


def test_writes_of_the_page_itself() -> None:
    """They name the page's origin and say that they are JSON."""
    check_origin(page_post(), named=True)
    check_origin(page_post(sec_fetch_site="same-origin"), named=True)
    check_origin(WebRequest("POST", content_type="application/json; charset=utf-8"))


@pytest.mark.parametrize(
    "origin",
    ["https://atlas", "http://atlas:7142", "https://evil.example", "null", "https://atlas:7142/"],
)
def test_writes_of_other_origins(origin: str) -> None:
    """Scheme, host and port are all of it."""
    with pytest.raises(OriginRefused):
        check_origin(WebRequest("POST", origin=origin, content_type=JSON))


def test_a_page_names_its_origin() -> None:
    """Where only a page can ask, silence is no answer."""
    with pytest.raises(OriginRefused):
        check_origin(WebRequest("POST", content_type=JSON), named=True)
    twice = page_post().says("origin", "https://atlas:7142")
    with pytest.raises(OriginRefused):
        check_origin(twice, named=True)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", None])
def test_forms_are_refused(kind: str | None) -> None:
    """Another site's form cannot say that it is JSON."""
    request = WebRequest("POST", origin="https://atlas:7142")
    with pytest.raises(MediaTypeRefused):
        check_origin(request if kind is None else request.says("content-type", kind))


def test_the_origin_of_a_request() -> None:
    """By scheme and Host; a name is written in any case."""
    assert own_origin(WebRequest(host="Atlas:7142")) == b"https://atlas:7142"
    assert own_origin(WebRequest(secure=False, host="localhost")) == b"http://localhost"
