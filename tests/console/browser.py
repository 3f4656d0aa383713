"""Requests as a browser or a program sends them, without a network."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from OpenSSL import crypto
from twisted.internet.address import IPv4Address
from twisted.web.http_headers import Headers

from palyra.console.sessions import CSRF_HEADER, Opened, cookie_name


class WebRequest:
    """As much of an IRequest as admission asks for."""

    def __init__(
        self,
        method: str = "GET",
        *,
        secure: bool = True,
        host: str = "atlas:7142",
        source: str = "192.0.2.7",
        certificate: Any = None,
        **headers: str,
    ) -> None:
        self.method = method.encode()
        self.secure = secure
        self.requestHeaders = Headers({b"host": [host.encode()]})
        self.answer: dict[str, str] = {}
        self.cookies: list[tuple[bytes, bytes, dict[str, Any]]] = []
        shown = None if certificate is None else crypto.X509.from_cryptography(certificate)
        self.transport = SimpleNamespace(getPeerCertificate=lambda: shown)
        self._source = source
        for name, value in headers.items():
            self.says(name.replace("_", "-"), value)

    def says(self, name: str, value: str) -> WebRequest:
        """With one more header."""
        self.requestHeaders.addRawHeader(name.encode(), value.encode())
        return self

    def signed_in(self, opened: Opened) -> WebRequest:
        """With the cookie and the token of a session."""
        self.says("cookie", f"theme=dark; {cookie_name(self)}={opened.secret}")
        return self.says(CSRF_HEADER, opened.csrf_token)

    def isSecure(self) -> bool:
        return self.secure

    def getClientAddress(self) -> IPv4Address:
        return IPv4Address("TCP", self._source, 4711)

    def setHeader(self, name: bytes, value: bytes) -> None:
        self.answer[name.decode()] = value.decode()

    def addCookie(self, key: bytes, value: bytes, **more: Any) -> None:
        self.cookies.append((key, value, more))


def page_post(**headers: Any) -> WebRequest:
    """What the console's own page posts."""
    return WebRequest(
        "POST", origin="https://atlas:7142", content_type="application/json", **headers
    )
