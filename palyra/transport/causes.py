"""Why a TCP connection could not be made, in the words of :class:`palyra.errors.Unreached`."""

from __future__ import annotations

from palyra.errors import Unreached

_SYSTEM = {
    "refused": Unreached.REFUSED,
    "no route to host": Unreached.NO_ROUTE,
    "network is unreachable": Unreached.NO_NETWORK,
}
"""What the system says, in the words of Twisted."""


def cause_of(error: Exception, otherwise: str) -> str:
    """What Twisted raised for a connection, as a person is told it; ``otherwise`` where that says
    nothing that is known here."""
    text = str(error).lower()
    for words, known in _SYSTEM.items():
        if words in text:
            return known
    if "lookup" in text or "name" in text:
        return Unreached.NO_NAME
    if "timeout" in type(error).__name__.lower() or "timed out" in text:
        return Unreached.NO_ANSWER
    return otherwise
