"""Running one handler to its end, whatever it does; the same in a thread of the host and a worker.

Nothing here knows Twisted: a worker is a small process that is started while somebody waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from palyra.capability.context import CapabilityContext
from palyra.capability.descriptor import Capability
from palyra.capability.hookspecs import RunFacts
from palyra.capability.outcome import Outcome, OutcomeKind, failed, interrupted, succeeded
from palyra.errors import PalyraError

Complain = Callable[[str, BaseException | None], None]
"""Takes a sentence about a handler for the log, and the exception where there is one."""

_ROUNDS = 8
"""So often the tasks that a handler left are cancelled; those that end may have left more."""


class Work(Protocol):
    """One run, as whoever asked for it keeps it.  ``settings`` is JSON, empty where there is none.

    ``interrupted_as`` is set, from any thread, before :meth:`Workbench.interrupt` is called.
    """

    @property
    def capability(self) -> Capability: ...

    @property
    def input_bytes(self) -> bytes: ...

    @property
    def settings(self) -> bytes: ...

    @property
    def context(self) -> CapabilityContext: ...

    @property
    def max_output_bytes(self) -> int: ...

    @property
    def interrupted_as(self) -> OutcomeKind | None: ...


class Workbench:
    """An event loop where handlers are run one after the other, in the thread that calls ``run``.

    ``explain`` makes an outcome of what a handler raised.
    """

    def __init__(
        self, complain: Complain, explain: Callable[[BaseException], Outcome] = failed
    ) -> None:
        self._complain = complain
        self._explain = explain
        self._work: Work | None = None
        self._task: asyncio.Task[bytes] | None = None
        self._hooked = False
        self._loop = self._new_loop()

    def run(self, work: Work) -> Outcome:
        """Run the handler to its end, whatever it raises, and leave an empty loop behind.

        An interrupted handler has not ended before the threads of ``asyncio.to_thread`` have.
        """
        self._hooked = False
        self._task = task = self._loop.create_task(self._perform(work))
        self._work = work
        try:
            outcome = succeeded(self._loop.run_until_complete(task))
        except BaseException as exc:  # SystemExit of a handler is a failure of its run
            outcome = self._ending(work, exc)
        self._work = self._task = None
        self._end_leftovers()
        if work.interrupted_as is not None:
            self._renew()
        if work.interrupted_as is OutcomeKind.TIMED_OUT:
            name = work.capability.name
            outcome = interrupted(OutcomeKind.TIMED_OUT, name, began=True, stopped=True)
        self._tell_plugin(work, outcome)
        return outcome

    def interrupt(self, work: Work) -> None:
        """Cancel the handler of ``work``, from any thread; nothing where that does not run here."""
        try:
            self._loop.call_soon_threadsafe(self._cancel, work)
        except RuntimeError:
            return  # the loop was closed, so the run has ended

    def call_later(self, delay_s: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        """Call ``call`` in ``delay_s`` seconds, if a run is going on then."""
        return self._loop.call_later(delay_s, call)

    def close(self) -> None:
        """Close the loop; nothing may run."""
        self._loop.close()

    # -- one run ------------------------------------------------------------------------------

    async def _perform(self, work: Work) -> bytes:
        capability, context = work.capability, work.context
        value = capability.decode_input(work.input_bytes)
        if capability.settings_type is not None and context.settings is None:
            context.settings = capability.decode_settings(work.settings)
        if capability.hooks is not None:
            self._hooked = True
            capability.hooks.palyra_before_run(run=_facts(work), input=value)
        answer = await capability.handler(value, context)
        return capability.encode_output(answer, work.max_output_bytes)

    def _cancel(self, work: Work) -> None:
        if self._work is work and self._task is not None:
            self._task.cancel()

    def _ending(self, work: Work, exc: BaseException) -> Outcome:
        name = work.capability.name
        if isinstance(exc, asyncio.CancelledError) and work.interrupted_as is not None:
            return interrupted(work.interrupted_as, name, began=True, stopped=True)
        if not isinstance(exc, PalyraError):
            self._complain(f"{name} failed", exc)
        return self._explain(exc)

    def _tell_plugin(self, work: Work, outcome: Outcome) -> None:
        """The plugin's last word, where it had the first one; what it raises changes nothing."""
        hooks = work.capability.hooks
        if hooks is None or not self._hooked:
            return
        try:
            hooks.palyra_after_run(run=_facts(work), outcome=outcome)
        except BaseException as exc:
            self._complain(f"palyra_after_run of {work.capability.name} failed", exc)

    # -- what a handler leaves behind ---------------------------------------------------------

    def _end_leftovers(self) -> None:
        """Cancel the tasks it left running: they must not wake up inside somebody else's run."""
        for _ in range(_ROUNDS):
            if not (tasks := asyncio.all_tasks(self._loop)):
                return
            for task in tasks:
                task.cancel()
            try:
                self._loop.run_until_complete(asyncio.wait(tasks))
            except BaseException as exc:
                self._complain("a task that a handler left behind did not end well", exc)
        self._renew()

    def _renew(self) -> None:
        """Wait for the loop's threads and take a new loop, for this one can have none any more."""
        try:
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
        except BaseException as exc:
            self._complain("a thread that a handler left behind did not end well", exc)
        new = self._new_loop()
        self._loop.close()
        self._loop = new

    def _new_loop(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(self._stray)
        return loop

    def _stray(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        said = context.get("message", "")
        self._complain(f"a handler's event loop: {said}", context.get("exception"))


def _facts(work: Work) -> RunFacts:
    context = work.context
    return RunFacts(context.job_id, work.capability.name, context.device, context.remaining_s())
