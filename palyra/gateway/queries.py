"""What a console's query says, as the values it means."""

from __future__ import annotations

import enum
from typing import TypeVar

from palyra.core.identifiers import is_ulid
from palyra.errors import Malformed

S = TypeVar("S", bound=enum.Enum)


def state_named(kind: type[S], text: str) -> S:
    """The state that ``text`` names; Malformed where it names none."""
    try:
        return kind(text)
    except ValueError as error:
        names = ", ".join(str(each.value) for each in kind)
        raise Malformed("state", f"must be one of {names}") from error


def number_cursor(cursor: str) -> int:
    """A cursor that is the number a page ended with; Malformed where it is none."""
    if not cursor.isascii() or not cursor.isdigit() or len(cursor) > 9:
        raise Malformed("cursor", "is not one that a list gave")
    return int(cursor)


def ulid_cursor(cursor: str) -> str:
    """A cursor that is the id a page ended with; Malformed where it is none."""
    if not is_ulid(cursor):
        raise Malformed("cursor", "is not one that a list gave")
    return cursor
