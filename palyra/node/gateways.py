"""The gateways of a device, under one CA: which of them is tried, and which carries its session."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from twisted.logger import Logger

from palyra.errors import Draining, PalyraError, RemoteRefusal
from palyra.node.routes import Routes, is_unreached

T = TypeVar("T")


def is_elsewhere(error: PalyraError) -> bool:
    """Whether another gateway may do what this one did not: nobody was heard here, or it is full
    or stopping and says so.  What it says of this device holds for every one of them."""
    if is_unreached(error):
        return True
    if not isinstance(error, RemoteRefusal) or not error.transient:
        return False
    return error.retry_after_s is not None or error.remote_code == Draining.code


class Gateways:
    """The routes to each of them, in the order of trying, the first one first at each attempt.

    A session stays with the gateway that took it until it ends.
    """

    _log = Logger()

    def __init__(
        self, each: Sequence[Routes], *, told: Callable[[str], object] = lambda _: None
    ) -> None:
        """``told`` is given a line for the person who watches."""
        assert each, "a paired device has one"
        self.each = tuple(each)
        """All of them, in their order."""
        self._told = told
        self.now = self.each[0]
        """The one that was tried last: the session's, where there is one."""

    async def first(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """What ``attempt`` gives at the first one (:attr:`now`) that is there and has room.

        :raises PalyraError: how it failed; where none is left, what tells most: a gateway's own
            word, else why the first one was not reached.
        """
        missed: list[PalyraError] = []
        for routes in self.each:
            self.now = routes
            try:
                reached = await attempt()
            except PalyraError as error:
                if not is_elsewhere(error):
                    raise
                missed.append(error)
            else:
                if missed:
                    self._say(missed[0])
                return reached
        raise next((each for each in missed if not is_unreached(each)), missed[0])

    def _say(self, missed: PalyraError) -> None:
        first, now = self.each[0].grpc.address, self.now.grpc.address
        self._log.warn("{first} is passed over: {e}", first=first, e=missed.sentence)
        self._told(f"{first} {_why(missed)}, using {now} for now")


def _why(missed: PalyraError) -> str:
    return "does not answer" if is_unreached(missed) else "has no room"
