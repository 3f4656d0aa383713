"""The reactor is Twisted's asyncio reactor; this is the only room that chooses it.

``require_asyncio_reactor`` runs in ``Options.postOptions`` of each daemon: early enough for
``twistd`` and ``twist``, before anything imports ``twisted.internet.reactor``.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
import time
from typing import Any

from palyra.errors import WrongReactor


def require_asyncio_reactor() -> None:
    """Install the asyncio reactor, on uvloop where the extra ``fast`` is installed.

    :raises WrongReactor: another reactor was chosen already (``--reactor=...``).
    """
    installed = sys.modules.get("twisted.internet.reactor")
    if installed is None:
        from twisted.internet.main import installReactor

        loop = _new_loop()
        asyncio.set_event_loop(loop)
        installReactor(_steady_reactor(loop))
    elif not hasattr(installed, "_asyncioEventloop"):
        raise WrongReactor(type(installed).__name__)


class TimeOfDay:
    """A reactor whose ``seconds()`` is the time of day, which may jump; its timers do not."""

    seconds = staticmethod(time.time)

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)


def the_reactor() -> Any:
    """The running process's reactor, for the composing rooms; everything else gets it passed."""
    from twisted.internet import reactor

    return TimeOfDay(reactor)


def event_loop(reactor: Any) -> asyncio.AbstractEventLoop:
    """The asyncio loop below the reactor (a private name of it, hence here and nowhere else)."""
    loop: asyncio.AbstractEventLoop = reactor._asyncioEventloop
    return loop


def _steady_reactor(loop: asyncio.AbstractEventLoop) -> Any:
    from twisted.internet.asyncioreactor import AsyncioSelectorReactor

    class SteadyReactor(AsyncioSelectorReactor):
        """Its delayed calls follow elapsed time, and run in no context but their own.

        Twisted's follow the time of day: once that was set back by an hour, nothing would be due
        for an hour.  And all of them would run in the context in which the soonest was asked for,
        and from then on for ever: on behalf of an operator who once asked for something.
        """

        seconds = staticmethod(time.monotonic)

        def _reschedule(self) -> None:
            contextvars.Context().run(super()._reschedule)

        def addReader(self, reader: Any) -> None:
            contextvars.Context().run(super().addReader, reader)

        def addWriter(self, writer: Any) -> None:
            contextvars.Context().run(super().addWriter, writer)

    return SteadyReactor(loop)


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        if sys.platform == "win32":  # Twisted's asyncio reactor needs add_reader
            return asyncio.SelectorEventLoop()
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop
