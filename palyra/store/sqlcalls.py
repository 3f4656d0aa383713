"""Asking the two threads of a SQL store: what writes goes to one, what reads to the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection
from twisted.internet.defer import Deferred

from palyra.store.threads import Operation, Reader
from palyra.store.writer import Writer

T = TypeVar("T")


class SqlCalls:
    """What every log of :class:`palyra.store.sql.SqlStore` is made of."""

    def __init__(self, writer: Writer, reader: Reader, now_ms: Callable[[], int]) -> None:
        self._writer = writer
        self._reader = reader
        self._now_ms = now_ms

    def _write(self, function: Callable[..., T], *arguments: Any) -> Deferred[T]:
        return self._writer.submit(_operation(function, arguments))

    def _read(self, function: Callable[..., T], *arguments: Any) -> Deferred[T]:
        return self._reader.submit(_operation(function, arguments))

    def _forget(
        self, found: Deferred[list[T]], forget: Callable[[Connection, Sequence[T]], int]
    ) -> Deferred[int]:
        return found.addCallback(lambda some: self._write(forget, some) if some else 0)


def _operation(function: Callable[..., T], arguments: tuple[Any, ...]) -> Operation[T]:
    return partial(_call, function, arguments)


def _call(function: Callable[..., T], arguments: tuple[Any, ...], connection: Connection) -> T:
    return function(connection, *arguments)
