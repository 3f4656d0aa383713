"""The world of these tests: real processes, shared by a module."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.integration.house import House, opened

if TYPE_CHECKING:
    from tests.mcp.world import World


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    """A gateway and a node for all of these tests."""
    from tests.mcp.world import World  # here: it needs the extra

    with opened() as house:
        yield World(house)


@pytest.fixture
def house() -> Iterator[House]:
    """A house of this test's own."""
    with opened() as house:
        yield house
