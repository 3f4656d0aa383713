"""Deferreds of the store and of waiting callers."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, TypeVar, cast

from twisted.internet.defer import Deferred

T = TypeVar("T")


def deferred(awaitable: Awaitable[T]) -> Deferred[T]:
    """The Deferred that a store method returned, typed as one: core's interfaces say Awaitable."""
    assert isinstance(awaitable, Deferred), "stores return Deferreds"
    return cast("Deferred[T]", awaitable)


def shielded(inner: Deferred[T]) -> Deferred[T]:
    """What ``inner`` fires with; whoever cancels it stops waiting, and ``inner`` goes on.

    A commit that is under way cannot be taken back by the caller who asked for it.
    """
    outer: Deferred[T] = Deferred()

    def passed_on(result: Any) -> None:
        if not outer.called:
            outer.callback(result)

    inner.addBoth(passed_on)
    return outer
