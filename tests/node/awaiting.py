"""pytest-twisted's decorators, with types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import pytest_twisted  # type: ignore[import-untyped]

F = TypeVar("F", bound=Callable[..., Any])


def awaiting(test: F) -> F:
    """A test that awaits Deferreds."""
    made: F = pytest_twisted.ensureDeferred(test)
    return made


def awaiting_fixture(fixture: F) -> F:
    """A fixture that awaits Deferreds and yields once."""
    made: F = pytest_twisted.async_yield_fixture(fixture)
    return made
