"""A house for each test, and one that the tests of a module share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.house import House, opened


@pytest.fixture
def house() -> Iterator[House]:
    """A house of this test's own."""
    with opened() as house:
        yield house


@pytest.fixture(scope="module")
def shared() -> Iterator[House]:
    """A house for the tests of one module that do not disturb each other."""
    with opened() as house:
        yield house
