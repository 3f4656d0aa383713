"""What a yes that outlives its call is for."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra.core.calldigest import exact_input
from palyra.core.consents import EXACTLY, Scope, scope_of
from palyra.core.urlprefix import Url


def scope(data: bytes, risk: str = "medium", opens: str = "") -> Scope:
    return scope_of(exact_input(data), risk=risk, opens=opens)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://example.org", "https://example.org"),
        ("HTTPS://Example.org:443/a/b?c#d", "https://example.org"),
        ("http://example.org:8080/", "http://example.org:8080"),
        ("https://[2001:db8::1]:8443/x", "https://[2001:db8::1]:8443"),
    ],
)
def test_a_web_address_is_for_its_origin(url: str, origin: str) -> None:
    """Scheme, host and port, in one spelling, under the name that the address has."""
    found = scope(b'{"url":"%s"}' % url.encode())
    assert found == Scope(f"origin {origin} url", origin) and not found.exact
    assert scope(b'{"upload_to":"%s"}' % url.encode()) != found


@pytest.mark.parametrize(
    "data",
    [
        b"{}",
        b'"https://example.org/"',
        b'["https://example.org/"]',
        b'{"url":1}',
        b'{"url":"example.org"}',
        b'{"url":"ftp://example.org/"}',
        b'{"url":"https:///x"}',
        b'{"url":"https://ana@example.org/"}',
        b'{"url":"https://ex\xd0\xb0mple.org/"}',
        b'{"url":"https://example.org/","to":"/etc"}',
        b'{"url":"https://%s/"}' % b".".join([b"a" * 60] * 10),
        b'{"%s":"https://example.org/"}' % (b"u" * 200),
    ],
)
def test_the_rest_is_for_exactly_that(data: bytes) -> None:
    """Anything beside the address, or about it, could matter."""
    found = scope(data)
    assert found.shown == EXACTLY and found.exact
    assert found == scope(b" " + data)
    assert found != scope(b'{"url":"https://example.org/other","to":"/etc"}')


def test_high_risk_is_for_exactly_that() -> None:
    """Whatever the input is."""
    assert scope(b'{"url":"https://example.org/"}', "high").exact


def test_what_it_opens_is_part_of_it() -> None:
    """A link that leads elsewhere is another scope."""
    data = b'{"path":"/tmp/link"}'
    assert scope(data, opens="/a") == scope(data, opens="/a") != scope(data, opens="/b")


@given(st.text(max_size=40))
@settings(max_examples=100)
def test_an_origin_is_of_its_page(text: str) -> None:
    """What is shown is a URL that the page lies below, to every reader."""
    page = f"https://{text}"
    found = scope_of(exact_input(b"{}").__class__({"url": page}, b"{}"), risk="low")
    if not found.exact:
        origin, url = Url.parse(found.shown), Url.parse(page)
        assert origin is not None and url is not None and origin.begins(url)
