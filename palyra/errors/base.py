"""The root of the tree, and the kinds of refusal that borders translate."""

from __future__ import annotations

import enum
from typing import ClassVar

import attrs


class Category(enum.Enum):
    """What kind of refusal this is; the borders map it, nothing else decides a status."""

    INVALID = "invalid"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    PRECONDITION = "precondition"
    TOO_LARGE = "too_large"
    EXHAUSTED = "exhausted"
    UNAVAILABLE = "unavailable"
    DEADLINE = "deadline"
    INTERNAL = "internal"


@attrs.define
class PalyraError(Exception):
    """The root of the tree.  Subclasses set ``code`` and ``category`` and write the sentence."""

    code: ClassVar[str] = "internal"
    category: ClassVar[Category] = Category.INTERNAL
    retryable: ClassVar[bool] = False
    exit_code: ClassVar[int] = 1

    @property
    def sentence(self) -> str:
        """What is wrong, in one sentence with the thing first and the wrong value in it."""
        return "Something failed inside the gateway; its log has the details."

    @property
    def hint(self) -> str:
        """The one command, or the one act, that comes next."""
        return "palyra doctor"

    def __str__(self) -> str:
        return self.sentence
