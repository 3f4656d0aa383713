"""Answers that are compressed and asked for conditionally."""

from __future__ import annotations

import gzip

import pytest
from twisted.web.http_headers import Headers

from palyra.console import answers

BODY = b"devices " * 500


class Asked:
    """As much of a request as is looked at, and what is set on it."""

    def __init__(self, **headers: str) -> None:
        pairs = {name.replace("_", "-"): [value] for name, value in headers.items()}
        self.requestHeaders = Headers(pairs)
        self.responseHeaders = Headers()
        self.code = 200

    def setHeader(self, name: bytes, value: bytes) -> None:
        self.responseHeaders.setRawHeaders(name, [value])

    def setResponseCode(self, code: int) -> None:
        self.code = code

    def said(self, name: bytes) -> bytes | None:
        values = self.responseHeaders.getRawHeaders(name)
        return values[0] if values else None


def test_the_same_tag_for_both_forms() -> None:
    """The tag is of what is said, not of how it is sent."""
    plain, zipped = Asked(), Asked(accept_encoding="gzip")
    assert answers.listed(plain, BODY) == BODY
    assert gzip.decompress(answers.listed(zipped, BODY)) == BODY
    assert plain.said(b"etag") == zipped.said(b"etag") == answers.etag_of(BODY)
    assert zipped.said(b"content-encoding") == b"gzip"
    assert plain.said(b"vary") == b"accept-encoding"
    assert answers.etag_of(BODY) != answers.etag_of(BODY + b"x")


@pytest.mark.parametrize("tags", ["*", "{tag}", '"a", {tag}', "{strong}", 'W/"a" , {tag}'])
def test_unchanged(tags: str) -> None:
    """Any of the tags that were sent, compared weakly, makes it a 304 without a body."""
    tag = answers.etag_of(BODY).decode()
    asked = Asked(if_none_match=tags.format(tag=tag, strong=tag.removeprefix("W/")))
    assert answers.listed(asked, BODY) == b""
    assert (asked.code, asked.said(b"content-length")) == (304, None)


@pytest.mark.parametrize("tags", ['"a"', "W/", "", 'W/"'])
def test_changed(tags: str) -> None:
    """Another tag gets the whole."""
    asked = Asked(if_none_match=tags)
    assert answers.listed(asked, BODY) == BODY
    assert asked.code == 200


@pytest.mark.parametrize(
    ("header", "takes"),
    [
        ("gzip", True),
        ("br, GZIP;q=0.5", True),
        ("x-gzip", True),
        ("gzip;q=0", False),
        ("gzip; q=0.00", False),
        ("identity", False),
        ("gzipped", False),
    ],
)
def test_who_takes_gzip(header: str, takes: bool) -> None:
    """Whoever names it and does not refuse it."""
    assert answers.takes_gzip(Asked(accept_encoding=header)) is takes


def test_short_answers_are_left_as_they_are() -> None:
    """Compressing them would gain nothing."""
    asked = Asked(accept_encoding="gzip")
    assert answers.listed(asked, b"[]") == b"[]"
    assert asked.said(b"content-encoding") is None
    assert asked.said(b"content-length") == b"2"
