"""The worlds of these tests: a console that answers what it is told to, and real processes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.cli.farconsole import FarConsole, far_console
from tests.integration.house import House, opened
from tests.mcp.things import answering

if TYPE_CHECKING:
    from tests.mcp.world import World


@pytest.fixture
def far() -> Iterator[FarConsole]:
    """A gateway with one device that has one capability."""
    with far_console() as server:
        answering(server)
        server.certifies("operators/self/renew")
        yield server


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    """A gateway and a node for all tests with real processes."""
    from tests.mcp.world import World  # here: it needs the extra

    with opened() as house:
        yield World(house)


@pytest.fixture
def house() -> Iterator[House]:
    """A house of this test's own."""
    with opened() as house:
        yield house
