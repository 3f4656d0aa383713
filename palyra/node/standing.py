"""How a node host is, for its owner: what ``palyra node status`` is told while it runs.

What happened before somebody asked is heard here as well: outages, and what the gateway said at the
last registration.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Protocol

from twisted.logger import Logger

from palyra import __version__
from palyra.capability.catalogue import Catalogue
from palyra.core.devices import clean_text
from palyra.core.frames import Welcome
from palyra.errors import PalyraError, StoreUnavailable
from palyra.node.controlwords import CapabilityCount, State, StatusAnswer
from palyra.node.identity import IdentityStore
from palyra.node.lasterror import LastErrors
from palyra.node.lasterrorfile import Outage
from palyra.node.link import Route
from palyra.node.moments import Moment, TimeOfDay
from palyra.node.rejoin import is_final
from palyra.node.renewal import RenewalWitness

MAX_FAULTS = 64
MAX_TEXT = 240


class Session(Protocol):
    """The connection to the gateway, as far as it is told of."""

    tried: bool
    last_heard_s: float | None

    @property
    def route(self) -> Route | None:
        """How the gateway is reached now."""


class Certificate(Protocol):
    """Its renewal."""

    @property
    def due_in_s(self) -> float | None:
        """In how many seconds."""


class Work(Protocol):
    """What runs."""

    catalogue: Catalogue

    @property
    def count(self) -> int:
        """How many jobs."""


class Standing:
    """Listens to what becomes of a node host (:class:`palyra.node.watcher.Listener`), and answers
    how it is."""

    _log = Logger()

    def __init__(
        self,
        *,
        name: str,
        device_id: str,
        identity: IdentityStore,
        errors: LastErrors,
        watcher: RenewalWitness,
        containment: str,
        now_ms: Callable[[], int],
        elapsed_s: Callable[[], float],
    ) -> None:
        """``watcher`` is told of renewals that fail, as it would be without this."""
        self._name = name
        self._device_id = device_id
        self._identity = identity
        self._errors = errors
        self._watcher = watcher
        self._containment = containment
        self._now_ms = now_ms
        self._elapsed_s = elapsed_s
        self._time = TimeOfDay(now_ms, elapsed_s)
        self._began = self._time.moment()
        self._gateway_version = ""
        self._retry_at: Moment | None = None
        self._failing_ends_ms = 0

    # -- what happens -------------------------------------------------------------------------

    def online(self, welcome: Welcome, route: Route) -> None:
        """Registered; again after a handover, over the next certificate."""
        self._gateway_version = clean_text(welcome.version, MAX_TEXT)
        self._retry_at = None
        self._errors.heals(Outage.GATEWAY)
        if self._errors.lasts(Outage.CERTIFICATE) and self._ends_ms() != self._failing_ends_ms:
            self._errors.heals(Outage.CERTIFICATE)

    def offline(self, error: PalyraError | None, retry_s: float) -> None:
        """Not connected; tried again after that."""
        self._retry_at = self._time.moment(retry_s)
        self._errors.begins(Outage.GATEWAY, error, final=is_final(error))

    def waiting(self, request_id: str) -> None:
        """An operator decides; the gateway is tried when that is done."""
        self._retry_at = None

    def renewal_failed(self, error: PalyraError | None, left_s: float) -> None:
        """In the last sixth of the certificate's life."""
        self._failing_ends_ms = self._ends_ms()
        self._errors.begins(Outage.CERTIFICATE, error or PalyraError())
        self._watcher.renewal_failed(error, left_s)

    def stored(self, error: BaseException | None) -> None:
        """A record of an attempt could not be kept, so that it did not run; None: it can again."""
        if error is None:
            self._errors.heals(Outage.STORAGE)
            return
        if not isinstance(error, PalyraError):
            error = StoreUnavailable("attempts.sqlite3", "disk error")
        self._errors.begins(Outage.STORAGE, error)

    # -- how it is ----------------------------------------------------------------------------

    def answer(
        self, session: Session, certificate: Certificate, work: Work, requests: int
    ) -> StatusAnswer:
        """All of it; ``requests`` is how many questions are open."""
        route, catalogue = session.route, work.catalogue
        away: State = "offline" if session.tried else "starting"
        faults = [f"{each.name}: {each.sentence}" for each in catalogue.broken[:MAX_FAULTS]]
        return StatusAnswer(
            state=away if route is None else "online",
            name=self._name,
            device_id=self._device_id,
            pid=os.getpid(),
            started_at_unix_ms=self._time.of(self._began),
            transport="" if route is None else route.transport.value,
            address="" if route is None else str(route.address),
            capabilities=CapabilityCount(len(catalogue.offers), len(catalogue.broken)),
            jobs=work.count,
            requests=requests,
            containment=self._containment,
            version=__version__,
            gateway_version=self._gateway_version,
            last_heard_unix_ms=self._at_ms(session.last_heard_s),
            retry_at_unix_ms=0 if route is not None else self._retry_ms(),
            cert_expires_at_unix_ms=self._ends_ms(),
            cert_renews_at_unix_ms=self._renews_ms(certificate),
            faults=[clean_text(each, MAX_TEXT) for each in faults],
            last_error=self._errors.last,
        )

    def _at_ms(self, then_s: float | None) -> int:
        """The time of day of a moment that is known in elapsed time."""
        if then_s is None:
            return 0
        return self._now_ms() - int((self._elapsed_s() - then_s) * 1000)

    def _retry_ms(self) -> int:
        return 0 if self._retry_at is None else self._time.of(self._retry_at)

    def _renews_ms(self, certificate: Certificate) -> int:
        due_s = certificate.due_in_s
        return 0 if due_s is None else self._now_ms() + int(due_s * 1000)

    def _ends_ms(self) -> int:
        """When the current certificate is over; 0 where it cannot be read."""
        try:
            current = self._identity.client().current
        except (PalyraError, OSError) as error:
            self._log.warn("the certificate cannot be read: {e}", e=error)
            return 0
        return 0 if current is None else current.cert_expires_at_unix_ms
