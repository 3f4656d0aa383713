"""What becomes of a node host, told to the log."""

from __future__ import annotations

import datetime
from typing import Protocol

from twisted.logger import Logger

from palyra.core.frames import Welcome
from palyra.core.identifiers import Fingerprint, grouped, short_id
from palyra.errors import PalyraError
from palyra.node.link import Route


class Listener(Protocol):
    """Who hears of it besides, whatever the watcher shows."""

    def online(self, welcome: Welcome, route: Route) -> None:
        """Registered; again after a handover."""

    def offline(self, error: PalyraError | None, retry_s: float) -> None:
        """Not connected; tried again after ``retry_s`` seconds."""

    def waiting(self, request_id: str) -> None:
        """Until an operator decides."""


class Watcher:
    """Watches a node host through the log; a foreground host shows more."""

    _log = Logger()
    _listeners: tuple[Listener, ...] = ()

    def tell(self, listener: Listener) -> None:
        """Have ``listener`` told as well, from now on."""
        self._listeners = (*self._listeners, listener)

    def online(self, welcome: Welcome, route: Route) -> None:
        """Registered."""
        self._log.info("online as {name}, {route}", name=welcome.device_name, route=route)
        for each in self._listeners:
            each.online(welcome, route)

    def offline(self, error: PalyraError | None, retry_s: float) -> None:
        """Not connected."""
        cause = error.sentence if error is not None else "the gateway closed the session"
        self._log.warn("offline, retry in {s:.0f}s: {cause}", s=retry_s, cause=cause)
        for each in self._listeners:
            each.offline(error, retry_s)

    def renewed(self, ends_ms: int) -> None:
        """There is a new certificate."""
        self._log.info("certificate renewed, valid until {end}", end=_when(ends_ms))

    def renewal_failed(self, error: PalyraError | None, left_s: float) -> None:
        """It runs out soon."""
        self._log.warn(
            "certificate not renewed, {left} min left: {cause}",
            left=max(0, round(left_s / 60)),
            cause=error.sentence if error is not None else "a fault here, see the log",
        )

    def identity_shown(self, name: str, device_id: str, fingerprint: Fingerprint) -> None:
        """This device asks to be let in again by its identity key; an operator must decide."""
        self._log.warn(
            "rejoin: {name}  {device}  {fingerprint}",
            name=name,
            device=short_id(device_id),
            fingerprint=grouped(fingerprint),
        )

    def waiting(self, request_id: str) -> None:
        """Until an operator decides."""
        self._log.warn(
            "rejoin: waiting for an operator to approve {request}", request=short_id(request_id)
        )
        for each in self._listeners:
            each.waiting(request_id)

    def retrying(self, cause: str) -> None:
        """The gateway does not answer whether one did."""
        self._log.warn("rejoin: {cause} Asking again.", cause=cause)

    def rejoined(self, ends_ms: int) -> None:
        """There is a certificate again."""
        self._log.info(
            "rejoined by identity key, certificate valid until {end}", end=_when(ends_ms)
        )

    def fell_back(self, line: str) -> None:
        """QUIC does not answer, and gRPC does.  The routes have logged the line."""

    def usable(self, capabilities: int) -> None:
        """So many capabilities can be run here now, and were granted."""

    def clock_differs(self, ahead_ms: int) -> None:
        """By more than a minute."""
        self._log.warn("{sentence}", sentence=skew(ahead_ms))

    def noticed(self, line: str, jobs: int) -> None:
        """A job started or ended; ``jobs`` are being worked on now.  The log does not tell: even
        a line that it drops would cost a quarter of what a small job does here."""


def skew(ahead_ms: int) -> str:
    """What to say of a clock that is ahead of the gateway's, or behind it where negative."""
    side = "ahead of" if ahead_ms > 0 else "behind"
    return f"This clock is {max(1, round(abs(ahead_ms) / 60_000))} min {side} the gateway's."


def _when(unix_ms: int) -> str:
    return f"{datetime.datetime.fromtimestamp(unix_ms / 1000).astimezone():%d %b %H:%M}"
