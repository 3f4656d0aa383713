"""Browser sessions: their cookie, their token against forgery, and which requests of a browser
are the page's own (ACCESS: Console access, 3 to 6).

Sessions are kept in memory alone, by SHA-256 of their secret: a restart signs everybody out.
Times are milliseconds of one clock that never runs backwards.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import attrs

from palyra.core.identifiers import Entropy
from palyra.core.pairing_uri import spell_token
from palyra.errors import CsrfRefused, MediaTypeRefused, OriginRefused

COOKIE = "palyra_console_session"
CSRF_HEADER = "x-palyra-csrf-token"
USUAL_PORT = 7142
IDLE_S = 1_800
WHOLE_S = 43_200
SECRET_BYTES = 32
CSRF_BYTES = 16
MAX_SESSIONS = 2_048
MAX_OF_OPERATOR = 16
MAX_COOKIES_BYTES = 8_192
_READS = frozenset({b"GET", b"HEAD"})
_OWN_SITE = frozenset({b"same-origin", b"none"})
_DEFAULT_PORTS = {"http": 80, "https": 443}


@attrs.define
class Session:
    """One browser session.  ``name`` is public; neither secret is kept, only its SHA-256."""

    name: str
    operator_id: str
    digest: bytes = attrs.field(repr=False)
    csrf_digest: bytes = attrs.field(repr=False)
    began_ms: int
    used_ms: int


@attrs.frozen
class Opened:
    """A session that has just begun, with what its browser gets, this once."""

    session: Session
    secret: str = attrs.field(repr=False)
    csrf_token: str = attrs.field(repr=False)


class BrowserSessions:
    """The sessions of this gateway.  Their number is bounded: the one idle longest goes first."""

    def __init__(self, entropy: Entropy, *, idle_s: int = IDLE_S, whole_s: int = WHOLE_S) -> None:
        self._entropy = entropy
        self.idle_s = idle_s
        self.whole_s = whole_s
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    def open(self, operator_id: str, now_ms: int) -> Opened:
        """Begin a session of an operator."""
        secret = spell_token(self._entropy(SECRET_BYTES))
        csrf_token = spell_token(self._entropy(CSRF_BYTES))
        digest = _digest(secret)
        session = Session(
            digest.hex()[:16], operator_id, digest, _digest(csrf_token), now_ms, now_ms
        )
        self._make_room(operator_id)
        self._sessions[digest] = session
        return Opened(session, secret, csrf_token)

    def find(self, secret: str, now_ms: int) -> Session | None:
        """The session of a cookie, which counts as used by it; None: there is none, or it is over.

        Looked up by digest: what time it takes says nothing of a secret.
        """
        digest = _digest(secret)
        session = self._sessions.get(digest)
        if session is None:
            return None
        if self._is_over(session, now_ms):
            del self._sessions[digest]
            return None
        session.used_ms = now_ms
        self._sessions.move_to_end(digest)
        return session

    def knows(self, secret: str, now_ms: int) -> bool:
        """Whether a cookie's session is open; it does not count as used by that."""
        session = self._sessions.get(_digest(secret))
        return session is not None and not self._is_over(session, now_ms)

    def end(self, name: str) -> None:
        """End a session by its public name; again: nothing."""
        for session in [each for each in self._sessions.values() if each.name == name]:
            del self._sessions[session.digest]

    def end_of(self, operator_id: str) -> None:
        """End every session of an operator."""
        for session in self._of(operator_id):
            del self._sessions[session.digest]

    def count(self, operator_id: str) -> int:
        """How many sessions an operator has."""
        return len(self._of(operator_id))

    def names(self) -> frozenset[str]:
        """The public names of the sessions that are open."""
        return frozenset(session.name for session in self._sessions.values())

    def take_expired(self, now_ms: int) -> frozenset[str]:
        """Forget the sessions that are over; their names."""
        over = [each for each in self._sessions.values() if self._is_over(each, now_ms)]
        for session in over:
            del self._sessions[session.digest]
        return frozenset(session.name for session in over)

    def _is_over(self, session: Session, now_ms: int) -> bool:
        idle_ms, age_ms = now_ms - session.used_ms, now_ms - session.began_ms
        return idle_ms >= self.idle_s * 1000 or age_ms >= self.whole_s * 1000

    def _of(self, operator_id: str) -> list[Session]:
        return [each for each in self._sessions.values() if each.operator_id == operator_id]

    def _make_room(self, operator_id: str) -> None:
        theirs = self._of(operator_id)
        for session in theirs[: max(0, len(theirs) - MAX_OF_OPERATOR + 1)]:
            del self._sessions[session.digest]
        while len(self._sessions) >= MAX_SESSIONS:
            self._sessions.popitem(last=False)


def check_csrf(request: Any, session: Session) -> None:
    """A cookie alone is no proof: browsers send it along for every port of ``localhost``.

    :raises CsrfRefused: the header is missing or does not belong to the session.
    """
    given = request.requestHeaders.getRawHeaders(CSRF_HEADER.encode()) or []
    token = given[0].decode("latin-1") if len(given) == 1 else ""
    if not hmac.compare_digest(_digest(token), session.csrf_digest):
        raise CsrfRefused()


def check_origin(request: Any, *, named: bool = False) -> None:
    """Refuse what another site's page has a browser ask.

    A request that changes something says that it is JSON, which another site could only say after
    a preflight that nobody answers.  ``named``: it must also name its origin, as browsers do and
    programs do not have to.

    :raises OriginRefused, MediaTypeRefused: it is not one of the console's own page.
    """
    sites = request.requestHeaders.getRawHeaders(b"sec-fetch-site") or []
    if any(site.strip() not in _OWN_SITE for site in sites):
        raise OriginRefused()
    origins = request.requestHeaders.getRawHeaders(b"origin") or []
    if any(origin != own_origin(request) for origin in origins):
        raise OriginRefused()
    if request.method in _READS:
        return
    if named and len(origins) != 1:
        raise OriginRefused()
    kinds = request.requestHeaders.getRawHeaders(b"content-type") or []
    if len(kinds) != 1 or kinds[0].split(b";")[0].strip().lower() != b"application/json":
        raise MediaTypeRefused()


def own_origin(request: Any) -> bytes:
    """The origin (RFC 6454) a request came to.  The listener has checked its ``Host`` before."""
    scheme = b"https" if request.isSecure() else b"http"
    return scheme + b"://" + _host(request).encode("latin-1")


def cookie_name(request: Any) -> str:
    """The cookie's name on the listener that a request came to.

    Cookies know neither scheme nor port; without the suffix a gateway's plain and TLS address, or
    two gateways on one machine, would sign each other out, or block each other by ``Secure``.
    """
    scheme = "https" if request.isSecure() else "http"
    try:
        port = urlsplit(f"//{_host(request)}").port or _DEFAULT_PORTS[scheme]
    except ValueError:
        port = 0
    return COOKIE if (scheme, port) == ("https", USUAL_PORT) else f"{COOKIE}_{scheme}_{port}"


def cookie_of(request: Any) -> str | None:
    """The secret in a request's session cookie; None where it has none.

    One that comes twice is as none: which of the two is the page's cannot be known.
    """
    name = cookie_name(request)
    found = []
    for header in request.requestHeaders.getRawHeaders(b"cookie") or []:
        for pair in header[:MAX_COOKIES_BYTES].decode("latin-1").split(";"):
            key, _, value = pair.strip().partition("=")
            if key == name:
                found.append(value)
    return found[0] if len(found) == 1 else None


def has_cookie(request: Any) -> bool:
    """Whether a request carries a session cookie of this listener, valid or not."""
    name = f"{cookie_name(request)}=".encode()
    headers = request.requestHeaders.getRawHeaders(b"cookie") or []
    return any(pair.strip().startswith(name) for line in headers for pair in line.split(b";"))


def set_cookie(request: Any, secret: str) -> None:
    """Have the answer set the session's cookie."""
    _add_cookie(request, secret)


def clear_cookie(request: Any) -> None:
    """Have the answer take the session's cookie away."""
    _add_cookie(request, "", max_age=b"0")


def _add_cookie(request: Any, value: str, **more: Any) -> None:
    add: Callable[..., None] = request.addCookie
    add(
        cookie_name(request).encode(),
        value.encode(),
        path=b"/",
        secure=bool(request.isSecure()),
        httpOnly=True,
        sameSite=b"strict",
        **more,
    )


def _host(request: Any) -> str:
    """The ``Host`` header; the listener lets none through that has not exactly one."""
    given = request.requestHeaders.getRawHeaders(b"host") or [b""]
    return str(given[0].decode("latin-1").strip().lower())


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
