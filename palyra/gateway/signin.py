"""Signing in to the page: links that work once, and the browser sessions they begin
(ACCESS: Console access, 3 to 5)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.web.iweb import IRequest
from zope.interface import implementer

from palyra.console import models, sessions
from palyra.console.control import ISignIn
from palyra.console.sessions import BrowserSessions
from palyra.core.audit import AuditEntry
from palyra.core.identifiers import Entropy, sha256_hex
from palyra.core.operator_uri import read_token
from palyra.core.operators import TOKEN_BYTES, Caller, Right
from palyra.core.pairing_uri import spell_token
from palyra.core.rates import RateLimits, SourceLedger, source_of
from palyra.errors import (
    BrowserRefused,
    ConsoleNotServed,
    LoginLinkExpired,
    Malformed,
    PairingLimited,
    PalyraError,
    SignInLimited,
)
from palyra.gateway.operators import OperatorRegistry
from palyra.gateway.views import CONTRACT

LINK_MS = 120_000
MAX_LINKS_OF_OPERATOR = 8
FAILURES = 10
FAILURE_WINDOW_MS = 60_000
LOCAL_VIA = "console.sock"
"""Whoever asks over it was let in by the system; nothing is counted against them."""

HangUp = Callable[[Callable[[Caller], bool]], object]
"""Ends the streams, or the connections, of the callers that are said."""
Record = Callable[[Sequence[AuditEntry]], Awaitable[object]]


class SignInTries:
    """Counts failed sign-ins by source, 10 a minute: links, and tokens of invitations."""

    def __init__(
        self,
        elapsed_ms: Callable[[], int],
        refused: Callable[[str, str], object] = lambda reason, via: None,
    ) -> None:
        """``refused`` is told the code of every refusal and where it came from."""
        self._elapsed_ms = elapsed_ms
        self._refused = refused
        self._ledger = SourceLedger(
            RateLimits(failures_per_source=FAILURES, failure_window_ms=FAILURE_WINDOW_MS)
        )

    def failed(self, via: str, reason: str) -> None:
        """Charge a source with a failure; ``reason`` is its code.

        Only what failed comes here: nobody guesses 128 bits, so a good token is good from every
        source, whoever else failed there.

        :raises SignInLimited: that source has failed too often; that is all it is told.
        """
        if via == LOCAL_VIA:
            self._refused(reason, via)
            return
        source, now_ms = _source(via), self._elapsed_ms()
        try:
            self._ledger.admit(source, now_ms)
        except PairingLimited as error:
            self._refused(SignInLimited.code, via)
            raise SignInLimited(error.retry_after_s) from error
        self._refused(reason, via)
        self._ledger.proof_failed(source, now_ms, pin=False)


@attrs.frozen
class _Link:
    operator_id: str
    expires_ms: int


@implementer(ISignIn)
class SignIn:
    """Provides ISignIn.

    ``origin`` is that of the page, empty where none is served; ``fingerprint`` is SHA-256 of the
    certificate that it shows.  Links are in memory only, by SHA-256 of their tokens.
    """

    def __init__(
        self,
        *,
        registry: OperatorRegistry,
        browser: BrowserSessions,
        tries: SignInTries,
        record: Record,
        hang_up: HangUp,
        drop: HangUp,
        origin: Callable[[], str],
        fingerprint: Callable[[], str],
        gateway_name: str,
        entropy: Entropy,
        now_ms: Callable[[], int],
        elapsed_ms: Callable[[], int],
    ) -> None:
        self._registry = registry
        self._browser = browser
        self._tries = tries
        self._record = record
        self._hang_up = hang_up
        self._drop = drop
        self._origin = origin
        self._fingerprint = fingerprint
        self._gateway_name = gateway_name
        self._entropy = entropy
        self._now_ms = now_ms
        self._elapsed_ms = elapsed_ms
        self._links: dict[str, _Link] = {}

    # -- links --------------------------------------------------------------------------------

    def link(self, by: Caller) -> Deferred[models.SignInLink]:
        return Deferred.fromCoroutine(self._link(by))

    async def _link(self, by: Caller) -> models.SignInLink:
        if by.session:
            raise BrowserRefused("sign-in link")
        origin = self._origin()
        if not origin:
            raise ConsoleNotServed()
        token, elapsed_ms = self._entropy(TOKEN_BYTES), self._elapsed_ms()
        self._forget_links(elapsed_ms)
        for digest in self._links_of(by.operator_id)[: 1 - MAX_LINKS_OF_OPERATOR]:
            del self._links[digest]
        self._links[sha256_hex(token)] = _Link(by.operator_id, elapsed_ms + LINK_MS)
        return models.SignInLink(
            contract=CONTRACT,
            link=f"{origin}/login#{spell_token(token)}",
            expires_at_unix_ms=self._now_ms() + LINK_MS,
            certificate_fingerprint=self._fingerprint(),
        )

    def preview(self, body: models.SignInToken, by: Caller) -> Deferred[models.SignInPreview]:
        return Deferred.fromCoroutine(self._preview(body, by))

    async def _preview(self, body: models.SignInToken, by: Caller) -> models.SignInPreview:
        _, caller = self._found(body.token, by)
        assert caller.role is not None, "an operator has one"
        return models.SignInPreview(CONTRACT, caller.name, caller.role.value, self._gateway_name)

    def _found(self, text: str, by: Caller) -> tuple[str, Caller]:
        """The digest of a link's token, and whom it signs in; a failure is charged."""
        token = read_token(text)
        digest = "" if token is None else sha256_hex(token)
        self._forget_links(self._elapsed_ms())
        link = self._links.get(digest)
        caller = None if link is None else self._registry.by_id(link.operator_id, by.via)
        if caller is None:
            self._tries.failed(by.via, LoginLinkExpired.code)
            raise LoginLinkExpired()
        return digest, caller

    def _links_of(self, operator_id: str) -> list[str]:
        """The digests of an operator's links, oldest first."""
        return [digest for digest, link in self._links.items() if link.operator_id == operator_id]

    def _forget_links(self, elapsed_ms: int) -> None:
        for digest in [d for d, link in self._links.items() if link.expires_ms <= elapsed_ms]:
            del self._links[digest]

    # -- sessions -----------------------------------------------------------------------------

    def sign_in(
        self, body: models.SignInToken, request: IRequest, by: Caller
    ) -> Deferred[models.SignedIn]:
        return Deferred.fromCoroutine(self._sign_in(body, request, by))

    async def _sign_in(
        self, body: models.SignInToken, request: IRequest, by: Caller
    ) -> models.SignedIn:
        digest, caller = self._found(body.token, by)
        del self._links[digest]
        opened = self._browser.open(caller.operator_id, self._elapsed_ms())
        name = opened.session.name
        try:
            await self._record([self._entry("session.signed_in", caller, name)])
        except PalyraError:
            self._browser.end(name)
            raise
        sessions.set_cookie(request, opened.secret)
        return models.SignedIn(
            contract=CONTRACT,
            caller=self._item(caller),
            csrf_token=opened.csrf_token,
            idle_s=self._browser.idle_s,
            expires_at_unix_ms=self._now_ms() + self._browser.whole_s * 1000,
        )

    def self(self, by: Caller) -> Deferred[models.CallerAnswer]:
        return succeed(models.CallerAnswer(CONTRACT, self._item(by)))

    def sign_out(self, request: IRequest, by: Caller) -> Deferred[models.SignedOut]:
        return Deferred.fromCoroutine(self._sign_out(request, by))

    async def _sign_out(self, request: IRequest, by: Caller) -> models.SignedOut:
        if by.session:
            self._browser.end(by.session)
            sessions.clear_cookie(request)
            self._hang_up(lambda caller: caller.session == by.session)
            await self._record([self._entry("session.signed_out", by, by.session)])
        return models.SignedOut(CONTRACT)

    def end_operator(self, operator_id: str) -> None:
        """End the sessions and links of an operator who was revoked."""
        self._browser.end_of(operator_id)
        for digest in self._links_of(operator_id):
            del self._links[digest]

    def tick(self) -> None:
        """End the streams and connections of operators, sessions and certificates that are over by
        now; once a second."""
        self._browser.take_expired(self._elapsed_ms())
        # Not only those that ran out just now: a session also ends by a request that comes late,
        # and where its operator has too many.
        signed_in, now_ms = self._browser.names(), self._now_ms()

        def ended(caller: Caller) -> bool:
            if not caller.operator_id:
                return False
            late = caller.until_ms is not None and caller.until_ms < now_ms
            gone = caller.session != "" and caller.session not in signed_in
            return late or gone or self._registry.by_id(caller.operator_id, caller.via) is None

        self._hang_up(ended)
        self._drop(ended)

    def _entry(self, action: str, caller: Caller, session: str) -> AuditEntry:
        return AuditEntry(
            at_ms=self._now_ms(),
            action=action,
            subject=f"operator:{caller.operator_id}",
            subject_name=caller.name,
            who=caller.name,
            operator_id=caller.operator_id,
            via=caller.via,
            details={"session": session},
        )

    def _item(self, caller: Caller) -> models.CallerItem:
        return models.CallerItem(
            operator_id=caller.operator_id,
            name=caller.name,
            role=caller.role.value if caller.role else "",
            rights=[right.value for right in Right if caller.may(right)],
            gateway=self._gateway_name,
        )


def _source(via: str) -> str:
    """What failures are counted under."""
    try:
        return source_of(via)
    except Malformed:
        return via
