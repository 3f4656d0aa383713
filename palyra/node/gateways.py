"""The gateways of a device, under one CA: which of them is tried, and which carries its session."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from twisted.logger import Logger

from palyra.errors import (
    GatewayUnreachable,
    PalyraError,
    PinMismatch,
    PinNotChecked,
    RemoteRefusal,
)
from palyra.node.routes import Routes, is_unreached
from palyra.transport.statuses import is_cut

T = TypeVar("T")
MAX_ASKED_S = 3_600.0
"""The longest pause that a gateway can ask for."""


def is_elsewhere(error: PalyraError) -> bool:
    """Whether another gateway may do what this one did not.

    So where nobody is here; where somebody is who hangs up, as a balancer in front of a gateway
    that is gone, or who is not ours; and where it cannot decide now.  What it decided of this
    device holds for every one of them.
    """
    if isinstance(error, RemoteRefusal):
        return error.transient
    return isinstance(error, GatewayUnreachable | PinMismatch | PinNotChecked)


def asked_s(error: PalyraError) -> float:
    """How long a gateway wants to be left alone."""
    return min(MAX_ASKED_S, getattr(error, "retry_after_s", None) or 0.0)


class Gateways:
    """The routes to each of them, in the order of trying, the first one first at each attempt.

    A session stays with the gateway that took it until it ends.  One that asked to be left alone
    is passed over meanwhile, where there is another one.
    """

    _log = Logger()

    def __init__(
        self,
        each: Sequence[Routes],
        *,
        elapsed_s: Callable[[], float],
        told: Callable[[str], object] = lambda _: None,
    ) -> None:
        """``told`` is given a line for the person who watches."""
        assert each, "a paired device has one"
        self.each = tuple(each)
        """All of them, in their order."""
        self._elapsed_s = elapsed_s
        self._told = told
        self._left_until_s: dict[Routes, float] = {}
        self.now = self.each[0]
        """The one that is tried, or was; the session's, where there is one."""

    async def first(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """What ``attempt`` gives at the first one (:attr:`now`) that is there and has room.

        :raises PalyraError: how it failed; where none is left, what tells most (of :attr:`now`): a
            gateway's own word, of the one that wants to be left alone for the shortest time; else
            what may be for want of a certificate; else why the first one was not reached.
        """
        missed: list[tuple[PalyraError, Routes]] = []
        for routes in self._free() or self.each:
            self.now = routes
            try:
                reached = await attempt()
            except PalyraError as error:
                if not is_elsewhere(error):
                    raise
                missed.append((error, routes))
                self._leave(asked_s(error))
            else:
                if missed:
                    self._say(missed[0][0])
                return reached
        telling, self.now = min(missed, key=_says_little)
        raise telling

    def leave(self, for_s: float) -> float:
        """Leave the gateway of the session alone for so long, as it asked.  In how many seconds
        there is one that may be tried; 0: now."""
        self._leave(for_s)
        if self._free():
            return 0.0
        return min(self._left_until_s.values()) - self._elapsed_s()

    def _leave(self, for_s: float) -> None:
        self._left_until_s[self.now] = self._elapsed_s() + min(MAX_ASKED_S, for_s)

    def _free(self) -> list[Routes]:
        now_s = self._elapsed_s()
        return [each for each in self.each if self._left_until_s.get(each, now_s) <= now_s]

    def _say(self, missed: PalyraError) -> None:
        first, now = self.each[0].grpc.address, self.now.grpc.address
        self._log.warn("{first} is passed over: {e}", first=first, e=missed.sentence)
        self._told(f"{first} {_why(missed)}, using {now} for now")


def _says_little(missed: tuple[PalyraError, Routes]) -> tuple[int, float]:
    """To sort what went wrong, the most telling first."""
    error, _ = missed
    if isinstance(error, RemoteRefusal):
        return 0, asked_s(error)
    return 1 + (not is_cut(error)) + is_unreached(error), 0.0


def _why(missed: PalyraError) -> str:
    if is_unreached(missed):
        return "does not answer"
    if isinstance(missed, RemoteRefusal):
        return "has no room" if asked_s(missed) else "cannot serve now"
    return f"is of no use ({getattr(missed, 'cause', 'not the one of server_pin')})"
