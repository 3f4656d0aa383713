"""Deferreds of the store and of waiting callers."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar, cast

from twisted.internet.defer import Deferred

T = TypeVar("T")


def deferred(awaitable: Awaitable[T]) -> Deferred[T]:
    """The Deferred that a store method returned, typed as one: core's interfaces say Awaitable."""
    assert isinstance(awaitable, Deferred), "stores return Deferreds"
    return cast("Deferred[T]", awaitable)
