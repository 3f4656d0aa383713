"""URL prefixes: below is below, however it is written; what could be two URLs is none."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra.core.urlprefix import Url, is_url


def below(prefix: str, text: str) -> bool | None:
    """Whether the text lies below the prefix; None where it is no URL to be compared."""
    wanted, found = Url.parse(prefix), Url.parse(text)
    assert wanted is not None
    return None if found is None else wanted.begins(found)


@pytest.mark.parametrize(
    ("prefix", "text", "expected"),
    [
        ("https://example.org", "https://example.org", True),
        ("https://example.org/", "https://example.org", True),
        ("https://example.org", "https://example.org/a/b?c#d", True),
        ("https://example.org", "HTTPS://EXAMPLE.ORG:443/a", True),
        ("https://example.org", "https://example.org:/a", True),
        ("https://example.org", "https://example.org:0443/a", True),
        ("https://example.org", "https://example.org:8443/a", False),
        ("https://example.org:8443", "https://example.org:8443/a", True),
        ("https://example.org", "http://example.org/", False),
        ("https://example.org", "https://example.org.evil.net/", False),
        ("https://example.org", "https://www.example.org/", False),
        ("https://example.org", "https://example.or/", False),
        ("https://example.org/a", "https://example.org/a", True),
        ("https://example.org/a", "https://example.org/a/", True),
        ("https://example.org/a", "https://example.org/a/b", True),
        ("https://example.org/a", "https://example.org/a?b", True),
        ("https://example.org/a", "https://example.org/ab", False),
        ("https://example.org/a", "https://example.org/A", False),
        ("https://example.org/a", "https://example.org/", False),
        ("https://example.org/a/", "https://example.org/a/", True),
        ("https://example.org/a/", "https://example.org/a/b", True),
        ("https://example.org/a/", "https://example.org/a", False),
        ("https://example.org/a/b", "https://example.org/a/c", False),
        ("https://example.org/%C3%A9", "https://example.org/é/x", True),
        ("https://example.org/%c3%a9", "https://example.org/%C3%A9", True),
        ("https://example.org/a%20b", "https://example.org/a%20b/c", True),
        ("https://xn--bcher-kva.example", "https://XN--BCHER-kva.example/", True),
        ("http://127.0.0.1", "http://127.0.0.1:80/", True),
        ("http://[::1]:7142", "http://[0:0:0:0:0:0:0:1]:7142/", True),
        ("http://[::1]", "http://[::2]/", False),
        ("file:///home/anna", "file:///home/anna/x", True),
        ("file:///home/anna", "file://localhost/home/anna/x", True),
        ("file:///home/anna", "file:///etc/passwd", False),
        ("app://host", "app://host/x", True),
    ],
)
def test_origin_and_path(prefix: str, text: str, expected: bool) -> None:
    """Scheme, host and port are the same, and the path goes on at the border of a segment."""
    assert below(prefix, text) is expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "/a/b",
        "//example.org/",
        "mailto:anna@example.org",
        "https:example.org",
        "https:/example.org",
        "https:///example.org",
        "https://",
        " https://example.org/",
        "https://example.org/ ",
        "https://example.org/a b",
        "ht\ttps://example.org/",
        "https://example.org/\n",
        "https://example.org/\u200b",
        "https://example.org/\u202ex",
        "https://example.org/\ud800",
        "https://anna@example.org/",
        "https://example.org@evil.net/",
        "https://example.org:443@evil.net/",
        "https://:secret@example.org/",
        "https:\\\\example.org/",
        "https://example.org\\@evil.net/",
        "https://example.org/a\\b",
        "https://example.org:port/",
        "https://example.org:65536/",
        "https://example.org:123456/",
        "https://example.org:４４３/",
        "https://example.org./",
        "https://.example.org/",
        "https://example..org/",
        "https://exam%70le.org/",
        "https://bücher.example/",
        "https://ｅxample.org/",
        "https://example。org/",
        "https://exa$mple.org/",
        "https://" + "a" * 64 + ".org/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0x7f.0.0.1/",
        "http://127.1/",
        "http://0177.0.0.1/",
        "http://127.0.0.1./",
        "http://1.2.3.4.5/",
        "http://a.0x/",
        "http://[::1/",
        "http://[::1]x/",
        "http://[::g]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::FFFF:7f00:1]/",
        "http://[fe80::1%25eth0]/",
        "http://[1.2.3.4]/",
        "file://server/share",
        "https://example.org/..",
        "https://example.org/.",
        "https://example.org/a/../b",
        "https://example.org/a/./b",
        "https://example.org/a//b",
        "https://example.org//",
        "https://example.org//a",
        "https://example.org/a;b=c/d",
        "https://example.org/%2e%2e/b",
        "https://example.org/.%2E/b",
        "https://example.org/a%2fb",
        "https://example.org/a%5Cb",
        "https://example.org/a%252fb",
        "https://example.org/%61dmin",
        "https://example.org/a%3Bb",
        "https://example.org/a%00",
        "https://example.org/a%0d%0a",
        "https://example.org/a%7f",
        "https://example.org/a%",
        "https://example.org/a%2",
        "https://example.org/a%zz",
        "https://example.org/a%-1",
        "https://example.org/a%1é",
    ],
)
def test_what_could_be_read_in_two_ways_is_no_url(text: str) -> None:
    """Tricks are not resolved: two programs would resolve them in two ways."""
    assert Url.parse(text) is None


def test_what_is_meant_as_a_url() -> None:
    """A scheme and two slashes; other prefixes are of any text."""
    assert is_url("https://x") and is_url("https://")
    assert not is_url("https:") and not is_url("/home/") and not is_url("://x")


@given(st.text(max_size=40).map("https://example.org/a".__add__))
@settings(max_examples=100)
def test_nothing_outside_is_below(text: str) -> None:
    """What is below a path has the path in front, letter by letter."""
    if below("https://example.org/a", text):
        rest = text.removeprefix("https://example.org/a")
        assert rest == "" or rest[0] in "/?#"
