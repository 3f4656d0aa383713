"""Answers that may be compressed and asked for conditionally (RFC 9110 sections 8.8.3 and 13.1.2).

None of them holds a secret: beside text that a stranger chose, compression tells it (BREACH).
"""

from __future__ import annotations

import gzip
import hashlib
from typing import Any

LEAST_TO_COMPRESS = 1_024
_LEVEL = 5


def etag_of(body: bytes) -> bytes:
    """A weak tag: the same for the compressed and the plain form."""
    return b'W/"%s"' % hashlib.sha256(body).hexdigest()[:24].encode()


def unchanged(request: Any, etag: bytes) -> bool:
    """Whether the caller has it already, which makes the answer a 304 without a body."""
    request.setHeader(b"etag", etag)
    request.setHeader(b"vary", b"accept-encoding")
    headers = request.requestHeaders.getRawHeaders(b"if-none-match") or []
    given = [tag.strip() for header in headers for tag in header.split(b",")]
    opaque = etag.removeprefix(b"W/")
    if b"*" not in given and opaque not in [tag.removeprefix(b"W/") for tag in given]:
        return False
    request.setResponseCode(304)
    request.responseHeaders.removeHeader(b"content-type")
    return True


def takes_gzip(request: Any) -> bool:
    """Whether the caller takes gzip (RFC 9110 section 12.5.3)."""
    for header in request.requestHeaders.getRawHeaders(b"accept-encoding") or []:
        for part in header.split(b","):
            coding, _, weight = part.partition(b";")
            refused = weight.replace(b" ", b"") in (b"q=0", b"q=0.0", b"q=0.00", b"q=0.000")
            if coding.strip().lower() in (b"gzip", b"x-gzip") and not refused:
                return True
    return False


def listed(request: Any, body: bytes) -> bytes:
    """The body of a long answer as it is sent; its headers are set."""
    if unchanged(request, etag_of(body)):
        return b""
    if len(body) >= LEAST_TO_COMPRESS and takes_gzip(request):
        request.setHeader(b"content-encoding", b"gzip")
        return whole(request, compressed(body, _LEVEL))
    return whole(request, body)


def whole(request: Any, body: bytes) -> bytes:
    """The body of an answer, whose length is told."""
    request.setHeader(b"content-length", b"%d" % len(body))
    return body


def compressed(body: bytes, level: int = 9) -> bytes:
    """As gzip, always the same bytes for the same body."""
    return gzip.compress(body, level, mtime=0)
