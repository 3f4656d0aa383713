"""The rooms of operators, composed: who they are, how they sign in, and who ends what."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

import attrs

from palyra.config import Config
from palyra.config.addresses import HostPort
from palyra.console.sessions import BrowserSessions
from palyra.console.socket import account_name
from palyra.console.webadmission import WebAdmission
from palyra.core.identifiers import Entropy, Fingerprint
from palyra.core.interfaces import IStore
from palyra.core.operators import Caller, Role, local_id
from palyra.gateway.operatorcontrol import OperatorControl
from palyra.gateway.operators import OperatorRegistry
from palyra.gateway.signin import HangUp, SignIn, SignInTries
from palyra.pki.keystore import GatewayIdentity


@attrs.frozen
class ConsolePlace:
    """Where the page and the console are served.

    ``origin`` is what sign-in links begin with, as ``http://localhost:7142``; ``address`` how the
    console is reached from afar; ``fingerprint`` SHA-256 (hex) of the certificate that it shows.
    """

    origin: str
    address: HostPort
    fingerprint: str


class OperatorRooms:
    """Everything about operators that the console asks.

    ``place`` is None while nothing is served but console.sock.  ``refused`` is told why a request
    was not let in, and where it came from.  Each of ``hangups`` ends the streams of callers on one
    listener, each of ``drops`` their connections.
    """

    def __init__(
        self,
        *,
        store: IStore,
        identity: GatewayIdentity,
        config: Config,
        entropy: Entropy,
        now_ms: Callable[[], int],
        elapsed_ms: Callable[[], int],
        place: Callable[[], ConsolePlace | None],
        published: Callable[[], object],
        refused: Callable[[str, str], object] = lambda reason, via: None,
    ) -> None:
        self._store = store
        self._elapsed_ms = elapsed_ms
        self._refused = refused
        self.hangups: list[HangUp] = []
        self.drops: list[HangUp] = []
        self.registry = OperatorRegistry(
            roots=lambda: identity.roots,
            issuing=lambda: Fingerprint(identity.issuing.ca_hash),
            trust_domain=config.gateway.trust_domain,
            local_names=local_names(),
            now_ms=now_ms,
            unconfirmed_since_ms=lambda: store.unconfirmed_since_ms,
        )
        limits = config.console
        self.browser = BrowserSessions(
            entropy, idle_s=limits.session_idle_s, whole_s=limits.session_s
        )
        tries = SignInTries(elapsed_ms, refused)
        common: dict[str, Any] = {
            "registry": self.registry,
            "browser": self.browser,
            "tries": tries,
            "hang_up": self.hang_up,
            "entropy": entropy,
            "now_ms": now_ms,
        }
        self.sign_in = SignIn(
            record=store.record,
            drop=self.drop,
            origin=lambda: _of(place(), lambda found: found.origin, ""),
            fingerprint=lambda: _of(place(), lambda found: found.fingerprint, ""),
            gateway_name=(*config.gateway.names, socket.gethostname())[0],
            elapsed_ms=elapsed_ms,
            **common,
        )
        self.control = OperatorControl(
            store=store,
            sign_in=self.sign_in,
            trust=identity,
            ca_hash=lambda: identity.serving_ca_hash,
            published=published,
            address=lambda: _of(place(), lambda found: found.address, None),
            life_ms=limits.operator_certificate_s * 1000,
            **common,
        )

    async def load(self) -> None:
        """Take over what is on record."""
        self.registry.load(await self._store.operators(), await self._store.operator_certificates())

    def role_of(self, operator_id: str) -> Role | None:
        """The role of an operator now; None: they are not active."""
        caller = self.registry.by_id(operator_id, "")
        return caller.role if caller is not None else None

    def is_program(self, operator_id: str) -> bool:
        """Whether a person answers for this operator, who is none."""
        operator = self.registry.get(operator_id)
        return operator is not None and bool(operator.owner)

    def hang_up(self, of: Callable[[Caller], bool]) -> None:
        """End the streams of the callers that ``of`` says, on every listener."""
        for end in self.hangups:
            end(of)

    def drop(self, of: Callable[[Caller], bool]) -> None:
        """End the connections of the callers that ``of`` says, on every listener."""
        for drop in self.drops:
            drop(of)

    def admission(self) -> WebAdmission:
        """Who may ask over HTTPS."""
        return WebAdmission(
            self.registry, self.browser, elapsed_ms=self._elapsed_ms, refused=self._refused
        )


def local_names() -> dict[str, str]:
    """The accounts of this machine that are admins over console.sock, by their operator ids."""
    uids = (0, os.geteuid())
    return {local_id(uid): account_name(uid) for uid in uids}


def _of(place: ConsolePlace | None, ask: Callable[[ConsolePlace], Any], otherwise: Any) -> Any:
    return otherwise if place is None else ask(place)
