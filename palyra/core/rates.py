"""Rates of the pairing listener: who may try, how often, and when PIN pairing pauses.

Times are milliseconds of one clock that never runs backwards.  Memory is bounded whatever
arrives, and every call costs the same however much is remembered (amortised).
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict, deque

import attrs

from palyra.core.pairing import SESSION_WINDOW_MS
from palyra.errors import LimitReached, Malformed, PairingLimited

_BUSY_RETRY_S = 1.0


@attrs.frozen
class RateLimits:
    """The limits of PROTOCOL: Codes and guesses."""

    failures_per_source: int = 3
    failure_window_ms: int = 600_000
    failures_to_pause: int = 50
    pause_ms: int = 600_000
    starts: int = 1024
    start_window_ms: int = 60_000
    open_sessions: int = 10_000
    open_per_source: int = 8
    remembered_sources: int = 16_384
    """How many sources with failures are kept; the one that failed longest ago is forgotten."""


def source_of(address: str) -> str:
    """The source an address counts as: the IPv4 address itself, the /64 of an IPv6 address.

    :raises Malformed: not an IP address.
    """
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError as cause:
        raise Malformed("address", "is not an IP address") from cause
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.ip_network((ip, 64), strict=False))


class SourceLedger:
    """Counts sessions and failed proofs by source.

    A proof is reserved before it is verified and released after, so that proofs checked at the
    same time cannot exceed the bound together.
    """

    def __init__(self, limits: RateLimits | None = None) -> None:
        self.limits = limits or RateLimits()
        self._starts: deque[int] = deque(maxlen=self.limits.starts)
        self._open: dict[str, int] = {}
        self._open_total = 0
        self._reserved: dict[str, int] = {}
        self._failures: OrderedDict[str, deque[int]] = OrderedDict()
        self._all_failures: deque[int] = deque(maxlen=self.limits.failures_to_pause)
        self._paused_until_ms: int | None = None

    @property
    def pin_paused_until_ms(self) -> int | None:
        """When PIN pairing opens again after its last pause, maybe past; None: never paused."""
        return self._paused_until_ms

    @property
    def open_sessions(self) -> int:
        """Pairing sessions that started and did not end."""
        return self._open_total

    @property
    def entries(self) -> int:
        """How many entries this ledger keeps; bounded by its limits."""
        return len(self._open) + len(self._reserved) + len(self._failures) + len(self._starts)

    def session_started(self, source: str, now_ms: int, *, guess: bool = True) -> None:
        """Count a session that opens.  What is no ``guess`` is not held against failed ones.

        :raises PairingLimited: too many failures, or too many open sessions, of that source.
        :raises LimitReached: too many sessions over all sources.
        """
        if guess:
            self.admit(source, now_ms)
        limits = self.limits
        if self._open.get(source, 0) >= limits.open_per_source:
            raise PairingLimited(SESSION_WINDOW_MS / 1000)
        if self._open_total >= limits.open_sessions:
            raise LimitReached("open pairing sessions", limits.open_sessions)
        if len(self._starts) == limits.starts:
            wait_ms = self._starts[0] + limits.start_window_ms - now_ms
            if wait_ms > 0:
                raise LimitReached("new pairing sessions", limits.starts, wait_ms / 1000)
        self._starts.append(now_ms)
        self._open[source] = self._open.get(source, 0) + 1
        self._open_total += 1

    def session_ended(self, source: str) -> None:
        """A session of that source completed, failed or expired; once for each that started."""
        _decrease(self._open, source)
        self._open_total -= 1

    def session_refused(self, source: str) -> None:
        """A session that was counted did not open: what is refused must not keep others out."""
        self.session_ended(source)
        if self._starts:
            self._starts.pop()

    def admit(self, source: str, now_ms: int) -> None:
        """Refuse a source with too many failed proofs.

        :raises PairingLimited: with the time until its oldest failure is forgotten.
        """
        failures = self._recent(source, now_ms)
        if len(failures) >= self.limits.failures_per_source:
            wait_ms = failures[0] + self.limits.failure_window_ms - now_ms
            raise PairingLimited(wait_ms / 1000)

    def reserve_proof(self, source: str, now_ms: int) -> None:
        """Reserve a proof of that source before verifying it.

        :raises PairingLimited: were it and those in verification to fail, they would be too many.
        :raises LimitReached: too many sources have a proof in verification.
        """
        self.admit(source, now_ms)
        reserved = self._reserved.get(source, 0)
        if len(self._recent(source, now_ms)) + reserved >= self.limits.failures_per_source:
            raise PairingLimited(_BUSY_RETRY_S)
        if not reserved and len(self._reserved) >= self.limits.open_sessions:
            raise LimitReached("proofs in verification", self.limits.open_sessions, _BUSY_RETRY_S)
        self._reserved[source] = reserved + 1

    def release_proof(self, source: str) -> None:
        """The verification is over; a failure is told first, by :meth:`proof_failed`."""
        _decrease(self._reserved, source)

    def proof_failed(self, source: str, now_ms: int, *, pin: bool = True) -> None:
        """Charge the source with a failed proof or an unknown token.

        A wrong PIN may pause PIN pairing; what cannot be a guess at one may not.
        """
        failures = self._recent(source, now_ms)
        if len(failures) >= self.limits.failures_per_source:
            failures.popleft()
        failures.append(now_ms)
        self._failures[source] = failures
        self._failures.move_to_end(source)
        self._forget(now_ms)
        if pin:
            self._count_for_pause(now_ms)

    def failing(self, now_ms: int) -> list[tuple[str, int]]:
        """Sources with failures in the window and how many, worst first."""
        counted = [(source, len(self._recent(source, now_ms))) for source in list(self._failures)]
        return sorted((each for each in counted if each[1]), key=lambda each: (-each[1], each[0]))

    def _count_for_pause(self, now_ms: int) -> None:
        failures, limits = self._all_failures, self.limits
        failures.append(now_ms)
        full = len(failures) == limits.failures_to_pause
        if full and now_ms - failures[0] < limits.failure_window_ms:
            self._paused_until_ms = now_ms + limits.pause_ms
            failures.clear()

    def _recent(self, source: str, now_ms: int) -> deque[int]:
        failures = self._failures.get(source)
        if failures is None:
            return deque()
        while failures and now_ms - failures[0] >= self.limits.failure_window_ms:
            failures.popleft()
        return failures

    def _forget(self, now_ms: int) -> None:
        """Drop what no longer counts; sources are ordered by their last failure."""
        limit = self.limits.remembered_sources
        while len(self._failures) > limit or self._oldest_is_over(now_ms):
            self._failures.popitem(last=False)

    def _oldest_is_over(self, now_ms: int) -> bool:
        failures = next(iter(self._failures.values()))
        return not failures or now_ms - failures[-1] >= self.limits.failure_window_ms


def _decrease(counts: dict[str, int], source: str) -> None:
    left = counts[source] - 1
    if left:
        counts[source] = left
    else:
        del counts[source]
