"""Which transport a node takes to its gateway: what is tried first, and what is learnt from it."""

from __future__ import annotations

import enum
from collections.abc import Callable

HOLD_S = 300.0
"""After QUIC could not be reached: so long gRPC is tried first, then twice as long, and so on."""
MAX_HOLD_S = 3_600.0
SPREAD = 0.2
"""Of a pause, so that nodes behind one firewall do not all try at once."""
SOON_S = 60.0
"""Within this time a node moves to a QUIC listener that its gateway has just told of."""
HANDSHAKE_S = 10.0
SHORT_HANDSHAKE_S = 3.0
"""How long QUIC may take to answer where gRPC is known to work."""
SETTLED_S = 60.0
"""A session over QUIC that fell silent sooner: its path lets little more than handshakes through.
"""
_MOST_DOUBLINGS = 16


class Transport(enum.Enum):
    """What carries a session."""

    GRPC = "grpc"
    QUIC = "quic"


class Preference(enum.Enum):
    """What a person wants: one transport, or QUIC where it can be reached."""

    GRPC = "grpc"
    QUIC = "quic"
    AUTO = "auto"


class GrpcFallback(enum.Enum):
    """Whether ``auto`` may take gRPC where the gateway has QUIC: only when QUIC cannot be reached
    (no answer, refused by the system, no UDP), or never."""

    UNREACHABLE = "unreachable"
    NEVER = "never"


class TransportChoice:
    """Says which transport is tried next, and is told what became of it.

    Every ``now_s`` is elapsed time in seconds, and so is every answer.  Only ``auto`` has a choice;
    it learns that QUIC cannot be reached only where gRPC can: a gateway that is away teaches
    nothing.
    """

    def __init__(
        self,
        preference: Preference,
        fallback: GrpcFallback = GrpcFallback.UNREACHABLE,
        *,
        quic_known: bool,
        last: Transport | None,
        now_s: float,
        jitter: Callable[[float, float], float],
        hold_s: float = HOLD_S,
    ) -> None:
        """``quic_known``: the gateway has told where its QUIC is.  ``last`` carried the session
        before; where that was gRPC, because QUIC could not be reached, gRPC is tried first, and
        QUIC after a first pause."""
        self._preference = preference
        self._fallback = fallback
        self._jitter = jitter
        self._hold_s = hold_s
        self._quic_known = quic_known
        self._grpc_good = last is Transport.GRPC
        self._misses = 0
        self._held_until_s = now_s
        if self._grpc_good and quic_known:
            self.missed(now_s)

    def order(self, now_s: float) -> tuple[Transport, ...]:
        """What is tried, one or two; the second only where the first one cannot be reached."""
        if self._preference is not Preference.AUTO:
            return (Transport(self._preference.value),)
        if not self._quic_known:
            return (Transport.GRPC,)
        if self._fallback is GrpcFallback.NEVER:
            return (Transport.QUIC,)
        if now_s < self._held_until_s:
            return (Transport.GRPC, Transport.QUIC)
        return (Transport.QUIC, Transport.GRPC)

    def handshake_s(self) -> float:
        """How long QUIC may take to answer before a session there is given up."""
        falls_back = self._preference is Preference.AUTO and self._grpc_good
        if falls_back and self._fallback is GrpcFallback.UNREACHABLE:
            return SHORT_HANDSHAKE_S
        return HANDSHAKE_S

    def move_in_s(self, now_s: float) -> float | None:
        """For a session over gRPC: in how many seconds to try QUIC beside it; None: not at all."""
        if self._preference is not Preference.AUTO or not self._quic_known:
            return None
        return max(0.0, self._held_until_s - now_s)

    def told(self, quic_known: bool, now_s: float) -> None:
        """The gateway has told another address for QUIC, or that it has none any more."""
        self._quic_known = quic_known
        self._misses = 0
        self._held_until_s = now_s + self._jitter(0.0, min(SOON_S, self._hold_s))

    def worked(self, transport: Transport) -> None:
        """The node has registered over it."""
        if transport is Transport.GRPC:
            self._grpc_good = True
        else:
            self._held_until_s = float("-inf")

    def missed(self, now_s: float) -> None:
        """QUIC could not be reached, and gRPC could or may; or its path turned out to be bad."""
        longest_s = max(MAX_HOLD_S, self._hold_s)
        pause_s = min(longest_s, self._hold_s * 2 ** min(self._misses, _MOST_DOUBLINGS))
        self._misses += 1
        self._held_until_s = now_s + self._jitter((1 - SPREAD) * pause_s, pause_s)

    @property
    def fell_back(self) -> bool:
        """Whether a session over gRPC is one because QUIC was missed, and not by a person's choice
        or for want of QUIC."""
        return self._preference is Preference.AUTO and self._misses > 0

    def settled(self) -> None:
        """A session over QUIC lasted: its path is good, and what was missed before is over."""
        self._misses = 0
