"""What a rule may ask of the input of a call: a place in it, and what stands there.

A place is a JSON pointer (RFC 6901).  Every test has three answers: yes, no, and None where it
cannot be told, because the place is missing or what stands there is not of that kind.  There are
no regular expressions: a rule must stay readable and its cost bounded.
"""

from __future__ import annotations

import re
from typing import Final, TypeAlias

import attrs

from palyra.core.urlprefix import Url, is_url
from palyra.errors import Malformed

Scalar: TypeAlias = str | int | float | bool
"""What the file may compare with; numbers are compared by value, ``true`` is no number."""

MAX_POINTER = 256
_MISSING: Final = object()
_INDEX = re.compile(r"(?:0|[1-9][0-9]{0,8})\Z", re.ASCII)
_BAD_ESCAPE = re.compile(r"~(?![01])")
_SLASH = re.compile(r"[/\\]")


@attrs.frozen
class Pointer:
    """A JSON pointer; ``text`` as it is written, ``""`` for the whole input."""

    text: str
    tokens: tuple[str, ...]

    @classmethod
    def parse(cls, text: str, field: str = "path") -> Pointer:
        """Read a pointer.

        :raises Malformed: naming ``field``, where it is none.
        """
        if len(text) > MAX_POINTER:
            raise Malformed(field, f"must be at most {MAX_POINTER} characters")
        if text and not text.startswith("/"):
            raise Malformed(field, "must begin with / (a JSON pointer), or be empty for all of it")
        if _BAD_ESCAPE.search(text):
            raise Malformed(field, "has a ~ that is neither ~0 (for ~) nor ~1 (for /)")
        tokens = (part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:])
        return cls(text, tuple(tokens))

    def find(self, value: object) -> object:
        """What stands there in decoded JSON; :meth:`is_missing` tells whether anything does."""
        for token in self.tokens:
            if isinstance(value, dict):
                value = value.get(token, _MISSING)
            elif isinstance(value, list) and _INDEX.match(token) and int(token) < len(value):
                value = value[int(token)]
            else:
                return _MISSING
        return value

    @staticmethod
    def is_missing(found: object) -> bool:
        """Whether :meth:`find` found nothing."""
        return found is _MISSING


@attrs.frozen
class OneOf:
    """It is one of these values; a list or an object is none that could be compared."""

    values: tuple[Scalar, ...]

    def holds(self, value: object) -> bool | None:
        """Yes, no, or None where a list or an object stands."""
        if isinstance(value, list | dict):
            return None
        return any(_same(value, each) for each in self.values)


@attrs.frozen
class Prefix:
    """It is a text that begins so; where the prefix is a URL, one that lies below it.

    Where the prefix has a slash, either way round, a text that can be written shorter cannot be
    told: one with a part ``..`` or ``.``, or with an empty one (``//``).
    """

    text: str
    url: Url | None = None

    @classmethod
    def parse(cls, text: str, field: str = "prefix") -> Prefix:
        """Read a prefix.

        :raises Malformed: naming ``field``: it is a URL that could be read in two ways.
        """
        url = Url.parse(text)
        if is_url(text) and (url is None or "?" in text or "#" in text):
            problem = (
                "is no plain URL: no user, query, fragment, blank, // or .. in its path, "
                "no needless escape, and a host in ASCII (xn--)"
            )
            raise Malformed(field, problem)
        return cls(text, url)

    def holds(self, value: object) -> bool | None:
        """Yes, no, or None where no text stands, or one that two readers could take for two."""
        if not isinstance(value, str):
            return None
        if self.url is not None:
            found = Url.parse(value)
            return None if found is None else self.url.begins(found)
        begins = value.startswith(self.text)
        if _SLASH.search(self.text):
            rest = value[len(self.text) :] if begins else value
            parts = _SLASH.split(value)
            if "." in parts or ".." in parts or "" in _SLASH.split(rest)[1:-1]:
                return None
        return begins


@attrs.frozen
class AtMost:
    """It is a number, and not above the limit."""

    limit: int | float

    def holds(self, value: object) -> bool | None:
        """Yes, no, or None where no number stands."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        return value <= self.limit


Test: TypeAlias = OneOf | Prefix | AtMost


@attrs.frozen
class InputTest:
    """A test of what stands at one place of the input."""

    pointer: Pointer
    test: Test

    def holds(self, value: object) -> bool | None:
        """Yes or no; None where the place is missing or what stands there cannot be told."""
        found = self.pointer.find(value)
        return None if Pointer.is_missing(found) else self.test.holds(found)


def _same(value: object, wanted: Scalar) -> bool:
    """Equality as JSON has it: 1 is 1.0, and true is not 1."""
    if isinstance(value, bool) or isinstance(wanted, bool):
        return value is wanted
    return value == wanted
