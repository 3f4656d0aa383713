"""What last kept a node host from its gateway, or from its work: for people who ask later.

It is in memory, and in ``node-host/last-error.json``, which is written when an outage begins, when
it heals, and when it turns out that only a person can end it: not at each try.  That the file
cannot be written is never a reason to fail.  An outage lasts as long as time passes, whatever
becomes of the clock meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from palyra.core.devices import clean_text
from palyra.errors import GatewayUnreachable, PalyraError, RemoteRefusal
from palyra.node.controlwords import LastError
from palyra.node.lasterrorfile import (
    MAX_TEXT,
    SCHEMA_VERSION,
    LastErrorFile,
    Outage,
    last_error_at,
)
from palyra.node.moments import Moment, TimeOfDay

CLOSED = "gateway_closed_session"
InThread = Callable[..., Deferred[Any]]


@attrs.define
class _Open:
    """An outage, since when, and whether only a person can end it; ``began`` is None where that was
    in an earlier life."""

    error: LastError
    began: Moment | None = None
    final: bool = False


class LastErrors:
    """The outages of one node host: those that last, and the last one that is over."""

    _log = Logger()

    def __init__(
        self,
        path: Path,
        *,
        now_ms: Callable[[], int],
        elapsed_s: Callable[[], float],
        in_thread: InThread = deferToThread,
        kept: LastErrorFile | None = None,
    ) -> None:
        """``kept`` is from an earlier life: one that lasted then may last still."""
        self._path = path
        self._now_ms = now_ms
        self._time = TimeOfDay(now_ms, elapsed_s)
        self._in_thread = in_thread
        self._lasting: dict[Outage, _Open] = {}
        self._over: tuple[Outage, LastError] | None = None
        self._written: Deferred[None] = succeed(None)
        if kept is not None and kept.healed_at_unix_ms:
            self._over = kept.outage, kept.error
        elif kept is not None:
            self._lasting[kept.outage] = _Open(kept.error)

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        now_ms: Callable[[], int],
        elapsed_s: Callable[[], float],
        in_thread: InThread = deferToThread,
    ) -> LastErrors:
        """With what was kept, as far as that can be read."""
        file = last_error_at(path)
        kept: LastErrorFile | None = None
        try:
            kept = file.read()
        except PalyraError as error:
            cls._log.warn("what went wrong last is forgotten: {e}", e=error.sentence)
        return cls(path, now_ms=now_ms, elapsed_s=elapsed_s, in_thread=in_thread, kept=kept)

    @property
    def last(self) -> LastError | None:
        """The newest of those that last, else the last one that is over."""
        found = self._found()
        return found[1] if found is not None else None

    def lasts(self, outage: Outage) -> bool:
        """Whether it does."""
        return outage in self._lasting

    def begins(self, outage: Outage, error: PalyraError | None, *, final: bool = False) -> None:
        """It cannot do its work, because of ``error`` (None: the gateway closed the session in
        peace); again while it lasts.  ``final``: until a person acts."""
        before = self._lasting.get(outage)
        if before is None:
            began = self._time.moment()
            lasting = _Open(_told(error, began.unix_ms), began, final)
        else:
            lasting = _Open(_told(error, before.error.began_at_unix_ms), before.began, final)
        self._lasting[outage] = lasting
        if before is None or final != before.final:
            self._write()

    def heals(self, outage: Outage) -> None:
        """It can, or always could."""
        lasted = self._lasting.pop(outage, None)
        if lasted is not None:
            error = self._as_of_now(lasted)
            healed = msgspec.structs.replace(error, healed_at_unix_ms=self._now_ms())
            self._over = outage, healed
            self._write()

    def when_written(self) -> Deferred[None]:
        """Fires when nothing is being written."""
        return self._written

    def _found(self) -> tuple[Outage, LastError] | None:
        lasting = [(outage, self._as_of_now(each)) for outage, each in self._lasting.items()]
        return max(lasting, key=lambda each: each[1].began_at_unix_ms, default=self._over)

    def _as_of_now(self, lasting: _Open) -> LastError:
        """With its beginning as the clock would have it that is right now."""
        if lasting.began is None:
            return lasting.error
        return msgspec.structs.replace(lasting.error, began_at_unix_ms=self._time.of(lasting.began))

    def _write(self) -> None:
        """In a thread, for a disk may hang; one after the other, so that the newest stays."""
        found = self._found()
        assert found is not None, "what has just begun or healed is there"
        outage, error = found
        file = LastErrorFile(SCHEMA_VERSION, outage, **msgspec.structs.asdict(error))
        before, self._written = self._written, Deferred()
        written = self._written

        def write(_: None) -> Deferred[Any]:
            return self._in_thread(last_error_at(self._path).write, file)

        before.addCallback(write).addErrback(self._unwritten)
        before.addCallback(lambda _: written.callback(None))

    def _unwritten(self, failure: Any) -> None:
        self._log.warn(
            "{path} is not written: {e}", path=self._path.name, e=failure.getErrorMessage()
        )


def _told(error: PalyraError | None, began_ms: int) -> LastError:
    if error is None:
        return LastError(CLOSED, "The gateway closed the session.", "palyra node logs", began_ms)
    where = error.where if isinstance(error, GatewayUnreachable) else ""
    code = error.remote_code if isinstance(error, RemoteRefusal) else error.code
    return LastError(
        clean_text(code, MAX_TEXT),
        clean_text(error.sentence, MAX_TEXT),
        clean_text(error.hint, MAX_TEXT),
        began_ms,
        where=clean_text(where, MAX_TEXT),
    )
