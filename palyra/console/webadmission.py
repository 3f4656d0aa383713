"""Who a request over HTTPS comes from: a client certificate or a browser session, never both
(ACCESS: Console access, 8)."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any, Protocol

from cryptography import x509
from twisted.web.iweb import IRequest
from zope.interface import implementer

from palyra.console import sessions
from palyra.console.admission import IAdmission
from palyra.console.routing import Route
from palyra.console.sessions import BrowserSessions
from palyra.core.operators import Caller
from palyra.errors import PalyraError, SignInRequired, TwoCredentials

RENEW_HEADER = "x-palyra-renew"
"""Set on answers over a certificate whose successor should be asked for."""
NAMED_ORIGIN = frozenset({"sign_in", "preview_sign_in"})
"""Only a page asks for these, and a page names its origin."""


class Registry(Protocol):
    """Who the operators are (:class:`palyra.gateway.operators.OperatorRegistry`)."""

    def by_certificate(self, certificate: x509.Certificate, via: str) -> Caller:
        """The operator a certificate speaks for now.

        :raises palyra.errors.OperatorCertificateRefused: nobody, or not any more.
        """

    def by_id(self, operator_id: str, via: str, session: str) -> Caller | None:
        """An operator as a caller; None: they are not active."""

    def renewal_due(self, certificate: x509.Certificate) -> bool:
        """Whether the holder should ask for another certificate."""


@implementer(IAdmission)
class WebAdmission:
    """Admits requests of a listener that other machines may reach.

    The listener has checked ``Host`` before.  ``refused`` is told the code of every refusal and
    where the request came from.
    """

    def __init__(
        self,
        registry: Registry,
        browser: BrowserSessions,
        *,
        elapsed_ms: Callable[[], int],
        refused: Callable[[str, str], object] = lambda reason, via: None,
    ) -> None:
        self._registry = registry
        self._browser = browser
        self._elapsed_ms = elapsed_ms
        self._refused = refused

    def knows(self, request: IRequest) -> bool:
        """As IAdmission says: a live certificate, else the cookie of an open session."""
        certificate = certificate_of(request)
        if certificate is None:
            secret = sessions.cookie_of(request)
            return secret is not None and self._browser.knows(secret, self._elapsed_ms())
        try:
            self._registry.by_certificate(certificate, source(request))
        except PalyraError:
            return False
        return True

    def admit(self, request: IRequest, route: Route, *, again: bool = False) -> Caller:
        """The caller, as IAdmission says; a cookie is not looked at where nobody must be signed
        in: an old one must not be in the way of signing in."""
        via = source(request)
        try:
            return self._admit(request, route, via)
        except PalyraError as error:
            if not again:
                self._refused(error.code, via)
            raise

    def _admit(self, request: Any, route: Route, via: str) -> Caller:
        certificate = certificate_of(request)
        known = None if certificate is None else self._certified(request, certificate, via)
        if route.right is None:
            sessions.check_origin(request, named=route.name in NAMED_ORIGIN)
            return Caller("", "", None, via)
        if known is None:
            return self._signed_in(request, via)
        if sessions.has_cookie(request):
            raise TwoCredentials()
        # A browser sends an installed certificate along for every site's page.
        sessions.check_origin(request)
        return known

    def _certified(self, request: Any, certificate: x509.Certificate, via: str) -> Caller:
        caller = self._registry.by_certificate(certificate, via)
        if self._registry.renewal_due(certificate):
            request.setHeader(RENEW_HEADER.encode(), b"due")
        return caller

    def _signed_in(self, request: Any, via: str) -> Caller:
        secret = sessions.cookie_of(request)
        session = None if secret is None else self._browser.find(secret, self._elapsed_ms())
        if session is None:
            raise SignInRequired()
        sessions.check_csrf(request, session)
        sessions.check_origin(request, named=True)
        caller = self._registry.by_id(session.operator_id, via, session.name)
        if caller is None:
            raise SignInRequired()
        return caller


def certificate_of(request: Any) -> x509.Certificate | None:
    """The client certificate of the connection, which TLS has verified or we shall."""
    ask = getattr(request.transport, "getPeerCertificate", None)
    shown = None if ask is None else ask()
    return None if shown is None else shown.to_cryptography()


def source(request: Any) -> str:
    """The address a request comes from, in its one spelling; ``unknown`` where it has none."""
    host = getattr(request.getClientAddress(), "host", "")
    try:
        address = ipaddress.ip_address(str(host).partition("%")[0])
    except ValueError:
        return "unknown"
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)
