"""What the writer's connection remembers from one transaction to the next.

Asking the database each time what was written last would cost as much as writing it.  What is
remembered is only as true as its transaction: it is told when that is undone, or a part of it, and
has a last word before the commit.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, Dialect

_KEY = "palyra_remembered"


class IRemembered(Protocol):
    """One thing that is remembered; made with the connection's dialect when it is first asked."""

    def __init__(self, dialect: Dialect) -> None: ...

    def standing(self) -> Any:
        """What the present transaction has done so far, for :meth:`undone`."""

    def undone(self, standing: Any = None) -> None:
        """What was written may not be there.  Of the present transaction only ``standing`` is;
        None: nothing."""

    def complete(self, connection: Connection) -> None:
        """Write what the whole transaction comes to; it commits next."""


Thing = TypeVar("Thing", bound=IRemembered)


def of(connection: Connection, kind: type[Thing]) -> Thing:
    """What the connection remembers of that kind; it ends with the connection."""
    kept = _all(connection)
    found = kept.get(kind)
    if found is None:
        found = kept[kind] = kind(connection.dialect)
    thing: Thing = found
    return thing


def standing(connection: Connection) -> dict[type[Any], Any]:
    """How far the present transaction is, for :func:`undone`."""
    return {kind: each.standing() for kind, each in _all(connection).items()}


def undone(connection: Connection, before: dict[type[Any], Any] | None = None) -> None:
    """Everything since ``before`` was undone; None: the whole transaction."""
    for kind, each in _all(connection).items():
        each.undone(None if before is None else before.get(kind))


def complete(connection: Connection) -> None:
    """The last word of everything remembered, before the commit."""
    for each in _all(connection).values():
        each.complete(connection)


def _all(connection: Connection) -> dict[type[Any], Any]:
    kept: dict[type[Any], Any] = connection.info.setdefault(_KEY, {})
    return kept
