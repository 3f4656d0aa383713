"""Idempotency keys: a call that is repeated with its key is made once (PROTOCOL: Jobs)."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
from twisted.internet.defer import DeferredLock

from palyra.core.identifiers import short_id
from palyra.core.interfaces import MAX_KEY, IdempotencyKey, IJobLog, KeyUse
from palyra.errors import AlreadyKept, IdempotencyConflict, Malformed

T = TypeVar("T")


def key_for(scope: str, text: str, request: Any) -> IdempotencyKey:
    """The key of a call.  ``scope`` is who asked, and by which route.

    ``request`` is what was asked, word for word: what it means (which devices match, whose a name
    is) may have changed when it is repeated.

    :raises Malformed: it is too long, or holds what cannot be shown.
    """
    if len(text) > MAX_KEY or not text.isprintable():
        raise Malformed("idempotency_key", f"must be at most {MAX_KEY} printable characters")
    canonical = msgspec.json.encode(request, order="deterministic")
    return IdempotencyKey(scope, text, hashlib.sha256(canonical).hexdigest())


class Keys:
    """Makes keyed calls one after the other, and each of them once."""

    def __init__(self, log: IJobLog) -> None:
        self._log = log
        self._locks: dict[tuple[str, str], DeferredLock] = {}

    async def once(
        self,
        key: IdempotencyKey,
        make: Callable[[IdempotencyKey], Awaitable[T]],
        found: Callable[[KeyUse], Awaitable[T]],
    ) -> T:
        """``make`` the call, or answer with what it was when it was made before.

        Whoever repeats it meanwhile waits for the first one's commit.

        :raises IdempotencyConflict: the key was used for another call.
        """
        slot = key.scope, key.key
        lock = self._locks.setdefault(slot, DeferredLock())
        await lock.acquire()
        try:
            use = await self._log.key_use(*slot)
            if use is None:
                try:
                    return await make(key)
                except AlreadyKept:  # another gateway was faster
                    use = await self._log.key_use(*slot)
                    if use is None:
                        raise
            if use.digest != key.digest:
                raise IdempotencyConflict(_subject(use))
            return await found(use)
        finally:
            self._release(slot, lock)

    def _release(self, slot: tuple[str, str], lock: DeferredLock) -> None:
        lock.release()
        if not lock.locked:
            self._locks.pop(slot, None)


def _subject(use: KeyUse) -> str:
    if use.fanout_id is not None:
        return f"fan-out {short_id(use.fanout_id)}"
    return f"job {short_id(use.job_id or '')}"
